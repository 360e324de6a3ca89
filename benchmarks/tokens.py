"""Token construction against the stock path in the same run: seconds and validation lift of both.

    python benchmarks/tokens.py [--data ml-100k] [--clusters K] [--repeats 3] [--write]

Both make META ID's clusters from the training part with the same settings. Stock: walks in plain Python, gensim's
Word2Vec on as many threads, scikit-learn's KMeans on unit vectors. Ours: ``build_tokens``, compiled before the clock
starts (``compile_seconds``, paid once per machine). gensim's down-sampling of frequent nodes is off, as ours has none.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence

import numpy as np
from gensim.models import Word2Vec
from numba import config as numba_config
from rows import row, write
from sklearn.cluster import KMeans

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.tokens.build import build_tokens
from oovrec.tokens.quality import cluster_lift, clusters_of
from oovrec.tokens.schemes.meta import Config

THREADS = numba_config.NUMBA_NUM_THREADS
PAPER = {"newest": 0, "successions": 0.0, "words": 0.0}  # walks along interactions alone, as the stock path's


def python_walks(dataset: Dataset, config: Config, seed: int) -> list[list[str]]:
    """The walks of one round as sentences, nodes as words."""
    neighbours: dict[str, list[str]] = {}
    for user, items in enumerate(dataset.histories("train")):
        for item in items.tolist():
            neighbours.setdefault(f"u{user}", []).append(f"i{item}")
            neighbours.setdefault(f"i{item}", []).append(f"u{user}")
    rng, walks = random.Random(seed), []
    for _ in range(config.walks):
        for node in neighbours:
            walk = [node]
            while len(walk) < config.walk_length:
                walk.append(rng.choice(neighbours[walk[-1]]))
            walks.append(walk)
    rng.shuffle(walks)
    return walks


def stock(dataset: Dataset, config: Config, seed: int) -> dict[str, float]:
    """Seconds, and lift by split."""
    start = time.perf_counter()
    walks = python_walks(dataset, config, seed)
    model = Word2Vec(
        walks,
        vector_size=config.dimensions,
        window=config.window,
        negative=config.negatives,
        epochs=config.epochs,
        alpha=config.learning_rate,
        sg=1,
        sample=0,
        min_count=1,
        workers=THREADS,
        seed=seed,
    )
    users = stock_clusters(model, [f"u{user}" for user in range(len(dataset.users))], config.clusters, seed)
    items = stock_clusters(model, [f"i{item}" for item in range(len(dataset.items))], config.clusters, seed)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **cluster_lift(users, items, dataset)}


def stock_clusters(model: Word2Vec, nodes: Sequence[str], clusters: int | None, seed: int) -> np.ndarray:
    """The cluster of each node; nodes without interactions share a further one."""
    known = [index for index, node in enumerate(nodes) if node in model.wv]
    vectors = np.stack([model.wv[nodes[index]] for index in known])
    count = clusters or round(len(nodes) ** 0.5)
    labels = np.full(len(nodes), count)
    labels[known] = KMeans(count, n_init=1, random_state=seed).fit_predict(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )
    return np.unique(labels, return_inverse=True)[1]


def ours(dataset: Dataset, config: Config, seed: int) -> dict[str, float]:
    """Seconds, and lift by split."""
    start = time.perf_counter()
    tokens = build_tokens(dataset, "meta", seed=seed, options=config.model_dump())
    seconds = time.perf_counter() - start
    assert tokens.users is not None
    return {"seconds": seconds, **cluster_lift(clusters_of(tokens.users), clusters_of(tokens.items), dataset)}


def compile_kernels() -> float:
    """Seconds of a first build on a handful of interactions."""
    start = time.perf_counter()
    tiny = Dataset("tiny", list("abc"), list("xyz"), Histories.of([[0, 1, 2], [1, 2, 0], [2, 0, 1]], range(3)))
    build_tokens(tiny, "meta", "all")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the row into results/speed")
    arguments = parser.parse_args()
    dataset, config = load_dataset(arguments.data), Config(clusters=arguments.clusters, **PAPER)
    compiling, mine, theirs = compile_kernels(), [], []
    for seed in range(arguments.repeats):
        mine.append(ours(dataset, config, seed))
        theirs.append(stock(dataset, config, seed))
        print(f"ours {mine[-1]['seconds']:.1f} s, stock {theirs[-1]['seconds']:.1f} s", flush=True)
    middle = [{key: float(np.median([run[key] for run in runs])) for key in runs[0]} for runs in (mine, theirs)]
    seconds = [run["seconds"] for run in middle]
    settings = {
        "data": dataset.name,
        **{key: value for key, value in config.model_dump().items() if value},
        "threads": THREADS,
        "repeats": arguments.repeats,
        "compile_seconds": round(compiling, 1),
        "validation_lift": {"ours": round(middle[0]["validation"], 3), "stock": round(middle[1]["validation"], 3)},
    }
    result = row("tokens", "s", seconds[0], seconds[1], settings, ratio=seconds[1] / seconds[0])
    print(json.dumps(result, indent=1))
    if arguments.write:
        write(result)


if __name__ == "__main__":
    main()
