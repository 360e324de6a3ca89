"""Names: a number, or a cluster and a number in it."""

from __future__ import annotations

import numpy as np

FIRST_NUMBER = 1001


def cluster_token(kind: str, cluster: int) -> str:
    """``<CI79>`` for item cluster 79, ``<CU79>`` for user cluster 79; ``kind`` is ``I`` or ``U``."""
    return f"<C{kind}{cluster}>"


def one_level_names(kind: str, order: np.ndarray) -> list[tuple[str]]:
    """Names ``<I1001>``, ``<I1002>`` … by place: ``order`` lists the ``[n]`` entities, the first one first."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [(f"<{kind}{number}>",) for number in (FIRST_NUMBER + place).tolist()]


def two_level_names(
    kind: str, labels: np.ndarray, popularity: np.ndarray, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Names ``<CI79><I1001>``, ``<CI79><I1002>`` … of the members of each cluster, the most popular first.

    Equally popular members are numbered in a random order, never that of ids or files: an order of
    ids would tell the model which of two items ranks first within a day (they ascend there by id).

    Args:
        kind: ``I`` for items, ``U`` for users.
        labels: ``[n]`` clusters.
        popularity: ``[n]`` interactions.
    """
    order = np.lexsort((rng.permutation(len(labels)), -popularity, labels))
    sizes = np.bincount(labels)
    numbers = np.empty(len(labels), np.int64)
    numbers[order] = FIRST_NUMBER + np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return [(cluster_token(kind, c), f"<{kind}{n}>") for c, n in zip(labels.tolist(), numbers.tolist(), strict=True)]
