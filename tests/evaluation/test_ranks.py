"""Ranks and best items against a brute-force loop and numpy's sort: ties, masks, infinities and NaN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.evaluation import ranks
from oovrec.evaluation.metrics import per_user
from oovrec.tokens.parallel import _blas, products_alone

Rank = Callable[..., ranks.Ranks]
ITEMS = 7
LEVELS = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf])  # few, so that ties are the rule
ROW = st.tuples(
    st.lists(LEVELS, min_size=ITEMS, max_size=ITEMS),
    st.integers(0, ITEMS - 1),
    st.lists(st.integers(0, ITEMS - 1), max_size=2 * ITEMS),  # repeats allowed, target allowed, all items allowed
)


def by_hand(scores: list[float], target: int, excluded: set[int]) -> int:
    candidates = [item for item in range(ITEMS) if item not in excluded]
    if target in excluded:
        return ranks.MISSED
    return 1 + sum(scores[item] >= scores[target] for item in candidates if item != target)


@pytest.fixture(params=["scan", "tensors"], ids=["processor", "accelerator"])
def rank(request: pytest.FixtureRequest) -> Rank:
    """Both ways to the same ranks; the accelerator's works on a processor too."""
    found: Rank = {"scan": ranks.ranks, "tensors": ranks._by_tensors}[request.param]
    return found


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=4))
@pytest.mark.parametrize("rank", [ranks.ranks, ranks._by_tensors], ids=["processor", "accelerator"])
def test_equals_counting_one_by_one(rank: Rank, rows: list[tuple[list[float], int, list[int]]]) -> None:
    scores = torch.tensor([row[0] for row in rows])
    found = rank(scores, np.array([row[1] for row in rows]), Histories.of([row[2] for row in rows]), ITEMS)
    assert found.raw.tolist() == [by_hand(*row[:2], set()) for row in rows]
    assert found.masked.tolist() == [by_hand(*row[:2], set(row[2])) for row in rows]
    hides = [set()] * len(rows), [set(row[2]) for row in rows]
    for tops, values, hidden in zip(found.tops, found.values, hides, strict=True):
        for top, value, (levels, _, _), out in zip(tops.tolist(), values.tolist(), rows, hidden, strict=True):
            left = [item for item in range(ITEMS) if item not in out and levels[item] > -np.inf]
            best = [item for item in top if item >= 0]
            assert sorted(best) == left
            assert [levels[item] for item in best] == sorted((levels[item] for item in left), reverse=True)
            assert top == best + [-1] * (ITEMS - len(best))
            assert value == [levels[item] for item in best] + [-np.inf] * (ITEMS - len(best))


