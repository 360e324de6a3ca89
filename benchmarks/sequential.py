"""SASRec against the libraries in use: rows ``sasrec-epoch`` and ``sasrec-evaluation`` of the speed table.

    make .peers
    python benchmarks/sequential.py --data DIR [--peers .peers/bin/python] [--batches N] [--rounds N]

One training epoch and one full evaluation, one after another on the same machine, with the same sizes (width 64, two
blocks of two heads, length 50, softmax over the catalogue) and the same targets seen once: ours, RecBole 1.2.1 (a
sample a target, padded; ``--batches`` of its epoch are timed and scaled up) and RecTools 0.19 (a sample a user).
Ours and RecBole take turns, ``--rounds`` each, and their medians count: a shared machine is faster at one time than at
another. ``stock`` is the faster of the two peers. Ours computes raw, masked and later_day figures and their intervals
in the evaluation's time; RecBole and RecTools one block without intervals. On other data than Beauty the rows are
named after it too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import rows  # before torch
import torch

from oovrec.app.waiting import WAITING
from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.sasrec import SASRec
from oovrec.training.config import TrainingConfig

HERE = Path(__file__).parent.absolute()
EPOCHS = 4
TIMED = ("epoch", "evaluation")


def ours(dataset: Dataset) -> dict[str, Any]:
    """Seconds of our epoch and evaluation, medians after one to warm up."""
    model = SASRec(SASRec.Config(), Entities.of(dataset))
    training = TrainingConfig(epochs=EPOCHS, batch_size=1200, clip_norm=0, validate_every=EPOCHS, validation_users=100)
    logs = model.fit(dataset, training)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        evaluate(model.ranked, dataset).blocks()
        seconds.append(time.perf_counter() - start)
    targets = len(dataset.histories("train").items) - int((dataset.histories("train").lengths > 0).sum())
    epoch = statistics.median(log.seconds for log in logs[1:])
    return {"epoch": epoch, "evaluation": statistics.median(seconds), "targets": targets}


def peer(name: str, dataset: Dataset, python: str, *options: str) -> dict[str, Any]:
    """What a peer's script measured."""
    with tempfile.TemporaryDirectory() as folder:
        histories, out = Path(folder) / "histories.txt", Path(folder) / "out.json"
        full = dataset.full
        parts = (full.items[start:end] for start, end in zip(full.indptr[:-1], full.indptr[1:], strict=True))
        histories.write_text("\n".join(" ".join(map(str, part)) for part in parts) + "\n")
        command = [str(Path(python).absolute()), str(HERE / "peers" / f"{name}_sasrec.py"), str(histories), str(out)]
        alone = {key: value for key, value in os.environ.items() if key not in WAITING}  # as they are used
        subprocess.run([*command, *options], check=True, cwd=folder, env=alone)  # they leave files of their own there
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The first run, with the medians of all runs' seconds."""
    return runs[0] | {what: statistics.median(run[what] for run in runs) for what in TIMED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--peers", default=".peers/bin/python", help="a Python with peers/requirements.txt")
    parser.add_argument("--batches", type=int, default=20, help="of RecBole's epoch; 0 takes all")
    parser.add_argument("--rounds", type=int, default=5, help="of ours and RecBole")
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    turns = []
    for _ in range(options.rounds):
        turns.append((ours(dataset), peer("recbole", dataset, options.peers, "--batches", str(options.batches))))
        print("ours", turns[-1][0], "RecBole", turns[-1][1], flush=True)
    mine, recbole = (middle(list(runs)) for runs in zip(*turns, strict=True))
    rectools = peer("rectools", dataset, options.peers)
    print("RecTools", rectools, flush=True)
    for what in TIMED:
        seconds = {"RecBole 1.2.1": recbole[what], "RecTools 0.19.0": rectools[what]}
        fastest = min(seconds.values())
        about = {
            "data": dataset.name,
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "ratios": {name: round(value / mine[what], 2) for name, value in seconds.items()},
            "targets": {"ours": mine["targets"], "RecBole": recbole["targets"], "RecTools": rectools["targets"]},
            "recbole_batches_timed": f"{recbole['timed']} of {recbole['batches']}",
            "RecBole's ratio by round": [round(theirs[what] / own[what], 2) for own, theirs in turns],
            "threads": torch.get_num_threads(),
        }
        name = f"sasrec-{what}" if dataset.name == "beauty" else f"sasrec-{what}-{dataset.name}"
        row = rows.row(name, "s", mine[what], fastest, about, ratio=fastest / mine[what])
        print(row["name"], row["ours"], row["stock"], row["ratio"], about)
        print(rows.write(row))


if __name__ == "__main__":
    main()
