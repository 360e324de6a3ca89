"""Parquet logs: one interaction a row."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from oovrec.data.columns import Columns, interactions
from oovrec.data.interactions import Interactions
from oovrec.errors import OovrecError

FORMAT = "a Parquet file (.parquet)"
NAMED_COLUMNS = True


def reads(path: Path) -> bool:
    """A file ending in ``.parquet``."""
    return path.is_file() and path.suffix == ".parquet"


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``.

    Raises:
        OovrecError: not a Parquet file, or wrong columns; a row without user, item or a proper time.
    """
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        remedy = "write it again, or give it the ending of its true format"
        raise OovrecError("is not a whole Parquet file", where=path, remedy=remedy) from error
    return interactions(table, columns, path, lambda row: f"row {row + 1}").read_from(path, path)
