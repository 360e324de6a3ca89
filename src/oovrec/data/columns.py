"""Which column of a log is what, and the interactions that its rows make."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from oovrec.config import Options
from oovrec.data.interactions import Interactions
from oovrec.data.text import read_log, row_line
from oovrec.data.times import unix_seconds
from oovrec.errors import OovrecError, unknown

Role = Literal["user", "item", "time", "rating", "title", "summary", "review"]
LINE_BREAK = r"[\t\n\x0b\x0c\r\x1c-\x1e\u{85}\u{2028}\u{2029}]"  # a tab, or what str.splitlines ends a line at
DISTINCT: tuple[Role, ...] = ("user", "item", "time", "rating")  # what no two of can be one column
# Types of Parquet columns that are no times and no ratings; no role has binary or nested ones.
UNSUITED: dict[Role, tuple[type[pl.DataType], ...]] = {
    "time": (pl.Boolean, pl.Time, pl.Duration),
    "rating": (pl.Date, pl.Datetime, pl.Time, pl.Duration),
}
# Names in common use, the likeliest first; compared without case, spaces and punctuation.
USUAL: dict[Role, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "customer", "visitorid", "accountid", "sessionid"),
    "item": ("item", "itemid", "iid", "parentasin", "asin", "productid", "product", "movieid", "bookid", "articleid"),
    "time": ("time", "timestamp", "unixtime", "unixreviewtime", "datetime", "date", "ts", "createdat"),
    "rating": ("rating", "overall", "score", "stars"),
    "title": ("title", "itemtitle", "producttitle", "movietitle", "itemname", "productname", "name"),
    "summary": ("summary", "reviewsummary", "reviewtitle", "headline"),
    "review": ("review", "reviewtext", "reviewbody"),
}


class Columns(Options):
    """Names of a log's columns; None looks for a usual name, '' leaves the column out.

    Attributes:
        user: who.
        item: what.
        time: when (seconds, milliseconds or ISO dates); a log without one is taken to be in time order.
        rating: how much it was liked; kept, never used as a filter.
        title: the item's text.
        summary: the headline of the user's review.
        review: its text.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    title: str | None = None
    summary: str | None = None
    review: str | None = None

    def resolve(self, header: Sequence[str], where: object) -> dict[Role, str]:
        """The column of each role that the log has.

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
                raise missing(role, header, where)
        for one, other in combinations(DISTINCT, 2):
            if one in found and found[one] == found.get(other):
                what = f"the column '{found[one]}' cannot be both the {one} and the {other}"
                options = f"--{one}-column or --{other}-column"
                raise OovrecError(what, where=where, remedy=f"name another with {options}, or in a data file")
        return found


def usual(role: Role, header: Sequence[str]) -> str | None:
    """The column of ``header`` with a usual name for ``role``, if there is one."""
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in header}
    return next((plain[name] for name in USUAL[role] if name in plain), None)


def missing(role: Role, header: Sequence[str], where: object, remedy: str | None = None) -> OovrecError:
    """An error for a header in which no column looks like ``role``; without a remedy, that of a log."""
    what = f"no column looks like the {role} among: {', '.join(header)}"
    return OovrecError(what, where=where, remedy=remedy or f"name it with --{role}-column, or in a data file")


def table_interactions(path: Path, columns: Columns) -> Interactions:
    """The interactions of a text table with a header, plain or gzipped.

    Raises:
        OovrecError: as :func:`oovrec.data.text.read_log` and :func:`interactions`.
    """
    return interactions(read_log(path), columns, path, lambda row: f"line {row_line(path, row)}")


def interactions(table: pl.DataFrame, columns: Columns, where: object, line: Callable[[int], str]) -> Interactions:
    """The interactions of a log's rows.

    Args:
        table: one row an interaction.
        columns: which column is what.
        where: the file, for errors.
        line: names the place of a row by its number, for errors.

    Raises:
        OovrecError: a missing column, or one of a type that its role cannot have; a row without user or item, or with
            a time or rating that is none.
    """
    roles = columns.resolve(table.columns, where)
    table = pl.DataFrame([_suited(table[name], role, where).alias(role) for role, name in roles.items()])
    blank = table.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if blank.all():
        raise OovrecError("has a header but no rows", where=where, remedy="give a log with interactions")

    def refuse(bad: pl.Series, what: str, remedy: str) -> None:
        rows = (bad.fill_null(True) & ~blank).arg_true()
        if len(rows):
            raise OovrecError(what, where=f"{where}, {line(rows[0])}", remedy=remedy)

    made: dict[str, pl.Series] = {}
    for role in ("user", "item"):
        made[role] = ids = table[role].cast(pl.String)
        refuse(ids == "", f"has no {role}", "fill it in or remove the line")
        refuse(ids.str.contains(LINE_BREAK), f"has a tab or line break in the {role} id", "remove it from the id")
    if "time" in roles:
        made["time"] = unix_seconds(table["time"])
        remedy = "use seconds, milliseconds or dates like 2014-07-23, or leave the column out with --time-column ''"
        refuse(made["time"].is_null(), f"'{roles['time']}' is not a time", remedy)
    if "rating" in roles:
        made["rating"] = table["rating"].cast(pl.Float64, strict=False)
        remedy = "mend it, or leave the column out with --rating-column ''"
        refuse(~made["rating"].is_finite(), f"'{roles['rating']}' is not a number", remedy)
    for role in ("summary", "review"):
        if role in roles:
            made[role] = table[role].cast(pl.String).fill_null("").str.replace_all(r"\s+", " ").str.strip_chars()
    notes = [] if "time" in roles else ["the log has no times: its rows are taken to be in time order"]
    titles = _titles(made["item"], table["title"].cast(pl.String)) if "title" in roles else None
    return Interactions(pl.DataFrame(made).filter(~blank), titles, notes=notes)


def _suited(column: pl.Series, role: Role, where: object) -> pl.Series:
    """``column``, as texts where it holds categories, if its type is one that ``role`` can have."""
    kind = column.dtype
    if kind.is_nested() or kind == pl.Binary or kind in UNSUITED.get(role, ()):
        what = f"the column '{column.name}' is of the type {kind} and cannot be the {role}"
        raise OovrecError(what, where=where, remedy="write it as text or numbers, or name another column")
    return column.cast(pl.String) if kind in (pl.Categorical, pl.Enum) else column


def _titles(items: pl.Series, titles: pl.Series) -> dict[str, str]:
    """The first title of each item."""
    rows = pl.DataFrame({"item": items, "title": titles}).drop_nulls().unique("item", keep="first", maintain_order=True)
    return dict(rows.iter_rows())
