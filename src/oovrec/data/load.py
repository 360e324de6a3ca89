"""From a dataset's name, a folder or a file to a :class:`Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from oovrec.config import checked
from oovrec.data import catalog
from oovrec.data.columns import Columns
from oovrec.data.dataset import Dataset
from oovrec.data.readers import read
from oovrec.data.text import existing
from oovrec.errors import OovrecError

__all__ = ["Columns", "load_dataset"]


def load_dataset(
    data: str | Path, *, columns: Columns | Mapping[str, str] | None = None, k_core: int = 5, name: str | None = None
) -> Dataset:
    """Read interactions, keep their k-core and put them in time order.

    Args:
        data: a name of the catalogue (fetched on first use), a folder or a file. A folder that bears a
            name of the catalogue is meant by ``./name``.
        columns: which column of a CSV, Parquet or RecBole log is what, where the names are not usual ones; a
            mapping has the same keys (``user``, ``item``, …).
        k_core: every user and item keeps at least this many interactions; 1 keeps all.
        name: for tables and pages; without it the catalogue's, the folder's or the file's.

    Raises:
        OovrecError: no such dataset; ``k_core`` below 1; a file that is broken or of another format; nothing left to
            learn from.
    """
    if k_core < 1:
        raise OovrecError(f"{k_core} is below 1", where="k_core", remedy="give 1 to keep all interactions, or more")
    columns = checked(Columns, columns, where="columns") if isinstance(columns, Mapping) else columns
    path, known_as = _located(data)
    log = read(path, columns)
    core = log.k_core(k_core)
    if not len(core.frame):
        what = f"none of {len(log.frame):,} interactions are left when every user and item must have {k_core}"
        raise OovrecError(what, where=path, remedy="lower --k-core or give more data")
    dataset = core.dataset(name or known_as)
    if not len(dataset.evaluated_users()):
        what = "no user has three items, and one each is needed to train, validate and test"
        raise OovrecError(what, where=path, remedy="give longer histories")
    return dataset


def _located(data: str | Path) -> tuple[Path, str]:
    """Where the data lies and what it is called."""
    if isinstance(data, str) and data in catalog.CATALOG:
        return catalog.get(data), data
    try:
        path = existing(data)
    except OovrecError as error:
        if isinstance(data, Path) or len(Path(data).parts) > 1 or Path(data).suffix:
            raise
        raise catalog.unknown_dataset(data) from error
    named = path.parent if path.name == "user_sequence.txt" else path
    name = named.resolve().name
    return path, name.partition(".")[0] if named.is_file() else name
