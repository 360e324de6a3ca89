"""The main job: a recipe's model beside its references, tested once, with a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from rich.markup import escape

from oovrec.app.folders import TIMES, seconds
from oovrec.app.pipeline import evaluated, prepare, train_on
from oovrec.app.recipe import Recipe, read_recipe
from oovrec.app.report import write_report
from oovrec.app.report_data import ReportData, SystemRow, TokenFacts, example_users
from oovrec.app.runs import Run, load_run
from oovrec.app.source import Source
from oovrec.data.checks import inspect
from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.files import read_json
from oovrec.models.entities import Entities
from oovrec.progress import say

EXAMPLES = 3  # users whose recommendations are shown


def compare(
    recipe: Recipe | str | Path, data: Source | Dataset | str | Path, out: str | Path, *, resume: bool = False
) -> ReportData:
    """Train a recipe's model and its references on the same data, test all of them once, write the report.

    Args:
        recipe, data, out, resume: as in :func:`oovrec.app.pipeline.train`; references are kept in
            ``references/<recipe>/`` of the run folder.

    A reference that cannot be trained is left out, with a note.

    Raises:
        OovrecError: as :func:`train`.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    main, dataset = prepare(recipe, data, out, resume)
    if main.recipe.retrained:
        what = "the main job compares what learns until validation"
        raise OovrecError(what, where="until", remedy="leave 'until' out, or use 'oovrec train'")
    train_on(main, dataset)
    for name in main.recipe.references:
        try:
            reference = read_recipe(name).model_copy(update={"seed": main.recipe.seed})
            train_on(Run(_reference(main, name), reference, main.data), dataset)
        except OovrecError as error:  # data too small for it, say, or a package with its name
            say(escape(f"note: {name} is left out: {error}"))
    return report(load_run(main.folder), dataset)


def report(main: Run, dataset: Dataset) -> ReportData:
    """Write the report of a trained run and of the references in its folder, those whose training is finished."""
    runs = [main, *_references(main)]
    evaluations = [evaluated(run, dataset) for run in runs]
    rows = [
        SystemRow.of(run.label, run.tokens_from, evaluation, evaluations[0] if run is not main else None)
        for run, evaluation in zip(runs, evaluations, strict=True)
    ]
    tokens = Entities.load(main.folder).tokens
    environment = read_json(main.folder / "environment.json")
    shown = ReportData(
        dataset=inspect(dataset),
        systems=rows,
        environment={key: value for key, value in environment.items() if key not in TIMES},
        config=yaml.safe_dump(main.recipe.to_dict(), sort_keys=False),
        seconds=sum(seconds(run.folder) for run in runs),
        training=main.epochs,
        validated_on=main.recipe.training.validate_on,
        validated_days=main.recipe.training.validate_days,
        notice=main.recipe.notice,
        tokens=TokenFacts.of(tokens, dataset) if tokens else None,
        spoken=main.speaks,
        examples=example_users(
            dataset, evaluations[0], _rows(dataset, main.recipe.seed), tokens if main.speaks else None
        ),
    )
    write_report(shown, main.folder)
    return shown


def _references(main: Run) -> list[Run]:
    """The finished references; of each other one that was begun it is said how to finish it."""
    finished = []
    for name in main.recipe.references:
        folder = _reference(main, name)
        if (folder / "model.safetensors").exists():
            finished.append(load_run(folder))
        elif folder.exists():
            remedy = f"'oovrec run --out {main.folder} --resume', with the settings it was begun with, finishes it"
            say(escape(f"note: {name} is left out, for its training is not finished; {remedy}"))
    return finished


def _reference(main: Run, name: str) -> Path:
    return main.folder / "references" / name


def _rows(dataset: Dataset, seed: int) -> np.ndarray:
    """Rows of the test split to show as examples."""
    rows = len(dataset.evaluated_users("test"))
    return np.sort(np.random.default_rng(seed).choice(rows, min(EXAMPLES, rows), replace=False))
