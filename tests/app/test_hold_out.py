"""Held out by time, from the log to the table: what files and pages say of it, and what they refuse to compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from typer.testing import Result

from oovrec.app.runs import load_run
from oovrec.data.load import load_dataset
from oovrec.evaluation import protocol
from oovrec.evaluation.results import read_result
from oovrec.files import read_tensors, write_tensors

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


def test_figures_by_days_are_kept_printed_and_on_the_page(job: tuple[Path, str], told: Path) -> None:
    out, printed = job
    record = read_result(out / "metrics.json")
    for name in ("masked", "raw"):
        rows = record.by_days[name].values()
        assert sum(row["users"] for row in rows) == record.blocks[name]["users"]
        total = sum(row["users"] * row["hit@10"] for row in rows)
        assert total / record.blocks[name]["users"] == pytest.approx(record.blocks[name]["hit@10"])
    assert load_file(out / "ranks.safetensors")["days"].tolist() == load_dataset(told).days("test").tolist()
    assert "by how many days after the moment of the test" in printed
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<td>" not in page  # each figure bears the name of its column, for where there is no head
    first = next(iter(record.by_days["masked"].values()))
    assert f"{first['hit@10']:.4f}" in page.split("As time passes")[1].split("</table>")[0]


def test_leads_are_told_by_days(job: tuple[Path, str], oovrec: Invoke) -> None:
    """Against hits counted by hand, in what programs get and in what is printed."""
    runs = [job[0], job[0] / "references" / "sasrec"]
    ours, theirs = json.loads(oovrec("compare", *runs, "--json").stdout)
    ranks = [load_file(run / "ranks.safetensors") for run in runs]
    assert ours["lead_by_days"] is None
    assert theirs["lead_by_days"].keys() == {"masked", "raw"}
    for block, periods in theirs["lead_by_days"].items():
        assert sum(row["users"] for row in theirs["by_days"][block].values()) == len(ranks[0]["users"])
        for period, lead in periods.items():
            first, last = map(int, period.split("-"))
            part = (ranks[0]["days"] >= first) & (ranks[0]["days"] <= last)
            hits = [(kept[block][part] <= 10).mean() for kept in ranks]
            assert theirs["by_days"][block][period]["hit@10"] == {"mean": pytest.approx(hits[1])}
            assert lead["hit@10"]["mean"] == pytest.approx(hits[0] - hits[1])
            assert lead["hit@10"]["interval"][0] <= lead["hit@10"]["mean"] <= lead["hit@10"]["interval"][1]
    printed = oovrec("compare", *runs).stdout
    row = next(line for line in printed.splitlines() if "masked, days 0-6" in line)
    assert f"{theirs['lead_by_days']['masked']['0-6']['ndcg@10']['mean']:+.4f}" in row
    assert printed.count("by how many days after the moment of the test") == 1
    page = (job[0] / "report.html").read_text(encoding="utf-8").split("On the same users, what")[1].split("</table>")[0]
    for lead in theirs["lead_by_days"]["masked"].values():
        low, high = (f"{end:+.4f}".replace("-", "−") for end in lead["ndcg@10"]["interval"])
        assert f"{low} to {high}" in page


def test_a_test_from_before_days_were_kept_is_made_again(job: tuple[Path, str], oovrec: Invoke, tmp_path: Path) -> None:
    runs = [shutil.copytree(job[0], tmp_path / "old"), job[0] / "references" / "sasrec"]
    wanted = oovrec("compare", job[0], runs[1]).stdout
    ranks = runs[0] / "ranks.safetensors"
    arrays, header = read_tensors(ranks)
    write_tensors(ranks, {name: array for name, array in arrays.items() if name != "days"}, header)
    assert oovrec("compare", *runs).stdout == wanted
    assert read_tensors(ranks)[0]["days"].tolist() == arrays["days"].tolist()


def test_an_epoch_can_be_chosen_by_the_targets_of_the_first_days(
    oovrec: Invoke, told: Path, mixed_log: Path, tmp_path: Path
) -> None:
    data = load_dataset(told)
    days = int(np.median(data.days("validation"))) + 1
    asked = ("--set", "training.epochs=1", "--set", f"training.validate_days={days}")
    run = tmp_path / "run"
    oovrec("train", "sasrec", "--data", told, "--out", run, *asked, "--set", "training.precision=fp32")
    found = protocol.evaluate(load_run(run).model.ranked, data, "validation")
    early = found.masked[data.days("validation") < days]
    assert 0 < len(early) < len(found.masked)
    (epoch,) = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    assert epoch["ndcg"] == pytest.approx(np.where(early <= 10, 1 / np.log2(early + 1.0), 0).mean())
    oovrec("retrain", run, "--out", tmp_path / "again")  # where nothing is validated, nor any day asked about
    refused = oovrec("train", "metaid-llama", "--data", mixed_log, "--out", tmp_path / "plain", *asked, code=2)
    assert "nothing is held out by time, so no first days are; leave training.validate_days out" in refused.stderr
    assert not (tmp_path / "plain").exists()


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
