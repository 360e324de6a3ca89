"""CSV, TSV and Parquet logs: columns found or named, separators, times, titles."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from datetime import time as clock
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.columns import Columns
from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.data.text import read_table, row_line
from oovrec.errors import OovrecError

ROWS = [("007", "x", 30, 4.0), ("007", "y", 10, 3.5), ("b", "x", 20, 1.0), ("007", "z", 20, 5.0)]


def written(path: Path, header: str, separator: str = ",") -> Path:
    lines = [header, *(separator.join(map(str, row)) for row in ROWS)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix.lower() == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "LOG.CSV", "log.Tsv.GZ"])
def test_separator_and_columns_are_found(tmp_path: Path, name: str, separator: str) -> None:
    header = separator.join(["User ID", "movieId", "Timestamp", "rating"])
    log = read(written(tmp_path / name, header, separator))
    assert log.frame.rows() == [(user, item, time, rating) for user, item, time, rating in ROWS]
    assert log.frame.columns == ["user", "item", "time", "rating"]


@pytest.mark.parametrize("separator", [";", ",", "\t", "^"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_may_name_the_separator(tmp_path: Path, separator: str, end: str) -> None:
    """As in files for Excel; in the header commas are more."""
    header = separator.join(["user", "item", "timestamp", '"a,b,c,d,e"'])
    plain = written(tmp_path / "plain.csv", header, separator).read_text()
    path = tmp_path / "log.csv"
    path.write_bytes(f"\ufeffsep={separator}\n{plain}".replace("\n", end).encode())
    assert read(path).frame.rows() == [(user, item, time) for user, item, time, _ in ROWS]
    path.write_text(f"sep={separator}\n{plain}a{separator}b\n")
    with pytest.raises(OovrecError, match=r"log\.csv, line 7: has 2 of 4 columns, so no time"):
        read(path)
    path.write_text(f"sep={separator}\n{plain}{separator * 4}\n")
    with pytest.raises(OovrecError, match=r"log\.csv, line 7: does not have 4 columns like the header"):
        read(path)
    path.write_text(f"sep={separator}\nuser item\na b\n")
    with pytest.raises(OovrecError, match=r"log\.csv, line 2: the header has one column, 'user item'"):
        read(path)


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


@pytest.mark.parametrize(
    ("columns", "both", "options"),
    [
        (Columns(user="user", item="user"), "'user' cannot be both the user and the item", "user-column or --item"),
        (Columns(item="user"), "'user' cannot be both the user and the item", "user-column or --item"),
        (Columns(time="item"), "'item' cannot be both the item and the time", "item-column or --time"),
        (Columns(rating="time"), "'time' cannot be both the time and the rating", "time-column or --rating"),
        (Columns(rating="user"), "'user' cannot be both the user and the rating", "user-column or --rating"),
    ],
)
def test_a_column_is_one_thing(tmp_path: Path, columns: Columns, both: str, options: str) -> None:
    path = written(tmp_path / "log.csv", "user,item,time,rating")
    with pytest.raises(
        OovrecError, match=rf"log\.csv: the column {both}; name another with --{options}-column, or in a"
    ):
        read(path, columns)
    assert read(path, Columns(title="item")).titles == {"x": "x", "y": "y", "z": "z"}


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv"])
def test_carriage_returns_may_end_lines(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, "user,item,time,rating")
    rows = read(path).frame.rows()
    unpacked = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    old = unpacked.replace(b"\n", b"\r")
    path.write_bytes(gzip.compress(old) if path.suffix == ".gz" else old)
    assert read(path).frame.rows() == rows == ROWS


def test_a_table_may_have_one_column_but_a_log_may_not(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("item\nx\ny\n")
    assert read_table(path)["item"].to_list() == ["x", "y"]
    with pytest.raises(OovrecError, match=r"ids\.csv, line 1: the header has one column, 'item'; separate columns by"):
        read(path)


def test_rows_are_found_below_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('item,title\nx,"a\nb"\n\ny,"""a""\n\n"\nz,\n')
    assert [row_line(path, row) for row in range(read_table(path).height)] == [2, 4, 5, 8]


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
    hidden = (folder / "log.csv.gz").rename(folder / ".log.csv.gz")
    assert load_dataset(hidden, k_core=1).name == "log"


def test_a_folder_may_be_called_as_a_file_is(tmp_path: Path) -> None:
    folder = tmp_path / "shop.csv"
    folder.mkdir()
    (folder / "user_sequence.txt").write_text("u a b c\n")
    assert load_dataset(folder, k_core=1).users == ["u"]


