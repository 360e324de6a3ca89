"""Popularity against counts by hand, of all the training part and of its last days."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.entities import Entities
from oovrec.models.sequential.popularity import Popularity, PopularityOptions
from oovrec.training.config import TrainingConfig


@pytest.fixture(scope="module")
def dated() -> Dataset:
    """50 users, 12 of 30 items each over a hundred days, in order of time."""
    rng = np.random.default_rng(8)
    items = Histories.of([rng.choice(30, 12, p=np.arange(1, 31) / 465) for _ in range(50)], range(50))
    times = np.sort(rng.integers(100 * DAY, size=(50, 12)), axis=1).ravel()
    return Dataset("dated", [f"u{n}" for n in range(50)], [f"i{n}" for n in range(30)], items, times)


def order(dataset: Dataset, days: int) -> list[int]:
    """The items, best first, as the model ranks them for anybody; ties in any order."""
    model = Popularity(PopularityOptions(days=days), Entities.of(dataset))
    model.fit(dataset, TrainingConfig())
    return np.argsort(-model.scores(dataset.histories("test"))[0].numpy(), kind="stable").tolist()


@pytest.mark.parametrize("days", [0, 1, 10, 1000])
def test_the_last_days_go_before_the_whole(dated: Dataset, days: int) -> None:
    whole, late = Counter[int](), Counter[int]()
    rows = [(user, place) for user in range(50) for place in range(10)]  # all but the last two of each
    newest = max(dated.times[user * 12 + place] for user, place in rows)
    for user, place in rows:
        item, time = int(dated.full[user][place]), dated.times[user * 12 + place]
        whole[item] += 1
        late[item] += bool(days) and time > newest - days * DAY
    wanted = sorted(range(30), key=lambda item: (-late[item], -whole[item], item))
    assert order(dated, days) == wanted
    assert (wanted == sorted(wanted, key=lambda item: -whole[item])) is (days in (0, 1000))


def test_a_log_without_times_has_no_last_days(dated: Dataset) -> None:
    with pytest.raises(OovrecError, match=r"model\.days = 3: the log has no times to tell the last days by; set it"):
        order(replace(dated, times=None), 3)
