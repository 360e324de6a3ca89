"""References: shapes of tables by hand, what each kind may know, and seeds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens import references as module
from oovrec.tokens.build import build_tokens
from oovrec.tokens.references import BRIEF, Kind, Pair, References, Shape, places
from oovrec.tokens.skipgram import SkipGramConfig
from oovrec.tokens.table import TokenTable


@pytest.fixture(scope="module", autouse=True)
def _quick() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FULL", SkipGramConfig(dimensions=8, walks=2, walk_length=8, epochs=1))
        yield


@pytest.fixture(scope="module")
def references(planted: Dataset) -> References:
    return References(planted, seed=0, count=2)


def shape(dataset: Dataset, *counts: int) -> Pair:
    """Items in ``counts`` groups a level, each within one of the level before; users in as many as items first are."""
    items, users = (np.arange(len(ids)) for ids in (dataset.items, dataset.users))
    levels = [items % count for count in counts]
    return Pair(Shape(levels, items), Shape([users % count for count in counts[:1]], users))


def changed(dataset: Dataset, position: int) -> Dataset:
    """The same data with every user's item at ``position`` replaced by one that he never took."""
    sequences = [sequence.tolist() for sequence in dataset.full]
    for sequence in sequences:
        sequence[position] = next(item for item in range(len(dataset.items)) if item not in sequence)
    return dataclasses.replace(dataset, full=Histories.of(sequences, range(len(sequences))))


def test_levels_are_the_groups_of_a_tables_beginnings() -> None:
    tuples = [("<A>", "<a>", "<0>"), ("<A>", "<b>", "<0>"), ("<A>", "<a>", "<1>"), ("<A>", "<c>", "<1>")]
    tuples += [("<B>", token, "<2>") for token in ("<a>", "<a2>", "<a3>", "<b>")]
    found = Shape.of(TokenTable.of([f"i{index}" for index in range(8)], tuples))
    assert [level.tolist() for level in found.levels] == [
        [0, 0, 0, 0, 1, 1, 1, 1]
    ]  # seven beginnings of two say little
    tuples += [(first, second, f"<{number}>") for number in range(3, 13) for first, second, _ in tuples[:2]]
    found = Shape.of(TokenTable.of([f"i{index}" for index in range(28)], tuples))
    assert found.counts == (2, 7)
    assert len({(one, two) for one, two in zip(*found.levels, strict=True)}) == 7


@pytest.mark.parametrize(
    "tuples",
    [
        [("<I7>",), ("<I30>",), ("<I4>",), ("<I2>",)],  # a token each
        [("<A>", "<1>"), ("<A>", "<2>"), ("<A>", "<3>"), ("<A>", "<4>")],  # one group
        [("<I7>", "<a>"), ("<I30>", "<a>"), ("<I4>", "<b>"), ("<I2>", "<b>")],  # the first token is each one's own
    ],
)
def test_tables_without_groups_have_no_levels(tuples: list[tuple[str, ...]]) -> None:
    assert Shape.of(TokenTable.of(list("abcd"), tuples)).levels == []


def test_places_take_numbers_as_numbers() -> None:
    tuples = [("<I10>", "<b1>"), ("<I9>", "<b20>"), ("<I10>", "<a5>"), ("<I100>", "<b3>")]
    table = TokenTable.of(list("abcd"), tuples)
    assert places(table).tolist() == [2, 0, 1, 3]
    assert places(table, 1).tolist() == [1, 3, 0, 2]


def test_a_shape_does_not_depend_on_the_order_of_the_table() -> None:
    tuples = [(f"<C{index % 5}>", f"<{index}>") for index in range(40)]
    ids, order = [f"i{index}" for index in range(40)], np.random.default_rng(0).permutation(40)
    one = Shape.of(TokenTable.of(ids, tuples))
    other = Shape.of(TokenTable.of([ids[i] for i in order], [tuples[i] for i in order]).reindexed(ids))
    assert np.array_equal(one.places, other.places)
    assert np.array_equal(one.levels, other.levels)


