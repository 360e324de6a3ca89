"""Ids: blanks around them, and what the numbers of Parquet columns are as texts."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.ids import id_order
from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.errors import OovrecError


def parquet(path: Path, user: pl.Series, item: pl.Series) -> Path:
    pl.DataFrame({"user": user, "item": item}).write_parquet(path)
    return path


def test_blanks_around_ids_are_none_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time,title\n u,x ,1, a film \nu ,\u00a0y,2,\nu,an item,3,\n")
    log = read(path)
    assert log.frame.rows() == [("u", "x", 1), ("u", "y", 2), ("u", "an item", 3)]
    assert log.titles == {"x": " a film "}
    assert log.dataset("d").titles == ["a film", "", ""]
    assert log.notes == ["blanks around ids were removed in 2 of 3 rows"]


def test_the_note_counts_rows_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\nu,x,1\n\nu,y,2\nu,z ,3\n\n")
    assert load_dataset(path, k_core=1).notes == ["blanks around ids were removed in 1 of 3 rows"]


def test_blanks_of_parquet_texts(tmp_path: Path) -> None:
    users, items = pl.Series(["u", "u "]), pl.Series(["x", " y"])
    for kind in (pl.String, pl.Categorical):
        log = read(parquet(tmp_path / "log.parquet", users.cast(kind), items))
        assert log.frame.rows() == [("u", "x"), ("u", "y")]
        assert log.notes[-1] == "blanks around ids were removed in 1 of 2 rows"


def test_ids_of_csv_are_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n1.0,007\n1,7\nnan,7.50\n")
    assert read(path).frame.rows() == [("1.0", "007"), ("1", "7"), ("nan", "7.50")]


@pytest.mark.parametrize("kind", [pl.Float64, pl.Float32])
def test_whole_numbers_among_floats_have_no_point(tmp_path: Path, kind: type[pl.DataType]) -> None:
    floats = pl.Series([1.0, 20.0, -0.0, -3.0, 2.5, 16_777_215], dtype=kind)
    log = read(parquet(tmp_path / "log.parquet", pl.Series(range(6)), floats))
    assert log.frame["user"].to_list() == ["0", "1", "2", "3", "4", "5"]
    assert log.frame["item"].to_list() == ["1", "20", "0", "-3", "2.5", "16777215"]


def test_decimals_of_whole_numbers_have_no_point(tmp_path: Path) -> None:
    items = pl.Series([Decimal("26.00"), Decimal("100.00"), Decimal("2.50")])
    log = read(parquet(tmp_path / "log.parquet", pl.Series([1, 1, 1]), items))
    assert log.frame["item"].to_list() == ["26", "100", "2.50"]


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        (pl.Series([1.0, float("nan"), 3.0]), r"log\.parquet, row 2: has no item; fill it in or remove the line\.$"),
        (pl.Series([1.0, None, 3.0]), r"log\.parquet, row 2: has no item; fill it in"),
        (pl.Series([1.0, 2.0, float("inf")]), r"log\.parquet, row 3: 'inf' in the column 'item' is no id"),
        (
            pl.Series([1.0, 2.0, 2.0**53]),
            r"row 3: '9\S+' in the column 'item' is a float too large to be exact; write the column as whole numbers",
        ),
        (pl.Series([1.0, 2.0, 2.0**24], dtype=pl.Float32), r"row 3: '16777216\.0' in the column 'item' is a float too"),
    ],
)
def test_floats_that_are_no_ids(tmp_path: Path, items: pl.Series, sentence: str) -> None:
    with pytest.raises(OovrecError, match=sentence):
        read(parquet(tmp_path / "log.parquet", pl.Series([1, 2, 3]), items))


def test_ids_are_in_the_order_of_numbers_where_all_are() -> None:
    assert id_order(["10", "9", "100"]).tolist() == [1, 0, 2]
    assert id_order(["b10", "b9", "a"]).tolist() == [1, 2, 0]
    assert id_order(["10", "9", "x"]).tolist() == [0, 1, 2]
    assert id_order(["10", "9" * 900, "1" + "0" * 899]).tolist() == [0, 2, 1]
    assert id_order(["10", "9", "1" * 5000]).tolist() == [0, 2, 1]  # no number that Python reads
