"""Meta-path random walks over the bipartite graph of users and items (metapath2vec, Dong et al., KDD 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from oovrec.data.histories import Histories
from oovrec.tokens.hashing import GOLDEN, below, mix
from oovrec.tokens.parallel import in_parallel

CHUNK = 1024  # walks a task


@dataclass(frozen=True)
class Graph:
    """Who took what: nodes ``0 … users - 1`` are users, ``users … users + items - 1`` items.

    An interaction that occurs twice is two edges.

    Attributes:
        users: number of users.
        items: number of items.
        indptr: ``[nodes + 1]`` int64; the neighbours of ``v`` are ``neighbours[indptr[v]:indptr[v + 1]]``.
        neighbours: ``[2 · interactions]`` int32 nodes of the other side.
    """

    users: int
    items: int
    indptr: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def of(cls, histories: Histories, items: int) -> Graph:
        """The graph of the interactions in ``histories``, whose row ``u`` is user ``u``, over ``items`` items."""
        users = len(histories)
        degrees = np.bincount(histories.items, minlength=items)
        takers = histories.rows[np.argsort(histories.items, kind="stable")]
        indptr = np.concatenate([histories.indptr, histories.indptr[-1] + np.cumsum(degrees)])
        neighbours = np.concatenate([histories.items.astype(np.int64) + users, takers])
        return cls(users, items, indptr.astype(np.int64), neighbours.astype(np.int32))

    @property
    def degrees(self) -> np.ndarray:
        """``[nodes]`` int64 edges at each node."""
        return np.diff(self.indptr)


def random_walks(
    graph: Graph, starts: np.ndarray, length: int, *, seed: int, first: int = 0, threads: int | None = None
) -> np.ndarray:
    """Walks user → item → user → …, each step along a uniformly drawn edge.

    Step ``t`` of walk ``w`` is drawn from ``hash(seed, first + w, t)``, so a walk is the same whatever the
    number of threads and however the walks are split over calls.

    Args:
        starts: ``[walks]`` the node each walk starts at; each must have an edge.
        length: nodes in a walk.
        first: the number of the first walk.

    Returns:
        ``[walks, length]`` int32 nodes.
    """
    if len(starts) and graph.degrees[starts].min() == 0:
        raise ValueError("a walk cannot start at a node without edges")
    nodes = np.empty((len(starts), length), np.int32)
    nodes[:, 0] = starts
    stream = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])

    def chunk(start: int) -> None:
        _walk(graph.indptr, graph.neighbours, nodes[start : start + CHUNK], stream, np.uint64(first + start))

    in_parallel(chunk, range(0, len(starts), CHUNK), threads)
    return nodes


@njit(cache=True, nogil=True)
def _walk(indptr, neighbours, nodes, stream, first):  # type: ignore[no-untyped-def]
    for walk in range(nodes.shape[0]):
        counter = mix(stream ^ mix(first + np.uint64(walk)))
        node = nodes[walk, 0]
        for step in range(1, nodes.shape[1]):
            counter += GOLDEN
            edge = below(mix(counter), indptr[node + 1] - indptr[node])
            node = neighbours[indptr[node] + edge]
            nodes[walk, step] = node
