"""Which column of a log is what, and the interactions that its rows make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from oovrec.config import Options
from oovrec.data.ids import id_texts, inexact, padded, spaced
from oovrec.data.interactions import Interactions
from oovrec.data.rows import NEEDED, Rows
from oovrec.data.text import read_log, row_line, row_width
from oovrec.data.times import FORMS, moments, numbers
from oovrec.errors import OovrecError, unknown, within

Role = Literal["user", "item", "time", "rating", "title", "summary", "review"]
LINE_BREAK = r"[\t\n\x0b\x0c\r\x1c-\x1e\u{85}\u{2028}\u{2029}]"  # a tab, or what str.splitlines ends a line at
DISTINCT: tuple[Role, ...] = ("user", "item", "time", "rating")  # what no two of can be one column
# Types of Parquet columns that are no times and no ratings; no role has binary or nested ones, or spans of time.
UNSUITED: dict[Role, tuple[type[pl.DataType], ...]] = {
    "time": (pl.Boolean, pl.Time),
    "rating": (pl.Date, pl.Datetime, pl.Time),
}
# Names in common use, the likeliest first; compared without case, spaces and punctuation.
USUAL: dict[Role, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "customer", "visitorid", "accountid", "sessionid"),
    "item": (
        *("item", "itemid", "iid", "parentasin", "asin", "productid", "product", "movieid", "bookid", "articleid"),
        *("sku", "stockcode"),
    ),
    "time": (
        *("time", "timestamp", "unixtime", "unixreviewtime", "datetime", "date", "ts", "createdat"),
        *("eventtime", "orderdate", "invoicedate"),
    ),
    "rating": ("rating", "overall", "score", "stars"),
    "title": ("title", "itemtitle", "producttitle", "movietitle", "itemname", "productname", "name"),
    "summary": ("summary", "reviewsummary", "reviewtitle", "headline"),
    "review": ("review", "reviewtext", "reviewbody"),
}


class Columns(Options):
    """A log's columns by name (None looks for a usual one, '' leaves the column out), and how its times are written.

    Attributes:
        user: who.
        item: what.
        time: when (seconds, milliseconds or dates); a log without one is taken to be in time order.
        rating: how much it was liked; kept, never used as a filter.
        title: the item's text.
        summary: the headline of the user's review.
        review: its text.
        time_format: how each time is written, as strftime has it (``%d/%m/%Y %H:%M``); '' tells by the values.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    title: str | None = None
    summary: str | None = None
    review: str | None = None
    time_format: str = ""

    def without(self, *roles: Role) -> Columns:
        """The same, in which the columns of ``roles`` are left out unless they are named."""
        return self.model_copy(update={role: "" for role in roles if getattr(self, role) is None})

    def check_of_log(self, log: object) -> None:
        """That there is a log whose columns these are.

        Raises:
            OovrecError: ``log`` is None, and they say something.
        """
        if log is None and self != Columns():
            what = "columns and a form of times are of a log, and none is given"
            raise OovrecError(what, remedy="give --log, or leave them out")

    def resolve(self, header: Sequence[str], where: object, remedy: str | None = None) -> dict[Role, str]:
        """The column of each role that the log has.

        Args:
            remedy: where there is no column of users or items; without it to name it.

        Raises:
            OovrecError: a named column is not there, or is two things at once, or no column looks like users or items.
        """
        found: dict[Role, str] = {}
        for role in get_args(Role):
            named: str | None = getattr(self, role)
            if named and named not in header:
                raise unknown("column", named, header, where=where)
            if column := usual(role, header) if named is None else named:
                found[role] = column
            elif role in ("user", "item"):
                raise missing(role, header, where, remedy)
        for one, other in combinations(DISTINCT, 2):
            if one in found and found[one] == found.get(other):
                what = f"the column '{found[one]}' cannot be both the {one} and the {other}"
                options = f"--{one}-column or --{other}-column"
                raise OovrecError(what, where=where, remedy=f"name another with {options}, or in a data file")
        return found


def usual(role: Role, header: Sequence[str]) -> str | None:
    """The column of ``header`` with a usual name for ``role``, the first of those alike but for case, if any."""
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(header)}
    return next((plain[name] for name in USUAL[role] if name in plain), None)


def missing(role: Role, header: Sequence[str], where: object, remedy: str | None = None) -> OovrecError:
    """An error for a header in which no column looks like ``role``; without a remedy, that of a log."""
    what = f"no column looks like the {role} among: {', '.join(header)}"
    return OovrecError(what, where=where, remedy=remedy or f"name it with --{role}-column, or in a data file")


