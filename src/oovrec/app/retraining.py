"""Once more from the beginning, on what was held out too: a model for use, or one tested as it would be in use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from rich.markup import escape

from oovrec.app.folders import note
from oovrec.app.pipeline import prepare, train_on
from oovrec.app.recipe import Recipe
from oovrec.app.runs import Run, load_run
from oovrec.data.dataset import Dataset, Until
from oovrec.errors import OovrecError, unknown, within
from oovrec.models.base import NeuralRecommender, system
from oovrec.models.entities import Entities
from oovrec.progress import say
from oovrec.tokens.build import check_scheme, scheme
from oovrec.tokens.table import Tokens
from oovrec.training.checkpoint import best_epoch
from oovrec.training.group import leading

Further = Literal["test", "end"]


def retrain(
    run: Run | str | Path,
    out: str | Path,
    *,
    until: Further = "end",
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
        OovrecError: another ``until``; the run is not finished, or names items that were added; its log is another by
            now, and ``data`` is not given; its tokens were imported, and it is, or their scheme is not installed;
            otherwise as :func:`train`.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    if until not in get_args(Further):  # 'validation' is how far the first one learns
        raise unknown("end of what is learnt from", str(until), get_args(Further), where="until")
    run = run if isinstance(run, Run) else load_run(run)
    if Path(out).resolve() == run.folder.resolve():
        raise OovrecError("is the run that is to be retrained", where=out, remedy="give another --out")
    recipe, tokens = once_more(run, until), _given(run)
    if data is not None and tokens is not None:
        what = "has tokens that were imported, which no newer log can be given"
        remedy = "import some for it, and give them to 'oovrec train' with --set until=end"
        raise OovrecError(what, where=run.folder, remedy=remedy)
    try:
        again, dataset = prepare(recipe, run.data if data is None else run.data.renewed(data), out, resume)
    except OovrecError as error:
        if data is not None or str(error.where) != run.data.source:
            raise
        raise OovrecError(error.what, where=error.where, remedy="give --data to retrain on it as it is now") from error
    _say_what_is_lost(run, dataset)
    if recipe.training.stop_after:
        epochs = "1 epoch" if recipe.training.stop_after == 1 else f"{recipe.training.stop_after} epochs"
        say(escape(f"for {epochs}, as served {run.folder} best"))
    done = train_on(again, dataset, tokens)
    if leading():
        note(done.folder, retrained_from=run.folder.resolve().name)
    return done


def _say_what_is_lost(run: Run, dataset: Dataset) -> None:
    """Say what the run knows and a newer log does not, such as all of it in a log of something else."""
    entities = Entities.load(run.folder)
    for kind, before, now in (("users", entities.users, dataset.users), ("items", entities.items, dataset.items)):
        if lost := len({*before} - {*now}):
            say(escape(f"note: {dataset.name} lacks {lost:,} of the {len(before):,} {kind} of {run.folder}"))


def once_more(run: Run, until: Until) -> Recipe:
    """The recipe of a finished run, to learn ``until`` then for as many epochs as served it best.

    Raises:
        OovrecError: the run is not finished, names items that were added, or has lost its log of epochs.
    """
    if run.added:
        what, remedy = "names items that were added, which its log lacks", "retrain the run that they were added to"
        raise OovrecError(what, where=run.folder, remedy=remedy)
    run.check_finished()
    best = best_epoch(run.epochs)
    if best is None and not run.recipe.retrained and issubclass(system(run.recipe.system), NeuralRecommender):
        where, remedy = run.folder / "log.jsonl", "restore the file or train again"
        raise OovrecError("does not say which epoch validation chose", where=where, remedy=remedy)
    training = run.recipe.training.model_copy(update={"stop_after": best["epoch"]} if best else {})
    return run.recipe.model_copy(update={"until": until, "training": training})


def _given(run: Run) -> Tokens | None:
    """The run's tokens where no scheme made them, so that none could build them anew.

    Raises:
        OovrecError: a scheme made them that is not installed here.
    """
    told = run.recipe.tokens
    if told is None or scheme(told.method) is not None:
        return None
    tokens = Tokens.load(run.folder / "tokens")
    with within(run.folder):
        check_scheme(tokens)
    return tokens
