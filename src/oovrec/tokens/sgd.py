"""Plain SGD over the pairs of one block: the compiled heart of the skip-gram.

In a large graph nearly every row is far from the processor, and waiting for rows would be most of the time. So the
rows of a pair are fetched a few pairs before their turn, and the negatives of a pair are picked among a few hundred
nodes that lie in the cache. Those are drawn by frequency and replaced in turn, one fresh node a pair, so every node
is a negative as often as if each had been drawn by itself.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from oovrec.tokens.hashing import GOLDEN, below, mix, unit
from oovrec.tokens.prefetch import LINE, prefetch

KEPT = 256  # nodes to pick negatives from; their rows fit beside a pair's in the second cache
FRESH = 64  # of them replaced at a time: draws side by side wait for memory together
AHEAD = 4  # pairs
_LINE = LINE // 4  # numbers in a cache line
_SLOT = np.uint64(56)  # the upper 8 bits number a kept node
_MULTIPLIER = np.uint64(6364136223846793005)  # of Knuth's congruential generator (MMIX)
_FARTHEST = np.float32(4.97)  # where the fraction for tanh reaches 1
_ONE, _HALF = np.float32(1), np.float32(0.5)


@njit(cache=True, nogil=True, fastmath=True)
def learn_block(centres, contexts, pairs, bounds, nodes, threshold, alias, negatives, rate, stream):  # type: ignore[no-untyped-def]
    """Learn, in place, the pairs ``pairs[c, bounds[c, 0]:bounds[c, 1]]`` of every chunk ``c``.

    Args:
        centres: ``[n, width]`` float32.
        contexts: ``[n, width]`` float32.
        pairs: ``[chunks, most, 2]`` int32 (centre, context).
        bounds: ``[chunks, 2]``.
        nodes: ``[m]`` int32 from which negatives are drawn.
        threshold: ``[m]`` their alias table, see :func:`negatives.negative_tables`.
        alias: ``[m]`` nodes.
        negatives: a pair.
        rate: learning rate, float32.
        stream: uint64, the counter of the first random bits.
    """
    width = centres.shape[1]
    gradient = np.zeros(width, np.float32)
    kept = np.empty(KEPT, np.int64)
    stream = _draw(kept, contexts, nodes, threshold, alias, stream)
    oldest, learnt = 0, 0
    for chunk in range(pairs.shape[0]):
        last = bounds[chunk, 1] - 1
        for pair in range(bounds[chunk, 0], bounds[chunk, 1]):
            coming = min(pair + AHEAD, last)
            _fetch(centres, pairs[chunk, coming, 0])
            _fetch(contexts, pairs[chunk, coming, 1])
            learnt += 1
            if learnt % FRESH == 0:
                stream = _draw(kept[oldest : oldest + FRESH], contexts, nodes, threshold, alias, stream)
                oldest = (oldest + FRESH) % KEPT
            centre, context = np.uint64(pairs[chunk, pair, 0]), np.int64(pairs[chunk, pair, 1])
            for j in range(width):
                gradient[j] = 0
            stream += GOLDEN
            bits = mix(stream)
            target, label = context, _ONE
            for sample in range(negatives + 1):
                if sample:
                    bits = bits * _MULTIPLIER + GOLDEN
                    target, label = kept[bits >> _SLOT], np.float32(0)
                    if target == context:
                        continue
                row = np.uint64(target)  # unsigned: no test for rows counted from the end
                step = rate * (label - sigmoid(_dot(centres[centre], contexts[row])))
                for j in range(width):  # views of the rows here would cost a quarter of the speed
                    gradient[j] += step * contexts[row, j]
                    contexts[row, j] += step * centres[centre, j]
            for j in range(width):
                centres[centre, j] += gradient[j]


@njit(cache=True, nogil=True)
def _draw(kept, contexts, nodes, threshold, alias, stream):  # type: ignore[no-untyped-def]
    """Fill ``kept`` with nodes drawn by the alias table and fetch their rows; the new counter."""
    for slot in range(len(kept)):
        stream += GOLDEN
        bits = mix(stream)
        drawn = below(bits, len(nodes))
        kept[slot] = nodes[drawn] if unit(bits) < threshold[drawn] else alias[drawn]
        _fetch(contexts, kept[slot])
    return stream


@njit(cache=True, nogil=True)
def _fetch(rows, row):  # type: ignore[no-untyped-def]
    for j in range(0, rows.shape[1], _LINE):
        prefetch(rows, np.int64(row), j)


@njit(cache=True, nogil=True, fastmath=True)
def _dot(one, other):  # type: ignore[no-untyped-def]
    product = np.float32(0)
    for j in range(len(one)):
        product += one[j] * other[j]
    return product


@njit(cache=True, fastmath=True)
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) within 5e-5: tanh as the seventh convergent of Lambert's continued fraction."""
    y = min(max(x * _HALF, -_FARTHEST), _FARTHEST)
    s = y * y
    above = y * (np.float32(135135) + s * (np.float32(17325) + s * (np.float32(378) + s)))
    under = np.float32(135135) + s * (np.float32(62370) + s * (np.float32(3150) + s * np.float32(28)))
    return _HALF + _HALF * above / under