def table_interactions(path: Path, columns: Columns | None) -> Interactions:
    """The interactions of a text table with a header, plain or packed.

    Args:
        columns: as for :func:`interactions`.

    Raises:
        OovrecError: as :func:`oovrec.data.text.read_log` and :func:`interactions`.
    """

    def line(row: int) -> str:
        return f"line {row_line(path, row)}"

    return interactions(read_log(path), columns, path, line, lambda row: row_width(path, row))


def interactions(
    table: pl.DataFrame,
    columns: Columns | None,
    where: object,
    line: Callable[[int], str],
    width: Callable[[int], int] | None = None,
) -> Interactions:
    """The interactions of a log's rows.

    Args:
        table: one row an interaction.
        columns: which column is what; None in a format of fixed columns, which no option names or leaves out.
        where: the file, for errors.
        line: names the place of a row by its number, for errors.
        width: how many values a row has in the file, for errors; None where every row has one a column.

    Raises:
        OovrecError: a missing column, or one of a type that its role cannot have; a row without user or item, or with
            a time or rating that is none; a form that tells no time.
    """
    named, columns, header = columns is not None, columns or Columns(), table.columns
    roles = columns.resolve(header, where, None if named else "fetch the file again")
    table = pl.DataFrame([_suited(table[name], role, where).alias(role) for role, name in roles.items()])
    blank = table.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if blank.all():
        raise OovrecError("has a header but no rows", where=where, remedy="give a log with interactions")
    rows = Rows(table, ~blank, roles, header, where, line, width, named)
    made: dict[str, pl.Series] = {role: _ids(rows, role) for role in NEEDED}
    if "time" in roles:
        with within(where):
            made["time"], after = moments(table["time"], form := columns.time_format)
        what = f"is not a time written as '{form}'" if form else "is not a time"
        told = ", or say by --time-format how they are written" if named else ""
        remedy = "mend it or the form" if form else f"write all as {FORMS}{told}"
        rows.refuse("time", made["time"].is_null(), what, remedy)
        if (after > 0).any():
            made["microseconds"] = after
    if "rating" in roles:
        made["rating"] = numbers(table["rating"])
        rows.refuse("rating", ~made["rating"].is_finite(), "is not a number", "mend it")
    for role in ("summary", "review"):
        if role in roles:
            made[role] = table[role].cast(pl.String).fill_null("").str.replace_all(r"\s+", " ").str.strip_chars()
    titles = _titles(made["item"], table["title"].cast(pl.String)) if "title" in roles else None
    return Interactions(pl.DataFrame(made).filter(~blank), titles, notes=_notes(rows, made))


def _ids(rows: Rows, role: str) -> pl.Series:
    """The ids of users or items, without blanks at either end.

    Raises:
        OovrecError: a row has none, or one that could not be told from others or not be written into a line.
    """
    column = rows.table[role]
    ids = column.str.strip_chars() if (odd := spaced(column)) else id_texts(column)
    rows.refuse(role, ids == "", "is no id", "fill it in or remove the line")
    if odd:
        rows.refuse(role, ids.str.contains(LINE_BREAK), "has a tab or line break", "remove it from the id")
    what = "is a float too large to be exact"
    rows.refuse(role, inexact(column), what, "write the column as whole numbers or as text")
    return ids


def _notes(rows: Rows, made: Mapping[str, pl.Series]) -> list[str]:
    """What reading changed."""
    user, item = (padded(rows.table[role], made[role]) for role in NEEDED)
    notes = [] if "time" in made else ["the log has no times: its rows are taken to be in time order"]
    if many := (user | item).sum():
        notes.append(f"blanks around ids were removed in {many:,} of {rows.filled.sum():,} rows")
    return notes


def _suited(column: pl.Series, role: Role, where: object) -> pl.Series:
    """``column``, as texts where it holds categories, if its type is one that ``role`` can have."""
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Duration) or kind in UNSUITED.get(role, ()):
        what = f"the column '{column.name}' is of the type {kind} and cannot be the {role}"
        raise OovrecError(what, where=where, remedy="write it as text or numbers, or name another column")
    return column.cast(pl.String) if kind in (pl.Categorical, pl.Enum) else column


def _titles(items: pl.Series, titles: pl.Series) -> dict[str, str]:
    """The first title of each item that has one."""
    rows = pl.DataFrame({"item": items, "title": titles}).drop_nulls()
    rows = rows.filter(pl.col("title").str.strip_chars() != "")
    return dict(rows.unique("item", keep="first", maintain_order=True).iter_rows())
