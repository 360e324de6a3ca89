"""RecBole's atomic files: ``<name>.inter`` and beside it, perhaps, ``<name>.item``.

Tab-separated, each column typed in the header (``item_id:token``, ``timestamp:float``, ``class:token_seq``), as
RecBole's documentation of atomic files describes them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from oovrec.data.columns import Columns, interactions, missing, usual
from oovrec.data.interactions import Interactions, number_attributes
from oovrec.data.packing import ends
from oovrec.data.text import read_log, row_width
from oovrec.errors import OovrecError, unknown

FORMAT = "RecBole atomic files (.inter, .item)"
NAMED_COLUMNS = True
TYPES = ("token", "token_seq", "float", "float_seq")


def reads(path: Path) -> bool:
    """A ``.inter`` file, or a folder with one."""
    return ends(path, ".inter") if path.is_file() else len(_inter(path)) == 1


def read(path: Path, columns: Columns) -> Interactions:
    """The log of a ``.inter`` file, with titles and attributes from the ``.item`` file beside it.

    A title is the text column of a usual name, else the first named title or name, with the year in brackets where a
    column has it; the other words and texts are attributes, a word of a ``token_seq`` each.

    Raises:
        OovrecError: a header without types, wrong columns, a line without user, item or a proper time, an item twice.
    """
    inter = path if path.is_file() else _inter(path)[0]
    table, _ = _typed_table(inter)
    width = partial(row_width, inter, separator="\t", quoted=False)
    log = interactions(table, columns, inter, lambda row: f"line {row + 2}", width)
    named = (inter.with_suffix(ending) for ending in (".item", ".ITEM"))
    if (item_file := next(filter(Path.exists, named), None)) is None:
        return log.read_from(path, inter)
    titles, attributes = _items(item_file, columns.item)
    return replace(log, titles=titles, attributes=attributes).read_from(path, inter, item_file)


def _inter(folder: Path) -> list[Path]:
    return [file for file in folder.glob("*") if ends(file, ".inter")]


def _typed_table(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The table with plain column names, and the type of each."""
    table = read_log(path, separator="\t", quoted=False)
    types: dict[str, str] = {}
    for column in table.columns:
        name, colon, kind = column.rpartition(":")
        where = f"{path}, line 1"
        if not colon:
            raise OovrecError(f"column '{column}' has no type", where=where, remedy=f"write it like '{column}:token'")
        if kind not in TYPES:
            raise unknown("column type", kind, TYPES, where=where)
        if name in types:
            raise OovrecError(f"has two columns '{name}'", where=where, remedy="give one another name")
        types[name] = kind
    return table.rename(dict(zip(table.columns, types, strict=True))), types


def _items(path: Path, named: str | None) -> tuple[dict[str, str] | None, dict[str, tuple[int, ...]] | None]:
    """Titles and attributes by item id; None for what the file has no columns of.

    Args:
        named: the column of items in the log, if it was named, which may be called so here too.
    """
    table, types = _typed_table(path)
    key = named if named in table.columns else usual("item", table.columns)
    if key is None:
        raise missing("item", table.columns, path)
    ids = table[key].str.strip_chars()
    if (none := ids.is_null() | (ids == "")).any():
        where = f"{path}, line {none.to_numpy().argmax() + 2}"
        raise OovrecError("names no item", where=where, remedy="fill it in or remove the line")
    if (repeated := ids.is_duplicated()).any():
        remedy = "keep one of the lines"
        raise OovrecError(f"item '{ids.filter(repeated)[0]}' stands there twice", where=path, remedy=remedy)
    texts = [name for name, kind in types.items() if kind == "token_seq" and re.search("title|name", name)]
    title = usual("title", texts) or next(iter(texts), None)
    year = next((name for name in types if "year" in name), None)
    kinds = [name for name, kind in types.items() if kind.startswith("token") and name not in (key, year, title)]
    titles = None if title is None else dict(zip(ids, _dated(table, title, year), strict=True))
    words = {item: _words(row, kinds, types) for item, row in zip(ids, table.rows(named=True), strict=True)}
    return titles, number_attributes(words) if kinds else None


def _dated(table: pl.DataFrame, title: str, year: str | None) -> pl.Series:
    text = pl.col(title).fill_null("")
    dated = text if year is None else pl.concat_str(text, pl.lit(" ("), pl.col(year), pl.lit(")"))
    return table.select(pl.coalesce(dated, text)).to_series()


def _words(row: dict[str, str | None], kinds: list[str], types: dict[str, str]) -> list[tuple[str, str]]:
    cells = [(kind, row[kind] or "") for kind in kinds]
    split = [(kind, cell.split() if types[kind] == "token_seq" else [cell]) for kind, cell in cells]
    return [(kind, word) for kind, words in split for word in words if word]
