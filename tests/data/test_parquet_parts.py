"""A folder of Parquet files is the log of their rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.errors import OovrecError

FIRST = {"user": [1, 1, 1], "item": [5, 6, 7], "time": [1, 2, 3]}


def parts(folder: Path, **tables: dict[str, list[object]]) -> Path:
    """The folder with a file for each table, by its name."""
    for name, table in tables.items():
        pl.DataFrame(table).write_parquet(folder / f"{name}.parquet")
    return folder


def test_rows_come_file_by_file_by_name(tmp_path: Path) -> None:
    last, empty = {"time": [9], "item": [8], "user": [1]}, {name: [] for name in FIRST}
    folder = parts(tmp_path, b=last, a=FIRST, c=empty)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".a.parquet.crc").touch()
    (tmp_path / "b.parquet").rename(tmp_path / "b.PARQUET")
    log = read(folder)
    assert log.frame.rows() == [("1", "5", 1), ("1", "6", 2), ("1", "7", 3), ("1", "8", 9)]
    assert log.source == str(folder)
    assert log.sha256 != hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    assert load_dataset(folder, k_core=1).name == folder.name


def test_parts_that_lack_ids_differ_in_type_alone(tmp_path: Path) -> None:
    floats = {"user": [2.0], "item": [5.0], "time": [4]}
    assert read(parts(tmp_path, a=FIRST, b=floats)).frame.rows()[-1] == ("2", "5", 4)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (FIRST | {"item": [1, None, 2]}, r"b\.parquet, row 2: has no item; fill it in or remove the line\.$"),
        (
            {"user": [1], "name": ["x"]},
            r"b\.parquet: has other columns \(user, name\) than a\.parquet beside it has; give a folder of one",
        ),
        (
            FIRST | {"item": ["5", "6", "7"]},
            r"the column 'item' is of different types in the files \(Int64, String\); write it with the same type",
        ),
        (
            FIRST | {"time": [[1], [2], [3]]},
            r"the column 'time' is of different types in the files \(Int64, List\(Int64\)",
        ),
    ],
)
def test_parts_that_are_wrong(tmp_path: Path, second: dict[str, list[object]], sentence: str) -> None:
    with pytest.raises(OovrecError, match=sentence):
        read(parts(tmp_path, a=FIRST, b=second))


def test_a_part_that_is_broken_is_named(tmp_path: Path) -> None:
    (parts(tmp_path, a=FIRST) / "b.parquet").touch()
    with pytest.raises(OovrecError, match=r"b\.parquet: is not a whole Parquet file"):
        read(tmp_path)


def test_a_folder_with_other_files_is_no_log_of_parts(tmp_path: Path) -> None:
    (parts(tmp_path, a=FIRST) / "notes.md").touch()
    with pytest.raises(OovrecError, match=r"is of no format that oovrec reads; .* or a folder of such files alone"):
        read(tmp_path)


def test_the_first_row_of_a_part_is_named_by_that_part(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u", "v"], "item": ["a", "b"]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"user": [None, "v"], "item": ["a", "b"]}, schema_overrides={"user": pl.String}).write_parquet(
        tmp_path / "2.parquet"
    )
    with pytest.raises(OovrecError, match=r"2\.parquet, row 1: has no user"):
        read(tmp_path)


def test_a_later_part_with_a_column_more_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=r"b\.parquet: has other columns \(user, item, time, rating\) than a"):
        read(parts(tmp_path, a=FIRST, b=FIRST | {"rating": [1.0, 2.0, 3.0]}))
