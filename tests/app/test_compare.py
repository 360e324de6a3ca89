"""``oovrec compare``: seeds of a system as one, the first system's lead over the others, and what it refuses."""

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

from oovrec.app.leads import Contender, compare, notes
from oovrec.app.runs import load_run
from oovrec.app.tables import _lead

Invoke = Callable[..., Result]
SHORT = ("--set", "training.epochs=1", "--set", "model.width=8")


@pytest.fixture(scope="module")
def runs(oovrec: Invoke, log: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of SASRec, one with another width, and popularity."""
    folder = tmp_path_factory.mktemp("compared")
    made = {
        "seed-0": ("sasrec", *SHORT, "--seed", 0),
        "seed-1": ("sasrec", *SHORT, "--seed", 1),
        "wider": ("sasrec", "--set", "training.epochs=1", "--seed", 0),
        "popularity": ("popularity",),
    }
    for name, words in made.items():
        oovrec("train", *words, "--data", log, "--out", folder / name)
    return [folder / name for name in made]


def hits(run: Path, block: str) -> np.ndarray:
    return load_file(run / "ranks.safetensors")[block] <= 10


def test_seeds_are_one_system_and_the_first_is_held_against_the_others(oovrec: Invoke, runs: list[Path]) -> None:
    found = json.loads(oovrec("compare", *runs, "--json").stdout)  # which tests them first
    assert [list(system["runs"]) for system in found] == [["0", "1"], ["0"], ["0"]]
    assert found[0]["runs"] == {"0": str(runs[0]), "1": str(runs[1])}
    labels = [system["system"] for system in found]
    assert labels == ["SASRec, seed-0", "SASRec, wider", "Popularity"]  # the two widths are told apart
    ours = np.mean([hits(run, "masked") for run in runs[:2]], axis=0)
    figure = found[0]["figures"]["masked"]["hit@10"]
    assert figure["mean"] == pytest.approx(ours.mean())
    assert figure["deviation"] == pytest.approx(np.std([hits(run, "masked").mean() for run in runs[:2]], ddof=1))
    assert found[0]["lead"] is None
    for system, run in zip(found[1:], runs[2:], strict=True):
        lead = system["lead"]["masked"]["hit@10"]
        assert lead["mean"] == pytest.approx((ours - hits(run, "masked")).mean())
        assert lead["interval"][0] <= lead["mean"] <= lead["interval"][1]
        kept = json.loads((run / "metrics.json").read_text())["masked"]["hit@10"]
        assert system["figures"]["masked"]["hit@10"] == {"mean": kept}


def test_folders_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name / "run" for name in ("narrow", "wide")]
    for run, folder in zip((runs[0], runs[2]), folders, strict=True):
        shutil.copytree(run, folder)
    found = [one.label for one in compare([*folders, runs[3]])]
    assert found == ["SASRec, narrow/run", "SASRec, wide/run", "Popularity"]
    monkeypatch.chdir(folders[0])
    assert [one.label for one in compare([".", runs[2]])] == ["SASRec, run", "SASRec, wider"]


def test_of_three_of_one_name_each_says_what_neither_of_the_others_has(
    oovrec: Invoke, runs: list[Path], log: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("a/run", "b/run", "b/more")]
    shutil.copytree(runs[0], folders[0])
    shutil.copytree(runs[2], folders[1])
    oovrec(
        "train", "sasrec", "--set", "training.epochs=1", "--set", "model.width=16", "--data", log, "--out", folders[2]
    )
    assert [one.label for one in compare(folders)] == ["SASRec, a/run", "SASRec, b/run", "SASRec, more"]


def test_it_says_how_much_the_figures_can_carry(oovrec: Invoke, runs: list[Path]) -> None:
    shown = oovrec("compare", *runs).stdout
    assert "masked: without the history's own items" in shown
    assert "lead of SASRec, seed-0, by resampling users" in shown
    assert "fewer than 3 seeds of SASRec, seed-0, SASRec, wider:" in shown  # no seed would change popularity
    assert "fewer than" not in oovrec("compare", runs[3]).stdout


def test_a_system_is_what_its_tokens_were_built_with(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    """Whether built on the way or beforehand, and whether an option was given or is the scheme's own."""
    quick = ("metaid-llama", "--data", log, "--set", "training.epochs=1", "--set", "model.shape=debug")
    oovrec("tokens", "build", log, "--method", "random", "--seed", 1, "--out", tmp_path / "tokens")
    made = {
        "0": ("--set", "tokens.method=random", "--seed", 0),
        "1": ("--tokens", tmp_path / "tokens", "--seed", 1),
        "2": ("--set", "tokens.method=random", "--set", "tokens.depth=2", "--seed", 2),
        "other": ("--set", "tokens.method=random", "--set", "tokens.clusters=5", "--seed", 1),
    }
    for name, words in made.items():
        oovrec("train", *quick, *words, "--out", tmp_path / name)
    found = json.loads(oovrec("compare", *(tmp_path / name for name in made), "--json").stdout)
    assert [list(system["runs"]) for system in found] == [["0", "1", "2"], ["1"]]


def test_tokens_that_saw_held_out_items_are_marked(oovrec: Invoke, log: Path, runs: list[Path], tmp_path: Path) -> None:
    words = ("--set", "training.epochs=1", "--set", "model.shape=debug", "--from", "all")
    oovrec("train", "metaid-llama", *words, "--data", log, "--out", tmp_path / "leaky")
    shown = oovrec("compare", runs[0], tmp_path / "leaky").stdout
    assert "all: saw held-out items" in shown
    assert "the tokens of META ID (Llama) saw held-out items" in shown


def test_what_is_not_to_be_compared_is_refused(
    oovrec: Invoke, runs: list[Path], other_log: Path, tmp_path: Path
) -> None:
    oovrec("train", "popularity", "--data", other_log, "--out", tmp_path / "other")
    stderr = oovrec("compare", runs[3], tmp_path / "other", code=2).stderr
    assert f"{tmp_path / 'other'}: was trained on other data than {runs[3]}" in " ".join(stderr.split())
    stderr = oovrec("compare", runs[0], runs[2], runs[0], code=2).stderr
    assert f"is the same training with the same seed as {runs[0]}" in " ".join(stderr.split())
    stderr = oovrec("compare", runs[0], runs[1], runs[1], code=2).stderr
    assert f"is the same training with the same seed as {runs[1]}" in " ".join(stderr.split())
    assert "holds no run" in oovrec("compare", tmp_path, code=2).stderr


def test_data_that_are_named_are_the_runs_whether_these_were_tested_or_not(
    oovrec: Invoke, runs: list[Path], log: Path, other_log: Path
) -> None:
    oovrec("compare", runs[0], runs[3], "--data", log)  # tests them
    assert "is not the dataset" in oovrec("compare", runs[0], runs[3], "--data", other_log, code=2).stderr


@pytest.mark.parametrize(("seeds", "few"), [(2, True), (3, False)])
def test_three_seeds_are_enough(seeds: int, few: bool) -> None:
    one = Contender("SASRec", "none", {seed: Path(str(seed)) for seed in range(seeds)}, True, {}, {}, None)
    assert bool(notes([one])) is few


def test_tokens_from_the_training_part_need_no_note() -> None:
    one = Contender("META ID (Llama)", "train", {seed: Path(str(seed)) for seed in range(3)}, True, {}, {}, None)
    assert notes([one]) == []


def test_each_block_counts_its_own_users(oovrec: Invoke, runs: list[Path]) -> None:
    (found,) = json.loads(oovrec("compare", runs[3], "--json").stdout)
    kept = json.loads((runs[3] / "metrics.json").read_text())
    users = {block: figures["users"] for block, figures in found["figures"].items()}
    assert users == {block: kept[block]["users"] for block in users}
    assert len(set(users.values())) > 1
    assert "by_days" not in found  # nothing was held out by time


def test_figures_by_days_are_over_seeds_too(runs: list[Path], log: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(log)
    more = rows.group_by("user_id", maintain_order=True).first().select(rows.columns)
    days = pl.Series(range(1, len(more) + 1)) % 20 + 1
    later = more.with_columns(timestamp=rows["timestamp"].max() + 86_400 * days)
    pl.concat([rows, later]).write_csv(tmp_path / "later.csv")
    ours, theirs = compare([*runs[:2], runs[3]], later=tmp_path / "later.csv")
    found = [load_run(run).evaluate_later(tmp_path / "later.csv") for run in runs[:2]]
    assert list(ours.by_days["raw"]) == ["0-6", "7-13", "14-27"]
    part = (found[0].days >= 7) & (found[0].days <= 13)
    means = [np.mean(1 / np.log2(one.raw[part] + 1.0) * (one.raw[part] <= 10)) for one in found]
    figure = ours.by_days["raw"]["7-13"]["ndcg@10"]
    assert (figure.seeds, figure.value) == (2, pytest.approx(np.mean(means)))
    assert figure.high - figure.value == pytest.approx(np.std(means, ddof=1))
    assert theirs.users_by_days["7-13"] == part.sum()
    other = load_run(runs[3]).evaluate_later(tmp_path / "later.csv")
    mean = np.mean(means) - np.mean(1 / np.log2(other.raw[part] + 1.0) * (other.raw[part] <= 10))
    assert theirs.lead_by_days["raw"]["7-13"]["ndcg@10"]["mean"] == pytest.approx(mean)
    first, second = (one.to_json() for one in (ours, theirs))
    assert (first["lead_by_days"], second["lead_by_days"]) == (None, theirs.lead_by_days)
    told = first["by_days"]["raw"]["7-13"]
    assert (told["ndcg@10"]["mean"], told["users"]) == (figure.value, part.sum())
    assert told["users"] < first["figures"]["raw"]["users"]


def test_a_training_is_refused_twice_and_other_data_whatever_the_system(
    oovrec: Invoke, runs: list[Path], other_log: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs[3], tmp_path / "copy")
    stderr = oovrec("compare", runs[3], tmp_path / "copy", code=2).stderr
    assert f"copy: is the same training with the same seed as {runs[3]}" in " ".join(stderr.split())
    oovrec("train", "popularity", "--data", other_log, "--out", tmp_path / "other")
    stderr = oovrec("compare", runs[0], tmp_path / "other", code=2).stderr
    assert f"other: was trained on other data than {runs[0]}" in " ".join(stderr.split())


@pytest.mark.parametrize(("interval", "sure"), [((0.01, 0.2), True), ((-0.2, -0.01), True), ((-0.1, 0.1), False)])
def test_a_lead_that_leaves_zero_out_is_bold_whoever_has_it(interval: tuple[float, float], sure: bool) -> None:
    assert (_lead({"mean": sum(interval) / 2, "interval": interval}).style == "bold") is sure
