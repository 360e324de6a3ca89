"""Seconds that RecTools 0.19 takes for an epoch and an evaluation of SASRec.

    python rectools_sasrec.py HISTORIES OUT.json

``HISTORIES``: a line a user, the items oldest first, the last two held out.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

EPOCHS = 3
LENGTH = 50


class Clock(Callback):
    """Seconds of each training epoch, of all clocks, as RecTools trains with a copy."""

    seconds: ClassVar[list[float]] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def log(histories: list[list[str]], held_out: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The interactions before the last ``held_out`` of each user, and the first of those held out."""
    rows = [
        (user, item, pd.Timestamp(place, unit="D"), 1.0, len(items) - place)
        for user, items in enumerate(histories)
        for place, item in enumerate(items)
    ]
    table = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Datetime, Columns.Weight, "left"])
    before, target = table[table.left > held_out], table[table.left == held_out]
    return before.drop(columns="left"), target.drop(columns="left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("histories", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    seed_everything(0)
    histories = [line.split() for line in options.histories.read_text().splitlines()]
    train, _ = log(histories, 2)
    known, target = log(histories, 1)

    def trainer() -> Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=[Clock()], enable_model_summary=False, **quiet)

    shape = {"n_blocks": 2, "n_heads": 2, "n_factors": 64, "dropout_rate": 0.5, "session_max_len": LENGTH}
    model = SASRecModel(**shape, loss="softmax", batch_size=128, get_trainer_func=trainer, recommend_torch_device="cpu")
    model.fit(Dataset.construct(train))
    dataset = Dataset.construct(known)
    start = time.perf_counter()
    best = model.recommend(target[Columns.User].unique(), dataset, k=10, filter_viewed=True)
    metrics = calc_metrics({"hit@10": HitRate(k=10), "ndcg@10": NDCG(k=10)}, best, target)
    evaluation = time.perf_counter() - start
    targets = sum(min(len(items) - 2, LENGTH + 1) - 1 for items in histories if len(items) > 3)
    found = {"epoch": statistics.median(Clock.seconds[1:]), "evaluation": evaluation, "targets": targets}
    found |= {"users": int(target[Columns.User].nunique()), "threads": torch.get_num_threads(), "metrics": metrics}
    options.out.write_text(json.dumps(found, default=float))


if __name__ == "__main__":
    main()
