"""Time columns of any usual form as unix seconds."""

from __future__ import annotations

import numpy as np
import polars as pl

# Seconds reach this number in the year 5138; milliseconds passed it in 1973.
LARGEST_SECONDS = 1e11
DAY_FORMAT = "%Y-%m-%d"
CLOCK_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"


def unix_seconds(column: pl.Series) -> pl.Series:
    """Int64 unix seconds; null where a value is missing or is no time.

    Numbers are seconds, or milliseconds (or finer) when their median is too large for seconds; texts are
    numbers, ISO 8601 dates or ISO 8601 dates with a time of day (UTC unless they name an offset).
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and not numbers.is_finite().any():
        return _iso_seconds(column)
    return _scaled_to_seconds(numbers)


def _scaled_to_seconds(numbers: pl.Series) -> pl.Series:
    values = numbers.to_numpy().astype(np.float64)
    usable = np.isfinite(values)
    scale = 1.0
    while usable.any() and np.median(np.abs(values[usable])) / scale > LARGEST_SECONDS:
        scale *= 1000
    seconds = np.floor(np.where(usable, values, 0) / scale).astype(np.int64)
    return pl.select(pl.when(pl.Series(usable)).then(pl.Series(seconds))).to_series()


def _iso_seconds(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars().str.replace(" ", "T", literal=True).str.replace("Z$", "+00:00")
    forms = (
        text.str.to_datetime(DAY_FORMAT, strict=False, time_unit="us"),
        text.str.to_datetime(CLOCK_FORMAT, strict=False, time_unit="us"),
        text.str.to_datetime(CLOCK_FORMAT + "%:z", strict=False, time_unit="us").dt.replace_time_zone(None),
    )
    return pl.select(pl.coalesce([form.dt.epoch("s") for form in forms])).to_series()
