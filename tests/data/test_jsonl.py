"""JSON Lines logs: ids exact, columns of the keys, lines named."""

from __future__ import annotations

import gzip
from pathlib import Path

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
