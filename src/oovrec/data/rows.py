"""The rows of a log, for errors that name the first one that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from oovrec.errors import OovrecError

NEEDED = ("user", "item")  # roles that no row may lack; columns of others can be left out
SHOWN = 60  # characters of a wrong value


@dataclass(frozen=True)
class Rows:
    """A log's rows.

    Attributes:
        table: one column a role, named by it.
        filled: ``[rows]`` bool, those that are not blank lines.
        names: of each role's column in the file.
        header: all columns' names.
        where: the file.
        line: names the place of a row by its number.
        width: how many values a row has in the file; None where every row has one a column.
        named: whether options name the columns; else none can be left out.
    """

    table: pl.DataFrame
    filled: pl.Series
    names: Mapping[Any, str]
    header: Sequence[str]
    where: object
    line: Callable[[int], str]
    width: Callable[[int], int] | None
    named: bool = True

    def refuse(self, role: str, bad: pl.Series, what: str, remedy: str) -> None:
        """Name the first row with a bad value, if there is one.

        Args:
            role: whose value it is.
            bad: ``[rows]`` bool; null is bad too.
            what: is wrong with the value; said of a value that is there.
            remedy: likewise.

        Raises:
            OovrecError: there is one.
        """
        rows = (bad.fill_null(True) & self.filled).arg_true()
        if not len(rows):
            return
        value = self.table[role][rows[0]]
        out = f", or {left_out(role)}" if self.named and role not in NEEDED else ""
        place = f"{self.where}, {self.line(rows[0])}"
        if self.width and self.header.index(self.names[role]) >= (there := self.width(rows[0])):
            what = f"has {there} of {len(self.header)} columns, so no {role}"
            raise OovrecError(what, where=place, remedy="fill in the others or remove the line")
        if absent(value):
            raise OovrecError(f"has no {role}", where=place, remedy=f"fill it in or remove the line{out}")
        what = f"{shown(value)} in the column '{self.names[role]}' {what}"
        raise OovrecError(what, where=place, remedy=f"{remedy}{out}")


def left_out(role: str) -> str:
    """How a column is left out."""
    return f"leave the column out with --{role}-column ''"


def absent(value: Any) -> bool:
    """Whether there is no value: null, NaN, or blanks alone."""
    return value is None or value != value or not str(value).strip()


def written(value: Any, key: str, where: str) -> str | None:
    """A value of JSON as text, a number as it is written.

    Raises:
        OovrecError: half a character, which no file can hold.
    """
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    try:
        if text and not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        what = f"{shown(text)} in the column '{key}' has half a character"
        raise OovrecError(what, where=where, remedy="write the whole one or none") from error
    return text


def shown(value: Any) -> str:
    """A value in quotes on one line, its beginning where it is long."""
    text = str(value)
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
