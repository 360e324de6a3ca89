"""Scores against hand-worked examples, brute force, scipy and the tokens that the authors published."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_array

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens import geometry
from oovrec.tokens.build import build_tokens
from oovrec.tokens.geometry import diversity, memorisation, ratings_matrix, unit
from oovrec.tokens.quality import (
    cluster_lift,
    clustered,
    collisions,
    perplexity,
    repeated_clusters,
    score,
)
from oovrec.tokens.table import Tokens, TokenTable, read_table


def test_lift_of_a_hand_worked_example() -> None:
    # training part: user 0 takes item 0 three times, user 1 item 1 once; each user and item its own cluster
    dataset = Dataset("hand", ["a", "b"], ["x", "y"], Histories.of([[0, 0, 0, 1, 0], [1, 0, 1]], [0, 1]))
    lift = cluster_lift(np.array([0, 1]), np.array([0, 1]), dataset)
    # counts with a half added: [[3.5, .5], [.5, 1.5]], sum 6, margins 4, 2 and 4, 2
    own, other, second = math.log(3.5 * 6 / 16), math.log(0.5 * 6 / 8), math.log(1.5 * 6 / 4)
    assert lift["train"] == pytest.approx((3 * own + second) / 4)
    assert lift["validation"] == pytest.approx((other + other) / 2)
    assert lift["test"] == pytest.approx((own + second) / 2)


def test_chance_of_a_repeated_cluster_is_the_mean_over_all_shuffles() -> None:
    clusters = np.array([0, 0, 1, 1, 2])
    histories = Histories.of([[0, 2], [4], [1, 0], [3]])
    targets = np.array([1, 4, 2, 2])
    found, chance = repeated_clusters(clusters, histories, targets)

    def share(dealt: tuple[int, ...]) -> float:
        return float(np.mean([clusters[t] in clusters[items] for items, t in zip(histories, dealt, strict=True)]))

    assert found == share(tuple(targets)) == 0.75
    assert chance == pytest.approx(np.mean([share(dealt) for dealt in itertools.permutations(targets)]))


def test_perplexity_and_collisions_of_a_hand_worked_table() -> None:
    names = [("<A>", "<a>", "<0>"), ("<A>", "<a>", "<1>"), ("<A>", "<b>"), ("<B>", "<a>", "<0>")]
    table = TokenTable.of(list("wxyz"), names)
    first, second = stats.entropy([3, 1]), stats.entropy([3, 1])
    third = stats.entropy([2, 1, 1])  # the shorter name ends with its filling
    assert perplexity(table) == pytest.approx(np.exp([first, second, third]))
    assert collisions(table) == [0.75, 0.5]
    assert (collisions(TokenTable.of(["a", "b"], [("<A>",), ("<B>",)])), clustered(table)) == ([], True)


def test_tokens_without_clusters_have_neither_lift_nor_repeats(planted: Dataset) -> None:
    quality = score(build_tokens(planted, "independent"), planted)
    assert (quality.lift, quality.repeats, quality.repeats_by_chance) == (None, {}, {})
    assert quality.perplexity == {"items": [pytest.approx(80)], "users": [pytest.approx(120)]}


def test_diversity_is_the_symmetric_divergence() -> None:
    vectors = np.array([[0.3, -1.0, 2.0], [1.5, 0.0, -0.5]])
    p, q = (np.exp(row) / np.exp(row).sum() for row in vectors)
    assert diversity(vectors, seed=0) == pytest.approx((stats.entropy(p, q) + stats.entropy(q, p)) / 2)
    assert diversity(np.ones((5, 3)), seed=0) == pytest.approx(0)


@pytest.mark.parametrize("rated", [True, False])
def test_memorisation_against_loops_over_pairs(rated: bool) -> None:
    rng = np.random.default_rng(0)
    full = Histories.of([rng.choice(7, 6, replace=False) for _ in range(9)], range(9))
    ratings = rng.integers(1, 6, len(full.items)).astype(float) if rated else None
    dataset = Dataset("loops", list("abcdefghi"), list("stuvwxy"), full, ratings=ratings)
    vectors = rng.normal(size=(7, 3))

    deviations = np.zeros((9, 7))
    for user in range(9):
        kept = slice(6 * user, 6 * user + 4)  # the training part
        values = ratings[kept] - ratings[kept].mean() if ratings is not None else np.ones(4)
        deviations[user, full.items[kept]] = values
    true, embedded = [], []
    for one, two in itertools.combinations(range(7), 2):
        a, b = deviations[:, one], deviations[:, two]
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        true.append(a @ b / norm if norm else 0.0)
        a, b = vectors[one], vectors[two]
        embedded.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    scaled = (np.array(true) - min(true)) / (max(true) - min(true))
    expected = 1 - np.mean((scaled - np.array(embedded)) ** 2)
    assert memorisation(vectors, ratings_matrix(dataset).T, seed=0) == pytest.approx(expected)


def test_an_ids_vector_is_the_mean_of_its_tokens() -> None:
    table = TokenTable.of(
        ["a", "b"], [("<A>", "<1>"), ("<B>", "<1>")], {"<A>": np.array([2.0, 0]), "<B>": np.array([0, 4.0])}
    )
    assert table.vectors.tolist() == [[1, 0], [0, 2]]


def test_meta_knows_the_planted_communities_and_random_does_not(planted: Dataset) -> None:
    meta, random = (score(build_tokens(planted, m, options={"clusters": 4}), planted) for m in ("meta", "random"))
    assert meta.lift is not None
    assert random.lift is not None
    assert meta.lift["validation"] > 0.5 > 0.1 > abs(random.lift["validation"])
    assert meta.repeats["test"] > meta.repeats_by_chance["test"] + 0.1
    assert random.repeats["test"] == pytest.approx(random.repeats_by_chance["test"], abs=0.1)
    assert meta.memorisation is not None
    assert 0 < meta.memorisation["items"] <= 1
    assert random.memorisation is random.diversity is None
    json.dumps(meta.to_json(), allow_nan=False)


def test_lift_shows_that_tokens_have_seen_held_out_items() -> None:
    # nothing to know: items at random, so held-out lift can only come from having seen them
    rng = np.random.default_rng(0)
    full = Histories.of([rng.choice(100, 6, replace=False) for _ in range(200)], range(200))
    dataset = Dataset("noise", [f"u{u}" for u in range(200)], [f"i{i}" for i in range(100)], full)
    train, everything = (score(build_tokens(dataset, built_from=source), dataset) for source in ("train", "all"))
    assert train.lift is not None
    assert everything.lift is not None
    assert train.lift["train"] > 0.1
    assert train.lift["test"] < 0.05
    assert everything.lift["test"] > 0.1


def test_tokens_without_users_and_data_without_held_out_items_are_scored(planted: Dataset) -> None:
    tokens = dataclasses.replace(build_tokens(planted, "random"), users=None)
    assert score(tokens, planted).lift is None
    pairs = dataclasses.replace(
        planted, full=Histories.of([items[:2] for items in planted.full], range(len(planted.users)))
    )
    bare = score(build_tokens(planted, "random"), pairs)
    assert bare.lift is not None
    assert set(bare.lift) == {"train"}
    assert bare.repeats == {}


def test_published_tokens_have_seen_what_is_held_out(shared: Path) -> None:
    load_dataset = pytest.importorskip("oovrec.data.load").load_dataset
    folder = shared / "reference" / "published_tokens_beauty"
    published = Tokens(
        read_table(folder / "item_tokens.txt"), read_table(folder / "user_tokens.txt"), "published", "all", 0
    )
    quality = score(published, load_dataset(shared / "data" / "beauty"))
    assert quality.lift is not None
    # measured independently of this code when the project was planned
    assert [quality.lift[split] for split in ("train", "validation", "test")] == pytest.approx(
        [1.24, 1.15, 1.03], abs=0.02
    )
    assert [quality.repeats[split] for split in ("validation", "test")] == pytest.approx([0.40, 0.41], abs=0.01)


@pytest.mark.parametrize("sequences", [[[0, 1, 2, 3]], [[0, 0, 0], [0, 0, 0]]])  # one user; one item
def test_of_one_alone_there_is_nothing_to_compare(sequences: list[list[int]]) -> None:
    items = max(map(max, sequences)) + 1
    users = [f"u{user}" for user in range(len(sequences))]
    data = Dataset("d", users, [f"i{item}" for item in range(items)], Histories.of(sequences, range(len(sequences))))
    found = score(build_tokens(data, "meta"), data)
    for figures in (found.memorisation, found.diversity):
        assert (figures or {}).keys() <= {"items" if items > 1 else "users"}


def test_memorisation_of_a_sample_compares_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that say just what the ratings say do so in every sample; of others none does."""
    monkeypatch.setattr(geometry, "SAMPLE", 12)
    groups = np.eye(3)[np.random.default_rng(0).integers(3, size=40)]
    for seed in range(5):
        assert memorisation(groups, csr_array(groups), seed) == pytest.approx(1)
        assert memorisation(groups[::-1], csr_array(groups), seed) < 0.9


