"""CSV and TSV logs: a header line, one interaction a line, plain or gzipped."""

from __future__ import annotations

from pathlib import Path

from oovrec.data.columns import Columns, table_interactions
from oovrec.data.interactions import Interactions
from oovrec.data.text import ends

FORMAT = "a CSV or TSV file (.csv, .tsv, also .gz)"
NAMED_COLUMNS = True
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def reads(path: Path) -> bool:
    """A file ending in ``.csv`` or ``.tsv``, perhaps with ``.gz``."""
    return path.is_file() and ends(path, *ENDINGS)


def read(path: Path, columns: Columns) -> Interactions:
    """The log of ``path``; the separator is found from the header.

    Raises:
        OovrecError: not such a table, or wrong columns; a line without user, item or a proper time.
    """
    return table_interactions(path, columns).read_from(path, path)
