"""What the order within a day is worth: recipes trained and tested where it is drawn at random.

    python benchmarks/order.py --data ../shared/data/beauty [--recipes sasrec metavec-llama] [--seeds 0 1 2]

Times of the Amazon data are days, and everybody's files have a day's items in the order of their ids. Here a user's
items of one day are put into random order before anything is split, so that other items are held out; the rest is as
in ``oovrec train`` and ``oovrec evaluate``. Each seed draws an order of its own, the same for all recipes. Writes
``<out>/<dataset>-<recipe>-s<seed>.json``, and of several recipes ``<out>/<dataset>-against-<first>.json``: each against
the first, by resampling users, whose figures are means over the seeds. What is done already is not done again.
A recipe is a shipped one or a YAML file.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.app.pipeline import evaluate, train_on
from oovrec.app.ranks import read_ranks
from oovrec.app.recipe import read_recipe
from oovrec.app.runs import Run
from oovrec.app.source import Source
from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.metrics import paired_bootstrap, per_user
from oovrec.evaluation.protocol import COMPARED, Evaluation
from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import write_json

RUNS = Path("runs/order")


def cell(options: argparse.Namespace, dataset: Dataset, recipe: str, seed: int) -> Evaluation:
    """One recipe on one order of the days."""
    source = Source(source=str(options.data), tie_seed=seed)
    shuffled, name = source.load(), f"{dataset.name}-{Path(recipe).stem}-s{seed}"
    run = Run(RUNS / name, read_recipe(recipe, [f"seed={seed}"]), source.found(shuffled))
    kept = options.out / f"{name}.json", run.folder / "ranks.safetensors"
    if not all(path.exists() for path in kept):
        evaluation = evaluate(train_on(run, shuffled), data=shuffled)
        found = {
            "dataset": dataset.name,
            "recipe": Path(recipe).stem,
            "config_hash": run.recipe.hash,
            "seed": seed,
            "test_targets_changed": float((shuffled.targets("test") != dataset.targets("test")).mean()),
            **evaluation.blocks(),
            **circumstances(),
        }
        write_json(kept[0], found)
    return read_ranks(kept[1], shuffled.fingerprint)


def circumstances() -> dict[str, Any]:
    return {"hardware": hardware(), "versions": versions(), "commit": git_commit()}


def against(ours: list[Evaluation], theirs: list[Evaluation]) -> dict[str, Any]:
    """Means over seeds of masked figures, and the difference from ``theirs`` where these are of another recipe.

    Each seed holds out other items, so a user's figures are means over the seeds; of one seed both have the same items.
    """
    assert all(a.of_same_users(b) for a, b in zip(ours, theirs, strict=True))
    found: dict[str, Any] = {}
    for metric in COMPARED:
        a, b = (np.mean([per_user(one.masked)[metric] for one in side], axis=0) for side in (ours, theirs))
        found[metric] = {"mean": float(a.mean())}
        if ours is not theirs:
            found[metric]["difference"] = asdict(paired_bootstrap(a, b))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/beauty"))
    parser.add_argument("--recipes", nargs="+", default=["sasrec"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/order"))
    options = parser.parse_args()
    dataset = load_dataset(str(options.data))
    found = {
        Path(recipe).stem: [cell(options, dataset, recipe, seed) for seed in options.seeds]
        for recipe in options.recipes
    }
    first = next(iter(found))
    systems = {recipe: against(evaluations, found[first]) for recipe, evaluations in found.items()}
    for recipe, figures in systems.items():
        for metric, figure in figures.items():
            lead = ""
            if "difference" in figure:
                low, high = figure["difference"]["interval"]
                lead = f", over {first} {low:+.4f} to {high:+.4f} (95%)"
            print(f"{recipe}: masked {metric} {figure['mean']:.4f}{lead}")
    if len(systems) > 1:
        about = {"dataset": dataset.name, "seeds": options.seeds, "against": first, "masked": systems}
        write_json(options.out / f"{dataset.name}-against-{first}.json", {**about, **circumstances()})


if __name__ == "__main__":
    main()
