"""JSON Lines logs: one interaction a line, an object each; plain or packed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from oovrec.data.columns import Columns, Role, interactions, usual
from oovrec.data.interactions import Interactions
from oovrec.data.packing import ends, unpacked
from oovrec.data.rows import NEEDED, written
from oovrec.data.text import numbered_lines, read_text
from oovrec.errors import OovrecError

FORMAT = "a JSON Lines file (.jsonl, .ndjson; also packed)"
NAMED_COLUMNS = True
HEAD = 1000  # lines whose keys are taken for the columns
ROLES: tuple[Role, ...] = ("user", "item", "time")  # whose keys are not passed over where they hold lists or objects
JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda _: None)
# Half a character that JSON escapes in two halves, as it is written and as it is read.
HALF = re.compile(r"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u[dD])[c-fC-F])")


def reads(path: Path) -> bool:
    """A file ending in ``.jsonl`` or ``.ndjson``, perhaps packed."""
    return path.is_file() and ends(unpacked(path), ".jsonl", ".ndjson")


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``; its columns are the keys of the first lines that hold no lists or objects.

    Numbers are read as they are written, so ids of any size stay exact. NaN, which Python writes, is no value.

    Raises:
        OovrecError: a line that is no object, or wrong columns; half a character; a line without user, item or a
            proper time.
    """
    text = read_text(path)
    keys = _keys(path, text)
    header = [key for key, nested in keys.items() if not nested]
    _refuse_nested(path, columns, header, keys)
    used = set(columns.resolve(header, path).values())
    table = _table(path, text, [key for key in header if key in used])

    def line(row: int) -> str:
        return f"line {next(islice(numbered_lines(text), row, None))[0]}"

    return interactions(table, columns, path, line).read_from(path, path)


def _keys(path: Path, text: str) -> dict[str, int]:
    """The first lines' keys as they come, and the line where each first holds a list or object; 0 where none does."""
    found: dict[str, int] = {}
    for number, line in islice(numbered_lines(text), HEAD):
        for key, value in _object(path, number, line).items():
            found[key] = found.get(key) or (number if isinstance(value, list | dict) else 0)
    return found


def _refuse_nested(path: Path, columns: Columns, header: Sequence[str], keys: Mapping[str, int]) -> None:
    """Name the key that would be the user, item or time if it held no lists or objects.

    Args:
        header: those of ``keys`` that hold none.
    """
    for role in ROLES:
        named = getattr(columns, role)
        key = usual(role, header) or usual(role, list(keys)) if named is None else named
        if key and keys.get(key):
            what = f"'{key}' holds a list or an object and cannot be the {role}"
            other = f"--{role}-column" + ("" if role in NEEDED else " ('' for none)")
            remedy = f"write a text or number there, or name another column with {other}, or in a data file"
            raise OovrecError(what, where=f"{path}, line {keys[key]}", remedy=remedy)


def _table(path: Path, text: str, header: Sequence[str]) -> pl.DataFrame:
    """A row an object, of texts; Python reads what polars cannot, or would read without a half character."""
    schema = dict.fromkeys(header, pl.String)
    if not HALF.search(text):
        with suppress(pl.exceptions.PolarsError):
            return pl.read_ndjson(text.encode(), schema=schema)
    values: dict[str, list[str | None]] = {key: [] for key in header}
    for number, line in numbered_lines(text):
        row = _object(path, number, line)
        for key, column in values.items():
            column.append(written(row.get(key), key, f"{path}, line {number}"))
    return pl.DataFrame(values, schema=schema)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = JSON.decode(line)
    except (ValueError, RecursionError):  # the latter of objects in objects
        value = None
    if isinstance(value, dict):
        return value
    raise OovrecError("is no JSON object", where=f"{path}, line {number}", remedy="write an object a line")