def test_vectors_of_any_length_come_to_length_one_and_zero_stays() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3)) * np.array([[1e-4], [0.1], [0.5], [1], [20], [0]])
    found = unit(vectors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose((found * vectors).sum(axis=1), np.linalg.norm(vectors, axis=1), rtol=1e-5)


def test_lift_needs_users_and_items_of_which_some_are_alike(planted: Dataset) -> None:
    alike, unlike = (build_tokens(planted, method) for method in ("random", "independent"))
    assert score(alike, planted).lift is not None
    assert score(dataclasses.replace(alike, users=unlike.users), planted).lift is None
    assert score(dataclasses.replace(alike, items=unlike.items), planted).lift is None


def test_a_target_repeats_a_cluster_of_what_came_before_it(planted: Dataset) -> None:
    """The history of a test's target has what validates too; tokens may stand in any order."""
    tokens = build_tokens(planted, "random", options={"clusters": 9})
    found = score(tokens, planted)
    first = [tokens.items.words(row)[0] for row in range(len(planted.items))]
    for split, last in (("validation", -2), ("test", -1)):
        met = [first[items[last]] in {first[item] for item in items[:last]} for items in planted.full]
        assert found.repeats[split] == pytest.approx(np.mean(met))
    turned = {
        side: table.reindexed(table.ids[::-1]) for side, table in (("items", tokens.items), ("users", tokens.users))
    }
    assert score(dataclasses.replace(tokens, **turned), planted) == found


def test_the_seed_draws_the_pairs_that_are_compared(planted: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "SAMPLE", 12)
    tokens = build_tokens(planted, "meta", options={"clusters": 4})
    once, again, other = (score(tokens, planted, seed) for seed in (1, 1, 2))
    assert once == again
    for name in ("memorisation", "diversity"):
        ours, theirs = getattr(once, name), getattr(other, name)
        assert all(ours[side] != theirs[side] for side in ("items", "users"))


def test_a_sample_has_each_row_once_and_equal_cosines_of_ratings_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "SAMPLE", 2)
    for seed in range(20):  # the vectors' cosine is zero as well, but for a row's with itself
        assert memorisation(np.eye(3), csr_array(np.ones((3, 4))), seed) == 1


