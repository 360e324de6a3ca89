"""``data show`` and ``tokens``: figures by hand, and the loud warning about histories that are sorted by id."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from oovrec.tokens.table import read_table


@pytest.fixture
def by_id(log: Path, tmp_path: Path) -> Path:
    """The log with each user's items sorted by id and the times thrown away."""
    with log.open(encoding="utf-8") as file:
        rows = [(row["user_id"], row["item_id"]) for row in csv.DictReader(file)]
    rows = sorted(set(rows), key=lambda row: (row[0], row[1]))
    path = tmp_path / "by_id.csv"
    path.write_text("\n".join(["user_id,item_id", *map(",".join, rows)]) + "\n")
    return path


def test_counts_are_those_of_the_file(oovrec, log: Path) -> None:
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    report = json.loads(oovrec("data", "show", log, "--json").stdout)
    assert report["users"] == len({row["user_id"] for row in rows})
    assert report["items"] == len({row["item_id"] for row in rows})
    assert report["interactions"] == len(rows)
    assert report["splits"]["test"]["targets"] == report["users"]
    assert [warning.partition(":")[0] for warning in report["warnings"]] == ["repeats"]  # the tiny log has many
    shown = oovrec("data", "show", log).stdout
    assert f"{len(rows):,}" in shown
    assert shown.count("WARNING") == 1


def test_histories_sorted_by_id_are_warned_of_loudly(oovrec, by_id: Path, tmp_path: Path) -> None:
    assert "WARNING sorted_by_id" in oovrec("data", "show", by_id, "--k-core", 3).stdout
    trained = oovrec("train", "popularity", "--data", by_id, "--k-core", 3, "--out", tmp_path / "run")
    assert "WARNING sorted_by_id" in trained.stderr


def test_sports_is_in_order_and_a_sorted_copy_is_not(oovrec, shared: Path, tmp_path: Path) -> None:
    original = shared / "data" / "sports" / "user_sequence.txt"
    lines = [line.split() for line in original.read_text().splitlines()]
    copy = tmp_path / "user_sequence.txt"
    copy.write_text("\n".join(" ".join([user, *sorted(items)]) for user, *items in lines) + "\n")
    assert "sorted_by_id" not in oovrec("data", "show", original.parent).stdout
    assert "WARNING sorted_by_id" in oovrec("data", "show", copy).stdout


def test_columns_by_name(oovrec, log: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(log.read_text().replace("user_id,item_id,timestamp,title", "who,what,when,label"))
    columns = ["--user-column", "who", "--item-column", "what", "--time-column", "when", "--title-column", "label"]
    keys = ("users", "items", "interactions", "dates", "splits")
    reports = [
        json.loads(oovrec(*words, "--json").stdout)
        for words in (["data", "show", log], ["data", "show", renamed, *columns])
    ]
    assert [reports[0][key] for key in keys] == [reports[1][key] for key in keys]


def test_times_of_another_form(oovrec, log: Path, tmp_path: Path) -> None:
    head, *rows = (line.split(",") for line in log.read_text().splitlines())
    place = head.index("timestamp")
    for row in rows:
        row[place] = datetime.fromtimestamp(int(row[place]), UTC).strftime("%d/%m/%Y %H:%M:%S")
    other = tmp_path / "other.csv"
    other.write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    refused = oovrec("data", "show", other, code=2).stderr
    assert "line 2" in refused
    assert "say by --time-format how they are written" in refused.replace("\n", " ")
    data_file = tmp_path / "other.yaml"
    data_file.write_text("source: other.csv\ncolumns: {time_format: '%d/%m/%Y %H:%M:%S'}\n")
    told, out = ["--time-format", "%d/%m/%Y %H:%M:%S"], tmp_path / "run"
    ways: list[list[object]] = [[log], [other, *told], [data_file]]
    dates = [json.loads(oovrec("data", "show", *way, "--json").stdout)["dates"] for way in ways]
    assert dates[0] == dates[1] == dates[2]
    oovrec("train", "popularity", "--data", other, *told, "--out", out)
    assert oovrec("recommend", out, "--user", rows[0][head.index("user_id")]).stdout  # reads the data once more


def test_tokens_are_built_and_scored(oovrec, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    shown = oovrec("tokens", "build", log, "--method", "meta", "--set", "clusters=4", "--out", out).stdout
    items = read_table(out / "item_tokens.tsv")
    assert sum(items.text(item) in shown for item in range(len(items))) == 10
    assert len(items.levels[0]) == 4
    scores = json.loads(oovrec("tokens", "score", out, log, "--json").stdout)
    assert scores["lift"]["train"] > 0  # four tastes were planted
    shown = oovrec("tokens", "score", out, log).stdout
    assert f"{scores['lift']['test']:.4f}" in shown
    assert "tokens from: train" in shown
    assert scores["tokens_from"] == "train"
    (later := tmp_path / "later.csv").write_text("\n".join(log.read_text().splitlines()[:-1]) + "\n")
    other = oovrec("tokens", "score", out, later)
    assert "WARNING these tokens were built from other data" in " ".join(other.stderr.split())
    about = json.loads((out / "tokens.json").read_text())
    (out / "tokens.json").write_text(json.dumps(about | {"built_from": "All"}))
    refused = oovrec("tokens", "score", out, log, code=2).stderr
    assert "unknown source of tokens 'All'; did you mean 'all'" in " ".join(refused.split())
