"""Windows: every target once an epoch, in windows that fit, in batches of like length."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from oovrec.data.histories import Histories
from oovrec.training import windows as module
from oovrec.training.windows import windows


def numbered(lengths: list[int]) -> Histories:
    """Histories in which no item occurs twice, so that an item says where it stood."""
    ends = np.cumsum(lengths)
    return Histories.of(
        [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)], range(len(lengths))
    )


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("length", [2, 5, 8])
def test_each_target_is_in_exactly_one_window(length: int, context: int) -> None:
    rng = np.random.default_rng(7)
    histories = numbered([0, 1, 2, *rng.integers(0, 40, 50).tolist()])
    histories = replace(histories, users=histories.users + 100)
    for _ in range(5):
        plan = windows(histories, length, 4, rng, context=context)
        assert max(len(batch.items) - context * len(batch) for batch in plan.batches) < 4 + length
        targets: Counter[int] = Counter()
        for batch in plan.batches:
            for window, user in zip(batch, batch.users, strict=True):
                assert context < len(window) <= length
                assert (np.diff(window) == 1).all()
                assert set(window) <= set(histories[user - 100])
                targets.update(window[context:].tolist())
        expected = [item for history in histories for item in history[context:].tolist()]
        assert targets == Counter(expected)
        assert plan.mean_targets == pytest.approx(len(expected) / len(plan.batches))


def test_a_history_that_fits_is_one_window() -> None:
    plan = windows(numbered([8, 3, 5]), 8, 20, np.random.default_rng(0), context=1)
    assert sorted(batch.lengths.tolist() for batch in plan.batches) == [[3, 5, 8]]


def test_a_target_stands_at_every_place_over_the_epochs() -> None:
    """Item 10 of a history of 30, windows of 5: after 0 to 3 items of its window beside the context."""
    rng, places = np.random.default_rng(0), set()
    for _ in range(60):
        batches = windows(numbered([30]), 5, 8, rng, context=1).batches
        places |= {window.tolist().index(10) for batch in batches for window in batch if 10 in window[1:]}
    assert places == {1, 2, 3, 4}


def test_batches_hold_like_lengths_in_random_order() -> None:
    lengths = np.random.default_rng(1).integers(2, 50, 2000).tolist()
    rng = np.random.default_rng(2)
    first, second = (windows(numbered(lengths), 50, 500, rng).batches for _ in range(2))
    padding = 1 - sum(lengths) / sum(batch.padded(0).size for batch in first)
    assert padding < 0.05  # batches at random would be half padding
    assert {len(batch.items) // 50 for batch in first[:-1]} <= {9, 10}  # all near 500 targets
    widths = [batch.lengths.max() for batch in first]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3
    assert [batch.users.tolist() for batch in first] != [batch.users.tolist() for batch in second]


def test_the_same_generator_gives_the_same_windows() -> None:
    made = [windows(numbered([30, 4, 9]), 5, 2, np.random.default_rng([3, 1])).batches for _ in range(2)]
    assert [[w.tolist() for w in b] for b in made[0]] == [[w.tolist() for w in b] for b in made[1]]


def test_no_history_gives_no_batch() -> None:
    assert windows(Histories.of([[], [3]]), 5, 2, np.random.default_rng(0), context=1).batches == []


@pytest.mark.parametrize("context", [0, 1])
def test_windows_that_fill_batches_fill_them(context: int) -> None:
    """Of the targets alone: no batch is cut short, and none is left over."""
    plan = windows(numbered([4 + context] * 12), 8, 16, np.random.default_rng(0), context=context)
    assert [len(batch) for batch in plan.batches] == [4, 4, 4]


@pytest.mark.parametrize("lengths", [[5] * 600, list(range(2, 82))])
def test_windows_are_put_together_anew_each_epoch(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one length, and of like lengths: no more are sorted at once than those of some batches."""
    monkeypatch.setattr(module, "POOL", 4)
    histories, rng = numbered(lengths), np.random.default_rng(0)
    first, second = (
        {frozenset(batch.users.tolist()) for batch in windows(histories, 100, 200, rng).batches} for _ in range(2)
    )
    assert len(first) > 10
    assert not first & second
