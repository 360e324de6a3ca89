"""Walks against the edges, the closed form of their distribution, and themselves on other threads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens.hashing import GOLDEN, below, mix, unit
from oovrec.tokens.walks import CHUNK, Graph, Relation, newest, random_walks, successions


@pytest.fixture(scope="module")
def graph(planted: Dataset) -> Graph:
    return Graph.of(planted.full, len(planted.items))


def edges(dataset: Dataset) -> set[tuple[int, int]]:
    forward = {(user, len(dataset.users) + item) for user, items in enumerate(dataset.full) for item in items.tolist()}
    return forward | {(item, user) for user, item in forward}


def test_graph_has_exactly_the_interactions(planted: Dataset, graph: Graph) -> None:
    sources = np.repeat(np.arange(len(graph.degrees)), graph.degrees)
    assert len(sources) == 2 * len(planted.full.items)
    assert set(zip(sources.tolist(), graph.neighbours.tolist(), strict=True)) == edges(planted)


def test_every_step_is_an_edge(planted: Dataset, graph: Graph) -> None:
    starts = np.arange(len(graph.degrees))
    walks = random_walks(graph, starts, 20, seed=1)
    assert walks.shape == (len(starts), 20)
    assert (walks[:, 0] == starts).all()
    steps = zip(walks[:, :-1].ravel().tolist(), walks[:, 1:].ravel().tolist(), strict=True)
    assert set(steps) <= edges(planted)


def test_long_walks_visit_nodes_in_proportion_to_their_degree(graph: Graph) -> None:
    walks = random_walks(graph, np.zeros(60_000, np.int64), 41, seed=2)
    for step, side in (
        (39, slice(graph.users, None)),
        (40, slice(graph.users)),
    ):  # node 0 is a user: odd steps are items
        visits = np.bincount(walks[:, step], minlength=len(graph.degrees))[side]
        expected = graph.degrees[side] / graph.degrees[side].sum() * len(walks)
        assert stats.chisquare(visits, expected).pvalue > 1e-3
    uniform = np.full(graph.items, len(walks) / graph.items)
    assert stats.chisquare(np.bincount(walks[:, 39] - graph.users), uniform).pvalue < 1e-3  # the test can tell


def test_walks_do_not_depend_on_threads_or_on_how_they_are_split(graph: Graph) -> None:
    starts = np.random.default_rng(0).integers(len(graph.degrees), size=3 * CHUNK + 7)
    one = random_walks(graph, starts, 9, seed=3, threads=1)
    assert (one == random_walks(graph, starts, 9, seed=3, threads=2)).all()
    cut = 1000
    parts = [random_walks(graph, starts[:cut], 9, seed=3), random_walks(graph, starts[cut:], 9, seed=3, first=cut)]
    assert (one == np.concatenate(parts)).all()
    assert (one != random_walks(graph, starts, 9, seed=4)).any()


def test_nodes_without_edges_do_not_walk() -> None:
    graph = Graph.of(Histories.of([[0], []]), 2)
    assert graph.degrees.tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="without edges"):
        random_walks(graph, np.array([1]), 4, seed=0)


def test_bits_are_those_of_splitmix64() -> None:
    # the published sequence for the seed 1234567
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    with np.errstate(over="ignore"):
        counters = [np.uint64(1234567) + np.uint64(step) * GOLDEN for step in range(5)]
    assert [int(mix(counter)) for counter in counters] == published


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    bits = [np.uint64(mix(np.uint64(counter))) for counter in range(20_000)]
    whole = np.array([below(b, 10) for b in bits])
    fraction = np.array([unit(b) for b in bits])
    assert stats.chisquare(np.bincount(whole, minlength=10)).pvalue > 1e-3
    assert stats.kstest(fraction, "uniform").pvalue > 1e-3
    table = np.histogram2d(whole, fraction, bins=[10, 4])[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_relations_are_taken_by_their_weights_and_only_where_there_are_edges() -> None:
    histories = Histories.of([[0, 1], [1, 2]])  # nodes: users 0 and 1, items 2 to 4, words 5 and 6
    words = Relation(np.array([3, 3]), np.array([5, 6]), 0.5)
    graph = Graph.of(histories, 3, [successions(histories, 3.0), words])
    walks = random_walks(graph, np.full(40_000, 3), 2, seed=0)
    seen = np.bincount(walks[:, 1], minlength=7)
    # From item 1, node 3: both users share 1, the items before and after it 3, the words .5, together 4.5.
    expected = np.array([0.5, 0.5, 1.5, 0, 1.5, 0.25, 0.25]) / 4.5 * len(walks)
    assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-3
    assert seen[3] == 0
    back = random_walks(graph, np.full(1000, 5), 2, seed=0)  # a word has edges of one relation only
    assert set(back[:, 1]) == {3}


def test_newest_takes_the_end_of_each_history() -> None:
    relation = newest(Histories.of([[0, 1, 2], [3], [], [2, 0]]), 2, 1.0)
    assert list(zip(relation.one.tolist(), relation.other.tolist(), strict=True)) == [
        (0, 4 + 1),
        (0, 4 + 2),
        (1, 4 + 3),
        (3, 4 + 2),
        (3, 4 + 0),
    ]


def test_degrees_count_every_relation() -> None:
    histories = Histories.of([[0, 1], [1]])
    graph = Graph.of(histories, 2, [Relation(np.array([2]), np.array([4]), 1.0)])
    assert graph.degrees.tolist() == [2, 1, 2, 2, 1]
