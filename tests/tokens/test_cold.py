"""Names of new items: where they belong on planted data, what stands around them, what stays as it was."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens.build import build_tokens
from oovrec.tokens.cold import (
    PLACES,
    Around,
    Clusters,
    Described,
    blended,
    by_interactions,
    by_words,
    evidence,
    excess,
    extended,
    in_place,
    surroundings,
)
from oovrec.tokens.table import TokenTable

NEW = 8  # items of the planted data that are held out, two a community
OPTIONS = {
    "meta": {"clusters": 4},
    "collaborative": {"tokens": 40, "branching": 4},
    "semantic": {"codes": 4, "levels": 1, "quantiser": "kmeans"},
}


@pytest.fixture(scope="module")
def halves(planted: Dataset, communities: np.ndarray) -> tuple[Dataset, Dataset, np.ndarray]:
    """``planted`` without ``NEW`` items; with them, as the last ones; and the community of each item of the latter."""
    of_items = communities[len(planted.users) :]
    new = np.flatnonzero(np.arange(len(planted.items)) % 20 < NEW // 4)
    order = np.concatenate([np.setdiff1d(np.arange(len(planted.items)), new), new])
    place = np.argsort(order)
    sequences = [place[items] for items in planted.full]
    titles = [f"film {index} of kind {'abcd'[of_items[index]] * 3}" for index in order]
    items = [planted.items[index] for index in order]
    whole = dataclasses.replace(planted, items=items, titles=titles, full=Histories.of(sequences, planted.full.users))
    known = len(items) - NEW
    left = Histories.of([items[items < known] for items in sequences], planted.full.users)
    return dataclasses.replace(whole, items=items[:known], titles=titles[:known], full=left), whole, of_items[order]


def kinds(texts: list[str], encoder: str | None) -> np.ndarray:
    """In place of a sentence encoder: the last letter of a text, and noise."""
    letters = np.array(["abcd".index(text[-1]) for text in texts])
    return (np.eye(4)[letters] + np.random.default_rng(0).normal(0, 0.05, (len(texts), 4))).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("meta", "interactions"), ("meta", "words"), ("collaborative", "interactions"), ("semantic", "words")],
)
def test_a_new_item_joins_items_of_its_community(halves, method: str, kind: str, monkeypatch) -> None:
    monkeypatch.setattr("oovrec.tokens.schemes.semantic.embed_texts", kinds)
    known, whole, community = halves
    tokens = build_tokens(known, method, options=OPTIONS[method])
    new = Described(whole.items[-NEW:], whole.titles[-NEW:])
    if kind == "words":
        around = by_words(Described(known.items, known.titles), new)
    else:
        around = by_interactions(whole.histories("train"), len(known.items), NEW)
    table, _ = extended(tokens.items, new.ids, around, seed=0)
    for item in range(len(known.items), len(whole.items)):
        members = [row for row in range(len(known.items)) if table.words(row)[:-1] == table.words(item)[:-1]]
        assert Counter(community[members]).most_common(1)[0][0] == community[item]


def test_an_item_that_stands_alone_lies_among_those_near_it(halves) -> None:
    known, whole, community = halves
    tokens = build_tokens(known, "metavec")
    around = by_interactions(whole.histories("train"), len(known.items), NEW)
    rows = np.random.default_rng(0).normal(size=(len(known.items), 5))
    table, shares = blended(
        tokens.items, whole.items[-NEW:], [*around[:-1], dataclasses.replace(around[-1], own=0)], rows
    )
    assert table.stands_alone
    assert table.ids == whole.items
    assert table.vocabulary[: len(known.items)] == tokens.items.vocabulary
    assert len(set(table.vocabulary)) == len(whole.items)
    vectors, lengths = table.centroids[table.codes[:, 0]], np.linalg.norm(rows, axis=1)
    for item, part in zip(range(len(known.items), len(whole.items)), around, strict=True):
        made = shares[table.text(item)]
        weights = np.array([made.get(tokens.items.text(index), 0) for index in range(len(known.items))])
        mean = sum(w * rows[index] for index, w in zip(part.items, part.weights, strict=True))
        ours = weights @ rows
        np.testing.assert_allclose(ours / np.linalg.norm(ours), mean / np.linalg.norm(mean), atol=1e-6)
        like = sorted(range(len(known.items)), key=lambda index: abs(math.log(part.usual[index] / part.own)))[:20]
        rare = item == len(whole.items) - 1  # of which it is not known how often it was taken
        assert np.linalg.norm(ours) == pytest.approx(np.quantile(lengths, 0.1) if rare else lengths[like].mean())
        np.testing.assert_allclose(vectors[item], weights @ vectors[: len(known.items)], atol=1e-5)
        nearest = (vectors[: len(known.items)] @ vectors[item]).argsort()[-9:]
        assert Counter(community[nearest]).most_common(1)[0][0] == community[item]


def test_interactions_are_asked_before_words_and_words_where_there_are_none(halves) -> None:
    known, whole, _ = halves
    described, new = Described(known.items, known.titles), Described(whole.items[-NEW:], whole.titles[-NEW:])
    first_gone = Histories.of([items[items != len(known.items)] for items in whole.full])
    found = surroundings("meta", described, new, first_gone)
    assert [around.by for around in found] == ["words"] + ["interactions"] * (NEW - 1)
    assert {around.by for around in surroundings("semantic", described, new, first_gone)} == {"words"}
    assert {around.by for around in surroundings("meta", described, new)} == {"words"}
    first, *others = surroundings("meta", described, Described(new.ids), first_gone)  # whose titles are not known
    assert first is None
    assert None not in others


@pytest.mark.parametrize("method", ["random", "sequential", "independent", "mine"])
def test_names_that_mean_nothing_take_nobody_in(method: str) -> None:
    with pytest.raises(OovrecError, match=f"'{method}' do not stand for like items, so a new item has no place"):
        evidence(method)


def test_surroundings_in_histories_by_counting() -> None:
    rng = np.random.default_rng(0)
    sequences, known, new = [rng.integers(0, 30, rng.integers(0, 40)) for _ in range(20)], 24, 6
    weight, often = np.zeros((new, known)), np.ones(known + new)
    for items in sequences:
        for here, item in enumerate(items):
            often[item : item + 1] += 1
            for there, other in enumerate(items):
                if item >= known > other and 0 < abs(here - there) <= PLACES:
                    weight[item - known, other] += 1 / abs(here - there)
    found = by_interactions(Histories.of(sequences), known, new)
    for item, around in enumerate(found):
        dense = np.zeros(known)
        dense[around.items] = around.weights
        np.testing.assert_allclose(dense, weight[item])
        np.testing.assert_array_equal(around.usual, often[:known])
        assert around.own == often[known + item]


def test_surroundings_by_words_are_tf_idf_cosines() -> None:
    known = Described(["a", "b", "c"], ["The Third Man", "The 39 Steps", ""], [(7,), (), (7, 8)])
    new = Described(["d", "e"], ["Steps of the Man, 7", "Nothing shared"], [(7,), ()])
    idf = {"the": math.log(4 / 3), "third": math.log(2), "man": math.log(2), "39": math.log(2), "steps": math.log(2)}
    idf = {word: 1 + value for word, value in {**idf, "#7": math.log(4 / 3), "#8": math.log(2)}.items()}

    def length(words: set[str]) -> float:
        return math.sqrt(sum(idf[word] ** 2 for word in words))

    words = [{"the", "third", "man", "#7"}, {"the", "39", "steps"}, {"#7", "#8"}]
    mine = {"steps", "the", "man", "#7"}  # the title's 7 is no attribute
    wanted = [sum(idf[word] ** 2 for word in mine & own) / length(mine) / length(own) for own in words]
    first, second = by_words(known, new)
    np.testing.assert_allclose(first.weights[np.argsort(first.items)], wanted)
    assert not len(second.items)


def test_the_excess_is_what_a_chi_square_test_sums() -> None:
    near, usual = np.array([3.0, 0, 9, 2]), np.array([10.0, 20, 30, 40])
    found = excess(near, usual)
    assert (found**2).sum() == pytest.approx(chisquare(near, near.sum() * usual / usual.sum()).statistic)
    assert (np.sign(found) == [1, -1, 1, -1]).all()


def around(items: list[int], weights: list[float], usual: int | list[float], own: float = 0) -> Around:
    often = np.ones(usual) if isinstance(usual, int) else np.array(usual)
    return Around("words", np.array(items, int), np.array(weights, float), often, own)


def table(sizes: list[int], centroids: dict[str, np.ndarray] | None = None) -> TokenTable:
    names = [(f"<CI{cluster}>", f"<I{1001 + n}>") for cluster, size in enumerate(sizes) for n in range(size)]
    return TokenTable.of([f"i{row}" for row in range(len(names))], names, centroids)


def test_what_is_near_more_often_than_everywhere_wins_over_a_majority() -> None:
    found, _ = extended(table([8, 2]), ["new"], [around([0, 1, 2, 8, 9], [1] * 5, 10)], seed=0)
    assert found.words(10) == ["<CI1>", "<I1003>"]


def test_the_best_known_comes_first_and_numbers_go_on_where_all_are_taken() -> None:
    near = [around([3], [0.1], 6), around([3], [0.9], 6), around([3, 0], [0.5, 0.2], 6)]
    known = table([3, 2, 1], {"<CI0>": np.ones(2), "<CI1>": np.ones(2), "<CI2>": np.ones(2)})
    found, twins = extended(known, ["weak", "strong", "between"], near, seed=0)
    assert twins == {"<I1004>": "<I1003>", "<I1005>": "<I1003>"}
    assert [found.text(row) for row in (6, 7, 8)] == ["<CI1><I1005>", "<CI1><I1003>", "<CI1><I1004>"]
    assert found.vocabulary == [*known.vocabulary, "<I1004>", "<I1005>"]
    assert found.centroids is not None
    assert len(found.centroids) == len(found.vocabulary)
    assert not found.centroids[-2:].any()


def test_nobody_joins_a_cluster_of_items_of_which_nothing_is_known() -> None:
    known = table([2, 2], {"<CI0>": np.ones(3)})
    assert extended(known, ["new"], [around([2, 3], [1, 1], 4)], seed=0)[0].words(4)[0] == "<CI0>"


def test_how_often_an_item_was_taken_is_its_rank_as_a_twin_of_who_stands_there() -> None:
    """Numbers 1 to 3 of cluster 0 were taken 9, 5 and 2 times, number 1 of cluster 1 four times."""
    often = [9.0, 5, 2, 4]
    near = [
        around([0], [2], often, 5),
        around([0], [1], often, 3),
        around([3], [1], often, 7),
        around([0], [1], often, 1),
    ]
    found, twins = extended(table([3, 1]), ["as second", "between", "first", "last"], near, seed=0)
    names = {name: found.words(row) for row, name in enumerate(found.ids) if row >= 4}
    assert [names[name][0] for name in names] == ["<CI0>", "<CI0>", "<CI1>", "<CI0>"]
    alike = {name: twins.get(word[1]) for name, word in names.items()}
    assert alike == {"as second": "<I1002>", "between": "<I1003>", "first": "<I1001>", "last": "<I1003>"}
    again, further = extended(found, ["new"], [around([0], [1], [*often, 5, 3, 7, 1], 9)], seed=0, twins=twins)
    assert further[again.words(8)[1]] == "<I1001>"
    assert again.words(8)[1] == names["first"][1]  # a twin of this number is there, and free in this cluster


def test_a_tree_is_descended_from_the_top() -> None:
    """One item of the second branch is nearest, but most of what is near stands in the first, on several leaves."""
    leaves = [(0, 1), (0, 2), (0, 3), (4, 5), (4, 6)]
    names = [(f"<CI{a}>", f"<CI{b}>", f"<I{n}>") for a, b in leaves for n in (1001, 1002)]
    tree = TokenTable.of([f"i{row}" for row in range(len(names) + 1)], [*names, ("<CI7>", "<I1003>")])
    found, _ = extended(tree, ["new"], [around([0, 2, 4, 5, 6], [0.5, 0.4, 0.4, 0.4, 0.8], 11)], seed=0)
    assert found.words(11) == ["<CI0>", "<CI3>", "<I1003>"]
    short, _ = extended(tree, ["new"], [around([10], [1.0], 11)], seed=0)
    assert short.words(11) == ["<CI7>", "<I1001>"]


tuples = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(4, 6)), st.integers(1001, 1005)),
    min_size=1,
    max_size=30,
    unique=True,
).filter(lambda names: all(len({n[1] is None for n in names if n[0] == first}) == 1 for first in {n[0] for n in names}))


@settings(max_examples=100, deadline=None)
@given(names=tuples, owns=st.lists(st.integers(0, 9), min_size=1, max_size=12), seed=st.integers(0, 5))
def test_whatever_the_names_new_ones_are_unique_and_old_ones_stay(names, owns: list[int], seed: int) -> None:
    words = [(*(f"<CI{part}>" for part in name[:2] if part is not None), f"<I{name[2]}>") for name in names]
    old = TokenTable.of([f"i{row}" for row in range(len(words))], words)
    rng = np.random.default_rng(seed)
    usual = rng.integers(1, 9, len(words)).astype(float).tolist()
    near = [around([int(rng.integers(len(words)))], [rng.random() + 0.1], usual, own) for own in owns]
    found, twins = extended(old, [f"new{row}" for row in range(len(owns))], near, seed)
    every = [tuple(found.words(row)) for row in range(len(found))]
    clusters, numbers = {name[:-1] for name in words}, {name[-1] for name in words}
    assert (every[: len(words)], found.ids[: len(words)]) == (words, old.ids)
    assert len(set(every)) == len(every) == len(words) + len(owns)
    assert {name[:-1] for name in every} == clusters
    assert found.vocabulary[: len(old.vocabulary)] == old.vocabulary
    assert found.vocabulary[len(old.vocabulary) :] == list(twins)
    assert set(twins) == {name[-1] for name in every} - numbers
    assert set(twins.values()) <= numbers
    for cluster in () if any(owns) else clusters:
        added = sorted(name[-1] for name in every[len(words) :] if name[:-1] == cluster)
        if len(numbers) == len(words):  # each is an item's own: copies of the cluster's last
            highest = max(name[-1] for name in words if name[:-1] == cluster)
            assert all(twins[number] == highest for number in added)
        else:  # the free numbers, the lowest first
            free = sorted(numbers - {name[-1] for name in words if name[:-1] == cluster})
            assert added[: len(free)] == free[: len(added)]


def test_equals_are_named_in_an_order_that_the_seed_deals() -> None:
    near = [around([8], [1.0], 10)] * 5
    orders = {tuple(extended(table([8, 2]), list("abcde"), near, seed)[0].codes[10:, 1]) for seed in range(6)}
    assert len(orders) > 1


def test_clusters_of_names_of_several_lengths() -> None:
    names = [("<CI1>", "<I1>"), ("<CI1>", "<I2>"), ("<CI2>", "<CI1>", "<I1>"), ("<CI2>", "<CI3>", "<I1>")]
    clusters = Clusters(TokenTable.of(list("abcd"), names), {})
    assert len(clusters.paths) == 3
    assert sorted(map(len, clusters.taken)) == [1, 1, 2]


def closed() -> TokenTable:
    """Two clusters with a place, of numbers up to 1003, and one without, of numbers up to 1006."""
    sizes = {"<CI0>": 3, "<CI1>": 2, "<CI2>": 6}
    names = [(cluster, f"<I{1001 + number}>") for cluster, size in sizes.items() for number in range(size)]
    centroids = {"<CI0>": np.array([1.0, 0]), "<CI1>": np.array([0, 1.0]), "<CI2>": np.zeros(2)}
    return TokenTable.of([f"i{place}" for place in range(len(names))], names, centroids)


def test_items_of_which_nothing_is_known_tell_nothing_of_a_new_one() -> None:
    told_of = in_place(closed())
    assert told_of.tolist() == [True] * 5 + [False] * 6
    known = Described(closed().ids, ["red"] * 5 + ["grue"] * 6)
    histories = Histories.of([[5, 11], [6, 11, 7], [0, 12]])  # 11 beside such items alone, 12 beside another
    new = Described(["x", "y"], ["grue", "grue"])
    near_them, near_another = surroundings("meta", known, new, histories, told_of)
    assert near_them is None
    assert near_another is not None
    assert (near_another.by, near_another.items.tolist()) == ("interactions", [0])


def test_a_number_of_closed_clusters_alone_was_never_learnt() -> None:
    table, twins = extended(closed(), ["x", "y"], [around([3], [1.0], 11)] * 2, seed=0)
    assert [table.words(11 + place)[0] for place in range(2)] == ["<CI1>"] * 2
    first, second = sorted(table.words(11 + place)[1] for place in range(2))
    assert first == "<I1003>"  # the one number of the other open cluster that is free here
    assert twins == {second: "<I1003>"}
    assert second not in closed().vocabulary


def test_a_twin_is_always_one_of_a_number_that_the_model_learnt() -> None:
    names = [("<CI0>", "<I1001>"), ("<CI0>", "<I1002>"), ("<CI1>", "<I1001>")]
    table, twins = TokenTable.of(["a", "b", "c"], names), {}
    for addition in range(3):  # one after the other, of which each is told of the twins of those before
        around = Around("words", np.array([0]), np.ones(1), np.ones(len(table)))
        table, twins = extended(table, [f"new {addition}"], [around], 0, twins)
    assert [table.text(row) for row in range(3, 6)] == ["<CI0><I1003>", "<CI0><I1004>", "<CI0><I1005>"]
    assert twins == dict.fromkeys(("<I1003>", "<I1004>", "<I1005>"), "<I1002>")
    around = Around("words", np.array([2]), np.ones(1), np.ones(len(table)))
    table, twins = extended(table, ["other"], [around], 0, twins)
    assert table.text(6) == "<CI1><I1002>"  # free there, and learnt
    table, twins = extended(table, ["another"], [replace(around, usual=np.ones(7))], 0, twins)
    assert table.text(7) == "<CI1><I1003>"  # a twin that is there serves in another cluster too
    assert set(twins.values()) == {"<I1002>"}


def test_where_numbers_are_an_items_own_the_last_of_its_cluster_has_the_twin() -> None:
    names = [("<CI0>", "<I1001>"), ("<CI0>", "<I1002>"), ("<CI1>", "<I1003>"), ("<CI1>", "<I1004>")]
    table, twins = TokenTable.of(["a", "b", "c", "d"], names), {}
    for cluster, (near, last) in enumerate([(0, "<I1002>"), (2, "<I1004>")]):
        around = Around("words", np.array([near]), np.ones(1), np.ones(len(table)))
        table, twins = extended(table, [f"new {cluster}"], [around], 0, twins)
        assert table.words(len(table) - 1) == [f"<CI{cluster}>", f"<I{1005 + cluster}>"]
        assert twins[f"<I{1005 + cluster}>"] == last


def test_tokens_of_items_that_stand_alone_go_on_after_the_highest_number() -> None:
    """The last number of a token goes on, not that of a level, or of an edition, before it."""
    names = [(f"<2-I{number}>",) for number in (3, 1, 7)]
    known = TokenTable.of(list("abc"), names, {word: np.ones(2) for (word,) in names})
    found, _ = blended(known, list("defgh"), [around([0], [1.0], 3)] * 5, np.ones((3, 4)))
    assert [found.text(row) for row in range(3, 8)] == [f"<2-I{n}>" for n in range(8, 13)]
    clusters = TokenTable.of(["a", "b"], [("<CI0>", "<2-I1>"), ("<CI0>", "<2-I2>")])
    larger, twins = extended(clusters, ["c"], [around([0], [1.0], 2)], 0)
    assert (larger.words(2), twins) == (["<CI0>", "<2-I3>"], {"<2-I3>": "<2-I2>"})


def test_an_item_ten_places_off_is_near_and_one_more_is_not() -> None:
    history = [0, 1, *[2] * 9, 3, *[2] * 9, 1, 0]  # 3 is the new item; 1 is ten places before and after it, 0 eleven
    (found,) = by_interactions(Histories.of([history]), 3, 1)
    near = dict(zip(found.items.tolist(), found.weights.tolist(), strict=True))
    assert near == {1: pytest.approx(2 / 10), 2: pytest.approx(2 * sum(1 / distance for distance in range(1, 10)))}


def test_titles_without_a_word_tell_nothing() -> None:
    known, new = Described(["a", "b"], ["", "…"]), Described(["c", "d"], ["One", ""])
    assert [len(found.items) for found in by_words(known, new)] == [0, 0]
    assert surroundings("meta", known, new) == [None, None]


def test_items_added_earlier_are_counted_among_those_that_were_taken_more_often() -> None:
    """Numbers 1 to 3 of the cluster were taken 9, 5 and 2 times; what came later as number 2's twin five times too."""
    often = [9.0, 5, 2, 1, 1, 1, 1]
    known, twins = extended(table([3, 4]), ["second"], [around([0], [1], often, 5)], seed=0)
    assert twins == {known.words(7)[1]: "<I1002>"}
    again, twins = extended(known, ["third"], [around([0], [1], [*often, 5], 4)], seed=0, twins=twins)
    assert again.words(8)[0] == "<CI0>"
    assert twins[again.words(8)[1]] == "<I1003>"
