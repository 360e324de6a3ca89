"""The parts of a dataset: what an epoch's thinned training part lacks, and that nothing else changes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from oovrec.data.checks import inspect
from oovrec.data.dataset import DAY, MOST_RATINGS, Dataset, Split
from oovrec.data.histories import Histories
from oovrec.data.interactions import Interactions
from oovrec.errors import OovrecError

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


def test_with_ties_shuffled_all_that_is_said_of_an_interaction_goes_with_it() -> None:
    rng = np.random.default_rng(0)
    full = Histories.of([rng.permutation(20)[:9] for _ in range(30)], range(30))
    times = np.sort(rng.integers(0, 3, (30, 9)), axis=1).reshape(-1)
    said = {name: np.array([f"{name} {item}" for item in full.items], object) for name in ("summaries", "reviews")}
    names = [f"u{user}" for user in range(30)], [f"i{item}" for item in range(20)]
    data = Dataset("some", *names, full, times, ratings=full.items * 0.5, **said)
    drawn = data.with_ties_shuffled(1)
    assert drawn.full.items.tolist() != full.items.tolist()
    assert drawn.times.tolist() == times.tolist()
    assert drawn.ratings.tolist() == (drawn.full.items * 0.5).tolist()
    assert drawn.summaries.tolist() == [f"summaries {item}" for item in drawn.full.items]
    assert drawn.reviews.tolist() == [f"reviews {item}" for item in drawn.full.items]


def rated(values: int) -> Dataset:
    """Users of six interactions, in the training part of whom there are so many different ratings, and 99 held out."""
    ratings = np.array([[*(n % values for n in range(4 * user, 4 * user + 4)), 99, 99] for user in range(30)], float)
    full = Histories.of([range(6)] * 30, range(30))
    return Dataset("some", [f"u{user}" for user in range(30)], list("abcdef"), full, ratings=ratings.reshape(-1))


def test_the_scale_is_that_of_the_training_part_and_of_so_many_values_at_most() -> None:
    assert rated(MOST_RATINGS).scale.tolist() == list(range(MOST_RATINGS))
    assert rated(MOST_RATINGS + 1).scale is None
    whole = rated(3)
    thin = replace(whole, skipped=whole.ratings == 2)  # as a thinned epoch may chance to be
    assert thin.scale.tolist() == [0, 1, 2]


def test_all_that_is_said_has_a_part_in_what_is_described() -> None:
    full = Histories.of([[0, 1, 2]], [0])

    def described(**said) -> str:
        return Dataset("some", ["u"], list("abc"), full, **said).described

    texts = np.array(["x", "", "y"], object)
    several = [
        described(),
        described(titles=["x", "", "y"]),
        described(attributes=[(1,), (), (2,)]),
        described(summaries=texts),
        described(reviews=texts),
        described(ratings=np.array([1.0, 2, 3])),
        described(ratings=np.array([1.0, 2, 4])),
    ]
    assert several[0] == ""
    assert len(set(several)) == len(several)


def test_the_fingerprint_is_of_times_too() -> None:
    full, times = Histories.of([[0, 1, 2]], [0]), np.arange(3)
    made = [Dataset("some", ["u"], list("abc"), full, at).fingerprint for at in (None, times, times + 1, times)]
    assert len(set(made)) == 3
    assert made[1] == made[3]


def test_a_sample_of_users_is_one_of_those_with_targets_and_never_twice_the_same() -> None:
    full = Histories.of([range(1 + user % 5) for user in range(100)], range(100))
    data = Dataset("some", [f"u{user}" for user in range(100)], list("abcde"), full)
    users = data.sampled(30).evaluated_users("test")
    assert len(set(users.tolist())) == 30
    assert users.tolist() == sorted(users)
    assert (full.lengths[users] >= 3).all()
    assert data.sampled(60) is data
    assert data.sampled(61) is data
    assert data.sampled(0) is data


def dated(days: bool = False) -> Dataset:
    """80 users of 1 to 12 items, who begin at any time; in seconds or whole days."""
    rng = np.random.default_rng(4)
    lengths = rng.integers(1, 13, 80)
    full = Histories.of([rng.integers(20, size=length) for length in lengths], range(80))
    times = np.concatenate([np.sort(rng.integers(rng.integers(9_000), 10_000, length)) for length in lengths])
    names = [f"u{user}" for user in range(80)], [f"i{item}" for item in range(20)]
    return Dataset("some", *names, full, times // 500 * DAY if days else times)


@pytest.mark.parametrize("days", [False, True])
def test_by_time_a_target_is_the_first_item_of_its_period_and_all_before_is_known(days: bool) -> None:
    data = dated(days).held_out_by_time()
    order = np.sort(data.times)
    begins = [int(order[math.ceil(share * (len(order) - 1))]) for share in (0.8, 0.9)]
    assert data.held_from == tuple(begins)
    users: dict[str, list[int]] = {"validation": [], "test": []}
    for user, items in enumerate(data.full):
        times = data.times[data.full.indptr[user] : data.full.indptr[user + 1]].tolist()
        parts = [[item for item, time in zip(items, times, strict=True) if time < begin] for begin in begins]
        assert data.histories("train")[user].tolist() == parts[0]
        ends = {"validation": parts[1], "test": items.tolist()}
        for split, known in zip(users, parts, strict=True):
            if parts[0] and len(ends[split]) > len(known):
                row = len(users[split])
                users[split].append(user)
                assert data.histories(split)[row].tolist() == known
                assert data.targets(split)[row] == items[len(known)]
    for split, evaluated in users.items():
        assert data.evaluated_users(split).tolist() == evaluated == data.histories(split).users.tolist()
        assert len(data.targets(split)) == len(evaluated) > 5


def stretched() -> Dataset:
    """The same over more than half a year."""
    return replace(dated(), times=dated().times * 2000)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_days_are_counted_from_where_the_split_begins(split: Split) -> None:
    data = stretched().held_out_by_time()
    validated, tested = data.held_from
    began = validated if split == "validation" else tested
    moments = [
        min(time for time in data.times[data.full.indptr[user] : data.full.indptr[user + 1]] if time >= began)
        for user in data.evaluated_users(split)
    ]
    assert data.days(split).tolist() == [(moment - began) // DAY for moment in moments]
    if split == "test":
        assert data.learnt_until("test").days(split).tolist() == data.days(split).tolist()
    assert dated().days(split) is None


def test_early_targets_alone_can_be_evaluated() -> None:
    data = stretched().held_out_by_time()
    after = data.days("validation")
    days = int(np.median(after)) + 1
    early = data.within(days)
    assert early.evaluated_users("validation").tolist() == data.evaluated_users("validation")[after < days].tolist()
    assert early.targets("validation").tolist() == data.targets("validation")[after < days].tolist()
    assert 0 < len(early.targets("validation")) < len(after)
    assert set(early.sampled(3).evaluated_users("validation")) < set(early.evaluated_users("validation"))
    assert data.within(0) is data
    with pytest.raises(OovrecError, match="some: nothing is held out by time, so no first days are; leave"):
        dated().within(days)
    late = replace(data, times=np.where(data.times >= data.held_from[0], data.times + 3 * DAY, data.times))
    with pytest.raises(OovrecError, match="some: nobody has a target within 3 days of the training part; give"):
        late.within(3)
    assert len(late.within(4).targets("validation"))


def test_nothing_of_the_training_part_came_after_a_target() -> None:
    data = dated().held_out_by_time()
    training, moments = data.positions("train"), (data.target_positions(split) for split in ("validation", "test"))
    assert all(data.times[training].max() < data.times[where].min() for where in moments)
    assert [inspect(data).splits[split].from_later for split in ("validation", "test")] == [0, 0]
    assert inspect(dated()).splits["test"].from_later > 0


def test_what_is_held_out_by_time_is_told_and_makes_other_data() -> None:
    plain, data = dated(days=True), dated(days=True).held_out_by_time()
    assert data.fingerprint != plain.fingerprint
    assert (plain.hold_out, data.hold_out) == ("last", "time")
    (note,) = data.notes
    late = int((data.histories("train").lengths == 0).sum())
    dates = [str(np.datetime64(moment, "s").astype("datetime64[D]")) for moment in data.held_from]
    assert late > 0
    assert note == (
        f"held out by time: each user's first item from {dates[0]} on validates, that from {dates[1]} on tests; users "
        f"who came after the training part are not evaluated ({late})"
    )
    assert not replace(plain, times=plain.times + 1).held_out_by_time().notes[0].count(f"from {dates[0]} on")


def test_a_sample_of_either_period_is_of_its_own_users() -> None:
    data = dated().held_out_by_time().sampled(5)
    for split in ("validation", "test"):
        chosen, every = (one.evaluated_users(split) for one in (data, dated().held_out_by_time()))
        assert len(chosen) == len(data.targets(split)) == 5
        assert set(chosen) < set(every)
    counts = [len(dated().held_out_by_time().evaluated_users(split)) for split in ("validation", "test")]
    between = dated().held_out_by_time().sampled(max(counts) - 1)
    assert [len(between.targets(split)) for split in ("validation", "test")] == [
        min(count, max(counts) - 1) for count in counts
    ]


def test_moments_within_a_second_are_no_ties_and_stand_beside_their_items() -> None:
    """Twelve items of one second, ten of them at moments of their own, in a log that is out of order."""
    moments = [700, 100, 400, 0, 900, 300, 800, 200, 600, 500, 999, 999]
    frame = {"user": ["u"] * 12, "item": [str(moment) for moment in moments], "time": [5] * 12, "microseconds": moments}
    data = Interactions(pl.DataFrame(frame)).dataset("d")
    assert data.microseconds is not None
    assert data.microseconds.tolist() == sorted(moments)
    for seed in range(3):
        drawn = data.with_ties_shuffled(seed)
        assert [int(data.items[item]) for item in drawn.full.items[:10]] == sorted(moments)[:10]


@pytest.mark.parametrize("by_time", [False, True])
def test_a_training_part_reaches_up_to_what_it_is_learnt_until(by_time: bool) -> None:
    plain = dated().held_out_by_time() if by_time else dated()
    targets = dict(zip(plain.evaluated_users("test").tolist(), plain.target_positions("test"), strict=True))
    test, end = plain.learnt_until("test"), plain.learnt_until("end")
    for user, items in enumerate(plain.full):
        reach = len(items)
        if by_time:
            reach = int((plain.times[plain.full.indptr[user] : plain.full.indptr[user + 1]] < plain.held_from[1]).sum())
        elif user in targets:
            reach = len(items) - 1
        assert test.histories("train")[user].tolist() == items[:reach].tolist()
        assert end.histories("train")[user].tolist() == items.tolist()
    assert test.evaluated_users("test").tolist() == list(targets)
    assert test.target_positions("test").tolist() == list(targets.values())
    assert [known.tolist() for known in test.histories("test")] == [known.tolist() for known in plain.histories("test")]
    assert not len(test.evaluated_users("validation"))
    assert not any(len(end.evaluated_users(split)) for split in ("validation", "test"))
    assert test.learnt_until("validation").fingerprint == plain.fingerprint
    assert len({data.fingerprint for data in (plain, test, end)}) == 3


def test_what_is_learnt_until_the_test_has_no_validation_to_count() -> None:
    found = inspect(dated().learnt_until("test")).splits
    assert (found["validation"].targets, found["test"].targets) == (0, len(dated().targets("test")))
