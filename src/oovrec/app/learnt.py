"""What exported weights have learnt from, so that they begin no training that would be tested on it."""

from __future__ import annotations

from typing import get_args

from oovrec.app.runs import Run
from oovrec.data.dataset import Until
from oovrec.errors import OovrecError
from oovrec.files import read_json
from oovrec.models.backbones import find

KEY = "oovrec"  # in ``config.json``


def learnt(run: Run) -> dict[str, str]:
    """For the ``config.json`` of a run's exported model: which data it was learnt from, and how much of that."""
    return {"data": run.data.fingerprint, "until": run.recipe.until, "tokens_from": run.tokens_from}


def check_backbone(run: Run) -> None:
    """Make sure that the weights a run begins with have not learnt from what it holds out.

    Raises:
        OovrecError: they have, as the run that they were exported from says.
    """
    name, recipe = run.recipe.model.get("backbone"), run.recipe
    file = find(name) / "config.json" if name else None
    config = read_json(file) if file and file.exists() else None
    about = config.get(KEY) if isinstance(config, dict) else None
    if not isinstance(about, dict) or about.get("data") != run.data.fingerprint or recipe.until == "end":
        return
    further = [*get_args(Until)][get_args(Until).index(recipe.until) + 1 :]
    if about.get("until") in further or (about.get("tokens_from") == "all" and run.tokens_from != "all"):
        what = f"has learnt from what is held out of '{run.data.name}' here"
        raise OovrecError(what, where=name, remedy="export a run that did not, or begin with another model")