@pytest.mark.parametrize("items", [1, 63, 64, 65, 200, 1000])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_a_catalogue_of_blocks_is_sorted_as_by_numpy(items: int, levels: int) -> None:
    rng = np.random.default_rng(items + levels)
    scores = torch.from_numpy(rng.integers(0, levels, (70, items)).astype(np.float32) - levels // 2)
    targets, seen = rng.integers(0, items, 70), [rng.integers(0, items, rng.integers(0, 150)) for _ in range(70)]
    found = ranks.ranks(scores, targets, Histories.of(seen), 10)
    width = min(10, items)
    for row, (line, target, out) in enumerate(zip(scores.numpy(), targets, seen, strict=True)):
        order = np.argsort(-line, kind="stable")  # of equals the lowest first
        left = order[~np.isin(order, out)]
        assert found.raw[row] == (line >= line[target]).sum()
        assert found.masked[row] == (ranks.MISSED if target in out else (line[left] >= line[target]).sum())
        assert found.tops[0, row].tolist() == order[:width].tolist()
        assert found.tops[1, row].tolist() == (left.tolist() + [-1] * width)[:width]


def test_the_best_of_what_is_below_zero_are_found_wherever_they_stand(rank: Rank) -> None:
    """Within a block and behind the last whole one, and fewer of them than there are blocks."""
    rng = np.random.default_rng(0)
    scores = -1 - rng.permuted(np.tile(np.arange(130, dtype=np.float32), (40, 1)), axis=1)
    scores[:2] = -1 - np.arange(130), np.arange(130) - 130.0
    found = rank(torch.from_numpy(scores), np.zeros(40, np.int64), Histories.of([[]] * 40), 2)
    assert found.tops[0].tolist() == np.argsort(-scores, axis=1)[:, :2].tolist()


@pytest.mark.parametrize("items", [1, 65, 5000, 70_000])  # the last are too many to be made while they are ranked
@pytest.mark.parametrize("width", [0, 10, ranks.WIDEST + 1])
def test_products_are_ranked_as_the_scores_that_they_make(items: int, width: int) -> None:
    rng = np.random.default_rng(items)
    states, rows = (torch.from_numpy(rng.integers(-3, 4, (n, 5)).astype(np.float32)) for n in (150, items))
    targets, seen = rng.integers(0, items, 150), [rng.integers(0, items, rng.integers(0, 20)) for _ in range(150)]
    products = ranks.Products(states, rows)
    of_products, of_scores = (
        ranks.ranks(scores, targets, Histories.of(seen), width) for scores in (products, products.whole())
    )
    assert products.shape == (150, items)
    for name, ours in vars(of_products).items():  # whole numbers, so that no sum is rounded
        assert np.array_equal(ours, getattr(of_scores, name)), name


def test_many_of_the_best_are_the_same_whichever_way() -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.permuted(np.arange(80_000, dtype=np.float32).reshape(40, 2000), axis=1))
    targets, seen = rng.integers(0, 2000, 40), Histories.of([rng.integers(0, 2000, 30) for _ in range(40)])
    some, more = (ranks.ranks(scores, targets, seen, wanted) for wanted in (ranks.WIDEST, ranks.WIDEST + 1))
    assert np.array_equal(some.tops, more.tops[:, :, :-1])
    assert np.array_equal(some.values, more.values[:, :, :-1])


def test_what_multiplies_has_its_threads_back() -> None:
    def threads() -> list[int]:
        return [found["num_threads"] for found in _blas().info()]

    before = threads()
    with products_alone():
        assert set(threads()) == {1}
    assert threads() == before


def test_a_constant_score_is_the_worst_not_the_best(rank: Rank) -> None:
    assert rank(torch.zeros(1, 50), np.array([3]), Histories.of([[]]), 0).raw.tolist() == [50]


def test_a_repeat_is_a_miss_even_with_the_highest_score(rank: Rank) -> None:
    found = rank(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), np.array([0]), Histories.of([[0, 1]]), 0)
    assert found.raw.tolist() == [1]
    assert found.masked.tolist() == [ranks.MISSED]
    missed = per_user(found.masked)
    assert missed.pop("mrr") == pytest.approx([0.0])
    assert all(value.tolist() == [0.0] for value in missed.values())  # though two candidates are left


@pytest.mark.parametrize("item", [4, 70])  # within a block and behind the last one
def test_nan_is_an_error_that_names_the_row(rank: Rank, item: int) -> None:
    scores = torch.zeros(50, 71)
    scores[42, item] = torch.nan
    with pytest.raises(OovrecError, match=r"row 42.*NaN.*learning_rate"):
        rank(scores, np.zeros(50, np.int64), Histories.of([[]] * 50), 5)


def test_a_product_that_is_nan_is_an_error_too() -> None:
    states = torch.zeros(50, 3)
    states[42, 1] = torch.nan
    with pytest.raises(OovrecError, match=r"row 42.*NaN.*learning_rate"):
        ranks.ranks(ranks.Products(states, torch.ones(9, 3)), np.zeros(50, np.int64), Histories.of([[]] * 50))


def test_scores_are_left_as_they_were(rank: Rank) -> None:
    scores = torch.arange(6.0).reshape(1, 6)
    before = scores.clone()
    rank(scores, np.array([1]), Histories.of([[5]]), 3)
    assert torch.equal(scores, before)


def test_one_row_for_all_is_read_as_a_table(rank: Rank) -> None:
    found = rank(torch.arange(6.0).expand(40, -1), np.full(40, 4), Histories.of([[5]] * 40), 2)
    assert (found.raw.tolist(), found.masked.tolist()) == ([2] * 40, [1] * 40)
    assert found.tops.tolist() == [[[5, 4]] * 40, [[4, 3]] * 40]
