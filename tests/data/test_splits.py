"""The parts of a dataset: what an epoch's thinned training part lacks, and that nothing else changes."""

from __future__ import annotations

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories

USERS = 2_000


def dataset() -> Dataset:
    """Users of 1 to 30 items; a rating tells the item it belongs to."""
    rng = np.random.default_rng(0)
    full = Histories.of([rng.integers(20, size=rng.integers(1, 31)) for _ in range(USERS)], users=range(USERS))
    names = [f"u{user}" for user in range(USERS)], [f"i{item}" for item in range(20)]
    return Dataset("some", *names, full, ratings=full.items % 5 + 1.0)


def is_within(some: list[int], whole: list[int]) -> bool:
    """Whether ``some`` is ``whole`` without some of its members."""
    rest = iter(whole)
    return all(item in rest for item in some)


def test_a_thinned_training_part_lacks_a_share_of_the_items_of_every_second_user() -> None:
    whole = dataset()
    thin = whole.thinned(0.2, np.random.default_rng(1))
    before, after = whole.histories("train"), thin.histories("train")
    assert all(is_within(b.tolist(), a.tolist()) for a, b in zip(before, after, strict=True))
    lacking = before.lengths - after.lengths
    long = before.lengths >= 20  # of these every thinned user lacks something, but for one in a hundred
    assert abs((lacking[long] > 0).mean() - 0.5) < 0.05
    assert abs(lacking.sum() / before.lengths.sum() - 0.1) < 0.01
    again = whole.thinned(0.2, np.random.default_rng(2)).histories("train")
    assert not np.array_equal(again.lengths, after.lengths)


def test_thinning_leaves_what_is_held_out_and_the_scale_of_ratings() -> None:
    whole = dataset()
    thin = whole.thinned(0.9, np.random.default_rng(1))
    for split in ("validation", "test"):
        np.testing.assert_array_equal(thin.targets(split), whole.targets(split))
        for kept, known in zip(thin.histories(split), whole.histories(split), strict=True):
            np.testing.assert_array_equal(kept, known)
    assert thin.ratings is not None
    assert thin.scale is not None
    assert thin.scale.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(thin.ratings[thin.positions("train")], thin.histories("train").items % 5 + 1.0)
    held_out = {int(at) for split in ("validation", "test") for at in whole.target_positions(split)}
    assert not held_out & set(thin.positions("train").tolist())
