"""Orders of tokens that tell a day's last item, in data that is made so, against the chi-squared test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.tokens.artefacts import Artefact, _compared, same_day_order
from oovrec.tokens.table import TokenTable

USERS, ITEMS, DAYS, A_DAY = 150, 60, 4, 2


def made(by_id: bool, seed: int = 0, same_day: bool = True) -> Dataset:
    """Users take two items a day, four days long, stored by id or as they came."""
    rng = np.random.default_rng(seed)
    sequences, times = [], []
    for _ in range(USERS):
        days = rng.choice(ITEMS, (DAYS, A_DAY), replace=False)
        days = np.sort(days, axis=1) if by_id else days
        cut = rng.integers(2)  # the test target is a day's first or last
        sequences.append(days.reshape(-1)[: DAYS * A_DAY - cut])
        when = np.arange(DAYS * A_DAY) // (A_DAY if same_day else 1) * DAY
        times.append(when[: len(sequences[-1])])
    users, items = [f"u{index}" for index in range(USERS)], [f"i{index:02}" for index in range(ITEMS)]
    return Dataset("days", users, items, Histories.of(sequences, range(USERS)), times=np.concatenate(times))


def named(dataset: Dataset, places: np.ndarray) -> TokenTable:
    """Items in five groups, numbered within them by ``places``."""
    return TokenTable.of(dataset.items, [(f"<C{place % 5}>", f"<I{place}>") for place in places.tolist()])


def test_numbers_in_the_order_of_ids_are_named_where_days_are_stored_so() -> None:
    data = made(by_id=True)
    of_tuples, of_numbers = same_day_order(data, named(data, np.arange(ITEMS)))
    assert (of_tuples.order, of_numbers.order) == ("tuple", "last token")
    assert of_numbers.named
    assert of_numbers.same_day == 1  # the day's second item is always the greater
    assert of_numbers.later_day == pytest.approx(1 / 6, abs=0.06)  # a day's least after the greatest of the day before
    assert of_numbers.difference == of_numbers.same_day - of_numbers.later_day


@pytest.mark.parametrize("by_id", [True, False])
def test_shares_and_chance_are_those_of_the_table_of_rises(by_id: bool) -> None:
    data = made(by_id)
    places = np.arange(ITEMS) if by_id else np.random.default_rng(3).permutation(ITEMS)
    found = same_day_order(data, named(data, places))[1]
    table = np.zeros((2, 2), int)
    for user, items in enumerate(data.full):
        days = data.times[data.full.indptr[user] :][: len(items)]  # type: ignore[index]
        for position in (-2, -1):
            same = days[position] == days[position - 1]
            table[int(not same), int(places[items[position]] > places[items[position - 1]])] += 1
    assert (found.same_day, found.later_day) == pytest.approx(tuple(table[:, 1] / table.sum(axis=1)))
    assert found.p == pytest.approx(chi2_contingency(table, correction=False).pvalue, rel=1e-6)
    assert found.named == by_id


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_numbers_are_not_named(seed: int) -> None:
    data = made(by_id=True)
    places = np.random.default_rng(seed).permutation(ITEMS)
    assert not any(artefact.named for artefact in same_day_order(data, named(data, places)))


def test_tokens_of_one_level_have_one_order() -> None:
    data = made(by_id=True)
    found = same_day_order(data, TokenTable.of(data.items, [(f"<I{1001 + place}>",) for place in range(ITEMS)]))
    assert [(artefact.order, artefact.named) for artefact in found] == [("tuple", True)]


def test_a_last_token_shared_by_all_says_nothing() -> None:
    data = made(by_id=True)
    table = TokenTable.of(data.items, [(f"<I{place}>", "<x>") for place in range(ITEMS)])
    assert same_day_order(data, table)[1] == Artefact("last token", 0.0, 0.0, 0.0, 1.0, False)


def test_nothing_is_said_without_times_or_days_that_are_shared() -> None:
    data = made(by_id=True)
    without = Dataset("none", data.users, data.items, data.full)
    assert same_day_order(without, named(without, np.arange(ITEMS))) == []
    apart = made(by_id=True, same_day=False)
    assert same_day_order(apart, named(apart, np.arange(ITEMS))) == []


def steps(same: tuple[int, int], later: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Steps up and down of targets of the same day and of later ones, and which are of later ones."""
    signs = np.repeat([3, -2, 5, -1], [*same, *later])
    return signs, np.repeat([False, True], [sum(same), sum(later)])


@pytest.mark.parametrize(
    ("same", "later", "named"),
    [
        ((700, 300), (500, 500), True),
        ((300, 700), (500, 500), True),  # against the order tells as much
        ((9, 1), (5, 5), False),  # great, but may be chance
        ((5_400, 4_600), (5_000, 5_000), False),  # sure, but small
        ((550, 450), (500, 500), False),
    ],
)
def test_an_artefact_is_great_and_sure(same: tuple[int, int], later: tuple[int, int], named: bool) -> None:
    found = _compared("tuple", *steps(same, later))
    assert found.p == pytest.approx(chi2_contingency([same, later], correction=False).pvalue)
    assert (found.same_day, found.later_day) == pytest.approx((same[0] / sum(same), later[0] / sum(later)))
    assert found.difference == pytest.approx(found.same_day - found.later_day)
    assert found.named is named


def test_targets_at_the_place_of_the_item_before_them_say_nothing() -> None:
    moved, later = steps((700, 300), (500, 500))
    stayed = np.zeros(4000, int), np.arange(4000) % 4 == 0
    assert _compared("tuple", np.append(moved, stayed[0]), np.append(later, stayed[1])) == _compared(
        "tuple", moved, later
    )
