"""What makes META ID's tokens know more: an ablation of tokenizations by what they tell of validation items.

    python benchmarks/tokenization.py [--data ml-100k] [--clusters K] [--seeds 3] [--out FILE]

Every variant is built from the training part alone and judged on validation targets alone. ``lift`` is that of
``oovrec tokens score``; ``next`` the mean log-lift of (cluster of the newest item, cluster of the target), which needs
no user tokens; ``repeats`` the share of targets whose cluster is in the history, ``chance`` that of dealt targets.
Each figure is the mean over seeds, each of which draws walks, embeddings and clusters anew. Variants that ``--out``
holds already are not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numba import njit

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.results import git_commit, hardware
from oovrec.files import read_json, write_json
from oovrec.tokens import walks
from oovrec.tokens.build import Material
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.evidence import text_vectors
from oovrec.tokens.geometry import unit
from oovrec.tokens.hashing import GOLDEN, below, mix
from oovrec.tokens.metapath import relations
from oovrec.tokens.quality import cluster_lift, log_lift, repeated_clusters
from oovrec.tokens.schemes.meta import Config
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


def corrected(users: np.ndarray, items: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Without the mean and the two main directions, which tell little but popularity (Mu & Viswanath, ICLR 2018)."""
    return separate(without_main(users), without_main(items), clusters, seed)


def without_main(vectors: np.ndarray, directions: int = 2) -> np.ndarray:
    known, rest = vectors.any(axis=1), np.zeros_like(vectors)
    centred = vectors[known] - vectors[known].mean(axis=0)
    main = np.linalg.svd(centred, full_matrices=False)[2][:directions]
    rest[known] = centred - centred @ main.T @ main
    return rest


@njit(nogil=True)
def forward_walk(weights, indptr, neighbours, nodes, stream, first):  # type: ignore[no-untyped-def]
    """As the product's walk, but a step straight back is drawn again, once: a bias as by node2vec's p = 2 or more."""
    for walk in range(nodes.shape[0]):
        counter, node, before = mix(stream ^ mix(first + np.uint64(walk))), nodes[walk, 0], -1
        for step in range(1, nodes.shape[1]):
            for _ in range(2):
                counter += GOLDEN
                bits = mix(counter)
                row = np.int64(node) * len(weights)
                if len(weights) > 1:
                    row += walks._relation(weights, indptr, row, bits)
                chosen = neighbours[indptr[row] + below(bits, indptr[row + 1] - indptr[row])]
                if chosen != before:
                    break
            before, node = node, chosen
            nodes[walk, step] = node


def with_texts(material: Material, vectors: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """Texts' latent semantic vectors beside the embeddings; a user's text is the mean of its items'."""
    texts, histories = text_vectors(material), material.histories
    if texts is None:
        return vectors
    of_users = np.zeros((len(material.users), texts.shape[1]), np.float32)
    np.add.at(of_users, histories.rows, texts[histories.items])
    return np.hstack([unit(vectors), weight * unit(np.concatenate([of_users, texts]))])


@dataclass(frozen=True)
class Variant:
    """One tokenization: options of the scheme, and what the scheme does not offer."""

    options: dict[str, Any] = field(default_factory=dict)
    divide: Divide = separate
    walk: Any = None  # in place of the product's
    mixed: Callable[[Material, np.ndarray], np.ndarray] = lambda _, vectors: vectors


PAPER: dict[str, Any] = {"newest": 0, "successions": 0.0, "words": 0.0}
BOTH: dict[str, Any] = {**PAPER, "successions": 2.0, "words": 1.0}
VARIANTS: dict[str, Variant] = {
    "as in the paper": Variant(PAPER),
    "window 3": Variant({**PAPER, "window": 3}),
    "window 8": Variant({**PAPER, "window": 8}),
    "128 dimensions": Variant({**PAPER, "dimensions": 128}),
    "6 epochs": Variant({**PAPER, "epochs": 6}),
    "newest 3": Variant({**PAPER, "newest": 3}),
    "newest 10": Variant({**PAPER, "newest": 10}),
    "no step straight back": Variant(PAPER, walk=forward_walk),
    "without main directions": Variant(PAPER, corrected),
    "balanced clusters": Variant(PAPER, balanced),
    "clustered jointly": Variant(PAPER, joint),
    "texts beside the embeddings": Variant(PAPER, mixed=with_texts),
    "successions 1": Variant({**PAPER, "successions": 1.0}),
    "successions 2": Variant({**PAPER, "successions": 2.0}),
    "words 1": Variant({**PAPER, "words": 1.0}),
    "words 0.3, successions 2": Variant({**BOTH, "words": 0.3}),
    "words 1, successions 1": Variant({**BOTH, "successions": 1.0}),
    "words 1, successions 2": Variant(BOTH),
    "words 2, successions 2": Variant({**BOTH, "words": 2.0}),
    "words 1, successions 2, 6 epochs": Variant({**BOTH, "epochs": 6}),
    "words 1, successions 2, window 3": Variant({**BOTH, "window": 3}),
    "words 1, successions 2, newest 3": Variant({**BOTH, "newest": 3}),
    "words 1, successions 2, newest 5": Variant({**BOTH, "newest": 5}),
    "words 1, successions 2, newest 10": Variant({**BOTH, "newest": 10}),
    "words 1, successions 2, newest 20": Variant({**BOTH, "newest": 20}),
    "words 1, successions 2, no step straight back": Variant(BOTH, walk=forward_walk),
    "words 1, successions 2, without main directions": Variant(BOTH, corrected),
    "words 1, successions 2, clustered jointly": Variant(BOTH, joint),
    "words 1, successions 2, balanced clusters": Variant(BOTH, balanced),
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


def trial(dataset: Dataset, variant: Variant, clusters: int, seed: int) -> dict[str, float]:
    """One variant with one seed; ``seconds`` are of processor time."""
    start, config = time.process_time(), Config.model_validate(variant.options)
    material, users, nodes = Material.of(dataset), len(dataset.users), len(dataset.users) + len(dataset.items)
    graph = Graph.of(material.histories, len(dataset.items), relations(material, config))
    with patch.object(walks, "_walk", variant.walk or walks._walk):
        vectors = variant.mixed(material, embed(graph, config, seed)[:nodes])
    labels = variant.divide(vectors[:users], vectors[users:], clusters, seed)
    return {**figures(dataset, *labels), "seconds": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    about = {"dataset": dataset.name, "clusters": arguments.clusters, "seeds": arguments.seeds}
    rows = read_json(arguments.out)["variants"] if arguments.out and arguments.out.exists() else []
    for name, variant in VARIANTS.items():
        if any(row["variant"] == name for row in rows):
            continue
        runs = [trial(dataset, variant, arguments.clusters, seed) for seed in range(arguments.seeds)]
        means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        spread = float(np.std([run["lift"] for run in runs], ddof=1)) if len(runs) > 1 else None
        rows.append({"variant": name, "options": variant.options, **means, "lift_deviation": spread})
        print(f"{name:44}", *(f"{key} {value:6.3f}" for key, value in means.items()), flush=True)
        if arguments.out:
            write_json(arguments.out, {**about, "hardware": hardware(), "commit": git_commit(), "variants": rows})


if __name__ == "__main__":
    main()
