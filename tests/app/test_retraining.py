"""A run trained anew on what was held out too: what it learns from, what it says, and what it will not be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import load_file
from typer.testing import Result

from oovrec.app.pipeline import train
from oovrec.app.retraining import retrain
from oovrec.app.runs import Run, load_run
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.evaluation.results import read_result
from oovrec.tokens.table import Tokens

Invoke = Callable[..., Result]
ONE = ("--set", "training.epochs=1")
SMALL = (*ONE, "--set", "model.shape=debug")


@pytest.fixture(scope="module")
def base(oovrec: Invoke, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs, of which validation is made to say that the second was the best."""
    out = tmp_path_factory.mktemp("base") / "sasrec"
    oovrec("train", "sasrec", "--data", log, "--out", out, "--set", "training.epochs=4", "--seed", "5")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line["ndcg"] = {2: 0.5, 4: 0.4}.get(line["epoch"])
    (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


@pytest.fixture(scope="module")
def until_test(oovrec: Invoke, base: Path) -> Path:
    out = base.with_name("until-test")
    oovrec("retrain", base, "--out", out, "--until", "test")
    return out


def longer(log: Path, folder: Path, items: int) -> Path:
    """The log with ``items`` more of every user at its end, each one that is there already."""
    rows = pl.read_csv(log)
    late = rows["timestamp"].max()
    parts = [
        rows.group_by("user_id", maintain_order=True)
        .agg(pl.col("item_id").first(), pl.col("title").first())
        .with_columns(timestamp=pl.lit(late + step, pl.Int64))
        .select(rows.columns)
        for step in range(1, items + 1)
    ]
    path = folder / log.name
    pl.concat([rows, *parts]).write_csv(path)
    return path


def weights(run: Path | Run) -> dict[str, np.ndarray]:
    return load_file((run.folder if isinstance(run, Run) else run) / "model.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("until", "more"), [("test", 1), ("end", 2)])
@pytest.mark.parametrize("recipe", ["sasrec", "metavec-llama", "popularity"])
def test_it_learns_what_a_log_teaches_whose_training_part_goes_so_far(
    oovrec: Invoke, log: Path, tmp_path: Path, recipe: str, until: str, more: int
) -> None:
    options = () if recipe == "popularity" else (*ONE, "--set", "training.skipped=0")  # which draws along the whole log
    options += ("--set", "model.shape=debug") if recipe == "metavec-llama" else ()
    oovrec("train", recipe, "--data", log, "--out", tmp_path / "base", *options)
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--until", until)
    oovrec("train", recipe, "--data", longer(log, tmp_path, more), "--out", tmp_path / "longer", *options)
    assert same(weights(tmp_path / "again"), weights(tmp_path / "longer"))
    assert not same(weights(tmp_path / "again"), weights(tmp_path / "base"))


def test_it_takes_as_many_epochs_as_served_best_at_the_rates_of_all(base: Path, until_test: Path) -> None:
    first, again = load_run(base), load_run(until_test)
    assert [epoch["epoch"] for epoch in again.epochs] == [1, 2]
    assert [epoch["learning_rate"] for epoch in again.epochs] == [epoch["learning_rate"] for epoch in first.epochs[:2]]
    assert {epoch["ndcg"] for epoch in again.epochs} == {None}
    assert (again.recipe.until, again.recipe.training.stop_after, again.recipe.training.epochs) == ("test", 2, 4)
    assert again.recipe.seed == 5


def test_what_learns_until_the_test_is_tested_on_the_same_users_and_says_so(
    oovrec: Invoke, base: Path, until_test: Path
) -> None:
    printed = " ".join(oovrec("compare", until_test, base).output.split())
    assert "SASRec, retrained learnt from what validates too, the others did not" in printed
    first, again = (load_file(run / "ranks.safetensors") for run in (base, until_test))
    for part in ("users", "targets"):
        assert np.array_equal(first[part], again[part])
    assert (read_result(base / "metrics.json").until, read_result(until_test / "metrics.json").until) == (
        "validation",
        "test",
    )
    assert "until" not in json.loads((base / "metrics.json").read_text())
    oovrec("evaluate", until_test)
    page = (until_test / "report.html").read_text(encoding="utf-8")
    assert "SASRec, retrained" in page
    assert "Nothing was held out to validate by; the last epoch was kept." in page


def test_seeds_that_were_retrained_to_other_epochs_are_one_system(base: Path, until_test: Path) -> None:
    again = load_run(until_test)
    training = again.recipe.training.model_copy(update={"stop_after": 3})
    other = again.recipe.model_copy(update={"seed": 6, "training": training})
    assert other.settings_hash == again.recipe.settings_hash != load_run(base).recipe.settings_hash
    assert other.hash != again.recipe.hash
    unlike = load_run(base).recipe.model_copy(update={"training": training})
    assert unlike.settings_hash != load_run(base).recipe.settings_hash  # an option like others, where epochs are chosen


def test_what_has_learnt_from_targets_is_not_asked_for_them(oovrec: Invoke, base: Path, until_test: Path) -> None:
    oovrec("retrain", base, "--out", base.with_name("for-use"))
    ended = oovrec("evaluate", base.with_name("for-use"), code=2)
    assert "for-use, until: it learns from the whole log, and nothing is held out; test one" in ended.stderr
    ended = oovrec("evaluate", until_test, "--split", "validation", code=2)
    assert "until-test, until: it learns from what would validate it" in ended.stderr
    assert len(json.loads(oovrec("recommend", base.with_name("for-use"), "--user", "u1", "--json").output)) == 10


def test_what_is_retrained_once_more_takes_the_same_epochs(oovrec: Invoke, until_test: Path, base: Path) -> None:
    oovrec("retrain", until_test, "--out", base.with_name("twice"))
    again = load_run(base.with_name("twice"))
    assert (again.recipe.until, again.recipe.training.stop_after) == ("end", 2)


def test_it_goes_on_where_it_was_interrupted(oovrec: Invoke, base: Path, until_test: Path, tmp_path: Path) -> None:
    ended = oovrec("retrain", base, "--out", tmp_path / "new", "--until", "test", "--resume", code=2)
    assert "there is no run to resume here" in ended.stderr
    assert oovrec("retrain", base, "--out", until_test, "--until", "test", "--resume").stdout.strip() == str(until_test)
    ended = oovrec("retrain", base, "--out", until_test, "--resume", code=2)
    assert "was begun with until = test, not end" in ended.stderr


def test_a_newer_log_is_read_as_the_first_was(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(log).rename({"item_id": "film"})
    late = {"user_id": ["u1"] * 3, "film": ["i2"] * 3, "timestamp": [2**31] * 3, "title": ["Film [2]"] * 3}
    rows.write_csv(tmp_path / "first.csv")
    pl.concat([rows, pl.DataFrame(late)]).write_csv(tmp_path / "newer.csv")
    reading = ("--item-column", "film", "--k-core", "6")
    oovrec("train", "sasrec", "--data", tmp_path / "first.csv", "--out", tmp_path / "base", *ONE, *reading)
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--data", tmp_path / "newer.csv")
    again = load_run(tmp_path / "again")
    data = again.dataset()
    assert (again.data.name, again.data.columns.item, again.data.k_core) == ("newer", "film", 6)
    newest = data.histories("train")[data.user_index["u1"]][-3:]
    assert [data.items[item] for item in newest] == ["i2"] * 3


def test_tokens_of_a_scheme_are_built_anew_and_those_that_were_imported_stay(
    oovrec: Invoke, log: Path, tmp_path: Path
) -> None:
    data = load_dataset(log)
    words = "".join(f"{item}\t<A{number % 4}><B{number}>\n" for number, item in enumerate(data.items))
    (tmp_path / "items.tsv").write_text(words)
    oovrec("tokens", "import", log, "--items", tmp_path / "items.tsv", "--out", tmp_path / "theirs")
    oovrec("train", "metaid-llama", "--data", log, "--tokens", tmp_path / "theirs", "--out", tmp_path / "a", *SMALL)
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "b", *SMALL)
    for name in "ab":
        retrain(tmp_path / name, tmp_path / f"{name}2", until="test")
    read = {name: Tokens.load(tmp_path / name / "tokens") for name in ("a", "a2", "b", "b2")}
    assert np.array_equal(read["a"].items.codes, read["a2"].items.codes)
    assert read["a2"].built_from == "all"
    counts = [read[name].details["interactions"] for name in ("b", "b2")]
    assert counts[1] == counts[0] + len(data.users)


def test_tokens_that_saw_the_targets_are_refused_where_these_are_held_out(
    oovrec: Invoke, log: Path, tmp_path: Path
) -> None:
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "base", *SMALL)
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "end")
    used = ("--tokens", tmp_path / "end" / "tokens", "--out", tmp_path / "leaky")
    ended = oovrec("train", "metaid-llama", "--data", log, *used, *SMALL, code=2)
    assert "were built from other data than 'films', perhaps from what is held out here" in ended.stderr
    assert not (tmp_path / "leaky").exists()
    earlier = ("--tokens", tmp_path / "base" / "tokens", "--out", tmp_path / "less", "--set", "until=end")
    oovrec("train", "metaid-llama", "--data", log, *earlier, *SMALL)  # these saw less than they might


