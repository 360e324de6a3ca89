"""Seconds that RecBole 1.2.1 takes to get ready, for an epoch and for an evaluation of SASRec.

    python recbole_sasrec.py HISTORIES OUT.json [--batches N]

``HISTORIES``: a line a user, the items oldest first, the last two held out. RecBole makes a sample of each target and
its padded past; ``--batches`` times so many batches of the epoch and scales up, as its epoch takes minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

SETTINGS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "TIME_FIELD": "time",
    "load_col": {"inter": ["user", "item", "time"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "metrics": ["Hit", "NDCG"],
    "topk": [5, 10],
    "valid_metric": "NDCG@10",
    "MAX_ITEM_LIST_LENGTH": 50,
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "hidden_size": 64,
    "inner_size": 64,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "hidden_act": "relu",
    "train_batch_size": 1024,
    "eval_batch_size": 1024,
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
}


class Share:
    """The first ``count`` batches of a loader."""

    def __init__(self, loader: object, count: int) -> None:
        self.loader, self.count = loader, count
        self.shuffle, self.sampler = loader.shuffle, loader.sampler

    def __iter__(self):
        for number, batch in enumerate(self.loader):
            if number == self.count:
                return
            yield batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("histories", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batches", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "log"
        root.mkdir()
        with (root / "log.inter").open("w") as file:
            file.write("user:token\titem:token\ttime:float\n")
            for user, line in enumerate(options.histories.read_text().splitlines()):
                file.writelines(f"{user}\t{item}\t{time}\n" for time, item in enumerate(line.split()))
        places = {"data_path": folder, "checkpoint_dir": folder, "seed": 0, "reproducibility": True}
        config = Config(model="SASRec", dataset="log", config_dict={**SETTINGS, **places})
        init_seed(0, True)
        begun, processor = time.perf_counter(), time.process_time()
        dataset = create_dataset(config)
        train, _, test = data_preparation(config, dataset)
        found = {"ready": time.perf_counter() - begun, "ready_processor": time.process_time() - processor}
        found |= {"ready_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}
        model = get_model("SASRec")(config, train.dataset)
        trainer = Trainer(config, model)
        whole = len(train)
        timed = min(options.batches or whole, whole)
        trainer._train_epoch(Share(train, 2), 0)  # warm up
        start = time.perf_counter()
        trainer._train_epoch(Share(train, timed), 1)
        epoch = (time.perf_counter() - start) * whole / timed
        start, processor = time.perf_counter(), time.process_time()
        metrics = trainer.evaluate(test, load_best_model=False)
        found |= {"evaluation": time.perf_counter() - start, "evaluation_processor": time.process_time() - processor}
    found |= {"epoch": epoch, "targets": len(train.dataset), "users": len(test.dataset)}
    found |= {"batches": whole, "timed": timed, "threads": torch.get_num_threads(), "metrics": dict(metrics)}
    options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
