"""What the order within a day is worth: a recipe trained and tested where it is drawn at random.

    python benchmarks/order.py --data ../shared/data/beauty [--recipe sasrec] [--seed 0] [--out results/order]

Times of the Amazon data are days, and everybody's files have a day's items in the order of their ids. Here a user's
items of one day are put into random order before anything is split, so that other items are held out; the rest is as
in ``oovrec train`` and ``oovrec evaluate``. Writes ``<out>/<dataset>-<recipe>-s<seed>.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from oovrec.app.pipeline import evaluate, train_on
from oovrec.app.recipe import read_recipe
from oovrec.app.runs import Run
from oovrec.app.source import Source
from oovrec.data.dataset import DAY, Dataset
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import write_json


def shuffled_days(dataset: Dataset, seed: int) -> Dataset:
    """The same interactions, those of one user and day in random order."""
    if dataset.times is None:
        raise OovrecError("has no times", where=dataset.name, remedy="give data whose days are known")
    chance = np.random.default_rng(seed).random(len(dataset.times))
    order = np.lexsort((chance, dataset.times // DAY, dataset.full.rows))
    full = replace(dataset.full, items=dataset.full.items[order])
    given = {name: getattr(dataset, name) for name in ("ratings", "summaries", "reviews")}
    return replace(dataset, full=full, **{name: part if part is None else part[order] for name, part in given.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/beauty")
    parser.add_argument("--recipe", default="sasrec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/order"))
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    shuffled = shuffled_days(dataset, arguments.seed)
    recipe = read_recipe(arguments.recipe, [f"seed={arguments.seed}"])
    name = f"{dataset.name}-{arguments.recipe}-s{arguments.seed}"
    run = train_on(Run(Path("runs/order") / name, recipe, Source(source=arguments.data).found(shuffled)), shuffled)
    found = {
        "dataset": dataset.name,
        "recipe": arguments.recipe,
        "config_hash": recipe.hash,
        "seed": arguments.seed,
        "test_targets_changed": float((shuffled.targets("test") != dataset.targets("test")).mean()),
        **evaluate(run, data=shuffled).blocks(),
        "hardware": hardware(),
        "versions": versions(),
        "commit": git_commit(),
    }
    write_json(arguments.out / f"{name}.json", found)
    print(f"{name}: masked hit@10 {found['masked']['hit@10']:.4f}, ndcg@10 {found['masked']['ndcg@10']:.4f}")


if __name__ == "__main__":
    main()
