"""Ranks against a brute-force loop, ties, masks, infinities and NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.evaluation.ranks import both_ranks, ranks

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
        return len(candidates) + 1
    return 1 + sum(scores[item] >= scores[target] for item in candidates if item != target)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_equals_counting_one_by_one(rows: list[tuple[list[float], int, list[int]]]) -> None:
    scores = torch.tensor([row[0] for row in rows])
    targets = torch.tensor([row[1] for row in rows])
    seen = Histories.of([row[2] for row in rows])
    assert ranks(scores, targets).tolist() == [by_hand(*row[:2], set()) for row in rows]
    assert ranks(scores, targets, seen).tolist() == [by_hand(*row[:2], set(row[2])) for row in rows]
    assert [found.tolist() for found in both_ranks(scores, targets, seen)] == [
        ranks(scores, targets).tolist(),
        ranks(scores, targets, seen).tolist(),
    ]


def test_a_constant_score_is_the_worst_not_the_best() -> None:
    assert ranks(torch.zeros(1, 50), torch.tensor([3])).tolist() == [50]


def test_a_repeat_is_a_miss_even_with_the_highest_score() -> None:
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    assert ranks(scores, torch.tensor([0])).tolist() == [1]
    assert ranks(scores, torch.tensor([0]), Histories.of([[0, 1]])).tolist() == [3]  # below the 2 candidates left


def test_nan_is_an_error_that_names_the_row() -> None:
    scores = torch.zeros(3, 5)
    scores[2, 4] = torch.nan
    with pytest.raises(OovrecError, match=r"row 2.*NaN.*learning_rate"):
        ranks(scores, torch.tensor([0, 0, 0]))


def test_scores_are_left_as_they_were() -> None:
    scores = torch.arange(6.0).reshape(1, 6)
    before = scores.clone()
    ranks(scores, torch.tensor([1]), Histories.of([[5]]))
    assert torch.equal(scores, before)
