"""Files about new items: a table that describes them, a log of histories in which they occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from oovrec.data.columns import LINE_BREAK, Columns, missing, usual
from oovrec.data.histories import Histories
from oovrec.data.ids import LONGEST
from oovrec.data.load import read_all
from oovrec.data.text import read_table, row_line
from oovrec.errors import OovrecError, brief
from oovrec.tokens.cold import Described


def read_new(
    known: Sequence[str], items: str | Path | None, log: str | Path | None, columns: Columns | None = None
) -> tuple[Described, Histories | None]:
    """The new items, and the histories of ``log`` in indices of the known items followed by the new ones.

    Args:
        known: ids.
        items: a table for :func:`read_items`; None takes every item of ``log`` that is not known.
        log: anything that oovrec reads; None where there are no interactions yet.
        columns: of ``log``.

    Raises:
        OovrecError: neither is given; no item is new; a file is broken.
    """
    if items is None and log is None:
        raise OovrecError("nothing says which items are new", remedy="give a table of them, or --log")
    (columns or Columns()).check_of_log(log)
    there = set(known)
    new = None if items is None else read_items(Path(items), there)
    if log is None:
        assert new is not None
        return new, None
    seen = read_all(log, columns, ("rating", "summary", "review")).dataset("log")
    if new is None:
        rows = [row for row, item in enumerate(seen.items) if item not in there]
        if not rows:
            raise OovrecError("has no item that the run does not know", where=log, remedy="give a newer log")
        new = Described(seen.items, seen.titles).take(rows)
    return new, renumbered(seen.full, seen.items, [*known, *new.ids])


def renumbered(histories: Histories, items: Sequence[str], catalogue: Sequence[str]) -> Histories:
    """``histories`` in positions in ``catalogue`` instead of in ``items``, without the items that are not there."""
    index = {item: position for position, item in enumerate(catalogue)}
    moved = np.array([index.get(item, -1) for item in items], np.int32)[histories.items]
    return replace(histories, items=moved).where(moved >= 0)


def read_items(path: Path, known: set[str]) -> Described:
    """A CSV or TSV table with a header: item ids, and perhaps titles and ``attributes``.

    Attributes are numbers with spaces between, as the data's own for the known items.

    Raises:
        OovrecError: not such a table; a line without id or with one that is known, stands above or holds a tab; an
            attribute that is no number.
    """
    table = read_table(path)
    item, title = (
        usual("item", table.columns) or ("id" if "id" in table.columns else None),
        usual("title", table.columns),
    )
    if item is None:
        raise missing("item", table.columns, path, remedy="call it 'item'")
    rows: dict[str, int] = {}
    empty = table.select(pl.all_horizontal(pl.all().is_null())).to_series().to_list()  # a blank line
    for row, name in enumerate(table[item].fill_null("").str.strip_chars().to_list()):
        if empty[row]:
            continue
        if what := _wrong(name, known, rows, path):
            raise OovrecError(what, where=f"{path}, line {row_line(path, row)}", remedy="mend the line or remove it")
        rows[name] = row
    if not rows:
        raise OovrecError("has a header but no rows", where=path, remedy="give a row for each new item")
    kept = list(rows.values())
    titles = table[title].fill_null("").gather(kept).to_list() if title else None
    told = next((name for name in table.columns if name.strip().lower() == "attributes"), None)
    return Described(list(rows), titles, _attributes(table[told], kept, path) if told else None)


def _wrong(name: str, known: set[str], rows: dict[str, int], path: Path) -> str | None:
    if not name:
        return "has no item"
    if name in known:
        return f"the run knows the item '{name}' already"
    if name in rows:
        return f"repeats the item of line {row_line(path, rows[name])}"
    holds = pl.Series([name]).str.contains(LINE_BREAK).item()
    return "has a tab or line break in the item id" if holds else None


def _attributes(column: pl.Series, kept: list[int], path: Path) -> list[tuple[int, ...]]:
    read: list[tuple[int, ...]] = []
    for row, text in zip(kept, column.fill_null("").gather(kept).to_list(), strict=True):
        if not all(word.isdecimal() and len(word) <= LONGEST for word in text.split()):
            remedy = "write numbers with spaces between, as item_attributes.json has them for the known items"
            what = f"'{brief(text)}' are not attribute numbers"
            raise OovrecError(what, where=f"{path}, line {row_line(path, row)}", remedy=remedy)
        read.append(tuple(map(int, text.split())))
    return read
