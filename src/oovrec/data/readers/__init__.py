"""Readers, one module a format; a module in this package is found without being listed anywhere.

A reader gives ``FORMAT`` (what it reads, for people), ``NAMED_COLUMNS`` (whether :class:`Columns` apply),
``reads(path) -> bool`` (from names alone, without opening files) and ``read(path, columns) -> Interactions``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from oovrec.data.columns import Columns, Role
from oovrec.data.interactions import Interactions
from oovrec.data.text import existing
from oovrec.errors import OovrecError


class Reader(Protocol):
    """What a module of this package gives."""

    FORMAT: str
    NAMED_COLUMNS: bool

    def reads(self, path: Path) -> bool:
        """Whether the path's name, or the names in the folder, are of this format."""

    def read(self, path: Path, columns: Columns) -> Interactions:
        """The interactions of a file or folder that :meth:`reads` accepts."""


def readers() -> list[Reader]:
    """Every reader, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [cast(Reader, importlib.import_module(f"{__name__}.{name}")) for name in names]


def read(path: Path, columns: Columns | None = None, unused: Sequence[Role] = ()) -> Interactions:
    """The interactions of a file or folder, by the reader of its format.

    Args:
        columns: which column is what.
        unused: what nobody asks for: its columns are left out unless they are named.

    Raises:
        OovrecError: nothing is there; no reader knows the format; columns are named for a format whose columns are
            fixed; whatever the reader finds wrong.
    """
    path, known = existing(path), readers()
    reader = next((reader for reader in known if reader.reads(path)), None)
    if reader is None:
        formats = ", ".join(reader.FORMAT for reader in known)
        raise OovrecError("is of no format that oovrec reads", where=path, remedy=f"give one of: {formats}")
    columns = columns or Columns()
    if columns != Columns() and not reader.NAMED_COLUMNS:
        raise OovrecError(f"{reader.FORMAT} has fixed columns", where=path, remedy="leave out the column options")
    return reader.read(path, columns.without(*unused))