@pytest.mark.parametrize("kind", ["clean", "leaky"])
def test_references_have_the_shape_of_the_tokens(planted: Dataset, references: References, kind: module.Kind) -> None:
    given = shape(planted, 6, 18)
    pair = references.like(given, kind, 0)
    assert pair is not None
    assert pair.users is not None
    assert pair.users.counts == (6,)
    assert pair.items.counts[0] == 6
    assert abs(pair.items.counts[1] - 18) <= 3  # shares of a group are rounded
    for finer, coarser in zip(pair.items.levels[1:], pair.items.levels, strict=False):
        assert len(set(zip(finer.tolist(), coarser.tolist(), strict=True))) == finer.max() + 1
    again, other = (References(planted, seed, 2).like(given, kind, 0) for seed in (0, 1))
    for same, pair_of in ((True, again), (False, other), (False, references.like(given, kind, 1))):
        assert pair_of is not None
        assert np.array_equal(pair_of.items.levels[0], pair.items.levels[0]) == same


def test_groups_are_those_of_the_planted_communities(planted: Dataset, communities: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr(module, "FULL", SkipGramConfig(dimensions=16, walk_length=16, epochs=2))
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    pair = References(planted, seed=0, count=1).like(shape(planted, 4), "clean", 0)
    assert pair is not None
    assert pair.users is not None
    users = len(planted.users)
    assert metrics.adjusted_rand_score(communities[users:], pair.items.levels[0]) > 0.95
    assert metrics.adjusted_rand_score(communities[:users], pair.users.levels[0]) > 0.95


def test_items_outside_the_training_part_form_a_group(planted: Dataset) -> None:
    sequences = [sequence.tolist() for sequence in planted.full]
    sequences[0][-1] = len(planted.items)
    data = dataclasses.replace(
        planted, items=[*planted.items, "new"], full=Histories.of(sequences, range(len(sequences)))
    )
    clean, leaky = (References(data, 0, 1).like(shape(data, 4), kind, 0) for kind in ("clean", "leaky"))
    assert clean is not None
    assert leaky is not None
    assert np.flatnonzero(clean.items.levels[0] == clean.items.levels[0][-1]).tolist() == [len(planted.items)]
    assert clean.items.counts == (5,)
    assert leaky.items.counts == (4,)


def test_each_kind_sees_its_part_only(planted: Dataset, references: References) -> None:
    held_out, probe = (References(changed(planted, position), 0, 2) for position in (-1, -3))
    assert np.array_equal(held_out.base(), references.base())
    assert np.array_equal(held_out.vectors("clean", 0), references.vectors("clean", 0))
    assert not np.array_equal(held_out.vectors("leaky", 0), references.vectors("leaky", 0))
    assert np.array_equal(probe.base(), references.base())
    assert not np.array_equal(probe.vectors("clean", 0), references.vectors("clean", 0))


def test_base_is_several_runs_of_unit_vectors(planted: Dataset, references: References) -> None:
    base = references.base()
    assert base.shape == (len(planted.users) + len(planted.items), 2 * 8)
    np.testing.assert_allclose(np.linalg.norm(base, axis=1), 2**0.5, rtol=1e-5)
    assert not np.allclose(base[:, :8], base[:, 8:])


@pytest.mark.parametrize(("kind", "built_from"), [("clean", "train"), ("leaky", "all")])
def test_numbers_are_those_of_sequential_ids(
    planted: Dataset, references: References, kind: module.Kind, built_from: str
) -> None:
    given = Shape.of(build_tokens(planted, "sequential", built_from).items)
    first, second = (references.like(Pair(given, None), kind, run) for run in (0, 1))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.items.places, given.places)
    assert sorted(second.items.places) == sorted(given.places)
    assert not np.array_equal(second.items.places, given.places)
    assert references.like(Pair(given, None), "texts", 0) is None


def test_items_that_training_never_meets_have_the_last_numbers(planted: Dataset) -> None:
    sequences = [[item + 1 for item in sequence] for sequence in planted.full]
    sequences[0][-1] = 0
    ids = ["new", *planted.items]
    data = dataclasses.replace(planted, items=ids, full=Histories.of(sequences, range(len(sequences))))
    given = Shape.of(build_tokens(data, "sequential", "train").items)
    pairs = [References(data, 0, 2).like(Pair(given, None), "clean", run) for run in (0, 1)]
    assert given.places[0] == len(planted.items)
    assert [pair.items.places[0] for pair in pairs if pair is not None] == [len(planted.items)] * 2


