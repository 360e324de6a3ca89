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
    table = np.ascontiguousarray(values, np.float64)
    sums = np.zeros((resamples, table.shape[1]))
    stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

    def task(first: int) -> None:
        _resample(table, stream, np.uint64(first), sums[first : first + TASK])

    in_parallel(task, range(0, resamples, TASK))
    return sums / len(table)


@njit(cache=True, nogil=True)
def _resample(values, stream, first, sums):  # type: ignore[no-untyped-def]
    n, width = values.shape
    for resample in range(len(sums)):
        counter = mix(stream ^ mix(first + np.uint64(resample)))
        for draw in range(n):
            row = below(mix(counter + np.uint64(draw)), n)
            for column in range(width):
                sums[resample, column] += values[row, column]
