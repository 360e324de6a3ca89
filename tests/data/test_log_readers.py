"""CSV, TSV and Parquet logs: columns found or named, separators, times, titles."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.columns import Columns
from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.errors import OovrecError

ROWS = [("007", "x", 30, 4.0), ("007", "y", 10, 3.5), ("b", "x", 20, 1.0), ("007", "z", 20, 5.0)]


def written(path: Path, header: str, separator: str = ",") -> Path:
    lines = [header, *(separator.join(map(str, row)) for row in ROWS)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz"])
def test_separator_and_columns_are_found(tmp_path: Path, name: str, separator: str) -> None:
    header = separator.join(["User ID", "movieId", "Timestamp", "rating"])
    log = read(written(tmp_path / name, header, separator))
    assert log.frame.rows() == [(user, item, time, rating) for user, item, time, rating in ROWS]
    assert log.frame.columns == ["user", "item", "time", "rating"]


def test_columns_can_be_named_and_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "who,what,user,date")
    log = read(path, Columns(user="who", item="what", time="", rating="user"))
    assert log.frame["user"].to_list() == ["007", "007", "b", "007"]
    assert log.frame["rating"].to_list() == [30, 10, 20, 20]
    assert "time" not in log.frame.columns
    assert log.notes == ["the log has no times: its rows are taken to be in time order"]


def test_a_named_column_that_is_absent_names_its_neighbour(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "who,what,when,score")
    with pytest.raises(OovrecError, match=r"log\.csv: unknown column 'whom'; did you mean 'who'\."):
        read(path, Columns(user="whom", item="what"))


def test_rows_are_sorted_by_time(tmp_path: Path) -> None:
    data = load_dataset(written(tmp_path / "log.csv", "user,item,time,rating"), k_core=1)
    assert data.name == "log"
    assert [data.items[index] for index in data.full[data.user_index["007"]]] == ["y", "z", "x"]


def test_names_come_from_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "shop-1.0"
    folder.mkdir()
    written(folder / "log.csv.gz", "user,item,time,rating")
    (folder / "user_sequence.txt").write_text("u a b c\n")
    assert load_dataset(folder / "log.csv.gz", k_core=1).name == "log"
    assert load_dataset(folder, k_core=1).name == "shop-1.0"
    assert load_dataset(folder / "user_sequence.txt", k_core=1).name == "shop-1.0"
    assert load_dataset(folder, k_core=1, name="mine").name == "mine"


def test_quotes_blank_lines_byte_order_mark_and_titles(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    text = '\ufeffuser,item,title\na,x,"Rain, and ""sun"""\n\na,y,\r\na,x,other\n\n'
    path.write_bytes(text.encode())
    log = read(path)
    assert log.frame.rows() == [("a", "x"), ("a", "y"), ("a", "x")]
    assert log.titles == {"x": 'Rain, and "sun"'}


def test_reviews_stand_beside_their_items(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,item,time,reviewText,Summary\na,x,2,"so  so\nthen",\na,y,1,,Fine\n')
    data = read(path).dataset("d")
    assert [data.items[item] for item in data.full.items] == ["y", "x"]
    assert (data.summaries.tolist(), data.reviews.tolist()) == (["Fine", ""], ["", "so so then"])
    assert (read(path, Columns(review="", summary="")).dataset("d").reviews) is None


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    table = pl.DataFrame(ROWS, schema=["user_id", "item_id", "time", "rating"], orient="row")
    table.write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet").frame.rows() == ROWS
    stamped = table.with_columns(pl.from_epoch("time"), pl.col("item_id").rank("dense"))
    stamped.write_parquet(tmp_path / "stamped.parquet")
    assert read(tmp_path / "stamped.parquet").frame.rows() == [
        ("007", "1", 30, 4.0), ("007", "2", 10, 3.5), ("b", "1", 20, 1.0), ("007", "3", 20, 5.0),
    ]  # fmt: skip


def test_the_files_digest_and_source_are_kept(tmp_path: Path) -> None:
    import hashlib

    path = written(tmp_path / "log.csv", "user,item,time,rating")
    log = read(path)
    assert (log.source, log.sha256) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())
