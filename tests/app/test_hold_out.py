"""Held out by time, from the log to the table: what files and pages say of it, and what they refuse to compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from safetensors.numpy import load_file
from typer.testing import Result

from oovrec.data.load import load_dataset
from oovrec.evaluation.results import read_result

Invoke = Callable[..., Result]
NOTE = "held out by time: each user's first item from "
SMALL = ("--set", "training.epochs=1", "--set", "model.shape=debug")


@pytest.fixture(scope="module")
def told(mixed_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("told") / "films-time.yaml"
    path.write_text(f"source: {mixed_log}\nhold_out: time\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def job(oovrec: Invoke, told: Path) -> tuple[Path, str]:
    """A main job on such data, and what it printed."""
    out = told.with_name("run")
    return out, oovrec("run", "--data", told, "--out", out, *SMALL).output


def test_a_main_job_is_tested_on_what_came_first_after_a_moment(job: tuple[Path, str], mixed_log: Path) -> None:
    out, printed = job
    assert NOTE in " ".join(printed.split())
    assert NOTE in (out / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    for run in (out, out / "references" / "sasrec"):
        assert read_result(run / "metrics.json").hold_out == "time"
    log = pl.read_csv(mixed_log).with_row_index().sort("timestamp", "index")
    began, ended = (log["timestamp"].quantile(share, "higher") for share in (0.8, 0.9))
    kept = load_file(out / "ranks.safetensors")
    data = load_dataset(mixed_log)
    wanted = {}
    for user in data.users:
        rows = log.filter(pl.col("user_id") == user)
        late = rows.filter(pl.col("timestamp") >= ended)
        if len(late) and rows["timestamp"][0] < began:
            wanted[user] = late["item_id"][0]
    found = {data.users[u]: data.items[t] for u, t in zip(kept["users"], kept["targets"], strict=True)}
    assert found == wanted
    assert len(wanted) > 20


def test_the_table_says_when_items_were_held_out(
    oovrec: Invoke, told: Path, mixed_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (told, mixed_log):
        oovrec("bench", "results", "--systems", "popularity", "--datasets", data)
    by_time, plain = (
        json.loads(Path("results", name, "popularity-none-s0.json").read_text()) for name in ("films-time", "mixed")
    )
    assert by_time["hold_out"] == "time"
    assert "hold_out" not in plain
    began, ended = load_dataset(told).periods
    assert json.loads(Path("results/films-time/dataset.json").read_text())["held_from"] == [began, ended]
    lines = Path("results/README.md").read_text().splitlines()
    sentences = [line for line in lines if "held out by time" in line]
    assert len(sentences) == 1
    assert sentences[0].endswith(f"held out by time, from {began} on for validation, from {ended} on for the test.")


def test_runs_that_were_held_out_otherwise_are_not_compared(
    oovrec: Invoke, job: tuple[Path, str], mixed_log: Path, tmp_path: Path
) -> None:
    oovrec("train", "popularity", "--data", mixed_log, "--out", tmp_path / "plain")
    ended = oovrec("compare", job[0], tmp_path / "plain", code=2)
    assert "was trained on other data than" in ended.stderr
