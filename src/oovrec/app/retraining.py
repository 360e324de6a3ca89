"""Once more from the beginning, on what was held out too: a model for use, or one tested as it would be in use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from oovrec.app.pipeline import prepare, train_on
from oovrec.app.recipe import Recipe
from oovrec.app.runs import Run, load_run
from oovrec.data.dataset import Until
from oovrec.errors import OovrecError
from oovrec.tokens.build import scheme
from oovrec.tokens.table import Tokens


def retrain(
    run: Run | str | Path,
    out: str | Path,
    *,
    until: Literal["test", "end"] = "end",
    data: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a finished run's recipe anew on what was held out too, for as many epochs as validation chose.

    The first training chooses the epoch and gives the figures; this one gives the model to use. Its tokens are built
    anew as well, unless they were imported.

    Args:
        run: the finished run, or its folder.
        out: the folder of the new one.
        until: learn from everything (``end``), or from what comes before each user's ``test`` target, which says what
            learning from newer interactions is worth.
        data: a newer log, read as the run's was; None takes the run's own.
        resume: go on with the run in ``out``.

    Raises:
        OovrecError: the run is not finished, or names items that were added; otherwise as :func:`train`.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    run = run if isinstance(run, Run) else load_run(run)
    source = run.data if data is None else run.data.renewed(data)
    again, dataset = prepare(once_more(run, until), source, out, resume)
    return train_on(again, dataset, imported(run))


def once_more(run: Run, until: Until) -> Recipe:
    """The recipe of a finished run, to learn ``until`` then for as many epochs as served it best.

    Raises:
        OovrecError: the run is not finished, or names items that were added.
    """
    if run.added:
        what, remedy = "names items that were added, which its log lacks", "retrain the run that they were added to"
        raise OovrecError(what, where=run.folder, remedy=remedy)
    run.check_finished()
    best = run.best_epoch
    training = run.recipe.training.model_copy(update={"stop_after": best["epoch"]} if best else {})
    return run.recipe.model_copy(update={"until": until, "training": training})


def imported(run: Run) -> Tokens | None:
    """The run's tokens where no scheme can build them anew."""
    told = run.recipe.tokens
    return Tokens.load(run.folder / "tokens") if told is not None and scheme(told.method) is None else None
