"""The main job on a tiny log: what it leaves behind, checked against the log itself."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from typer.testing import Result

import oovrec as package
from oovrec.app import comparison
from oovrec.app.comparison import report
from oovrec.app.runs import load_run
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.results import read_result
from oovrec.tokens.table import Tokens


@pytest.fixture(scope="module")
def histories(log: Path) -> dict[str, list[str]]:
    """Each user's items in the order of the file, which is that of time."""
    taken: dict[str, list[str]] = {}
    with log.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            taken.setdefault(row["user_id"], []).append(row["item_id"])
    return taken


def popularity(histories: dict[str, list[str]]) -> Counter[str]:
    return Counter(item for items in histories.values() for item in items[:-2])


def test_the_run_folder_is_whole(finished: Path) -> None:
    kept = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    assert kept >= {
        *("config.yaml", "environment.json", "model.safetensors", "items.tsv", "log.jsonl", "metrics.json"),
        *("report.html", "metrics.png", "training.png", "token_map.png"),
        *("tokens/item_tokens.tsv", "tokens/user_tokens.tsv", "tokens/tokens.json"),
        *("references/sasrec/metrics.json", "references/popularity/metrics.json"),
    }
    assert not [name for name in kept if "checkpoint" in name]


def test_a_reference_that_the_data_is_too_small_for_is_left_out(oovrec, tmp_path: Path) -> None:
    """Of three items each, one is for training: SASRec learns nothing from it, the language model a little."""
    rows = [f"u{user},i{(user + place) % 7},{place}" for user in range(30) for place in range(3)]
    (tmp_path / "three.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    small = ("--set", "model.shape=debug", "--set", "training.epochs=1")
    done = oovrec("run", "--data", tmp_path / "three.csv", "--k-core", 1, *small, "--out", tmp_path / "run")
    said = " ".join(done.stderr.split())
    assert "note: sasrec is left out: there is nothing to learn from; give histories of" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Popularity" in page
    assert "SASRec" not in page
    assert not (tmp_path / "run" / "references" / "sasrec").exists()


def test_config_and_environment_say_what_was_run(finished: Path, log: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert (config["system"], config["seed"], config["training"]["epochs"]) == ("llama", 3, 2)
    assert config["tokens"] == {"method": "meta", "from": "train", "numbers": "own"}
    assert Path(config["data"]["source"]) == log
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["data_sha256"] == config["data"]["sha256"]
    assert environment["seconds"] > 0


def test_popularity_scores_what_counting_by_hand_gives(finished: Path, histories: dict[str, list[str]]) -> None:
    counts = popularity(histories)
    hits = []
    for items in histories.values():
        *past, target = items
        rivals = [item for item in counts if item not in past and item != target and counts[item] >= counts[target]]
        hits.append(target not in past and len(rivals) < 10)
    measured = read_result(finished / "references" / "popularity" / "metrics.json")
    assert measured.blocks["masked"]["hit@10"] == pytest.approx(np.mean(hits))
    assert measured.blocks["masked"]["users"] == len(histories)


def test_every_system_beats_or_loses_on_the_same_users_and_is_labelled(finished: Path) -> None:
    runs = [finished, finished / "references" / "sasrec", finished / "references" / "popularity"]
    results = [read_result(folder / "metrics.json") for folder in runs]
    assert [result.system for result in results] == ["llama", "sasrec", "popularity"]
    assert [result.tokens_from for result in results] == ["train", "none", "none"]
    assert len({result.config_hash for result in results}) == 3
    ranks = [load_file(folder / "ranks.safetensors") for folder in runs]
    assert all(np.array_equal(ranks[0]["targets"], other["targets"]) for other in ranks)


def test_what_is_printed_is_what_was_measured(main_job: tuple[Path, Result]) -> None:
    folder, result = main_job
    masked = read_result(folder / "metrics.json").blocks["masked"]
    assert f"{masked['ndcg@10']:.4f}" in result.stdout
    assert all(name in result.stdout for name in ("META ID (Llama)", "SASRec", "Popularity", "Film ["))
    assert str(folder / "report.html") in result.stdout.replace("\n", "")
    assert "META ID (Llama)" in (folder / "report.html").read_text()


def test_tokens_name_every_user_and_item_of_the_log(finished: Path, histories: dict[str, list[str]]) -> None:
    tokens = Tokens.load(finished / "tokens")
    assert set(tokens.items.ids) == {item for items in histories.values() for item in items}
    assert set(tokens.users.ids) == set(histories)


def test_popularity_recommends_the_most_taken_that_the_user_lacks(oovrec, finished: Path, histories) -> None:
    counts, past = popularity(histories), histories["u7"]
    answer = oovrec("recommend", finished / "references" / "popularity", "--user", "u7", "-k", 4, "--json")
    items = json.loads(answer.stdout)
    assert [item["score"] for item in items] == sorted((counts[i] for i in counts if i not in past), reverse=True)[:4]
    assert not {item["id"] for item in items} & set(past)
    assert [item["title"] for item in items] == [f"Film [{item['id'][1:]}]" for item in items]
    assert [item["rank"] for item in items] == [1, 2, 3, 4]


def test_a_history_given_by_hand_needs_no_data(oovrec, finished: Path, log: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in finished.iterdir():
        (moved / path.name).symlink_to(path)
    (moved / "config.yaml").unlink()
    config["data"]["source"] = str(tmp_path / "gone.csv")
    (moved / "config.yaml").write_text(yaml.safe_dump(config))
    answer = oovrec("recommend", moved, "--history", "i1, i2,i3", "-k", 100, "--json")
    items = [item["id"] for item in json.loads(answer.stdout)]
    assert len(items) == len(set(items)) == 29  # all 32 but the three given
    assert not {"i1", "i2", "i3"} & set(items)
    shown = oovrec("recommend", moved, "--history", "i1,i2,i3", "-k", 2).stdout
    assert all(item in shown for item in items[:2])
    gone = oovrec("recommend", moved, "--user", "u7", code=2)
    assert "gone.csv: the run's data cannot be read there; say where it lies now by --data." in gone.stderr
    there = oovrec("recommend", moved, "--user", "u7", "--data", log, "--json")
    assert there.stdout == oovrec("recommend", finished, "--user", "u7", "--json").stdout


def test_evaluating_again_gives_the_same_and_pure_json(oovrec, finished: Path) -> None:
    before = json.loads((finished / "metrics.json").read_text())
    again = json.loads(oovrec("evaluate", finished, "--json").stdout)
    changing = {"wall_seconds", "commit"}
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_validation_is_shown_and_not_kept(oovrec, finished: Path) -> None:
    before = (finished / "metrics.json").read_bytes()
    validation = json.loads(oovrec("evaluate", finished, "--split", "validation", "--json").stdout)
    assert (finished / "metrics.json").read_bytes() == before
    epochs = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    best = max(epoch["ndcg"] for epoch in epochs)  # measured in training, in bf16 where the processor has it
    assert validation["masked"]["ndcg@10"] == pytest.approx(best, abs=0.03)


def test_a_sample_of_the_users_is_shown_and_not_kept(oovrec, finished: Path) -> None:
    before = {name: (finished / name).read_bytes() for name in ("metrics.json", "ranks.safetensors", "report.html")}
    sample = json.loads(oovrec("evaluate", finished, "--users", 7, "--json").stdout)
    assert sample["masked"]["users"] == 7
    assert before == {name: (finished / name).read_bytes() for name in before}


def test_resuming_a_finished_job_does_nothing_twice(oovrec, main_job: tuple[Path, Result], log: Path) -> None:
    folder, first = main_job
    models = sorted(folder.rglob("model.safetensors")) + sorted(folder.rglob("ranks.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    settings = ("--set", "training.epochs=2", "--set", "model.shape=debug", "--seed", "3")
    again = oovrec("run", "--data", log, "--out", folder, *settings, "--resume")
    assert [path.stat().st_mtime_ns for path in models] == before
    assert again.stdout == first.stdout


def test_tokens_that_saw_held_out_items_are_labelled_everywhere(oovrec, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "leaky"
    quick = ("--set", "training.epochs=1", "--set", "model.shape=debug")
    shown = oovrec("run", "--data", log, "--out", out, "--from", "all", "--set", "references=[popularity]", *quick)
    assert "all: saw held-out items" in shown.stdout
    assert read_result(out / "metrics.json").tokens_from == "all"
    assert json.loads((out / "tokens" / "tokens.json").read_text())["built_from"] == "all"
    assert "held-out" in (out / "report.html").read_text()


def test_python_does_what_the_commands_do(oovrec, finished: Path, log: Path, tmp_path: Path) -> None:
    dataset = package.load_dataset(log)
    tokens = package.build_tokens(dataset, "meta", seed=3, options={"numbers": "own"})
    assert (tokens.items.codes == Tokens.load(finished / "tokens").items.codes).all()
    run = package.train("popularity", log, tmp_path / "run")
    again = package.train("popularity", dataset, tmp_path / "again")
    assert package.load_run(again.folder).data == package.load_run(run.folder).data
    evaluation = package.evaluate(run)
    kept = read_result(finished / "references" / "popularity" / "metrics.json")
    assert evaluation.blocks()["raw"] == kept.blocks["raw"]
    best = package.load_run(tmp_path / "run").recommend(user="u7", k=3)
    assert [item.id for item in best] == [item.id for item in load_run(run.folder).recommend(user="u7", k=3)]


def test_a_sequential_recommender_carries_what_tokens_stand_for_and_speaks_none(
    oovrec, log: Path, tmp_path: Path
) -> None:
    small = ("--set", "training.epochs=2", "--set", "references=[popularity]")
    oovrec("run", "--data", log, "--recipe", "metavec-sasrec", "--from", "all", *small, "--out", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "SASRec with METAVEC vectors" in page
    assert "The model reads no words; to each item's embedding it adds" in page
    assert "saw held-out interactions" in page
    result = read_result(tmp_path / "run" / "metrics.json")
    assert (result.system, result.tokens_from) == ("sasrec", "all")
    item = Tokens.load(tmp_path / "run" / "tokens").items.ids[0]
    answer = json.loads(oovrec("recommend", tmp_path / "run", "--history", item, "-k", 3, "--json").stdout)
    assert [entry["tokens"] for entry in answer] == ["", "", ""]
    assert "&lt;I" not in page.partition("<h2>Words for items")[0]
    assert re.search(r"word stands for:\s+[\d,]+ words name [\d,]+ items\.", page)
    assert "Words for items and users" not in page
    config = tmp_path / "run" / "config.yaml"
    whole = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({key: value for key, value in whole.items() if key != "tokens"}))
    refused = oovrec("evaluate", tmp_path / "run", code=2).stderr
    assert "says tokens.method = None, and the model beside it was trained with metavec" in refused


def test_references_have_the_seed_of_the_run(finished: Path) -> None:
    assert [load_run(finished / "references" / name).recipe.seed for name in ("sasrec", "popularity")] == [3, 3]


def test_the_report_leaves_times_out_of_the_environment_and_says_what_validated(finished: Path) -> None:
    run, environment = load_run(finished), json.loads((finished / "environment.json").read_text())
    shown = report(run, run.dataset())
    assert {*shown.environment} == {*environment} - {"seconds", "test_seconds"}
    assert [system.lead is None for system in shown.systems] == [True, False, False]
    training = run.recipe.training.model_copy(update={"validate_on": "raw", "validate_days": 14})
    shown = report(replace(run, recipe=run.recipe.model_copy(update={"training": training})), run.dataset())
    assert (shown.validated_on, shown.validated_days) == ("raw", 14)


def test_of_fewer_users_than_examples_each_is_one() -> None:
    few = Dataset("few", ["u0", "u1"], list("abc"), Histories.of([[0, 1, 2]] * 2, range(2)))
    assert comparison._rows(few, 0).tolist() == [0, 1]
