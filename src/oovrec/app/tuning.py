"""``oovrec bench tune``: a small declared search for a recipe's settings, by validation figures alone, with its log.

A recipe's ``search`` lists the values that may be tried for some of its keys. The first trial is the recipe as it is;
the others are drawn by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Optuna's), each from a
generator of (seed, trial), so that a search that was interrupted goes on as if it had not been. The best settings are
kept as a recipe beside the log.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from oovrec.app import tables
from oovrec.app.cells import taken_up
from oovrec.app.folders import seconds
from oovrec.app.pipeline import train_on, warn
from oovrec.app.recipe import Recipe, apply_override, called, parse_recipe, read_recipe
from oovrec.app.runs import Run
from oovrec.app.source import Source
from oovrec.config import flat
from oovrec.data.dataset import Dataset
from oovrec.errors import Diverged, OovrecError
from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import read_json, write_json, write_yaml
from oovrec.models.base import NeuralRecommender, system
from oovrec.progress import say
from oovrec.training.checkpoint import best_epoch

RUNS = Path("runs") / "tuning"
DRAWS = 100  # for settings that were not tried yet; where there are none, the space is searched through


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: from 0, the recipe as it is.
        settings: value of each searched key.
        ndcg: best validation ndcg@10; 0 where the loss was no longer a number.
        epoch: where it was reached; 0 likewise.
        seconds: of the whole training; 0 likewise.
    """

    number: int
    settings: dict[str, Any]
    ndcg: float
    epoch: int
    seconds: float


@dataclass(frozen=True)
class Study:
    """A search for one recipe's settings on one dataset.

    Attributes:
        recipe: its name.
        base: what is tuned.
        data: on what.
    """

    recipe: str
    base: Recipe
    data: Source

    @classmethod
    def of(cls, recipe: str, data: Source, epochs: int | None, seed: int) -> Study:
        """A search for the settings of a recipe, given by name or path.

        Raises:
            OovrecError: its system learns in no epochs, or from what would validate it; the recipe has no ``search``;
                it names an unknown key; the recipe's own value of one is not in its list.
        """
        overrides = [f"seed={seed}", *([f"training.epochs={epochs}"] if epochs else [])]
        base = read_recipe(recipe, overrides)
        if not issubclass(system(base.system), NeuralRecommender):
            raise OovrecError(f"'{base.system}' learns in no epochs", where=recipe, remedy="tune another system")
        base.check_held_out("validation")
        if not base.search:
            what = "has no 'search'"
            raise OovrecError(what, where=recipe, remedy="list values to try: search: {model.dropout: [0.2, 0.5]}")
        study = cls(called(recipe), base, data)
        for key, value in study.own().items():
            if value not in base.search[key]:
                what = f"the recipe's own value {json.dumps(value)} of '{key}' is not among those to try"
                raise OovrecError(what, where=f"{recipe}, search", remedy="add it")
        return study

    def own(self) -> dict[str, Any]:
        """The recipe's values of the searched keys."""
        known = flat(self.base.in_full())
        return {key: known[key] for key in self.base.search}

    def about(self) -> dict[str, Any]:
        """What must be the same for trials to be compared."""
        return {
            "recipe": self.recipe,
            "config_hash": self.base.hash,
            "dataset": self.data.name,
            "fingerprint": self.data.fingerprint,
            "epochs": self.base.training.epochs,
            "seed": self.base.seed,
            "search": {key: list(values) for key, values in self.base.search.items()},
        }

    def with_settings(self, settings: dict[str, Any]) -> Recipe:
        """The recipe with values of the searched keys."""
        values = self.base.to_dict()
        for key, value in settings.items():
            apply_override(values, f"{key}={json.dumps(value)}")
        return parse_recipe(values, self.recipe)

    def run(self, number: int, settings: dict[str, Any]) -> Run:
        """The run of one trial."""
        folder = RUNS / self.data.name / f"{self.recipe}-s{self.base.seed}" / str(number)
        return Run(folder, self.with_settings(settings), self.data)


def tune(
    recipes: Sequence[str], datasets: Sequence[str], trials: int, epochs: int | None, seed: int, out: Path
) -> None:
    """Search settings for each recipe on each dataset; every one gets the same number of trials.

    Writes ``<out>/<dataset>/<recipe>.json``, the log, after each trial, and ``<recipe>-tuned.yaml``, the best settings,
    after the last; what is there already is gone on with.

    Args:
        trials: of each, the recipe as it is included.
        epochs: of each trial, at most; None takes the recipe's.

    Raises:
        OovrecError: recipes or data are not in order, a file holds the log of another search, or nothing was learnt.
        Interrupted: Ctrl-C; the same call goes on.
    """
    for name in datasets:
        dataset = Source(source=name).load()
        warn(dataset)
        source = Source(source=name).found(dataset)
        for study in [Study.of(recipe, source, epochs, seed) for recipe in recipes]:
            done = search(study, dataset, trials, out / dataset.name / f"{study.recipe}.json")
            tables.show(*shown(study, done))


