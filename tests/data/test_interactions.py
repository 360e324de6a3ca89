"""The interaction table: k-core against networkx, time order and numbering against plain loops."""

from __future__ import annotations

import networkx as nx
import numpy as np
import polars as pl
import pytest

from oovrec.data.interactions import Interactions, number_attributes


def random_log(seed: int, rows: int = 400) -> Interactions:
    rng = np.random.default_rng(seed)
    pairs = {(f"u{u}", f"i{i}") for u, i in zip(rng.integers(0, 60, rows), rng.zipf(1.6, rows) % 50, strict=True)}
    users, items = zip(*rng.permutation(sorted(pairs)).tolist(), strict=True)
    times = rng.integers(0, 30, len(users))
    return Interactions(pl.DataFrame({"user": users, "item": items, "time": times.astype(np.int64)}))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_k_core_is_that_of_the_bipartite_graph(seed: int, k: int) -> None:
    log = random_log(seed)
    graph = nx.Graph(log.frame.select("user", "item").rows())
    core = nx.k_core(graph, k)
    edges = {frozenset(edge) for edge in core.edges}
    assert log.k_core(k).frame.rows() == [row for row in log.frame.rows() if frozenset(row[:2]) in edges]


def test_k_core_says_what_it_removed_and_counts_repeats() -> None:
    log = Interactions(pl.DataFrame({"user": ["a", "a", "b", "c"], "item": ["x", "x", "x", "y"]}))
    core = log.k_core(2)
    assert core.frame.rows() == [("a", "x"), ("a", "x")]
    assert core.notes == ["2-core removed users: 2, items: 1, interactions: 2 of 4"]
    assert log.k_core(1).notes == []


def test_an_empty_core_is_empty() -> None:
    assert len(random_log(0).k_core(1000).frame) == 0


@pytest.mark.parametrize("seed", range(3))
def test_histories_are_in_time_order_and_ties_keep_the_logs_order(seed: int) -> None:
    log = random_log(seed)
    data = log.dataset("d")
    rows = log.frame.rows()
    assert data.users == list(dict.fromkeys(user for user, _, _ in rows))
    assert data.items == list(dict.fromkeys(item for _, item, _ in rows))
    for index, user in enumerate(data.users):
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])  # Python's sort is stable
        span = slice(data.full.indptr[index], data.full.indptr[index + 1])
        assert [data.items[item] for item in data.full[index]] == [item for _, item, _ in mine]
        assert data.times is not None
        assert data.times[span].tolist() == [time for _, _, time in mine]


def test_without_times_rows_keep_their_order_and_texts_follow_the_items() -> None:
    frame = pl.DataFrame({"user": ["b", "a", "b"], "item": ["y", "x", "x"], "rating": [1.0, 2.0, 3.0]})
    data = Interactions(frame, {"x": "an x"}, {"y": (4, 2)}).dataset("d")
    assert (data.users, data.items) == (["b", "a"], ["y", "x"])
    assert [history.tolist() for history in data.full] == [[0, 1], [1]]
    assert data.ratings is not None
    assert data.ratings.tolist() == [1.0, 3.0, 2.0]
    assert data.times is None
    assert data.titles == ["", "an x"]
    assert data.attributes == [(4, 2), ()]


def test_attributes_are_numbered_by_kind_and_value() -> None:
    numbers = number_attributes({"a": [("brand", "x"), ("class", "x")], "b": [("class", "x"), ("class", "x")], "c": []})
    assert numbers == {"a": (1, 2), "b": (2,), "c": ()}


def test_a_core_keeps_the_notes_of_reading() -> None:
    log = Interactions(pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "x", "y"]}), notes=["no times"])
    assert log.k_core(2).notes == ["no times", "2-core removed users: 1, items: 1, interactions: 1 of 3"]
    assert log.k_core(2).k_core(1).notes == log.k_core(2).notes
    assert log.notes == ["no times"]