def test_a_vector_of_zeros_has_cosine_zero() -> None:
    vectors, ratings = np.array([[0.0, 0], [1, 0], [3, 4]]), np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])
    embedded = np.array([0, 0, 3 / 5])  # of rows 0 and 1, 0 and 2, 1 and 2
    rated = np.array([1 / math.sqrt(2), 0, 1 / 2])
    expected = 1 - np.mean((rated * math.sqrt(2) - embedded) ** 2)
    assert memorisation(vectors, csr_array(ratings), seed=0) == pytest.approx(expected)


def test_diversity_is_of_any_two_and_of_vectors_however_long() -> None:
    """Of ten vectors of two kinds, side by side: 50 of the 90 pairs are of both kinds."""
    p, q = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    vectors = np.log(np.array([p] * 5 + [q] * 5))
    apart = (stats.entropy(p, q) + stats.entropy(q, p)) / 2
    assert diversity(vectors, seed=0) == pytest.approx(apart * 50 / 90, rel=0.05)
    assert diversity(vectors, seed=0) == diversity(vectors, seed=0) != diversity(vectors, seed=1)
    assert diversity(np.array([[2000.0, 0], [0, 2000]]), seed=0) == pytest.approx(2000)


def test_ratings_are_taken_less_their_users_mean_and_without_any_each_counts_as_one() -> None:
    full = Histories.of([[0, 1, 2, 0], [2, 0, 1, 1], [1, 0]], range(3))  # the last two of the longer ones are held out
    rated = Dataset("hand", list("abc"), list("xyz"), full, ratings=np.array([5.0, 2, 1, 1, 4, 3, 1, 1, 2, 5]))
    assert ratings_matrix(rated).toarray().tolist() == [[1.5, -1.5, 0], [-0.5, 0, 0.5], [1.5, -1.5, 0]]
    bare = dataclasses.replace(rated, ratings=None)
    assert ratings_matrix(bare).toarray().tolist() == [[1, 1, 0], [1, 0, 1], [1, 1, 0]]


def test_those_whose_tokens_stand_alone_are_alike_where_their_vectors_are() -> None:
    """Sixteen users and items whose vectors point four ways: the square root of how many there are."""
    rng, kinds = np.random.default_rng(0), np.arange(16) % 4
    vectors = np.eye(4)[kinds] + rng.normal(0, 0.01, (16, 4))

    def alone(letter: str) -> TokenTable:
        names = [f"<{letter}{number}>" for number in range(16)]
        return TokenTable.of(names, [(name,) for name in names], dict(zip(names, vectors, strict=True)))

    tokens = Tokens(alone("I"), alone("U"), "metavec", "train", 0)
    full = Histories.of([rng.choice(16, 6, replace=False) for _ in range(16)], range(16))
    dataset = Dataset("alone", tokens.users.ids, tokens.items.ids, full)
    found = score(tokens, dataset)
    assert found.lift == pytest.approx(cluster_lift(kinds, kinds, dataset))
    assert found.repeats["test"] == np.mean([kinds[items[-1]] in kinds[items[:-1]] for items in full])
