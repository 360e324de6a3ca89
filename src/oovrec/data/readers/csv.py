"""CSV and TSV logs: a header line, one interaction a line, plain or packed."""

from __future__ import annotations

from pathlib import Path

from oovrec.data.columns import Columns, table_interactions
from oovrec.data.interactions import Interactions
from oovrec.data.packing import ends, unpacked

FORMAT = "a CSV or TSV file (.csv, .tsv; also .gz, .bz2, .xz, .zip)"
NAMED_COLUMNS = True


def reads(path: Path) -> bool:
    """A file ending in ``.csv`` or ``.tsv``, perhaps packed."""
    return path.is_file() and ends(unpacked(path), ".csv", ".tsv")


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``; the separator is found from the header.

    Raises:
        OovrecError: not such a table, or wrong columns; a line without user, item or a proper time.
    """
    return table_interactions(path, columns).read_from(path, path)