def test_texts_make_one_reference_that_saw_no_held_out_item(planted: Dataset, references: References) -> None:
    titles = [f"kind{index // 20} word{index % 3}" for index in range(len(planted.items))]
    data = dataclasses.replace(planted, titles=titles)
    titled, other = References(data, 0, 2), References(changed(data, -1), 0, 2)
    given = shape(planted, 12)
    assert references.like(given, "texts", 0) is None
    assert titled.like(given, "texts", 1) is None
    pair = titled.like(given, "texts", 0)
    assert pair is not None
    assert len(set(zip(pair.items.levels[0].tolist(), titles, strict=True))) == 12  # a group a title
    vectors, words = titled.vectors("texts", 0), titled.texts
    assert vectors is not None
    assert words is not None
    user = words[data.histories("train")[7]].sum(axis=0)
    np.testing.assert_allclose(vectors[7], user, rtol=1e-4, atol=1e-5)
    numbered = Pair(Shape.of(build_tokens(data, "sequential").items), given.users)
    one, two = (made.like(numbered, "texts", 0) for made in (titled, other))
    assert one is not None
    assert two is not None
    assert np.array_equal(one.items.places, two.items.places)


def test_much_data_is_embedded_in_brief(planted: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert References(planted, 0, 1).config is module.FULL
    monkeypatch.setattr(module, "SMALL", len(planted.full.items) - 1)
    assert References(planted, 0, 1).config is BRIEF


def test_every_embedding_is_counted_once(planted: Dataset) -> None:
    steps: list[int] = []
    made = References(planted, 0, 2, steps.append)
    made.base()
    for _ in range(2):
        made.like(shape(planted, 4), "clean", 1)
        made.like(shape(planted, 5), "leaky", 0)
    assert steps == [1] * 4


@pytest.mark.parametrize("kind", ["clean", "leaky"])
def test_each_run_learns_vectors_of_its_own(kind: Kind, references: References) -> None:
    """Else references would differ by their clusters alone, too little to tell chance from knowledge."""
    assert not np.array_equal(references.vectors(kind, 0), references.vectors(kind, 1))


def test_a_token_that_follows_from_the_one_before_is_no_level() -> None:
    tuples = [(f"<A{number % 3}>", f"<b{number % 3}>", f"<{number}>") for number in range(12)]
    assert Shape.of(TokenTable.of([f"i{number}" for number in range(12)], tuples)).counts == (3,)


def test_first_tokens_are_a_level_however_few_they_put_together() -> None:
    tuples = [(f"<A{number // 2}>", f"<{number}>") for number in (0, 1, 2, 4, 6, 8)]  # of six only the first two
    assert Shape.of(TokenTable.of([f"i{number}" for number in range(6)], tuples)).counts == (5,)


def test_each_run_numbers_in_an_order_of_its_own(planted: Dataset) -> None:
    """Else references would not differ at all, as if chance had no part in what numbers tell."""
    made, given = References(planted, 0, 4), Pair(Shape.of(build_tokens(planted, "sequential").items), None)
    pairs = [made.like(given, "clean", run) for run in range(4)]
    assert len({tuple(pair.items.places.tolist()) for pair in pairs if pair is not None}) == 4


def test_groups_are_divided_in_proportion_to_their_members_with_vectors() -> None:
    groups = np.repeat([0, 1, 0, 1], [6, 2, 4, 4])
    vectors = np.random.default_rng(0).normal(size=(16, 3)) * (np.arange(16) < 8)[:, None]
    found = module._divided(vectors, groups, np.arange(16) < 8, 4, 0)
    assert [len(set(found[part].tolist())) for part in (slice(0, 6), slice(6, 8), slice(8, 16))] == [3, 1, 1]
    assert len(set(found.tolist())) == 5


def test_users_are_divided_once(planted: Dataset, references: References) -> None:
    items, users = shape(planted, 4).items, np.arange(len(planted.users))
    pair = references.like(Pair(items, Shape([users % 3, users % 12], users)), "clean", 0)
    assert pair is not None
    assert pair.users is not None
    assert pair.users.counts == (3,)
