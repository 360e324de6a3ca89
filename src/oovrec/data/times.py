"""Time columns of any usual form as unix seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import polars as pl

from oovrec.errors import OovrecError

# Seconds reach this number in the year 5138; milliseconds passed it in 1973.
LARGEST_SECONDS = 1e11
FINEST = 1e9  # of what numbers may count, nanoseconds: larger ones are of no unit
# Whole numbers between these may be dates like 20200913; as seconds all are moments of August 1970.
FIRST_DATE, LAST_DATE = 19_000_101, 21_001_231
CLOCK_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"
DATE_FORMATS = ("%Y-%m-%d", CLOCK_FORMAT, f"{CLOCK_FORMAT}%#z", "%Y-%m-%dT%H:%M")
FIELD = re.compile(r"%[ST]\.%f|%[-_0]?.", re.DOTALL)  # of a form; polars reads a fraction only beside its seconds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # microseconds
# What is read, and what a form needs, for people.
FORMS = "seconds, milliseconds, 20140723, 2014-07-23 or 2014-07-23 12:34:56 (UTC, or with an offset like +02:00)"
TELL = "in --time-format (time_format in a data file)"
WHOLE = f"give %H, or %I and %p, and %M where there is %S {TELL}"


def numbers(column: pl.Series) -> pl.Series:
    """Float64; null where a text is no number, blanks around it aside."""
    values = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and values.null_count() > column.null_count():
        return column.str.strip_chars().cast(pl.Float64, strict=False)
    return values


def unix_seconds(column: pl.Series, form: str = "") -> pl.Series:
    """Int64 unix seconds; as :func:`moments`."""
    return moments(column, form)[0]


def moments(column: pl.Series, form: str = "") -> tuple[pl.Series, pl.Series]:
    """Int64 unix seconds, and microseconds after each; null where a value is missing or is no time.

    Args:
        form: how each is written, as strftime has it (``%d/%m/%Y %H:%M``), in UTC unless it has an offset; '' tells
            by the values.

    Numbers are dates like 20200913 where most of them are, and the others then no times; else seconds, or milliseconds,
    micro- or nanoseconds when their median is too large for seconds. Texts are numbers where half of them are; else
    ISO 8601 dates, with a time of day or without (UTC unless they name an offset).

    Raises:
        OovrecError: ``form`` has names of time zones, or half a time of day.
    """
    if form:
        return _split(_told(column.cast(pl.String).str.strip_chars(), form))
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return _split(column.cast(pl.Datetime("us")).dt.epoch("us"))
    values = numbers(column)
    if column.dtype == pl.String and values.is_finite().sum() * 2 < column.count():
        return _split(_iso(column))
    dates = _dates(values)
    return _scaled(values) if dates is None else (dates, dates * 0)


def _split(microseconds: pl.Series) -> tuple[pl.Series, pl.Series]:
    seconds = microseconds // SECOND
    return seconds, microseconds - seconds * SECOND


def _dates(values: pl.Series) -> pl.Series | None:
    """Seconds of yyyymmdd numbers, null for others; None where not most are dates.

    Of the whole numbers that could be dates, one in 27 is: seconds, or numbers of rows, are mostly none.
    """
    half = values.is_finite().sum() / 2
    near = values.is_between(FIRST_DATE, LAST_DATE) & (values % 1 == 0)
    if near.sum() <= half:
        return None
    whole = pl.select(pl.when(near).then(values)).to_series().cast(pl.Int64)
    dates = whole.cast(pl.String).str.to_date("%Y%m%d", strict=False)
    return dates.cast(pl.Datetime("us")).dt.epoch("s") if dates.count() > half else None


def _scaled(numbers: pl.Series) -> tuple[pl.Series, pl.Series]:
    values = numbers.to_numpy().astype(np.float64)
    usable = np.isfinite(values)
    scale = 1.0
    while scale < FINEST and usable.any() and np.median(np.abs(values[usable])) / scale > LARGEST_SECONDS:
        scale *= 1000
    usable &= np.abs(values) / scale < np.iinfo(np.int64).max
    exact = np.where(usable, values, 0) / scale
    seconds = np.floor(exact)
    whole, after = (part.astype(np.int64) for part in (seconds, (exact - seconds) * SECOND))
    table = pl.DataFrame({"usable": usable, "whole": whole, "after": after})
    found = table.select(pl.when("usable").then(pl.col(name)).alias(name) for name in ("whole", "after"))
    return found["whole"], found["after"]


def _iso(column: pl.Series) -> pl.Series:
    """Int64 microseconds."""
    text = column.str.strip_chars().str.replace(" ", "T", literal=True).str.to_uppercase()
    for utc in ("Z", "UTC", "GMT"):  # as is meant without
        text = text.str.strip_suffix(utc)
    text = text.str.strip_chars_end()
    found = pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    forms: list[Callable[[pl.Series], pl.Series]] = [partial(_parsed, form=form) for form in DATE_FORMATS]
    forms.append(partial(_one_by_one, read=datetime.fromisoformat))  # other forms of ISO 8601
    for read in forms:
        left = (found.is_null() & text.is_not_null()).arg_true()  # what those before could not read
        found = found.scatter(left, read(text.gather(left)))
    return found


def _told(text: pl.Series, form: str) -> pl.Series:
    """Int64 microseconds of texts in a form of strftime; where polars means something else by it, Python reads them."""
    letters = {field[-1] for field in FIELD.findall(form)}
    if "Z" in letters:
        what = f"the form '{form}' has %Z, and a zone's name does not tell its offset"
        raise OovrecError(what, remedy=f"write offsets like +0200, and %z {TELL}")
    half = OovrecError(f"the form '{form}' does not tell the time of day", remedy=WHOLE)
    if letters.isdisjoint("Il") != letters.isdisjoint("pP"):
        raise half
    plain = FIELD.sub(lambda field: field[0].replace(".%f", "%.f"), form)
    if "%f" in plain:  # nanoseconds for polars, with a warning
        return _one_by_one(text, lambda value: datetime.strptime(value, form))
    if not letters.isdisjoint("HIkl") and letters.isdisjoint("MSf"):
        text, plain = text + " 00", f"{plain} %M"  # polars reads no hours without minutes
    try:
        return _parsed(text, plain)
    except pl.exceptions.ComputeError as error:
        raise half from error


def _parsed(text: pl.Series, form: str) -> pl.Series:
    """Int64 microseconds of texts in a form of polars."""
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone(None).dt.epoch("us")


def _one_by_one(text: pl.Series, read: Callable[[str], datetime]) -> pl.Series:
    """Int64 microseconds, which Python reads."""
    found = {value: _by_python(value, read) for value in text.drop_nulls().unique()}
    return pl.Series([found.get(value) for value in text], dtype=pl.Int64)


def _by_python(text: str, read: Callable[[str], datetime]) -> int | None:
    try:
        moment = read(text)
    except (ValueError, re.error):  # of a form with a field twice
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
