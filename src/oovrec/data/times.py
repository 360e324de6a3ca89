"""Time columns of any usual form as unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

# Seconds reach this number in the year 5138; milliseconds passed it in 1973.
LARGEST_SECONDS = 1e11
# Whole numbers between these are dates like 20200913 where all are; as seconds they would be days of August 1970.
FIRST_DATE, LAST_DATE = 19_000_101, 21_001_231
DAY_FORMAT = "%Y-%m-%d"
CLOCK_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unix_seconds(column: pl.Series) -> pl.Series:
    """Int64 unix seconds; null where a value is missing or is no time.

    Numbers are dates like 20200913 where all of them are, else seconds, or milliseconds (or finer) when their median
    is too large for seconds; texts are numbers, or ISO 8601 dates, with a time of day or without (UTC unless they
    name an offset).
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and not numbers.is_finite().any():
        return _iso_seconds(column)
    dates = _dates(numbers)
    return _scaled_to_seconds(numbers) if dates is None else dates


def _dates(numbers: pl.Series) -> pl.Series | None:
    """Seconds of numbers that are all yyyymmdd, where they are any; None for others."""
    finite = numbers.is_finite().fill_null(False)
    known = numbers.filter(finite)
    if not known.is_between(FIRST_DATE, LAST_DATE).all() or (known % 1 != 0).any():
        return None
    whole = pl.select(pl.when(finite).then(numbers)).to_series().cast(pl.Int64)
    dates = whole.cast(pl.String).str.to_date("%Y%m%d", strict=False)
    return None if (dates.is_null() & finite).any() else dates.cast(pl.Datetime("us")).dt.epoch("s")


def _scaled_to_seconds(numbers: pl.Series) -> pl.Series:
    values = numbers.to_numpy().astype(np.float64)
    usable = np.isfinite(values)
    scale = 1.0
    while usable.any() and np.median(np.abs(values[usable])) / scale > LARGEST_SECONDS:
        scale *= 1000
    usable &= np.abs(values) / scale < np.iinfo(np.int64).max
    seconds = np.floor(np.where(usable, values, 0) / scale).astype(np.int64)
    return pl.select(pl.when(pl.Series(usable)).then(pl.Series(seconds))).to_series()


def _iso_seconds(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars().str.replace(" ", "T", literal=True).str.to_uppercase()
    zoned = text.str.replace("Z$", "+00:00")
    forms = (
        text.str.to_datetime(DAY_FORMAT, strict=False, time_unit="us"),
        text.str.to_datetime(CLOCK_FORMAT, strict=False, time_unit="us"),
        zoned.str.to_datetime(CLOCK_FORMAT + "%:z", strict=False, time_unit="us").dt.replace_time_zone(None),
    )
    seconds = pl.select(pl.coalesce([form.dt.epoch("s") for form in forms])).to_series()
    rare = (seconds.is_null() & text.is_not_null()).arg_true()  # of other forms, which Python reads one by one
    return seconds.scatter(rare, [_python_seconds(value) for value in text.gather(rare)])


def _python_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(seconds=1)
