"""One pass over a row of scores, compiled: how many are ahead of the target, and which are the best.

torch on a processor passes through the scores five times for the same. Here a row is read once, in blocks whose maxima
are kept: the best are looked for only in blocks whose maximum could be among them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 64  # scores to a maximum
LANES = 16  # of them at once; a power of two that divides a block
TASK = 64  # rows a thread reads at a time
MULTIPLIED = 128  # rows a thread multiplies at a time: with fewer it is slower, with more they leave its cache


@njit(cache=True, nogil=True)
def scan_products(states, columns, targets, bounds, items, missed, raw, masked, tops, values):  # type: ignore[no-untyped-def]
    """As :func:`scan`, of the scores ``states`` ``[B, d]`` times ``columns`` ``[d, n]``."""
    scores = np.dot(states, columns)
    return scan(scores, targets, bounds, items, missed, raw, masked, tops, values)


@njit(cache=True, nogil=True)
def scan(scores, targets, bounds, items, missed, raw, masked, tops, values):  # type: ignore[no-untyped-def]
    """Fill ``raw`` and ``masked`` ``[B]``, ``tops`` and ``values`` ``[2, B, width]``, which ``ranks.Ranks`` explains.

    Args:
        scores: ``[B, n]``.
        targets: ``[B]``.
        bounds: ``[B + 1]``, between which of the excluded ``items`` are a row's.
        missed: the masked rank of a target that is excluded.

    Returns:
        The first row that holds a NaN, or -1.
    """
    n = scores.shape[1]
    maxima = np.empty((n + BLOCK - 1) // BLOCK, scores.dtype)
    lanes = np.empty(LANES, scores.dtype)
    hidden = np.zeros(n, np.bool_)
    for r in range(len(scores)):
        row, own, excluded = scores[r], scores[r, targets[r]], items[bounds[r] : bounds[r + 1]]
        ahead, behind = _sweep(row, own, maxima, lanes)
        if ahead + behind < n:  # a NaN is neither
            return r
        raw[r] = ahead  # the target itself is among them
        for item in excluded:
            if not hidden[item]:
                hidden[item] = True
                ahead -= row[item] >= own
        masked[r] = missed if hidden[targets[r]] else ahead
        if tops.shape[2]:
            for item in excluded:
                maxima[item // BLOCK] = _largest(row, item // BLOCK, hidden)
            _best(row, maxima, hidden, values[1, r], tops[1, r])
            tops[0, r], values[0, r] = tops[1, r], values[1, r]
        for item in excluded:
            if hidden[item]:
                hidden[item] = False
                _take_in(values[0, r], tops[0, r], row[item], item)
    return -1


@njit(cache=True, nogil=True)
def _sweep(row, own, maxima, lanes):  # type: ignore[no-untyped-def]
    """How many are at least ``own``, and how many below it; fills ``maxima``."""
    ahead = behind = 0
    whole = len(row) // BLOCK
    for block in range(whole):
        part = row[block * BLOCK : (block + 1) * BLOCK]
        for j in range(BLOCK):
            ahead += part[j] >= own
            behind += part[j] < own
        for j in range(LANES):
            lanes[j] = part[j]
        for step in range(LANES, BLOCK, LANES):
            for j in range(LANES):
                lanes[j] = part[step + j] if part[step + j] > lanes[j] else lanes[j]
        half = LANES // 2
        while half:
            for j in range(half):
                lanes[j] = lanes[j + half] if lanes[j + half] > lanes[j] else lanes[j]
            half //= 2
        maxima[block] = lanes[0]
    for block in range(whole, len(maxima)):
        maxima[block] = -np.inf
        for value in row[block * BLOCK :]:
            ahead += value >= own
            behind += value < own
            maxima[block] = max(maxima[block], value)
    return ahead, behind


@njit(cache=True, nogil=True)
def _largest(row, block, hidden):  # type: ignore[no-untyped-def]
    """The maximum of a block without what is hidden."""
    largest = -np.inf
    for item in range(block * BLOCK, min((block + 1) * BLOCK, len(row))):
        if row[item] > largest and not hidden[item]:
            largest = row[item]
    return largest


@njit(cache=True, nogil=True)
def _best(row, maxima, hidden, values, places):  # type: ignore[no-untyped-def]
    """Fill ``places`` with the best items that are not hidden, of equals the lowest, then -1; ``values`` are theirs."""
    values[:] = -np.inf
    places[:] = -1
    for maximum in maxima:  # as many blocks reach the last of these, so at least as many items do
        _take_in(values, places, maximum, -1)
    least = values[-1]
    values[:] = -np.inf
    for block in range(len(maxima)):
        if maxima[block] >= least and maxima[block] > values[-1]:
            for item in range(block * BLOCK, min((block + 1) * BLOCK, len(row))):
                if row[item] > values[-1] and not hidden[item]:
                    _take_in(values, places, row[item], item)


@njit(cache=True, nogil=True)
def _take_in(values, places, value, place):  # type: ignore[no-untyped-def]
    """Put a value among ``values``, best first, of equals the lowest place; the last one falls out."""
    at = len(values)
    while at > 0 and (values[at - 1] < value or (values[at - 1] == value and place < places[at - 1])):
        at -= 1
        if at + 1 < len(values):
            values[at + 1], places[at + 1] = values[at], places[at]
    if at < len(values):
        values[at], places[at] = value, place
