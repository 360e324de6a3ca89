"""What makes META ID's tokens know more: an ablation of tokenizations by what they tell of validation items.

    python benchmarks/tokenization.py [--data ml-100k] [--clusters K] [--seeds 3] [--out FILE]

Every variant is built from the training part alone and judged on validation targets alone. ``lift`` is that of
``oovrec tokens score``; ``next`` the mean log-lift of (cluster of the newest item, cluster of the target), which needs
no user tokens; ``repeats`` the share of targets whose cluster is in the history, ``chance`` that of dealt targets.
Each figure is the mean over seeds, each of which draws walks, embeddings and clusters anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.results import git_commit, hardware
from oovrec.files import write_json
from oovrec.tokens.build import Material
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.quality import cluster_lift, log_lift, repeated_clusters
from oovrec.tokens.schemes.meta import Config, relations
from oovrec.tokens.skipgram import embed
from oovrec.tokens.walks import Graph

Divide = Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]


def separate(users: np.ndarray, items: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items clustered apart, as the scheme does."""
    return divide(users, clusters, seed), divide(items, clusters, seed + 1)


def joint(users: np.ndarray, items: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items clustered as one set."""
    labels = divide(np.concatenate([users, items]), clusters, seed)
    return labels[: len(users)], labels[len(users) :]


def balanced(users: np.ndarray, items: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of at most 1.1 times the mean size: full ones become dearer until nobody more wants in."""
    return evened(users, clusters, seed), evened(items, clusters, seed + 1)


def divide(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Clusters of the rows that have a vector; the others form one more."""
    known, labels = np.flatnonzero(vectors.any(axis=1)), np.full(len(vectors), clusters)
    labels[known] = cosine_kmeans(vectors[known], clusters, seed)[0]
    return labels


def evened(vectors: np.ndarray, clusters: int, seed: int, slack: float = 1.1) -> np.ndarray:
    known, labels = np.flatnonzero(vectors.any(axis=1)), np.full(len(vectors), clusters)
    points = vectors[known] / np.linalg.norm(vectors[known], axis=1, keepdims=True)
    similarity, price = points @ cosine_kmeans(points, clusters, seed)[1].T, np.zeros(clusters)
    most = slack * len(known) / clusters
    for _ in range(500):
        labels[known] = (similarity - price).argmax(axis=1)
        sizes = np.bincount(labels[known], minlength=clusters)
        if sizes.max() <= most:
            break
        price += 0.02 * np.maximum(sizes / most - 1, 0)
    return labels


# name: options of the scheme, how clusters are made
VARIANTS: dict[str, tuple[dict[str, Any], Divide]] = {
    "as in the paper": ({}, separate),
    "window 3": ({"window": 3}, separate),
    "window 8": ({"window": 8}, separate),
    "128 dimensions": ({"dimensions": 128}, separate),
    "6 epochs": ({"epochs": 6}, separate),
    "successions 1": ({"successions": 1.0}, separate),
    "successions 2": ({"successions": 2.0}, separate),
    "words 1": ({"words": 1.0}, separate),
    "words 0.3, successions 2": ({"words": 0.3, "successions": 2.0}, separate),
    "words 1, successions 1": ({"words": 1.0, "successions": 1.0}, separate),
    "words 1, successions 2": ({"words": 1.0, "successions": 2.0}, separate),
    "words 2, successions 2": ({"words": 2.0, "successions": 2.0}, separate),
    "words 1, successions 2, clustered jointly": ({"words": 1.0, "successions": 2.0}, joint),
    "words 1, successions 2, balanced clusters": ({"words": 1.0, "successions": 2.0}, balanced),
}


def figures(dataset: Dataset, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
    """What clusters tell of validation items."""
    users, items = (np.unique(labels, return_inverse=True)[1] for labels in (users, items))
    lift = cluster_lift(users, items, dataset)
    training, validation = dataset.histories("train"), dataset.histories("validation")
    before = np.flatnonzero(training.rows[1:] == training.rows[:-1])
    clusters = items[training.items]
    following = log_lift(clusters[before], clusters[before + 1], (items.max() + 1, items.max() + 1))
    targets, newest = dataset.targets("validation"), validation.items[validation.indptr[1:] - 1]
    found, chance = repeated_clusters(items, validation, targets)
    near = float(following[items[newest], items[targets]].mean())
    return {"train": lift["train"], "lift": lift["validation"], "next": near, "repeats": found, "chance": chance}


def trial(dataset: Dataset, options: dict[str, Any], make: Divide, clusters: int, seed: int) -> dict[str, float]:
    """One variant with one seed; ``seconds`` are of processor time."""
    start, config = time.process_time(), Config.model_validate(options)
    material, users = Material.of(dataset), len(dataset.users)
    vectors = embed(Graph.of(material.histories, len(dataset.items), relations(material, config)), config, seed)
    labels = make(vectors[:users], vectors[users : users + len(dataset.items)], clusters, seed)
    return {**figures(dataset, *labels), "seconds": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dataset, rows = load_dataset(arguments.data), []
    for name, (options, make) in VARIANTS.items():
        runs = [trial(dataset, options, make, arguments.clusters, seed) for seed in range(arguments.seeds)]
        means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        spread = float(np.std([run["lift"] for run in runs], ddof=1)) if len(runs) > 1 else None
        rows.append({"variant": name, "options": options, **means, "lift_deviation": spread})
        print(f"{name:44}", *(f"{key} {value:6.3f}" for key, value in means.items()), flush=True)
    if arguments.out:
        about = {"dataset": dataset.name, "clusters": arguments.clusters, "seeds": arguments.seeds}
        write_json(arguments.out, {**about, "hardware": hardware(), "commit": git_commit(), "variants": rows})


if __name__ == "__main__":
    main()
