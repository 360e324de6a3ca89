"""A run trained anew on what was held out too: what it learns from, what it says, and what it will not be asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import load_file
from typer.testing import Result

from oovrec.app.pipeline import train
from oovrec.app.retraining import once_more, retrain
from oovrec.app.runs import Run, load_run
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.evaluation.results import read_result
from oovrec.models.sequential.s3rec import S3Rec
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
    assert json.loads((until_test / "environment.json").read_text())["retrained_from"] == base.name


def test_what_learns_until_the_test_is_tested_on_the_same_users_and_says_so(
    oovrec: Invoke, base: Path, until_test: Path
) -> None:
    printed = " ".join(oovrec("compare", until_test, base).output.split())
    assert "SASRec, retrained: learnt from what validates too, as the others did not" in printed
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
    assert "for-use, until: it learns from the whole log, and nothing is held out; leave 'until' out" in ended.stderr
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
    ended = oovrec("retrain", base, "--out", until_test, code=2)
    assert "already holds a run; give --resume to go on with it, or another --out." in " ".join(ended.stderr.split())
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
    own = replace(Tokens.load(tmp_path / "theirs"), method="mine", details={})  # as Python makes them by hand
    recipe = ("training.epochs=1", "model.shape=debug")
    train("metaid-llama", str(log), tmp_path / "c", tokens=own, overrides=recipe)
    for name in "abc":
        retrain(tmp_path / name, tmp_path / f"{name}2", until="test")
    read = {name: Tokens.load(tmp_path / name / "tokens") for name in ("a", "a2", "b", "b2", "c", "c2")}
    for name in "ac":
        assert np.array_equal(read[name].items.codes, read[f"{name}2"].items.codes)
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
    assert "until: the main job compares what learns until validation" in ended.stderr
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
    assert "| `sasrec-short-retrained`‡ | none | 1 |" in page
    assert page.count("‡: learnt from what validates too") == 1


def test_a_run_that_is_not_finished_or_names_added_items_is_refused(oovrec: Invoke, base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_bytes((base / "config.yaml").read_bytes())
    with pytest.raises(OovrecError, match="its training is not finished"):
        retrain(broken, tmp_path / "new")
    with pytest.raises(OovrecError, match="holds no run"):
        retrain(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_pretraining_is_not_cut_short(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = [], S3Rec.corrupted_epoch
    monkeypatch.setattr(S3Rec, "corrupted_epoch", lambda *given: drawn.append(1) or draw(*given))
    changes = ["training.epochs=3", "model.pretrain_epochs=3", "training.stop_after=1"]
    run = train("s3rec", log, tmp_path / "s3", overrides=changes)
    assert (len(drawn), len(run.epochs)) == (3, 1)


def test_of_epochs_that_served_equally_well_the_first_is_taken(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "even")
    lines = [json.loads(line) | {"ndcg": 0.5} for line in (base / "log.jsonl").read_text().splitlines()]
    (tmp_path / "even" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert once_more(load_run(tmp_path / "even"), "end").training.stop_after == 1


def test_it_says_for_how_many_epochs_it_learns(oovrec: Invoke, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, first := tmp_path / "first")
    lines = [json.loads(line) | {"ndcg": 0.5} for line in (base / "log.jsonl").read_text().splitlines()]
    (first / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for run, epochs in ((base, "2epochs"), (first, "1epoch")):
        said = oovrec("retrain", run, "--out", tmp_path / f"{run.name}-again").stderr
        assert f"for{epochs},asserved{run}best" in "".join(said.split())


def test_a_run_that_names_added_items_is_not_retrained(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "base", *SMALL)
    (tmp_path / "new.csv").write_text("item_id,title\nnew,Film [2]\n")
    oovrec("items", "add", tmp_path / "base", tmp_path / "new.csv", "--out", tmp_path / "more")
    ended = oovrec("retrain", tmp_path / "more", "--out", tmp_path / "again", code=2)
    assert "names items that were added, which its log lacks; retrain the run that they were added to" in ended.stderr
    assert not (tmp_path / "again").exists()
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--until", "test")
    run = load_run(tmp_path / "again").add_items(tmp_path / "new.csv", tmp_path / "again-more")
    data = load_dataset(log)
    read = replace(data, items=[*data.items, "new"], titles=[*data.titles, "Film [2]"])
    assert (run.label, run.dataset().until) == ("META ID (Llama), retrained + 1 new items", "test")
    assert run.dataset(read).until == "test"


def test_tokens_that_were_built_for_what_is_learnt_until_are_taken(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "base", *SMALL)
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--until", "test")
    used = ("--tokens", tmp_path / "again" / "tokens", *SMALL)
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "test", "--set", "until=test", *used)
    assert same(weights(tmp_path / "again"), weights(tmp_path / "test"))
    ended = oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "leaky", *used, code=2)
    assert "were built from other data than 'films'" in ended.stderr


def test_neither_split_of_what_learnt_from_everything_can_be_asked_for(
    oovrec: Invoke, base: Path, tmp_path: Path
) -> None:
    oovrec("retrain", base, "--out", tmp_path / "end")
    for split in ("validation", "test"):
        ended = oovrec("evaluate", tmp_path / "end", "--split", split, code=2)
        assert "it learns from the whole log, and nothing is held out; leave 'until' out" in ended.stderr


def test_ratings_that_only_a_held_out_interaction_has_are_known_once_it_is_learnt_from(
    log: Path, tmp_path: Path
) -> None:
    rows = pl.read_csv(log)
    last = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    rows.sort("timestamp", maintain_order=True).with_columns(
        rating=pl.when(last).then(5).otherwise(pl.int_range(pl.len()) % 3 + 1)
    ).write_csv(tmp_path / "rated.csv")
    run = train("popularity", tmp_path / "rated.csv", tmp_path / "base")
    assert retrain(run, tmp_path / "test", until="test").model.entities.scale == (1.0, 2.0, 3.0)
    assert retrain(run, tmp_path / "end").model.entities.scale == (1.0, 2.0, 3.0, 5.0)


def test_where_all_were_retrained_there_is_nothing_to_tell_apart(oovrec: Invoke, until_test: Path) -> None:
    assert "learnt from what validates too" not in oovrec("compare", until_test).output


def test_users_who_came_while_validation_ran_are_not_tested_once_it_is_learnt_from(tmp_path: Path) -> None:
    rows = [(f"u{number % 9}", f"i{number % 7}", number) for number in range(800)]
    rows += [("late", f"i{number % 7}", 800 + number) for number in range(0, 200, 10)]
    rows += [(f"u{number % 9}", f"i{number % 5}", 800 + number) for number in range(1, 200, 2)]
    pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").write_csv(tmp_path / "log.csv")
    plain = load_dataset(tmp_path / "log.csv", hold_out="time")
    late = plain.user_index["late"]
    assert len(plain.learnt_until("test").histories("train")[late])
    assert not len(plain.histories("train")[late])
    assert np.array_equal(plain.learnt_until("test").evaluated_users("test"), plain.evaluated_users("test"))


def test_without_the_log_of_epochs_nobody_knows_for_how_many(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "lost")
    (tmp_path / "lost" / "log.jsonl").unlink()
    with pytest.raises(OovrecError, match=r"lost/log\.jsonl: does not say which epoch validation chose; restore"):
        retrain(tmp_path / "lost", tmp_path / "new")
    with pytest.raises(OovrecError, match="sasrec: is the run that is to be retrained; give another --out"):
        retrain(base, base)
    monkeypatch.chdir(base)
    with pytest.raises(OovrecError, match=r"\.: is the run that is to be retrained; give another --out"):
        retrain(base, ".")


def test_what_was_exported_for_use_begins_no_training_that_is_tested(
    oovrec: Invoke, log: Path, other_log: Path, tmp_path: Path
) -> None:
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "base", *SMALL)
    oovrec("retrain", tmp_path / "base", "--out", tmp_path / "end")
    oovrec("export", tmp_path / "end", "--out", tmp_path / "plain")
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    assert "a newer one tests it (evaluate --later), the run it is of has figures." in card
    assert "Not evaluated" not in card
    assert "`tokens_from: all`" in card
    train_on = ("train", "metaid-llama", "--backbone", tmp_path / "plain", *ONE)
    ended = oovrec(*train_on, "--data", log, "--out", tmp_path / "leaky", code=2)
    assert "plain: has learnt from what is held out of 'films' here; export a run that did not" in ended.stderr
    assert not (tmp_path / "leaky").exists()
    oovrec(*train_on, "--data", log, "--out", tmp_path / "use", "--set", "until=end")
    oovrec(*train_on, "--data", other_log, "--out", tmp_path / "other")
    oovrec("export", tmp_path / "base", "--out", tmp_path / "clean")
    oovrec("train", "metaid-llama", "--backbone", tmp_path / "clean", *ONE, "--data", log, "--out", tmp_path / "more")


def test_pages_and_tokens_of_a_retrained_run_say_what_it_has_learnt_from(
    oovrec: Invoke, log: Path, tmp_path: Path
) -> None:
    oovrec("train", "metaid-llama", "--data", log, "--out", tmp_path / "base", *SMALL)
    said = {"test": "all interactions before the test, those that validate included", "end": "Saw held-out"}
    seen = {"test": "until the test", "end": "all"}
    for until, words in said.items():
        oovrec("retrain", tmp_path / "base", "--out", tmp_path / until, "--until", until)
        tokens = tmp_path / until / "tokens"
        ended = oovrec("tokens", "score", tokens, log, "--json")
        assert json.loads(ended.stdout)["tokens_from"] == seen[until]
        assert "these tokens were built from other data" in ended.stderr
        oovrec("tokens", "report", tokens, log, "--out", tmp_path / f"page-{until}")
        assert words in (tmp_path / f"page-{until}" / "tokens.html").read_text(encoding="utf-8")
    printed = oovrec("evaluate", tmp_path / "test").output
    assert "It has learnt from what validates too." in printed
    page = (tmp_path / "test" / "report.html").read_text(encoding="utf-8")
    assert "It has learnt from what validates too." in page
    assert said["test"] in page


def test_a_log_that_changed_is_retrained_on_where_that_is_said(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "moving.csv"
    path.write_bytes(log.read_bytes())
    oovrec("train", "popularity", "--data", path, "--out", tmp_path / "base")
    path.write_bytes(log.read_bytes().replace(b"u1,", b"u2,"))  # a user fewer
    ended = oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", code=2)
    assert "is not the dataset 'moving' that the run was trained on; give --data to retrain on it" in ended.stderr
    path.rename(tmp_path / "moved.csv")
    ended = oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", code=2)
    assert "moving.csv: no such file or folder; give --data to retrain on it" in ended.stderr
    ended = oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--data", path, code=2)
    assert "moving.csv: no such file or folder" in " ".join(ended.stderr.split())
    assert "give --data" not in " ".join(ended.stderr.split())
    path = (tmp_path / "moved.csv").rename(path)
    ended = oovrec("retrain", tmp_path / "base", "--out", tmp_path / "again", "--data", path)
    assert "note: moving lacks 1 of the 60 users of" in " ".join(ended.stderr.split())
    assert "items of" not in ended.stderr


def test_imported_tokens_are_not_taken_for_those_of_a_newer_log(oovrec: Invoke, log: Path, tmp_path: Path) -> None:
    words = "".join(f"{item}\t<B{number}>\n" for number, item in enumerate(load_dataset(log).items))
    (tmp_path / "items.tsv").write_text(words)
    oovrec("tokens", "import", log, "--items", tmp_path / "items.tsv", "--out", tmp_path / "theirs")
    oovrec("train", "metaid-llama", "--data", log, "--tokens", tmp_path / "theirs", "--out", tmp_path / "a", *SMALL)
    ended = oovrec("retrain", tmp_path / "a", "--out", tmp_path / "b", "--data", longer(log, tmp_path, 1), code=2)
    assert "a: has tokens that were imported, which no newer log can be given; import some for it" in ended.stderr


def test_a_cell_that_learns_from_what_validates_is_not_retrained_once_more(
    oovrec: Invoke, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("--variant", "more", "--set", "until=test", *ONE)
    ended = oovrec("bench", "cell", "sasrec", "--data", log, *more, "--retrained", code=2)
    assert "it learns from what would validate it" in ended.stderr
    assert not Path("results").exists()


def test_a_retrained_row_of_an_earlier_recipe_is_marked_and_none_stands_beside_what_was_published(
    oovrec: Invoke, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    oovrec("bench", "cell", "popularity", "--data", log, "--retrained")
    table = {"popularity": {"films": {"hit@10": 0.2}}}
    Path("table.json").write_text(json.dumps(table))
    shown = ("bench", "results", "--systems", "popularity", "--datasets", log, "--published", "table.json")
    oovrec(*shown)
    (row, other) = (line for line in Path("results/README.md").read_text().splitlines() if "`popularity-ret" in line)
    assert row.startswith("| `popularity-retrained`‡ | none | 1 |")
    assert "0.2000" not in row
    file = Path("results/films/popularity-retrained-none-s0.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"settings_hash": "0" * 12}))
    oovrec(*shown)
    assert "| `popularity-retrained`†‡ | none | 1 |" in Path("results/README.md").read_text()
    assert "| `popularity` | none | 1 |" in Path("results/README.md").read_text()
    assert other.startswith("| `popularity-retrained`‡ |")


@pytest.mark.parametrize("until", ["tset", "validation", None])
def test_it_goes_on_to_the_test_or_to_the_end_and_nowhere_else(until: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=f"^until: unknown end of what is learnt from '{until}'; .*"):
        retrain(base, tmp_path / "new", until=until)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()