def search(study: Study, dataset: Dataset, trials: int, file: Path) -> list[Trial]:
    """The trials of a study, those in ``file`` first; stops early where every setting was tried."""
    done = _earlier(study, file)
    while len(done) < trials and (settings := propose(study, done)) is not None:
        done.append(_carried_out(study, len(done), settings, dataset))
        about = {"hardware": hardware(), "versions": versions(), "commit": git_commit()}
        write_json(
            file, {**study.about(), **about, "best": asdict(best(done)), "trials": [asdict(one) for one in done]}
        )
        latest, winner = done[-1], best(done)
        say(escape(f"{study.recipe} {latest.settings}: {latest.ndcg:.4f}; best {winner.ndcg:.4f} {winner.settings}"))
    if not best(done).epoch:
        remedy = "list smaller values of training.learning_rate"
        raise OovrecError("the loss of no trial was a number to the end", where=study.recipe, remedy=remedy)
    _keep(study, best(done), file.with_name(f"{study.recipe}-tuned.yaml"))
    return done


def best(trials: Sequence[Trial]) -> Trial:
    """The one of the highest figure; of equal ones the earliest."""
    return max(trials, key=lambda trial: trial.ndcg)


def propose(study: Study, done: Sequence[Trial]) -> dict[str, Any] | None:
    """Settings to try next: the recipe's own first, then what the estimator draws; None where all were tried.

    Raises:
        OovrecError: Optuna is not installed.
    """
    if not done:
        return study.own()
    optuna = _optuna()
    choices = {
        key: optuna.distributions.CategoricalDistribution(tuple(values)) for key, values in study.base.search.items()
    }
    seed = (1_000 * study.base.seed + len(done)) % 2**32  # which is all that its generator takes
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    search = optuna.create_study(direction="maximize", sampler=sampler)
    search.add_trials(
        [optuna.trial.create_trial(params=one.settings, distributions=choices, value=one.ndcg) for one in done]
    )
    tried = [one.settings for one in done]
    for _ in range(DRAWS):
        drawn: dict[str, Any] = search.ask(choices).params
        if drawn not in tried:
            return drawn
    return None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise OovrecError("tuning needs optuna", remedy="run: pip install 'oovrec[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _keep(study: Study, winner: Trial, file: Path) -> None:
    """The winner's settings as a recipe, which ``train`` and ``bench results`` take by its path."""
    values = {key: value for key, value in study.with_settings(winner.settings).to_dict().items() if key != "search"}
    found = f"the best of its search by validation ndcg@10 ({winner.ndcg:.4f})"
    head = f"# {study.recipe} on {study.data.name}, {found}, in trainings of {study.base.training.epochs} epochs.\n"
    write_yaml(file, values, head)


def _carried_out(study: Study, number: int, settings: dict[str, Any], dataset: Dataset) -> Trial:
    with taken_up(study.run(number, settings)) as run:
        try:
            train_on(run, dataset)
            best = best_epoch(run.epochs)
            assert best is not None  # a study's recipe leaves something to validate by
            trial = Trial(number, settings, best["ndcg"], best["epoch"], round(seconds(run.folder), 1))
        except Diverged as error:
            say(escape(f"{study.recipe} {settings}: {error}"))
            trial = Trial(number, settings, 0.0, 0, 0.0)
        shutil.rmtree(run.folder, ignore_errors=True)  # gone already where it diverged at once
        return trial


def _earlier(study: Study, file: Path) -> list[Trial]:
    if not file.exists():
        return []
    held = read_json(file)
    try:
        known = {key: held[key] for key in study.about()}
        trials = [Trial(**one) for one in held["trials"]]
    except (KeyError, TypeError) as error:
        raise OovrecError("is not the log of a search", where=file, remedy="remove it or give another --out") from error
    for key, wanted in study.about().items():
        if known[key] != wanted:
            what = f"holds another search: {key} is {known[key]} there, {wanted} here"
            raise OovrecError(what, where=file, remedy="remove it, or give another --out")
    return trials


def shown(study: Study, trials: Sequence[Trial]) -> list[Table | Text]:
    """The trials for people, best first."""
    ranked = sorted(trials, key=lambda trial: -trial.ndcg)
    columns = {"trial": "right", **dict.fromkeys(study.base.search, "right"), "ndcg@10": "right", "epoch": "right"}
    rows = [
        [str(one.number), *(str(one.settings[key]) for key in study.base.search), f"{one.ndcg:.4f}", str(one.epoch)]
        for one in ranked
    ]
    on = study.base.training.validate_on
    title = f"{study.recipe} on {study.data.name}, validation, {on}; trial 0 is the recipe as it is"
    return [Text(title), tables.grid(columns, rows)]
