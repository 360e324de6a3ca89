"""From a dataset's name, a folder, a log or a data file to a :class:`Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import get_args

from pydantic import Field

from oovrec.config import Options, check_names, checked
from oovrec.data import catalog
from oovrec.data.columns import Columns, Role
from oovrec.data.dataset import Dataset, HoldOut
from oovrec.data.interactions import Interactions
from oovrec.data.readers import read
from oovrec.data.text import existing, home
from oovrec.errors import OovrecError, check_whole, unknown, within
from oovrec.files import check_name, read_yaml

__all__ = ["K_CORE", "Columns", "DataFile", "is_data_file", "load_dataset", "read_all", "told_twice"]

K_CORE = 5
DATA_FILES = (".yaml", ".yml")


class DataFile(Options):
    """What a data file, in YAML, says of data; the same can be given to :func:`load_dataset`.

    Attributes:
        source: a name of the catalogue, a folder or a file; paths begin where the data file lies.
        columns: which column of a log is what.
        k_core: every user and item keeps at least this many interactions.
        tie_seed: of a random order of each user's items of the same time; None leaves them in the log's order.
        hold_out: each user's ``last`` item and the one before it, or what came after a moment (``time``).
        name: for tables, pages and folders of results; '' takes the file's, without its ending.
    """

    source: str
    columns: Columns = Field(default_factory=Columns)
    k_core: int = Field(K_CORE, ge=1, strict=True)  # for YAML's yes and no are no numbers
    tie_seed: int | None = Field(None, ge=0, strict=True)
    hold_out: HoldOut = "last"
    name: str = ""


def is_data_file(data: str | Path) -> bool:
    """Whether ``data`` is named like a data file.

    Raises:
        OovrecError: it is no name.
    """
    check_place(data)
    return Path(data).suffix.lower() in DATA_FILES


def check_place(data: str | Path) -> None:
    """Make sure that ``data`` is a name or a path, such as a table in memory is not.

    Raises:
        OovrecError: it is neither.
    """
    if not isinstance(data, str | PathLike):
        remedy = "give a name or a path; a table in memory is written to a .parquet file first"
        raise OovrecError(f"a {type(data).__name__} says not where data lies", where="data", remedy=remedy)


def told_twice(path: str | Path) -> OovrecError:
    """What a data file says was given once more."""
    what = "says how its data is read itself"
    return OovrecError(what, where=path, remedy="change it there, or give the data itself")


def load_dataset(
    data: str | Path,
    *,
    columns: Columns | Mapping[str, str] | None = None,
    k_core: int = K_CORE,
    tie_seed: int | None = None,
    hold_out: HoldOut = "last",
    name: str | None = None,
) -> Dataset:
    """Read interactions, keep their k-core and put them in time order.

    Args:
        data: a name of the catalogue (fetched on first use), a folder, a file, or a data file (``.yaml``, a
            :class:`DataFile`), which says the rest. A folder that bears a name of the catalogue is meant by ``./name``.
        columns: which column of a CSV, Parquet or RecBole log is what, where the names are not usual ones; a
            mapping has the same keys (``user``, ``item``, …).
        k_core: every user and item keeps at least this many interactions; 1 keeps all.
        tie_seed: of a random order of each user's items of the same time; None leaves them in the log's order.
        hold_out: each user's ``last`` item tests and the one before it validates; or ``time``: of the newest tenth of
            all interactions each user's first item tests, of the tenth before it validates.
        name: for tables and pages; without it the catalogue's, the folder's or the file's.

    Raises:
        OovrecError: no such dataset; ``k_core`` below 1, a ``tie_seed`` below 0; a file that is broken or of another
            format; nothing left to learn from; ``tie_seed`` or ``time`` without times; a data file, and what it says
            given once more.
    """
    check_whole(k_core, "k_core", "give 1 to keep all interactions, or more")
    if tie_seed is not None:
        check_whole(tie_seed, "tie_seed", "give a number from 0", least=0)
    if hold_out not in get_args(HoldOut):
        raise unknown("way", str(hold_out), get_args(HoldOut), where="hold_out")
    columns = checked(Columns, columns, where="columns") if isinstance(columns, Mapping) else columns
    if is_data_file(data):
        told = read_data_file(file := existing(data), columns, k_core, tie_seed, hold_out)
        dataset = load_dataset(told.source, columns=told.columns, k_core=told.k_core, name=name or told.name)
        return _arranged(replace(dataset, source=str(file), reading={}), told.tie_seed, told.hold_out)
    path, known_as = _located(data)
    log = read(path, columns)
    core = log.k_core(k_core)
    if not len(core.frame):
        what = f"none of {len(log.frame):,} interactions are left when every user and item must have {k_core}"
        raise OovrecError(what, where=path, remedy="lower --k-core (k_core in a data file) or give more data")
    reading = {"columns": columns or Columns(), "k_core": k_core}
    dataset = replace(core.dataset(name or known_as), reading=reading)
    if not len(dataset.evaluated_users("test")):
        what = "no user has three items, and one each is needed to train, validate and test"
        raise OovrecError(what, where=path, remedy="give longer histories")
    return _arranged(dataset, tie_seed, hold_out)


def _arranged(dataset: Dataset, tie_seed: int | None, hold_out: HoldOut) -> Dataset:
    """The dataset with its ties in random order, and with what is held out by time, where that is asked for."""
    dataset = dataset if tie_seed is None else dataset.with_ties_shuffled(tie_seed)
    if hold_out == "last":
        return dataset
    held = dataset.held_out_by_time()
    for split in ("validation", "test"):
        if not len(held.evaluated_users(split)):
            what = f"by time no user of the training part has an item to be held out for {split}"
            raise OovrecError(what, where=dataset.source, remedy="leave hold_out out, or give a longer log")
    return held


def read_all(data: str | Path, columns: Columns | None = None, unused: Sequence[Role] = ()) -> Interactions:
    """All interactions of data in any form, those too that a k-core would leave out.

    Args:
        data, columns: as for :func:`load_dataset`.
        unused: as for :func:`oovrec.data.readers.read`.

    Raises:
        OovrecError: as :func:`load_dataset`.
    """
    if is_data_file(data):
        told = read_data_file(existing(data), columns)
        data, columns = told.source, told.columns
    return read(_located(data)[0], columns, unused)


def read_data_file(
    path: Path,
    columns: Columns | None = None,
    k_core: int = K_CORE,
    tie_seed: int | None = None,
    hold_out: HoldOut = "last",
) -> DataFile:
    """What a data file says, its source as it is to be found from anywhere, its name in any case.

    Args:
        columns, k_core, tie_seed, hold_out: what was asked for beside it: nothing, or it is an error.

    Raises:
        OovrecError: it is none, or broken, or something is said twice.
    """
    if (columns or Columns(), k_core, tie_seed, hold_out) != (Columns(), K_CORE, None, "last"):
        raise told_twice(path)
    values = read_yaml(path)
    if not isinstance(values, dict) or "source" not in values:
        raise OovrecError("does not say its data's 'source'", where=path, remedy="give a data file, or the data itself")
    with within(path):
        check_names(values, None)
        told = checked(DataFile, values, where="")
    if told.name:
        check_name(told.name, f"{path}, name")
    if is_data_file(told.source):
        raise OovrecError("names another data file", where=f"{path}, source", remedy="give the data itself")
    source = told.source if told.source in catalog.CATALOG else str(path.parent.absolute() / home(told.source))
    return told.model_copy(update={"source": source, "name": told.name or path.stem})


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
    return path, name.lstrip(".").partition(".")[0] if named.is_file() else name
