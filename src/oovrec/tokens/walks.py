"""Random walks over the graph of users and items (metapath2vec, Dong et al., KDD 2017), and of what else is known.

Along interactions alone a walk follows the meta-path user → item → user. Further relations, such as items that follow
each other and the words of an item's text, add meta-paths of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from oovrec.data.histories import Histories
from oovrec.tokens.hashing import GOLDEN, below, mix, unit
from oovrec.tokens.parallel import in_parallel

CHUNK = 1024  # walks a task


@dataclass(frozen=True)
class Relation:
    """Edges of one kind beside the interactions; a walk may take them either way.

    Attributes:
        one, other: ``[edges]`` nodes; nodes beyond users and items stand for something else, as words do.
        weight: how readily a walk takes an edge of this kind, where an interaction has 1.
    """

    one: np.ndarray
    other: np.ndarray
    weight: float


@dataclass(frozen=True)
class Graph:
    """Who took what: nodes ``0 … users - 1`` are users, ``users … users + items - 1`` items, then whatever else.

    An interaction that occurs twice is two edges.

    Attributes:
        users: number of users.
        items: number of items.
        weights: ``[relations]`` float32; the first relation is the interactions.
        indptr: ``[nodes · relations + 1]`` int64; the neighbours of ``v`` by relation ``r`` are
            ``neighbours[indptr[k]:indptr[k + 1]]``, ``k = v · relations + r``.
        neighbours: ``[2 · edges]`` int32 nodes.
    """

    users: int
    items: int
    weights: np.ndarray
    indptr: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def of(cls, histories: Histories, items: int, relations: Sequence[Relation] = ()) -> Graph:
        """The graph of the interactions in ``histories``, whose row ``u`` is user ``u``, over ``items`` items."""
        users = len(histories)
        every = [Relation(histories.rows, histories.items.astype(np.int64) + users, 1.0), *relations]
        nodes = max(users + items, *(int(edges.max(initial=-1)) + 1 for r in every for edges in (r.one, r.other)))
        places = [np.concatenate([r.one, r.other]) * len(every) + kind for kind, r in enumerate(every)]
        ends = [np.concatenate([r.other, r.one]) for r in every]
        place = np.concatenate(places)
        order = np.argsort(place, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=nodes * len(every)))])
        weights = np.array([r.weight for r in every], np.float32)
        return cls(users, items, weights, indptr.astype(np.int64), np.concatenate(ends)[order].astype(np.int32))

    @property
    def degrees(self) -> np.ndarray:
        """``[nodes]`` int64 edges at each node, of all relations."""
        return np.diff(self.indptr[:: len(self.weights)])


def successions(histories: Histories, weight: float) -> Relation:
    """Items that follow each other in a history."""
    users, items = len(histories), histories.items.astype(np.int64)
    before = np.flatnonzero(histories.rows[1:] == histories.rows[:-1])
    return Relation(items[before] + users, items[before + 1] + users, weight)


def newest(histories: Histories, count: int, weight: float) -> Relation:
    """The last ``count`` interactions of each history once more: tastes move, and what is next is near them."""
    late = np.flatnonzero(np.arange(len(histories.items)) >= (histories.indptr[1:] - count)[histories.rows])
    return Relation(histories.rows[late], histories.items[late].astype(np.int64) + len(histories), weight)


def random_walks(
    graph: Graph, starts: np.ndarray, length: int, *, seed: int, first: int = 0, threads: int | None = None
) -> np.ndarray:
    """Walks user → item → user → …, each step along a uniformly drawn edge of a relation drawn by its weight.

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
        _walk(
            graph.weights,
            graph.indptr,
            graph.neighbours,
            nodes[start : start + CHUNK],
            stream,
            np.uint64(first + start),
        )

    in_parallel(chunk, range(0, len(starts), CHUNK), threads)
    return nodes


@njit(cache=True, nogil=True)
def _walk(weights, indptr, neighbours, nodes, stream, first):  # type: ignore[no-untyped-def]
    for walk in range(nodes.shape[0]):
        counter = mix(stream ^ mix(first + np.uint64(walk)))
        node = nodes[walk, 0]
        for step in range(1, nodes.shape[1]):
            counter += GOLDEN
            bits = mix(counter)
            row = np.int64(node) * len(weights)
            if len(weights) > 1:
                row += _relation(weights, indptr, row, bits)
            node = neighbours[indptr[row] + below(bits, indptr[row + 1] - indptr[row])]
            nodes[walk, step] = node


@njit(cache=True, nogil=True)
def _relation(weights, indptr, row, bits):  # type: ignore[no-untyped-def]
    """One of the relations that the node has edges of, in proportion to its weight."""
    total = np.float32(0)
    for relation in range(len(weights)):
        if indptr[row + relation + 1] > indptr[row + relation]:
            total += weights[relation]
    left, chosen = unit(bits) * total, -1
    for relation in range(len(weights)):
        if indptr[row + relation + 1] > indptr[row + relation]:
            chosen = relation
            left -= weights[relation]
            if left < 0:
                break
    return chosen