def test_where_an_epoch_is_chosen_by_validation_there_must_be_one(
    oovrec: Invoke, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = oovrec("run", "--data", log, "--set", "until=test", code=2)
    assert "until: its references would have learnt from less" in ended.stderr
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"system": "sasrec", "until": "test", "search": {"model.dropout": [0.5]}}))
    ended = oovrec("bench", "tune", "--recipes", path, "--datasets", log, code=2)
    assert "it learns from what would validate it" in ended.stderr
    ended = oovrec("bench", "augmentation", "--data", log, "--set", "until=test", code=2)
    assert "it learns from what would validate it" in ended.stderr
    told = ("--variant", "all", "--set", "until=end")
    ended = oovrec("bench", "cell", "sasrec", "--data", log, *told, code=2)
    assert "it learns from the whole log, and nothing is held out" in ended.stderr
    assert not Path("results").exists()
    assert not Path("runs").exists()


def test_the_table_has_a_row_of_what_was_retrained(
    oovrec: Invoke, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    oovrec("bench", "cell", "sasrec", "--data", log, "--variant", "short", "--retrained", *ONE)
    found = {path.name: read_result(path) for path in Path("results/films").glob("sasrec*.json")}
    assert {name: result.until for name, result in found.items()} == {
        "sasrec-short-none-s0.json": "validation",
        "sasrec-short-retrained-none-s0.json": "test",
    }
    oovrec("bench", "results", "--systems", "popularity", "--datasets", log)
    page = Path("results/README.md").read_text()
    assert "| `sasrec-short-retrained` | none | 1 |" in page
    assert page.count("`-retrained`: learnt from what validates too") == 1


def test_a_run_that_is_not_finished_or_names_added_items_is_refused(oovrec: Invoke, base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_bytes((base / "config.yaml").read_bytes())
    with pytest.raises(OovrecError, match="its training is not finished"):
        retrain(broken, tmp_path / "new")
    with pytest.raises(OovrecError, match="holds no run"):
        retrain(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_pretraining_is_not_cut_short(log: Path, tmp_path: Path) -> None:
    changes = ["training.epochs=3", "model.pretrain_epochs=3", "training.stop_after=1"]
    run = train("s3rec", log, tmp_path / "s3", overrides=changes)
    assert len(run.epochs) == 1
