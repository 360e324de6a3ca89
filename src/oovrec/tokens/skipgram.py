"""Skip-gram with negative sampling (Mikolov et al., NeurIPS 2013) over random walks, fused with the walker.

Walks are drawn in pools, learnt and dropped, so memory is a few times nodes × dimensions. For each pool the nodes
are dealt into ``PARTS`` parts; the pairs with their centre in part i and their context in part j make a block.
Blocks with neither part in common touch no common row, so ``PARTS`` of them are learnt side by side, each by plain
sequential SGD (the grid of GraphVite, Zhu et al., WWW 2019). The blocks, not the threads, fix the result. Negatives
come from the context's part; the parts are dealt anew for each pool, so over training from all nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from pydantic import Field

from oovrec.config import Options
from oovrec.errors import OovrecError
from oovrec.progress import Bar
from oovrec.tokens.negatives import negative_tables
from oovrec.tokens.pairs import blocked_pairs
from oovrec.tokens.parallel import in_parallel
from oovrec.tokens.prefetch import LINE
from oovrec.tokens.sgd import learn_block
from oovrec.tokens.walks import Graph, random_walks

PARTS = 8
POOLS = 40  # an epoch at least: dealing the parts anew more often brings the quality of one part
MOST = 1 << 22  # steps in a pool; its pairs take about 200 MB
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
    rng, degrees = np.random.default_rng(seed), graph.degrees
    walkers = np.flatnonzero(degrees).astype(np.int32)
    centres, contexts = (_rows(len(degrees), config.dimensions) for _ in range(2))
    _start(centres, config.dimensions, degrees == 0, rng)
    an_epoch, done = config.walks * len(walkers), 0
    pools = max(min(POOLS, an_epoch), -(-an_epoch * config.walk_length // MOST))
    if an_epoch // pools * config.walk_length < SMALL:
        threads = 1
    walk_seed = int(rng.integers(2**63))
    with Bar("skip-gram", config.epochs * an_epoch, "walks") as bar:
        for _ in range(config.epochs):
            for starts in np.array_split(rng.permutation(np.repeat(walkers, config.walks)), pools):
                rate = config.learning_rate * max(1 - done / bar.total, LAST_RATE)
                walks = random_walks(graph, starts, config.walk_length, seed=walk_seed, first=done, threads=threads)
                with _kept_small():
                    _learn(centres, contexts, walks, walkers, degrees, config, rate, rng, threads)
                done += len(starts)
                bar.advance(len(starts))
    return np.ascontiguousarray(centres[:, : config.dimensions])


@contextmanager
def _kept_small() -> Iterator[None]:
    """Turns vectors that have grown beyond numbers into an error that names the option to lower."""
    try:
        yield
    except ZeroDivisionError as error:
        raise OovrecError("the vectors grow without bound", where="learning_rate", remedy="lower it") from error


def _rows(nodes: int, dimensions: int) -> np.ndarray:
    """``[nodes, width]`` zeros; each row begins a cache line, for which it may be wider than ``dimensions``."""
    width = -(-dimensions * 4 // LINE) * LINE
    memory = np.empty(nodes * width + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    rows = memory[first : first + nodes * width].view(np.float32).reshape(nodes, width // 4)
    rows.fill(0)
    return rows


def _start(centres: np.ndarray, dimensions: int, without_edges: np.ndarray, rng: np.random.Generator) -> None:
    """Uniform in ±1 / (2 · dimensions), in place; columns that only fill up a line stay zero, and so do idle rows."""
    rng.random(out=centres, dtype=np.float32)
    centres -= 0.5
    centres /= dimensions
    centres[:, dimensions:] = 0
    centres[without_edges] = 0


def _learn(
    centres: np.ndarray,
    contexts: np.ndarray,
    walks: np.ndarray,
    walkers: np.ndarray,
    frequencies: np.ndarray,
    config: SkipGramConfig,
    rate: float,
    rng: np.random.Generator,
    threads: int | None,
) -> None:
    """Learn one pool of walks in place. A node's frequency is its degree, as in a long walk."""
    parts = rng.integers(PARTS, size=len(frequencies), dtype=np.int8)
    nodes = walkers[np.argsort(parts[walkers], kind="stable")]
    starts = np.searchsorted(parts[nodes], np.arange(PARTS + 1))
    threshold, alias = negative_tables(frequencies[nodes], starts)
    pair_seed = int(rng.integers(2**63))
    pairs, offsets = blocked_pairs(walks, parts, PARTS, window=config.window, seed=pair_seed, threads=threads)
    tables, streams = (nodes, threshold, nodes[alias]), rng.integers(2**64, size=PARTS * PARTS, dtype=np.uint64)

    def block(number: int) -> None:
        bounds, part = offsets[:, number : number + 2], number % PARTS
        of_part = (table[starts[part] : starts[part + 1]] for table in tables)
        learn_block(centres, contexts, pairs, bounds, *of_part, config.negatives, np.float32(rate), streams[number])

    for shift in range(PARTS):
        in_parallel(block, [part * PARTS + (part + shift) % PARTS for part in range(PARTS)], threads)
