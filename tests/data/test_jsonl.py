"""JSON Lines logs: ids exact, columns of the keys, lines named."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.columns import Columns
from oovrec.data.readers import read
from oovrec.errors import OovrecError

LOG = """\
{"user_id": "a", "item_id": 12345678901234567891, "timestamp": 1405000000, "rating": 4, "shown": [1, 2]}

{"timestamp": 1405000001.5, "item_id": "007", "user_id": "b \\u00e9", "device": {"os": "x"}}
{"user_id": 7, "item_id": 7.5, "timestamp": "1405000002", "rating": null}
"""


@pytest.mark.parametrize("name", ["log.jsonl", "LOG.NDJSON", "log.jsonl.gz"])
def test_objects_are_rows(tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).write_bytes(gzip.compress(LOG.encode()) if name.endswith(".gz") else LOG.encode())
    frame = read(path, Columns(rating="")).frame
    assert frame.columns == ["user", "item", "time", "microseconds"]
    assert frame.rows() == [
        ("a", "12345678901234567891", 1405000000, 0),
        ("b é", "007", 1405000001, 500_000),
        ("7", "7.5", 1405000002, 0),
    ]


def test_columns_may_be_named(tmp_path: Path) -> None:
    (path := tmp_path / "log.jsonl").write_text('{"who": "a", "what": "x"}\n{"who": "a", "what": "y", "when": 3}\n')
    log = read(path, Columns(user="who", item="what"))
    assert log.frame.rows() == [("a", "x"), ("a", "y")]
    with pytest.raises(OovrecError, match=r"log\.jsonl: unknown column 'whom'; did you mean 'who'"):
        read(path, Columns(user="whom", item="what"))
    with pytest.raises(OovrecError, match=r"log\.jsonl, line 1: has no time; fill it in"):
        read(path, Columns(user="who", item="what", time="when"))


@pytest.mark.parametrize("before", [0, 1500])  # in what is looked at for columns, or behind it
@pytest.mark.parametrize("bad", ["{oops}", "[1, 2]", '"x"', '{"user": "a"', '{"user": 1}{"user": 2}', "NaN"])
def test_a_line_that_is_no_object(tmp_path: Path, before: int, bad: str) -> None:
    row = '{"user": "a", "item": "x"}\n'
    (path := tmp_path / "log.jsonl").write_text(row + "\n" + row * before + bad + "\n" + row)
    with pytest.raises(OovrecError, match=rf"log\.jsonl, line {before + 3}: is no JSON object; write an object a line"):
        read(path)


def test_a_row_without_an_item_is_named_by_its_line(tmp_path: Path) -> None:
    (path := tmp_path / "log.jsonl").write_text('{"user": "a", "item": "x"}\n\n\n{"user": "a", "item": ""}\n')
    with pytest.raises(OovrecError, match=r"log\.jsonl, line 4: has no item"):
        read(path)


ROWS = [
    {"user": "a", "item": 2**70, "time": 1405000000, "rating": 4.0, "title": "\U0001f600", "more": math.nan},
    {"user": True, "item": "x\\ud83d", "time": 1405000001.5, "rating": 1, "title": math.nan, "more": "\ud83d"},
    {"user": "a", "item": 1.5, "time": "1405000002", "rating": 2.0, "more": [1]},
]


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return path


def test_lines_that_python_writes_and_polars_cannot_read(tmp_path: Path) -> None:
    """Values are those of the same lines without what polars stumbles over, which polars reads."""
    log = read(written(tmp_path / "log.jsonl", *ROWS))
    plain = [{key: value for key, value in row.items() if key not in ("more", "title")} for row in ROWS]
    plain[0]["item"] = "1180591620717411303424"
    assert log.frame.equals(read(written(tmp_path / "plain.jsonl", *plain)).frame)
    assert log.titles == {"1180591620717411303424": "\U0001f600"}


@pytest.mark.parametrize(
    ("role", "value", "says"),
    [
        ("user", math.nan, "line 5: has no user; fill it in or remove the line."),
        ("item", math.inf, "line 5: has no item; fill it in or remove the line."),
        (
            "rating",
            math.nan,
            "line 5: has no rating; fill it in or remove the line, or leave the column out with --rating-column ''.",
        ),
        (
            "item",
            "x\ud83d",
            "line 5: 'x\\ud83d' in the column 'item' has half a character; write the whole one or none.",
        ),
        (
            "title",
            "\ude00 x",
            "line 5: '\\ude00 x' in the column 'title' has half a character; write the whole one or none.",
        ),
    ],
)
@pytest.mark.parametrize("before", [2, 1500])
def test_what_only_python_writes_is_named(tmp_path: Path, role: str, value: object, says: str, before: int) -> None:
    row = {"user": "a", "item": "x", "time": 1, "rating": 3.5, "title": "\U0001f600"}
    path = written(tmp_path / "log.jsonl", *[row] * before, row | {role: value})
    with pytest.raises(OovrecError) as error:
        read(path)
    assert str(error.value) == f"{path}, {says}".replace("line 5", f"line {2 * before + 1}")


def test_a_missing_rating_is_named_as_in_parquet(tmp_path: Path) -> None:
    rows = [{"user": "a", "item": "x", "rating": rating} for rating in (1.0, math.nan)]
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    written(tmp_path / "log.jsonl", *rows)
    told = []
    for name in ("log.parquet, row 2", "log.jsonl, line 3"):
        with pytest.raises(OovrecError) as error:
            read(tmp_path / name.partition(",")[0])
        told.append(str(error.value).removeprefix(f"{tmp_path / name}: "))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("rows", "columns", "line", "key", "role", "other"),
    [
        ([{"user_id": {"$oid": "a"}, "item": "x"}] * 2, Columns(), 1, "user_id", "user", "--user-column"),
        ([{"user": "a", "item": "x"}, {"user": "a", "item": ["x"]}], Columns(), 3, "item", "item", "--item-column"),
        ([{"user": "a", "item": "x", "date": [1]}], Columns(), 1, "date", "time", "--time-column ('' for none)"),
        ([{"user": "a", "item": "x", "at": {}}], Columns(time="at"), 1, "at", "time", "--time-column ('' for none)"),
    ],
)
def test_keys_that_hold_lists_or_objects(tmp_path: Path, rows, columns, line, key, role, other) -> None:
    path = written(tmp_path / "log.jsonl", *rows)
    with pytest.raises(OovrecError) as error:
        read(path, columns)
    remedy = f"write a text or number there, or name another column with {other}, or in a data file."
    assert (
        str(error.value) == f"{path}, line {line}: '{key}' holds a list or an object and cannot be the {role}; {remedy}"
    )


def test_keys_that_hold_lists_or_objects_can_be_passed_over(tmp_path: Path) -> None:
    row = {"user": ["a"], "user_id": "a", "item": "x", "date": {"$date": 1}, "rating": {"of": 5}}
    assert read(written(tmp_path / "log.jsonl", row), Columns(time="")).frame.rows() == [("a", "x")]
