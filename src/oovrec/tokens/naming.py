"""Names: a number, or a cluster and a number in it."""

from __future__ import annotations

from typing import Literal

import numpy as np

FIRST_NUMBER = 1001
Numbers = Literal["shared", "own"]  # begun anew in each cluster, or counted on, so that no two entities share a token


def cluster_token(kind: str, cluster: int) -> str:
    """``<CI79>`` for item cluster 79, ``<CU79>`` for user cluster 79; ``kind`` is ``I`` or ``U``."""
    return f"<C{kind}{cluster}>"


def one_level_names(kind: str, order: np.ndarray) -> list[tuple[str]]:
    """Names ``<I1001>``, ``<I1002>`` … by place: ``order`` lists the ``[n]`` entities, the first one first."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [(f"<{kind}{number}>",) for number in (FIRST_NUMBER + place).tolist()]


def two_level_names(
    kind: str, labels: np.ndarray, popularity: np.ndarray, rng: np.random.Generator, numbers: Numbers = "shared"
) -> list[tuple[str, str]]:
    """Names ``<CI79><I1001>``, ``<CI79><I1002>`` … of the members of each cluster, the most popular first.

    Equally popular members are numbered in a random order, never that of ids or files: an order of
    ids would tell the model which of two items ranks first within a day (they ascend there by id).

    Args:
        kind: ``I`` for items, ``U`` for users.
        labels: ``[n]`` clusters.
        popularity: ``[n]`` interactions.
        numbers: ``shared`` ones begin anew in the next cluster, ``own`` ones go on.
    """
    order = np.lexsort((rng.permutation(len(labels)), -popularity, labels))
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels))
    if numbers == "shared":
        sizes = np.bincount(labels)
        place -= (np.cumsum(sizes) - sizes)[labels]
    pairs = zip(labels.tolist(), (FIRST_NUMBER + place).tolist(), strict=True)
    return [(cluster_token(kind, cluster), f"<{kind}{number}>") for cluster, number in pairs]
