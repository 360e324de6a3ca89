"""Negative samples in constant time: alias tables (Walker, 1977; built as by Vose, 1991)."""

from __future__ import annotations

import numpy as np
from numba import njit

POWER = 0.75  # of the frequency (Mikolov et al., NeurIPS 2013)


def negative_tables(frequencies: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables to draw nodes within their part in proportion to ``frequency ** 0.75``.

    To draw from part ``p``, draw a node ``v`` of ``indptr[p]:indptr[p + 1]`` uniformly, keep it with probability
    ``threshold[v]`` and take ``alias[v]`` otherwise.

    Args:
        frequencies: ``[nodes]`` above 0; the nodes of a part stand together.
        indptr: ``[parts + 1]`` where the parts begin.

    Returns:
        threshold ``[nodes]`` float32 and alias ``[nodes]`` int32.
    """
    weights, sizes = frequencies**POWER, np.diff(indptr)
    cumulated = np.concatenate([[0], np.cumsum(weights)])
    means = np.diff(cumulated[indptr]) / np.maximum(sizes, 1)
    threshold, alias = np.ones(len(weights), np.float32), np.arange(len(weights), dtype=np.int32)
    _vose(weights / np.repeat(means, sizes), indptr, threshold, alias, np.empty(len(weights), np.int64))
    return threshold, alias


@njit(cache=True, nogil=True)
def _vose(left, indptr, threshold, alias, stack):  # type: ignore[no-untyped-def]
    """Fill the tables; ``left`` is each node's probability times its part's size.

    On ``stack`` the nodes below 1 grow from the left, the others from the right.
    """
    for part in range(len(indptr) - 1):
        start, stop = indptr[part], indptr[part + 1]
        short, rich = start, stop
        for node in range(start, stop):
            if left[node] < 1:
                stack[short] = node
                short += 1
            else:
                rich -= 1
                stack[rich] = node
        while short > start and rich < stop:
            short -= 1
            poor, giver = stack[short], stack[rich]
            threshold[poor], alias[poor] = left[poor], giver
            left[giver] -= 1 - left[poor]
            if left[giver] < 1:
                rich += 1
                stack[short] = giver
                short += 1
