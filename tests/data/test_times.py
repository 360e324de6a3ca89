"""Times of every form are the seconds that the standard library says."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oovrec.data.columns import Columns
from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.data.times import moments, unix_seconds
from oovrec.errors import OovrecError

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
        (pl.Series([SECONDS * 1_000_000_000]), SECONDS),
        (pl.Series([20140723]), MIDNIGHT),
        (pl.Series([20140723.0]), MIDNIGHT),
        (pl.Series(["20140723"]), MIDNIGHT),
        (pl.Series([f" {SECONDS}\u00a0"]), SECONDS),
        (pl.Series(["2014-07-23"]), MIDNIGHT),
        (pl.Series(["2014-07-23T12:34:56"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56.789"]), SECONDS),
        (pl.Series(["2014-07-23T12:34:56Z"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56 UTC"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56.5 UTC"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56 GMT"]), SECONDS),
        (pl.Series(["2014-07-23 12:34:56 utc"]), SECONDS),
        (pl.Series(["2014-07-23 12:34 UTC"]), SECONDS - 56),
        (pl.Series(["2014-07-23 12:34:56+00"]), SECONDS),
        (pl.Series(["2014-07-23 14:34:56 +0200"]), SECONDS),
        (pl.Series(["2014-07-23 14:34:56 +02:00"]), SECONDS),
        (pl.Series([MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()]), SECONDS),
        (pl.Series([date(2014, 7, 23)]), MIDNIGHT),
        (pl.Series([MOMENT]), SECONDS),
        (pl.Series([MOMENT]).dt.convert_time_zone("Asia/Tokyo"), SECONDS),
        (pl.Series([-5]), -5),
        (pl.Series([-SECONDS * 1000]), -SECONDS),
        (pl.Series([880_606_923_000]), 880_606_923),  # of 1997
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


@pytest.mark.parametrize(
    "written",
    [
        "2014-07-23T12:34",
        "2014-07-23 12:34",
        "2014-07-23 10:20",
        "2014-07-23T12:34Z",
        "2014-07-23T12",
        "20140723T123456Z",
        "20140723T123456+0530",
        "2014-07-23T12:34:56+01",
        "2014-07-23T12:34:56-0130",
        "2014-07-23T12:34:56,789",
        "2014-07-23T12:34:56.789012+02:00",
        "2014-07-23T12:34:56z",
        "2014-07-23t12:34:56",
        "2014-W30-3",
        "1969-12-31T23:59:59,5",
        "0001-01-01T00:00+01",
    ],
)
def test_iso_dates_are_those_of_python(written: str) -> None:
    moment = datetime.fromisoformat(written.upper())
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    beside = pl.Series(["2014-07-23", written, "soon"])
    assert unix_seconds(beside).to_list() == [MIDNIGHT, math.floor(moment.timestamp()), None]


@pytest.mark.parametrize("other", [20140230, 20141301, 20140723.5, 18991231, 21010101, SECONDS, 0])
def test_numbers_are_dates_where_most_of_them_are(other: float) -> None:
    assert unix_seconds(pl.Series([20140723.0, other])).to_list() == [20140723, int(other)]
    assert unix_seconds(pl.Series([20140723.0, other, 20140723.0])).to_list() == [MIDNIGHT, None, MIDNIGHT]
    assert unix_seconds(pl.Series(["20140723", "soon"])).to_list() == [MIDNIGHT, None]


def test_the_first_and_the_last_day_of_two_centuries_are_dates() -> None:
    """Both stand for a day that nobody knows, too."""
    found = unix_seconds(pl.Series([19000101, 21001231])).to_list()
    assert found == [int(datetime(*day, tzinfo=UTC).timestamp()) for day in [(1900, 1, 1), (2100, 12, 31)]]


def test_seconds_of_eight_digits_are_seconds() -> None:
    early = np.random.default_rng(0).integers(10_000_000, 99_999_999, 1000)  # of 1970 to 1973
    august = np.random.default_rng(0).integers(19_000_101, 21_001_231, 1000)  # which could all be dates
    for seconds in (early, august):
        assert unix_seconds(pl.Series(seconds)).to_list() == seconds.tolist()


def test_a_number_among_dates_is_blamed_and_not_they() -> None:
    found = unix_seconds(pl.Series([str(SECONDS), "2014-07-23", "2014-07-23T12:34:56"]))
    assert found.to_list() == [None, MIDNIGHT, SECONDS]


def test_numbers_too_large_for_any_time_are_null() -> None:
    for far in (1e300, -1e300):
        assert unix_seconds(pl.Series([float(SECONDS), float(SECONDS), far])).to_list() == [SECONDS, SECONDS, None]
    assert unix_seconds(pl.Series([1e30, 1e30, 1e30])).to_list() == [None, None, None]  # of any unit


def test_a_few_early_milliseconds_do_not_hide_the_unit() -> None:
    assert unix_seconds(pl.Series([0, SECONDS * 1000, SECONDS * 1000])).to_list() == [0, SECONDS, SECONDS]


@pytest.mark.parametrize(
    ("form", "texts", "moments"),
    [
        ("%m/%d/%Y %H:%M", ["12/1/2010 8:26", " 01/13/2011 18:06 "], [(2010, 12, 1, 8, 26), (2011, 1, 13, 18, 6)]),
        ("%d/%m/%Y", ["5/1/2023", "05/12/2023"], [(2023, 1, 5), (2023, 12, 5)]),
        ("%d %b %Y %I:%M %p", ["05 Jan 2023 03:04 PM"], [(2023, 1, 5, 15, 4)]),
        ("%Y-%m-%d %H:%M:%S %z", ["2023-01-05 10:11:12 +0200"], [(2023, 1, 5, 8, 11, 12)]),
        ("%Y%m%d%H%M", ["202301051011"], [(2023, 1, 5, 10, 11)]),
    ],
)
def test_a_form_that_is_told(form: str, texts: list[str], moments: list[tuple[int, ...]]) -> None:
    expected = [int(datetime(*moment, tzinfo=UTC).timestamp()) for moment in moments]  # type: ignore[arg-type, misc]
    assert unix_seconds(pl.Series(texts), form).to_list() == expected
    assert unix_seconds(pl.Series(["2023-01-05", "soon", None]), form).to_list() == [None] * 3


@pytest.mark.parametrize(
    ("form", "written", "hour"),
    [
        ("%d/%m/%Y %k:%M", "05/01/2023  7:00", 7),
        ("%d/%m/%Y %k", "05/01/2023 7", 7),
        ("%-d/%-m/%Y %-H", "5/1/2023 7", 7),
        ("%d/%m/%Y %l:%M %p", "05/01/2023  7:00 PM", 19),
        ("%d/%m/%Y %I:%M %P", "05/01/2023 07:00 pm", 19),
        ("%d/%m/%Y %l%P", "05/01/2023 7pm", 19),
    ],
)
def test_a_clock_without_zeros_in_front_or_in_small_letters(form: str, written: str, hour: int) -> None:
    """As C's strftime writes them, though Python's reads none."""
    assert unix_seconds(pl.Series([written]), form).to_list() == [
        int(datetime(2023, 1, 5, hour, tzinfo=UTC).timestamp())
    ]


def test_numbers_may_have_a_form() -> None:
    assert unix_seconds(pl.Series([202301051011]), "%Y%m%d%H%M").to_list() == [1672913460]


@pytest.mark.parametrize("form", ["dd/mm/yyyy", "%Q", "%", "%Y-%m-%d", "%d/%d/%Y %H:%M:%S,%f"])
def test_a_form_that_is_none_fits_nothing(form: str) -> None:
    assert unix_seconds(pl.Series(["05/01/2023", "1672913460"]), form).to_list() == [None, None]


@pytest.mark.parametrize("digits", ["9", "05", "900", "0004", "12345", "123456"])
@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("%d/%m/%Y %H:%M:%S.%f", "01/02/2023 12:00:07.{}"),
        ("%Y-%m-%dT%H:%M:%S.%f%z", "2023-02-01T12:00:07.{}+0530"),
        ("%d %b %Y %I:%M:%S.%f %p", "01 Feb 2023 01:00:07.{} PM"),
        ("%Y-%m-%d %H:%M:%S,%f", "2023-02-01 12:00:07,{}"),
        ("%b %d %Y %I:%M:%S:%f%p", "Feb  1 2023 12:00:07:{}AM"),
        ("%Y%m%d%H%M%S%f", "20230201120007{}"),
        ("%H:%M.%f %d/%m/%Y", "12:00.{} 01/02/2023"),
        ("%%S.%f %d/%m/%Y", "%S.{} 01/02/2023"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_fraction_is_that_of_python(form: str, written: str, digits: str) -> None:
    moment = datetime.strptime(text := written.format(digits), form)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    found = moments(pl.Series([None, text, "soon"]), form)
    whole = math.floor(moment.replace(microsecond=0).timestamp())
    assert [column.to_list() for column in found] == [[None, whole, None], [None, moment.microsecond, None]]
    assert moments(pl.Series([None], dtype=pl.String), form)[0].to_list() == [None]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("%d/%m/%Y %H", "01/02/2023 7"),
        ("%d/%m/%Y %I %p", "01/02/2023 12 AM"),
        ("%d.%m.%Y, %I%p", "01.02.2023, 11pm"),
        ("%Y%m%d%H", "2023020113"),
        ("%Hh %d/%m/%Y %z", "13h 01/02/2023 -0330"),
    ],
)
def test_hours_without_minutes_are_those_of_python(form: str, written: str) -> None:
    moment = datetime.strptime(written, form)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert unix_seconds(pl.Series([written, None, "soon"]), form).to_list() == [int(moment.timestamp()), None, None]


IN = " in --time-format (time_format in a data file)."
NO_CLOCK = f"does not tell the time of day; give %H, or %I and %p, and %M where there is %S{IN}"
NO_OFFSET = f"has %Z, and a zone's name does not tell its offset; write offsets like +0200, and %z{IN}"


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("%d/%m/%Y %I:%M", NO_CLOCK),
        ("%d/%m/%Y %I:%M:%S,%f", NO_CLOCK),
        ("%d/%m/%Y %H:%M %p", NO_CLOCK),
        ("%d/%m/%Y %H:%S", NO_CLOCK),
        ("%d/%m/%Y %M:%S", NO_CLOCK),
        ("%d/%m/%Y %S", NO_CLOCK),
        ("%d/%m/%Y %H:%M %Z", NO_OFFSET),
    ],
)
def test_forms_that_tell_no_moment(tmp_path: Path, form: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,when\na,b,01/02/2023 12:00 PST\n")
    with pytest.raises(OovrecError) as error:
        read(path, Columns(time="when", time_format=form))
    assert str(error.value) == f"{path}: the form '{form}' {says}"


@pytest.mark.parametrize("form", ["milliseconds", "iso", "seconds", "datetime", "told", "polars"])
def test_times_within_a_second_keep_their_order(tmp_path: Path, form: str) -> None:
    """Events some tenths of a second apart, the newest first, as exports often are."""
    moments = [1_700_000_000_000 + 150 * place for place in range(12)]
    stamps = [datetime.fromtimestamp(moment / 1000, UTC) for moment in moments]
    told = {"told": "%d/%m/%Y %H:%M:%S.%f", "polars": "%d/%m/%Y %H:%M:%S%.f"}
    written = {
        "milliseconds": moments,
        "iso": [stamp.isoformat(timespec="milliseconds") for stamp in stamps],
        "seconds": [moment / 1000 for moment in moments],
        "datetime": [stamp.replace(tzinfo=None) for stamp in stamps],
        "told": [stamp.strftime(told["told"]) for stamp in stamps],
        "polars": [stamp.strftime(told["told"]) for stamp in stamps],
    }[form]
    table = pl.DataFrame({"user": ["u"] * 12, "item": [f"i{place}" for place in range(12)], "time": written}).reverse()
    table.write_parquet(tmp_path / "log.parquet")
    columns = Columns(time_format=told.get(form, ""))
    dataset = load_dataset(tmp_path / "log.parquet", columns=columns, k_core=1)
    assert [dataset.items[item] for item in dataset.full[0]] == [f"i{place}" for place in range(12)]
    assert dataset.times is not None
    assert dataset.times.tolist() == [moment // 1000 for moment in moments]


def test_fractions_before_1970_count_up_from_the_second_before() -> None:
    seconds, after = moments(pl.Series([-1.25, -1.0, 0.5, 2.0]))
    assert (seconds.to_list(), after.to_list()) == ([-2, -1, 0, 2], [750_000, 0, 500_000, 0])


def test_times_without_an_offset_are_utc_wherever_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each way that they are read: by polars, and by Python where polars does not know the form."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for text, form in [("2014-07-23 12:34:56", ""), ("20140723T123456", ""), ("1406118896.0", "")]:
            assert unix_seconds(pl.Series([text]), form).to_list() == [1406118896]
        assert unix_seconds(pl.Series(["23/07/14 12.34.56.5"]), "%d/%m/%y %H.%M.%S.%f").to_list() == [1406118896]
        assert unix_seconds(pl.Series([datetime(2014, 7, 23, 12, 34, 56, tzinfo=UTC)])).to_list() == [1406118896]
    finally:
        monkeypatch.undo()
        time.tzset()
