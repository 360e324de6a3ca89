"""A training step against the size of the catalogue: row ``train-large-catalogue`` of the speed table.

    python benchmarks/catalogue.py [--items 10000 100000 300000] [--batch 1024]

META ID on the compact LLaMA, items in as many clusters as the root of their number, a number of its own for each:
made-up users of 12 random items, random clusters. ``ours``: each token learnt against its legal alternatives alone, as
the recipes have it. ``stock``: against the whole vocabulary, as transformers' own loss has it (``model.loss=full``; all
else is ours). The row is of the largest catalogue; milliseconds a step of each size are in its settings.
"""

from __future__ import annotations

import argparse
from typing import get_args

import numpy as np
import rows
import torch
import training

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.entities import Entities
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.network import Loss
from oovrec.tokens.naming import two_level_names
from oovrec.tokens.table import Tokens, TokenTable

USERS, LENGTH, WIDTH = 4000, 12, 64


def made_up(items: int) -> tuple[Dataset, Entities]:
    """Users and items as above, and their names."""
    rng = np.random.default_rng(0)
    histories = Histories.of(rng.integers(0, items, (USERS, LENGTH)))
    users, ids = ([f"{kind}{n}" for n in range(count)] for kind, count in (("u", USERS), ("i", items)))
    dataset = Dataset(name="made up", users=users, items=ids, full=histories)
    names = two_level_names("I", rng.integers(0, round(items**0.5), items), np.zeros(items), rng, numbers="own")
    centroids = {cluster: rng.normal(size=WIDTH).astype(np.float32) for cluster in {name[0] for name in names}}
    return dataset, Entities.of(dataset, Tokens(TokenTable.of(ids, names, centroids), None, "meta", "train", 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    took: dict[str, dict[int, float]] = {loss: {} for loss in get_args(Loss)}
    for items in options.items:
        dataset, entities = made_up(items)
        bench = training.Bench(dataset, "", torch.device("cpu"), [options.batch], 1, options.repeats, None)
        sides = {
            loss: training.ours(bench, Llama(Llama.Config(loss=loss), entities), 1, options.batch) for loss in took
        }
        for loss, rate in bench.medians(sides, bench.steps).items():
            took[loss][items] = round(1000 * options.batch / rate, 1)
            print(f"{items:>9,} items, {loss:10} {took[loss][items]:9.1f} ms a step", flush=True)
    largest = max(options.items)
    mine, theirs = took["restricted"][largest], took["full"][largest]
    settings = training.about(bench) | {"items": largest, "shape": "compact", "numbers": "own", "step_ms": took}
    row = rows.row("train-large-catalogue", "ms", mine, theirs, settings, ratio=theirs / mine)
    print(row["name"], row["ours"], row["stock"], row["ratio"], rows.write(row))


if __name__ == "__main__":
    main()
