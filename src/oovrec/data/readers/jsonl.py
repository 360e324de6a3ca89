"""JSON Lines logs: one interaction a line, an object each; plain or packed."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from oovrec.data.columns import Columns, interactions
from oovrec.data.interactions import Interactions
from oovrec.data.packing import ends, unpacked
from oovrec.data.text import numbered_lines, read_text
from oovrec.errors import OovrecError

FORMAT = "a JSON Lines file (.jsonl, .ndjson; also packed)"
NAMED_COLUMNS = True
HEAD = 1000  # lines whose keys are taken for the columns


def reads(path: Path) -> bool:
    """A file ending in ``.jsonl`` or ``.ndjson``, perhaps packed."""
    return path.is_file() and ends(unpacked(path), ".jsonl", ".ndjson")


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``; its columns are the keys of the first lines that hold no lists or objects.

    Numbers are read as they are written, so ids of any size stay exact.

    Raises:
        OovrecError: a line that is no object, or wrong columns; a line without user, item or a proper time.
    """
    text = read_text(path)
    header = _header(path, text)
    try:
        table = pl.read_ndjson(text.encode(), schema=dict.fromkeys(header, pl.String))
    except pl.exceptions.PolarsError as error:
        raise _no_object(path, text) from error

    def line(row: int) -> str:
        return f"line {next(islice(numbered_lines(text), row, None))[0]}"

    return interactions(table, columns, path, line).read_from(path, path)


def _header(path: Path, text: str) -> list[str]:
    """The keys of the first lines, in the order in which they come, without those of lists and objects."""
    found: dict[str, bool] = {}
    for number, line in islice(numbered_lines(text), HEAD):
        for key, value in _object(path, number, line).items():
            found[key] = found.get(key, True) and not isinstance(value, list | dict)
    return [key for key, plain in found.items() if plain]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    raise OovrecError("is no JSON object", where=f"{path}, line {number}", remedy="write an object a line")


def _no_object(path: Path, text: str) -> OovrecError:
    """An error for the first line that is no object, or for the file where Python finds none."""
    try:
        for number, line in numbered_lines(text):
            _object(path, number, line)
    except OovrecError as error:
        return error
    return OovrecError("is not JSON Lines", where=path, remedy="write an object a line")
