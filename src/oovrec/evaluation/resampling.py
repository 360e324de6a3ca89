"""The bootstrap's means, compiled: every resample draws its rows anew, from counters of its own."""

from __future__ import annotations

import numpy as np
from numba import njit

from oovrec.tokens.hashing import below, mix
from oovrec.tokens.parallel import in_parallel

RESAMPLES = 2000
TASK = 50  # resamples a thread makes at a time


def resampled_means(values: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of bootstrap resamples of the rows of ``values``: as many rows as there are, drawn with replacement.

    Args:
        values: ``[n, metrics]``.

    Returns:
        ``[resamples, metrics]``, the same on any number of threads.
    """
    table = np.ascontiguousarray(values.T, np.float64)
    sums = np.empty((resamples, len(table)))
    stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

    def task(first: int) -> None:
        _resample(table, stream, np.uint64(first), sums[first : first + TASK])

    in_parallel(task, range(0, resamples, TASK))
    return sums / len(values)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # for the sums: of one order, several at once
def _resample(values, stream, first, sums):  # type: ignore[no-untyped-def]
    """Sums of ``values`` ``[metrics, n]``; how often each row was drawn is counted first, in a core's cache."""
    width, n = values.shape
    drawn = np.empty(n, np.int32)
    for resample in range(len(sums)):
        counter = mix(stream ^ mix(first + np.uint64(resample)))
        drawn[:] = 0
        for draw in range(n):
            drawn[below(mix(counter + np.uint64(draw)), n)] += 1
        for column in range(width):
            row, total = values[column], 0.0
            for place in range(n):
                total += drawn[place] * row[place]
            sums[resample, column] = total
