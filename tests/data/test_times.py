"""Times of every form are the seconds that the standard library says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from oovrec.data.times import unix_seconds

MOMENT = datetime(2014, 7, 23, 12, 34, 56, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())
MIDNIGHT = int(datetime(2014, 7, 23, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (pl.Series([SECONDS]), SECONDS),
        (pl.Series([SECONDS + 0.75]), SECONDS),
        (pl.Series([SECONDS * 1000 + 999]), SECONDS),
        (pl.Series([str(SECONDS)]), SECONDS),
        (pl.Series([f"{SECONDS}.0"]), SECONDS),
        (pl.Series([str(SECONDS * 1000)]), SECONDS),
        (pl.Series([str(SECONDS * 1_000_000)]), SECONDS),
        (pl.Series(["2014-07-23"]), MIDNIGHT),
        (pl.Series(["2014-07-23T12:34:56"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56.789"]), SECONDS),
        (pl.Series(["2014-07-23T12:34:56Z"]), SECONDS),
        (pl.Series([MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()]), SECONDS),
        (pl.Series([date(2014, 7, 23)]), MIDNIGHT),
        (pl.Series([MOMENT]), SECONDS),
        (pl.Series([-5]), -5),
    ],
)
def test_one_moment_in_every_form(written: pl.Series, meant: int) -> None:
    assert unix_seconds(written).to_list() == [meant]
    assert unix_seconds(written).dtype == pl.Int64


def test_forms_of_dates_may_be_mixed() -> None:
    assert unix_seconds(pl.Series(["2014-07-23", "2014-07-23T12:34:56Z"])).to_list() == [MIDNIGHT, SECONDS]


@pytest.mark.parametrize("bad", ["nan", "inf", "", "soon", None])
def test_what_is_no_time_is_null(bad: str | None) -> None:
    assert unix_seconds(pl.Series([str(SECONDS), bad])).to_list() == [SECONDS, None]
    assert unix_seconds(pl.Series(["2014-07-23", bad])).to_list() == [MIDNIGHT, None]


def test_a_few_early_milliseconds_do_not_hide_the_unit() -> None:
    assert unix_seconds(pl.Series([0, SECONDS * 1000, SECONDS * 1000])).to_list() == [0, SECONDS, SECONDS]
