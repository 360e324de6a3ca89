"""Parquet logs: one interaction a row, in one file or in a folder of parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from oovrec.data.columns import Columns, interactions
from oovrec.data.interactions import Interactions
from oovrec.data.packing import ends
from oovrec.errors import OovrecError

FORMAT = "a Parquet file (.parquet) or a folder of such files alone"
NAMED_COLUMNS = True
HIDDEN = (".", "_")  # first characters of the names that those who write parts give to other files


def reads(path: Path) -> bool:
    """A file ending in ``.parquet``, or a folder with such files and no others but hidden ones."""
    files = _parts(path)
    return bool(files) and all(file.is_file() and ends(file, ".parquet") for file in files)


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``; that of a folder is its files' rows, file by file in the order of their names.

    Raises:
        OovrecError: not a Parquet file, or wrong columns; files of other columns than the first has; a row without
            user, item or a proper time.
    """
    files = _parts(path)
    tables = [_table(file) for file in files]
    for file, table in zip(files, tables, strict=True):
        if set(table.columns) != set(tables[0].columns):
            what = f"has other columns ({', '.join(table.columns)}) than {files[0].name} beside it has"
            raise OovrecError(what, where=file, remedy="give a folder of one log's parts, or the file that is the log")
    ends_at = np.cumsum([len(table) for table in tables])

    def line(row: int) -> str:
        part = int(np.searchsorted(ends_at, row, side="right"))
        place = f"row {row - ends_at[part] + len(tables[part]) + 1}"
        return place if path.is_file() else f"{files[part].name}, {place}"

    return interactions(_joined(path, tables), columns, path, line).read_from(path, *files)


def _parts(path: Path) -> list[Path]:
    """The file, or the files of a folder."""
    return [path] if path.is_file() else sorted(file for file in path.glob("*") if not file.name.startswith(HIDDEN))


def _table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)  # a name may hold brackets
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        remedy = "write it again, or give it the ending of its true format"
        raise OovrecError("is not a whole Parquet file", where=path, remedy=remedy) from error


def _joined(path: Path, tables: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all tables; whole numbers in one and floats in another become floats.

    Raises:
        OovrecError: a column is of types that have nothing in common.
    """
    columns: list[pl.DataFrame] = []
    for name in tables[0].columns:
        kinds = list(dict.fromkeys(table.schema[name] for table in tables))
        what = f"the column '{name}' is of different types in the files ({', '.join(map(str, kinds))})"
        error = OovrecError(what, where=path, remedy="write it with the same type in each")
        if len({kind.is_numeric() for kind in kinds if kind != pl.Null}) > 1:
            raise error
        try:
            columns.append(pl.concat([table.select(name) for table in tables], how="vertical_relaxed"))
        except pl.exceptions.PolarsError as polars_error:
            raise error from polars_error
    return pl.concat(columns, how="horizontal")
