"""The report against plain loops, closed forms, and the published facts of the shared data."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import time

import numpy as np
import polars as pl
import pytest

from oovrec.data.checks import inspect
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.interactions import Interactions
from oovrec.data.load import load_dataset

DAY = 86_400


def random_dataset(seed: int, *, whole_days: bool = False) -> Dataset:
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(0, 12, 80))
    times = rng.integers(0, 4, 80) * DAY + (0 if whole_days else rng.integers(0, DAY, 80))
    items = [f"i{item}" for item in rng.integers(0, 25, 80)]
    return Interactions(pl.DataFrame({"user": [f"u{u}" for u in users], "item": items, "time": times})).dataset("d")


@pytest.mark.parametrize("seed", range(6))
def test_report_equals_plain_loops(seed: int) -> None:
    data = random_dataset(seed)
    assert data.times is not None
    report = inspect(data)
    starts = data.full.indptr
    rows = [
        list(zip(history.tolist(), data.times[starts[u] : starts[u + 1]].tolist(), strict=True))
        for u, history in enumerate(data.full)
    ]
    trained = {item for row in rows for item, _ in (row[:-2] if len(row) >= 3 else row)}
    evaluated = [row for row in rows if len(row) >= 3]
    for split, newest in (("validation", 2), ("test", 1)):
        found = report.splits[split]
        targets = [(row[-newest], row[: len(row) - newest]) for row in evaluated]
        assert (found.histories, found.targets) == (len(evaluated), len(evaluated))
        assert found.interactions == sum(len(known) for _, known in targets)
        assert found.unseen_targets == sum(item not in trained for (item, _), _ in targets)
        repeated = [item in {known_item for known_item, _ in known} for (item, _), known in targets]
        assert found.repeated_targets == pytest.approx(np.mean(repeated))
        same_day = [time // DAY == known[-1][1] // DAY for (_, time), known in targets]
        assert found.same_day == pytest.approx(np.mean(same_day))
        training = [time for row in rows for _, time in (row[:-2] if len(row) >= 3 else row)]
        later = [sum(one > time for one in training) / len(training) for (_, time), _ in targets]
        assert found.from_later == pytest.approx(np.mean(later))
    assert report.items_without_training == len({item for row in rows for item, _ in row} - trained)
    assert report.repeats == pytest.approx(sum(len(row) - len({item for item, _ in row}) for row in rows) / 80)
    adjacent = [(a[0], b[0]) for row in rows for a, b in pairwise(row)]
    assert report.ascending == pytest.approx(np.mean([data.items[a] < data.items[b] for a, b in adjacent]))
    assert report.mean_length == pytest.approx(80 / len(rows))
    json.dumps(report.to_json(), allow_nan=False)


def dataset(*histories: list[str], times: list[int] | None = None) -> Dataset:
    pairs = [(f"u{number}", item) for number, history in enumerate(histories) for item in history]
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
    return Interactions(frame if times is None else frame.with_columns(time=pl.Series(times))).dataset("d")


def warned(data: Dataset) -> set[str]:
    return {warning.split(":")[0] for warning in inspect(data).warnings}


def test_number_ids_ascend_as_numbers() -> None:
    assert inspect(dataset(["9", "10", "100"])).ascending == 1.0
    assert inspect(dataset(["9", "10", "x"])).ascending == 0.5


def test_sorted_histories_are_a_warning() -> None:
    assert "sorted_by_id" in warned(dataset(["a", "b", "c", "d"], ["a", "c", "d"]))
    assert "sorted_by_id" not in warned(dataset(["a", "b", "c", "d"], ["d", "c", "a"]))


def test_duplicates_are_counted_and_warned_of() -> None:
    twice = dataset(["a", "a", "b", "a"], ["a", "c", "a"])
    assert inspect(twice).duplicates == 1  # without times: only what follows itself
    assert "duplicates" in warned(twice)
    timed = dataset(["a", "b", "a", "c"], times=[5, 5, 5, 7])
    assert inspect(timed).duplicates == 1
    assert inspect(dataset(["a", "b", "a", "c"], times=[5, 5, 6, 7])).duplicates == 0
    assert inspect(replace(timed, microseconds=np.array([0, 0, 1, 0]))).duplicates == 0


def test_whole_days_are_warned_of_only_where_order_is_lost() -> None:
    assert "whole_days" in warned(dataset(["c", "b", "a"], times=[0, DAY, DAY]))
    assert "whole_days" not in warned(dataset(["c", "b", "a"], times=[0, DAY, 2 * DAY]))
    assert "whole_days" not in warned(dataset(["c", "b", "a"], times=[0, DAY + 5, DAY + 6]))


TODAY = int(time())


@pytest.mark.parametrize(
    ("times", "implausible"),
    [
        ([1, 2, 3], 0),  # an order and no dates
        ([0, 0, 30 * DAY], 0),
        ([875_000_000, 880_000_000, 893_000_000], 0),  # MovieLens-100K
        ([TODAY - 5, TODAY, TODAY + DAY // 2], 0),
        ([1_600_000, 1_600_000_000, 1_600_000_001], 1),  # seconds among milliseconds
        ([1_600_000_000, 1_600_000_001, 1_600_000_000_000], 1),  # milliseconds among seconds
        ([0, 1_600_000_000, 1_600_000_001], 1),
        ([TODAY, TODAY, TODAY + 3 * DAY], 1),
        ([1, 2, 40 * DAY], 3),
        ([-1, 2, 3], 3),
    ],
)
def test_implausible_dates_are_warned_of(times: list[int], implausible: int) -> None:
    warnings = [text for text in inspect(dataset(["c", "b", "a"], times=times)).warnings if "implausible" in text]
    assert len(warnings) == bool(implausible)
    assert all(text.startswith(f"implausible_dates: {implausible} interactions are dated") for text in warnings)


def test_a_time_may_lie_beyond_the_calendar() -> None:
    assert inspect(dataset(["c", "b", "a"], times=[0, 1, 1_600_000_000_000])).dates == (
        "1970-01-01",
        "52671-12-25",
    )  # 126 cycles of 400 years after 2271


def test_dates_and_density() -> None:
    report = inspect(dataset(["c", "b", "a"], ["c"], times=[0, DAY, 1_406_073_600, 5]))
    assert report.dates == ("1970-01-01", "2014-07-23")
    assert report.density == pytest.approx(4 / 6)
    assert report.lengths["median"] == 2.0


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions", "attributes", "same_day"),
    [
        ("beauty", 22_363, 12_101, 198_502, 637, 0.435),
        ("sports", 35_598, 18_357, 296_337, 2_277, 0.451),
        ("toys", 19_412, 11_924, 167_597, 1_027, 0.490),
    ],
)
def test_shared_data_is_as_its_readme_says(
    shared: Path, name: str, users: int, items: int, interactions: int, attributes: int, same_day: float
) -> None:
    data = load_dataset(shared / "data" / name)
    report = inspect(data)
    assert (report.name, report.users, report.items, report.interactions) == (name, users, items, interactions)
    assert report.splits["test"].same_day == pytest.approx(same_day, abs=0.0005)
    assert 0.69 <= report.ascending <= 0.725
    assert warned(data) == {"whole_days"}
    assert report.notes == []  # 5-core already
    assert data.attributes is not None
    assert len({number for numbers in data.attributes for number in numbers}) == attributes


def test_a_copy_sorted_by_id_is_noticed(shared: Path, tmp_path: Path) -> None:
    lines = (shared / "data" / "sports" / "user_sequence.txt").read_text().splitlines()
    copies = [" ".join([user, *sorted(items)]) for user, *items in map(str.split, lines)]
    (tmp_path / "user_sequence.txt").write_text("\n".join(copies))
    data = load_dataset(tmp_path)
    assert inspect(data).ascending == 1.0
    assert warned(data) == {"sorted_by_id"}


@pytest.mark.parametrize(("again", "warned"), [(0, False), (1, False), (2, True), (3, True)])  # of 200 users
def test_targets_of_the_own_history_are_a_warning(again: int, warned: bool) -> None:
    sequences = [[0, 1, 2, 0 if user < again else 3] for user in range(200)]
    data = Dataset("d", [f"u{user}" for user in range(200)], list("abcd"), Histories.of(sequences, range(200)))
    found = [warning for warning in inspect(data).warnings if warning.startswith("repeats:")]
    assert [warning.startswith(f"repeats: {again / 200:.1%} of test targets") for warning in found] == [True] * warned


@pytest.mark.parametrize(("falls", "warned"), [(5, True), (6, False)])  # of 100 steps
def test_a_few_steps_down_are_still_an_order_of_ids(falls: int, warned: bool) -> None:
    sequences = [[1, 0, *range(2, 11)] if user < falls else list(range(11)) for user in range(10)]
    names = [f"u{user}" for user in range(10)], [str(item) for item in range(11)]
    report = inspect(Dataset("some", *names, Histories.of(sequences, range(10))))
    assert report.ascending == pytest.approx(1 - falls / 100)
    assert any(warning.startswith("sorted_by_id: ") for warning in report.warnings) is warned
