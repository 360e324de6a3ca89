"""Every scheme on every dataset: seconds of ``tokens build``, unique names, and the round trip through a tokenizer.

    python benchmarks/schemes.py --data ml-100k ../shared/data/beauty … [--out results/tokenization/builds.json]

A name makes the round trip if the extended tokenizer encodes its text to the ids that stand for it, and decodes these
to the text. Builds that ``--out`` holds already are not made again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.results import git_commit, hardware
from oovrec.files import read_json, write_json
from oovrec.language.tokenizer import extend, own_tokenizer
from oovrec.tokens.build import build_tokens, methods
from oovrec.tokens.table import Tokens

FURTHER: dict[str, list[dict[str, Any]]] = {
    "collaborative": [{"tokens": 500, "branching": 20}, {"tokens": 200, "branching": 20}],
    "semantic": [{"quantiser": "rqvae"}, {"quantiser": "kmeans"}],
}


def built(dataset: Dataset, method: str, options: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    tokens = build_tokens(dataset, method, seed=0, options=options)
    seconds = time.perf_counter() - start
    codes = tokens.items.codes
    return {
        "dataset": dataset.name,
        "method": method,
        "options": options,
        "seconds": round(seconds, 1),
        "items": len(codes),
        "depth": tokens.items.depth,
        "unique": len(np.unique(codes, axis=0)) == len(codes),
        "round_trip": round_trip(tokens),
    }


def round_trip(tokens: Tokens) -> bool:
    vocabulary = extend(own_tokenizer(["What comes next?"], causal=True), tokens)
    texts = [tokens.items.text(item) for item in range(len(tokens.items))]
    encoded = vocabulary.tokenizer(texts, add_special_tokens=False)["input_ids"]
    wanted = [[code for code in row if code != vocabulary.end] for row in vocabulary.items.tolist()]
    decoded = ["".join(vocabulary.tokenizer.convert_ids_to_tokens(row)) for row in encoded]
    return encoded == wanted and decoded == texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["ml-100k"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = read_json(arguments.out)["builds"] if arguments.out and arguments.out.exists() else []
    known = [(row["dataset"], row["method"], row["options"]) for row in rows]
    for data in arguments.data:
        dataset = load_dataset(data)
        for method in methods():
            for options in FURTHER.get(method, [{}]):
                if (dataset.name, method, options) in known:
                    continue
                rows.append(row := built(dataset, method, options))
                print(*row.values(), flush=True)
                if arguments.out:
                    about = {"hardware": hardware(), "commit": git_commit()}
                    write_json(arguments.out, {**about, "builds": rows})


if __name__ == "__main__":
    main()
