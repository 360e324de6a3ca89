"""Skip-gram with negative sampling (Mikolov et al., NeurIPS 2013) over random walks, fused with the walker.

Walks are drawn in pools, learnt and dropped, so memory is a few times nodes × dimensions. For each pool the nodes
are dealt into ``PARTS`` parts; the pairs with their centre in part i and their context in part j make a block.
Blocks with neither part in common touch no common row, so ``PARTS`` of them are learnt side by side, each by plain
sequential SGD (the grid of GraphVite, Zhu et al., WWW 2019). The blocks, not the threads, fix the result. Negatives
come from the context's part; the parts are dealt anew for each pool, so over training from all nodes. The rows of
a part lie together, so that a block works within the processor's cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from pydantic import Field

from oovrec.config import Options
from oovrec.progress import Bar
from oovrec.tokens.hashing import GOLDEN, below, mix, unit
from oovrec.tokens.negatives import negative_tables
from oovrec.tokens.pairs import blocked_pairs
from oovrec.tokens.parallel import in_parallel
from oovrec.tokens.walks import Graph, random_walks

PARTS = 8
POOLS = 40  # an epoch: dealing the parts anew more often brings the quality of one part
LAST_RATE = 0.004  # of the first learning rate
SMALL = 1 << 15  # steps in a pool up to which threads cost more than they save


class SkipGramConfig(Options):
    """Options of :func:`embed`.

    Attributes:
        dimensions: of the embedding.
        walks: walks an epoch from each node.
        walk_length: nodes in a walk.
        window: greatest number of steps between the two nodes of a pair.
        negatives: negative samples a pair.
        epochs: rounds of walks; each draws fresh ones.
        learning_rate: the first one; it falls linearly.
    """

    dimensions: int = Field(64, ge=1)
    walks: int = Field(5, ge=1)
    walk_length: int = Field(32, ge=2)
    window: int = Field(5, ge=1)
    negatives: int = Field(5, ge=1)
    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(0.025, gt=0)


def embed(graph: Graph, config: SkipGramConfig, seed: int, threads: int | None = None) -> np.ndarray:
    """``[nodes, dimensions]`` float32 embeddings; rows of nodes without edges are zero.

    The result depends on the graph, the config and the seed, not on the number of threads.
    """
    rng = np.random.default_rng(seed)
    walkers, degrees = np.flatnonzero(graph.degrees), graph.degrees[graph.degrees > 0]
    centres = (rng.random((len(walkers), config.dimensions), np.float32) - 0.5) / config.dimensions
    contexts = np.zeros_like(centres)
    total, done = config.epochs * config.walks * len(walkers), 0
    if total // config.epochs // POOLS * config.walk_length < SMALL:
        threads = 1
    walk_seed = int(rng.integers(2**63))
    with Bar("skip-gram", total, "walks") as bar:
        for _ in range(config.epochs):
            order = rng.permutation(np.repeat(walkers, config.walks))
            for starts in np.array_split(order, min(POOLS, len(order))):
                rate = config.learning_rate * max(1 - done / total, LAST_RATE)
                walks = random_walks(graph, starts, config.walk_length, seed=walk_seed, first=done, threads=threads)
                _learn(centres, contexts, np.searchsorted(walkers, walks), degrees, config, rate, rng, threads)
                done += len(starts)
                bar.advance(len(starts))
    embeddings = np.zeros((len(graph.degrees), config.dimensions), np.float32)
    embeddings[walkers] = centres
    return embeddings


def _learn(
    centres: np.ndarray,
    contexts: np.ndarray,
    walks: np.ndarray,
    frequencies: np.ndarray,
    config: SkipGramConfig,
    rate: float,
    rng: np.random.Generator,
    threads: int | None,
) -> None:
    """Learn one pool of walks in place. A node's frequency is its degree, as in a long walk."""
    dealt = rng.integers(PARTS, size=len(frequencies), dtype=np.int8)
    order = np.argsort(dealt, kind="stable")
    parts, place = dealt[order], np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    starts = np.searchsorted(parts, np.arange(PARTS + 1))
    near, far = centres[order], contexts[order]
    threshold, alias = negative_tables(frequencies[order], starts)
    pair_seed = int(rng.integers(2**63))
    pairs, offsets = blocked_pairs(place[walks], parts, PARTS, window=config.window, seed=pair_seed, threads=threads)
    streams = rng.integers(2**64, size=PARTS * PARTS, dtype=np.uint64)

    def block(number: int) -> None:
        bounds, part = offsets[:, number : number + 2], number % PARTS
        tables = threshold, alias, starts[part], starts[part + 1]
        _block(near, far, pairs, bounds, *tables, config.negatives, np.float32(rate), streams[number])

    for shift in range(PARTS):
        in_parallel(block, [part * PARTS + (part + shift) % PARTS for part in range(PARTS)], threads)
    centres[order], contexts[order] = near, far


@njit(cache=True, nogil=True, fastmath=True)
def _block(centres, contexts, pairs, bounds, threshold, alias, start, stop, negatives, rate, stream):  # type: ignore[no-untyped-def]
    """SGD over the pairs of one block, ``pairs[c, bounds[c, 0]:bounds[c, 1]]`` of every chunk ``c``."""
    width = centres.shape[1]
    gradient = np.zeros(width, np.float32)
    one = np.float32(1)
    for chunk in range(pairs.shape[0]):
        for pair in range(bounds[chunk, 0], bounds[chunk, 1]):
            centre, context = pairs[chunk, pair, 0], np.int64(pairs[chunk, pair, 1])
            for j in range(width):
                gradient[j] = 0
            target, label = context, one
            for sample in range(negatives + 1):
                if sample:
                    stream += GOLDEN
                    bits = mix(stream)
                    own = start + below(bits, stop - start)
                    other = np.int64(alias[own])
                    target, label = own if unit(bits) < threshold[own] else other, np.float32(0)
                    if target == context:
                        continue
                score = np.float32(0)
                for j in range(width):
                    score += centres[centre, j] * contexts[target, j]
                step = rate * (label - one / (one + np.exp(-score)))
                for j in range(width):
                    gradient[j] += step * contexts[target, j]
                    contexts[target, j] += step * centres[centre, j]
            for j in range(width):
                centres[centre, j] += gradient[j]
