"""What it is worth to learn from what others take later: a recipe by time, without that and with it.

    python benchmarks/later.py --data results/time/beauty.yaml [--recipe sasrec] [--seed 0] [--out results/time]

The data must hold items out by time. A random half of the users is tested, on the same targets each time, and what the
other half took is training up to three moments: where validation begins (as in ``oovrec train``), where the test
begins, and the end of the log, as leave-one-out has it. The tested half's own part stays what it was. Writes
``<out>/later-<dataset>-<recipe>-s<seed>.json``: masked figures of all targets, and of those that the training part has
without anybody's later items.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.app.recipe import read_recipe
from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.metrics import per_user
from oovrec.evaluation.protocol import COMPARED, Evaluation, evaluate
from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import write_json
from oovrec.models.base import configured, system
from oovrec.models.entities import Entities


def told(dataset: Dataset, others: np.ndarray, until: float) -> Dataset:
    """The same data, where all that ``others`` ``[users]`` bool took before ``until`` is in the training part."""
    assert dataset.held_from is not None
    assert dataset.times is not None
    given = others[dataset.full.rows] & (dataset.times < until)
    return replace(dataset, times=np.where(given, np.minimum(dataset.times, dataset.held_from[0] - 1), dataset.times))


def figures(evaluation: Evaluation, kept: np.ndarray) -> dict[str, float]:
    """Means of masked figures over some of the users."""
    values = per_user(evaluation.masked[kept])
    return {metric: float(values[metric].mean()) for metric in COMPARED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="results/time/beauty.yaml")
    parser.add_argument("--recipe", default="sasrec", help="of a system that reads no tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/time"))
    options = parser.parse_args()
    dataset, recipe = load_dataset(options.data), read_recipe(options.recipe, [f"seed={options.seed}"])
    assert dataset.held_from is not None, "the data file must say hold_out: time"
    others = np.random.default_rng(options.seed).random(len(dataset.users)) < 0.5
    known = np.bincount(dataset.histories("train").items, minlength=len(dataset.items)) > 0
    moments = {"until validation": dataset.held_from[0], "until the test": dataset.held_from[1], "to the end": np.inf}
    found: dict[str, Any] = {}
    for name, until in moments.items():
        data = told(dataset, others, until)
        model = system(recipe.system)(configured(recipe.system, recipe.model), Entities.of(data))
        model.fit(data, recipe.training, seed=recipe.seed)
        evaluation = evaluate(model.ranked, data)
        tested = ~others[evaluation.users]
        found[name] = {
            "training": len(data.positions("train")),
            "users": int(tested.sum()),
            "all": figures(evaluation, tested),
            "known": figures(evaluation, tested & known[evaluation.targets]),
        }
        print(name, found[name], flush=True)
    about = {"dataset": dataset.name, "held_from": dataset.periods, "recipe": options.recipe, "seed": recipe.seed}
    about |= {"config_hash": recipe.hash, "hardware": hardware(), "versions": versions(), "commit": git_commit()}
    write_json(options.out / f"later-{dataset.name}-{options.recipe}-s{recipe.seed}.json", {**about, **found})


if __name__ == "__main__":
    main()
