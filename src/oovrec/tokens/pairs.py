"""Skip-gram pairs of walks, sorted into blocks that can be learnt side by side."""

from __future__ import annotations

import numpy as np
from numba import njit

from oovrec.tokens.hashing import below, mix
from oovrec.tokens.parallel import in_parallel

CHUNKS = 8  # tasks, and separately sorted lists, a call


def blocked_pairs(
    walks: np.ndarray, parts: np.ndarray, count: int, *, window: int, seed: int, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (centre, context) of nodes at most ``b`` steps apart, ``b`` drawn from 1 … ``window`` for each centre.

    Args:
        walks: ``[walks, length]`` int32 nodes.
        parts: ``[nodes]`` int8, the part of the nodes, 0 … ``count`` - 1, to which each belongs.

    Returns:
        pairs ``[chunks, most, 2]`` int32 and offsets ``[chunks, count² + 1]`` int64: the pairs of a chunk with their
        centre in part ``i`` and their context in part ``j`` are ``pairs[c, offsets[c, b]:offsets[c, b + 1]]``,
        ``b = i · count + j``.
    """
    bounds = np.linspace(0, len(walks), CHUNKS + 1).astype(np.int64)
    most = int(np.diff(bounds).max()) * walks.shape[1] * 2 * window
    pairs = np.empty((CHUNKS, most, 2), np.int32)
    offsets = np.zeros((CHUNKS, count * count + 1), np.int64)
    streams = np.random.SeedSequence(seed).generate_state(CHUNKS, np.uint64)

    def chunk(c: int) -> None:
        _sort(walks[bounds[c] : bounds[c + 1]], parts, count, window, streams[c], pairs[c], offsets[c])

    in_parallel(chunk, range(CHUNKS), threads)
    return pairs, offsets


@njit(cache=True, nogil=True)
def _sort(walks, parts, count, window, stream, pairs, offsets):  # type: ignore[no-untyped-def]
    """A counting sort: the first pass counts each block's pairs, the second puts them in their places."""
    length = walks.shape[1]
    place = np.zeros(count * count + 1, np.int64)
    for filling in (False, True):
        for walk in range(walks.shape[0]):
            for position in range(length):
                centre = walks[walk, position]
                reach = 1 + below(mix(stream + np.uint64(walk * length + position)), window)
                for near in range(max(0, position - reach), min(length, position + reach + 1)):
                    if near == position:
                        continue
                    context = walks[walk, near]
                    block = np.int64(parts[centre]) * count + parts[context]
                    if filling:
                        pairs[place[block], 0] = centre
                        pairs[place[block], 1] = context
                        place[block] += 1
                    else:
                        offsets[block + 1] += 1
        if not filling:
            for block in range(count * count):
                offsets[block + 1] += offsets[block]
                place[block + 1] = offsets[block + 1]