def test_quotes_blank_lines_byte_order_mark_and_titles(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    text = '\ufeffuser,item,title\na,x,"Rain, and ""sun"""\n\na,y,\r\na,x,other\n\n'
    path.write_bytes(text.encode())
    log = read(path)
    assert log.frame.rows() == [("a", "x"), ("a", "y"), ("a", "x")]
    assert log.titles == {"x": 'Rain, and "sun"'}


def test_a_title_is_the_first_that_an_item_has_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,item,title\na,x,""\na,x," "\na,x,"Rain  and\nsun "\na,x,other\na,y,\n')
    assert read(path).dataset("d").titles == ["Rain and sun", ""]


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


@pytest.mark.parametrize(
    ("role", "values", "kind"),
    [
        ("user_id", [["a"]], "List\\(String\\)"),
        ("item_id", [b"\xff"], "Binary"),
        ("user_id", [{"a": "b"}], "Struct\\(.*\\)"),
        ("user_id", [timedelta(1)], "Duration\\(.*\\)"),
        ("time", [[1]], "List\\(Int64\\)"),
        ("time", [True], "Boolean"),
        ("time", [clock(12)], "Time"),
        ("time", [timedelta(1)], "Duration\\(.*\\)"),
        ("rating", [{"a": 1.0}], "Struct\\(.*\\)"),
        ("rating", [[1.0]], "List\\(Float64\\)"),
        ("rating", [datetime(2014, 7, 23)], "Datetime\\(.*\\)"),
        ("title", [["a"]], "List\\(String\\)"),
        ("review", [b"a"], "Binary"),
        ("title", [timedelta(1)], "Duration\\(.*\\)"),
    ],
)
def test_parquet_columns_of_other_types(tmp_path: Path, role: str, values: list[object], kind: str) -> None:
    table = {"user_id": ["a"], "item_id": ["x"], "time": [1], role: values}
    pl.DataFrame(table).write_parquet(tmp_path / "log.parquet")
    plain = role.removesuffix("_id")
    message = rf"log\.parquet: the column '{role}' is of the type {kind} and cannot be the {plain}; write it as text"
    with pytest.raises(OovrecError, match=message):
        read(tmp_path / "log.parquet")


def test_parquet_categories_are_the_texts_they_stand_for(tmp_path: Path) -> None:
    table = pl.DataFrame({"user": ["7", "5"], "item": ["x", "y"], "time": ["20", "10"], "rating": ["4.5", "1"]})
    table.cast(pl.Categorical).write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet").frame.rows() == [("7", "x", 20, 4.5), ("5", "y", 10, 1.0)]


def test_the_files_digest_and_source_are_kept(tmp_path: Path) -> None:
    import hashlib

    path = written(tmp_path / "log.csv", "user,item,time,rating")
    log = read(path)
    assert (log.source, log.sha256) == (str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_of_names_alike_but_for_case_the_first_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,User_ID,USER,item\na,b,c,x\n")
    assert read(path).frame.rows() == [("a", "x")]


def test_columns_as_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("who,what\n" + "".join(f"{user},{item}\n" for user in "ab" for item in "xyz"))
    given = {"user": "who", "item": "what"}
    assert load_dataset(path, columns=given, k_core=1).fingerprint == (
        load_dataset(path, columns=Columns(**given), k_core=1).fingerprint
    )
    with pytest.raises(OovrecError, match="columns: unknown key 'usr'; did you mean 'user'"):
        load_dataset(path, columns={"usr": "who"})


def test_a_parquet_files_name_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "export [2023]"
    folder.mkdir()
    table = pl.DataFrame(ROWS, schema=["user_id", "item_id", "time", "rating"], orient="row")
    for name in ("log?.parquet", "log1.parquet"):
        table.write_parquet(folder / name)
    assert read(folder / "log?.parquet").frame.rows() == ROWS


def test_a_blank_first_line_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "log.csv").write_text("\nuser,item\na,x\n")
    with pytest.raises(OovrecError, match=r"log\.csv, line 1: is blank; begin with the names of the columns"):
        read(path)


def test_ratings_are_finite_notes_count_rows_and_a_named_column_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating,review\nu ,a,3,fine\n,,,\nv,b,4,bad\n")
    kept = read(log, Columns(review="review"), unused=["review"])
    assert kept.notes[-1] == "blanks around ids were removed in 1 of 2 rows"
    assert kept.frame["review"].to_list() == ["fine", "bad"]
    assert "review" not in read(log, unused=["review"]).frame.columns
    log.write_text("user,item,rating\nu,a,3\nv,b,inf\n")
    with pytest.raises(OovrecError, match=r"line 3: 'inf' in the column 'rating' is not a number"):
        read(log)


def test_the_item_of_an_amazon_review_is_the_product_that_its_variants_share(tmp_path: Path) -> None:
    """Reviews of 2023 name both; metadata are by the parent."""
    path = tmp_path / "reviews.csv"
    path.write_text("rating,asin,parent_asin,user_id,timestamp\n5.0,RED,SHOE,A1,1391040000123\n")
    assert read(path).frame["item"].to_list() == ["SHOE"]
