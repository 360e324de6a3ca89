"""Evaluating a run: what is kept, what is only shown, and references that are not finished."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

import oovrec as package
from oovrec.app import folders
from oovrec.app.runs import load_run
from oovrec.data.histories import Histories
from oovrec.errors import Interrupted, OovrecError
from oovrec.evaluation.results import read_result
from oovrec.models import base
from oovrec.models.base import Recommendations, Recommender

USERS = 60


@pytest.fixture
def popularity(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run of popularity."""
    return shutil.copytree(finished / "references" / "popularity", tmp_path / "popularity")


def test_where_nothing_is_kept_nothing_is_written(oovrec, popularity: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("oovrec.files.tempfile.mkstemp", read_only)
    assert json.loads(oovrec("evaluate", popularity, "--users", 7, "--json").stdout)["masked"]["users"] == 7
    shown = json.loads(oovrec("evaluate", popularity, "--split", "validation", "--json").stdout)
    assert shown["masked"]["users"] == USERS
    assert "cannot write (Read-only file system)" in oovrec("evaluate", popularity, code=2).stderr


def test_a_sample_of_as_many_users_as_there_are_is_all_and_kept(oovrec, popularity: Path, finished: Path) -> None:
    (popularity / "metrics.json").unlink()
    oovrec("evaluate", popularity, "--users", USERS)
    kept = read_result(finished / "references" / "popularity" / "metrics.json").blocks
    assert read_result(popularity / "metrics.json").blocks == kept


def test_only_the_last_test_counts_in_the_time_a_run_took(popularity: Path) -> None:
    """Whose time is its own: a third test does not make it longer than a first."""
    about = popularity / "environment.json"
    trained = json.loads(about.read_text())["seconds"]
    for _ in range(3):
        package.evaluate(popularity)
        times = json.loads(about.read_text())
        assert times["seconds"] == trained
        assert read_result(popularity / "metrics.json").wall_seconds == trained + times["test_seconds"]


def test_a_reference_that_is_not_finished_is_left_out(oovrec, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "references" / "sasrec" / "model.safetensors").unlink()
    told = oovrec("evaluate", run)
    assert "META ID (Llama)" in told.stdout
    assert told.stdout.endswith(f"report: {run / 'report.html'}\n")
    assert "report:" not in oovrec("evaluate", run, "--split", "validation").stdout
    assert "note: sasrec is left out, for its training is not finished; 'oovrec run --out" in told.stderr
    assert "Popularity" in (page := (run / "report.html").read_text())
    assert "SASRec" not in page


@pytest.mark.parametrize(("precision", "coarse"), [("bf16", True), ("fp32", False)])
def test_a_language_model_answers_in_its_trainings_arithmetic(
    finished: Path, precision: str, coarse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(finished)
    training = run.recipe.training.model_copy(update={"precision": precision})
    run = replace(run, recipe=run.recipe.model_copy(update={"training": training}))
    own, seen = run.model.scores, []

    def scores(histories: Histories) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return own(histories)

    def recommend(histories: Histories, k: int, *, mask_seen: bool) -> Recommendations:
        return Recommender._best(run.model, histories, k, mask_seen)  # by the scores

    monkeypatch.setattr(run.model, "scores", scores)
    monkeypatch.setattr(run.model, "recommend", recommend)
    package.evaluate(run, "validation")
    run.recommend(history=["i1", "i2"])
    assert len(seen) > 1
    assert set(seen) == {coarse}


def test_any_other_model_answers_in_float32(finished: Path) -> None:
    with load_run(finished / "references" / "sasrec").arithmetic():
        assert not torch.is_autocast_enabled("cpu")


def test_a_folder_is_evaluated_as_its_run_is(popularity: Path) -> None:
    assert package.evaluate(popularity).blocks() == package.evaluate(load_run(popularity)).blocks()


def test_a_split_that_there_is_not(popularity: Path) -> None:
    before = (popularity / "environment.json").read_bytes()
    with pytest.raises(OovrecError, match="unknown split 'tset'; did you mean 'test'"):
        package.evaluate(popularity, "tset")
    assert (popularity / "environment.json").read_bytes() == before


def test_the_time_of_a_training_that_was_killed_is_not_lost(log: Path, tmp_path: Path, monkeypatch) -> None:
    """The process that was killed could not say how long it took; its epochs could."""
    run, validate, calls = tmp_path / "run", base.validation_score, []

    def stopped(*words: Any, **more: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*words, **more)

    overrides = ["training.epochs=3", "training.validate_every=1"]
    with monkeypatch.context() as patch:
        patch.setattr(base, "validation_score", stopped)
        with pytest.raises(Interrupted):
            package.train("sasrec", log, run, overrides=overrides)
    about = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(about | {"seconds": 0.5}))
    (epoch,) = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    (run / "log.jsonl").write_text(json.dumps(epoch | {"seconds": 700.0}) + "\n")
    package.train("sasrec", log, run, overrides=overrides, resume=True)
    assert 700 < json.loads((run / "environment.json").read_text())["seconds"] < 800
    (run / "checkpoint").mkdir()  # as a kill between the model and the cleaning leaves it
    package.train("sasrec", log, run, overrides=overrides, resume=True)
    assert not (run / "checkpoint").exists()


def test_a_model_outlives_an_error_in_what_comes_after_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without a state to go on from too."""
    write, run = folders.write_json, tmp_path / "run"

    def full(path: Path, value: dict[str, Any]) -> None:
        if (run / "model.safetensors").exists():
            raise OovrecError("cannot write (No space left on device)", where=path, remedy="free some space")
        write(path, value)

    monkeypatch.setattr(folders, "write_json", full)
    with pytest.raises(OovrecError, match="No space left"):
        package.train("popularity", log, run)
    assert load_run(run).model.name == "popularity"


def test_of_a_folder_that_was_there_all_goes_that_came_to_it(tmp_path: Path) -> None:
    def begun() -> NoReturn:
        (tmp_path / "tokens" / "more").mkdir(parents=True)
        (tmp_path / "tokens" / "tokens.json").touch()
        (tmp_path / "config.yaml").touch()
        raise OovrecError("something is wrong", remedy="mend it")

    with pytest.raises(OovrecError), folders.kept_or_removed(tmp_path):
        begun()
    assert list(tmp_path.iterdir()) == []


def test_times_of_a_run_add_up(popularity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is read when something begins and when it ends, well or not."""
    run = replace(load_run(popularity), folder=tmp_path / "run")
    run.folder.mkdir()
    folders.begin(run, 12.5)
    assert folders.seconds(run.folder) == 12.5
    clock = iter([100.0, 103.0, 200.0, 204.0, 300.0, 301.0, 400.0, 405.0, 500.0, 502.0])
    monkeypatch.setattr(folders, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with folders.timed(run.folder, at_least=5.0):
        pass
    assert folders.seconds(run.folder) == 12.5 + 3
    with pytest.raises(ValueError, match="of no use"), folders.timed(run.folder):
        raise ValueError("of no use")
    assert folders.seconds(run.folder) == 12.5 + 3 + 4
    with folders.timed(run.folder, at_least=50.0):
        pass
    assert folders.seconds(run.folder) == 50 + 1
    for spent in (5, 2):  # the last test alone counts
        with folders.timed(run.folder, testing=True):
            pass
        assert folders.seconds(run.folder) == 51 + spent


def test_a_folder_where_nothing_had_begun_is_free(log: Path, tmp_path: Path) -> None:
    """As a kill before the first of a run's files leaves it."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("environment.json", ".config.yaml.x1y2"):
        (run / name).write_text("{}")
    package.train("popularity", log, run)
    assert load_run(run).recipe.system == "popularity"


def test_python_takes_tokens_and_changes_as_they_are(log: Path, tmp_path: Path) -> None:
    data = package.load_dataset(log, k_core=4)
    tokens = package.build_tokens(data, "metavec", seed=3)
    overrides = ["training.epochs=1", "model.width=8"]
    run = package.train("metavec-sasrec", data, tmp_path / "run", tokens=tokens, overrides=overrides)
    assert (run.data.k_core, run.recipe.training.epochs, run.model.config.width) == (4, 1, 8)
    assert run.model.entities.tokens.items.text(0) == tokens.items.text(0)
    with pytest.raises(OovrecError, match="overrides: are given with a recipe that is already read; change it"):
        package.train(run.recipe, data, tmp_path / "other", overrides=overrides)
    with pytest.raises(OovrecError, match="tokens: 'popularity' reads no tokens"):
        package.train("popularity", data, tmp_path / "other", tokens=tokens)
    doubtful = replace(tokens, items=replace(tokens.items, vocabulary=["I0", *tokens.items.vocabulary[1:]]))
    with pytest.raises(OovrecError, match="tokens: the item token 'I0' is not of the form <I17>"):
        package.train("metavec-sasrec", data, tmp_path / "other", tokens=doubtful)
    assert not (tmp_path / "other").exists()


def test_lists_for_everybody_are_answered_so_too(finished: Path, tmp_path: Path, monkeypatch) -> None:
    run, seen = load_run(finished), []
    training = run.recipe.training.model_copy(update={"precision": "bf16"})
    run = replace(run, recipe=run.recipe.model_copy(update={"training": training}))

    def recommend(histories: Histories, k: int, *, mask_seen: bool) -> Recommendations:
        seen.append(torch.is_autocast_enabled("cpu"))
        return Recommender._best(run.model, histories, k, mask_seen)

    monkeypatch.setattr(run.model, "recommend", recommend)
    run.batch(tmp_path / "lists.csv")
    assert seen == [True]


def test_the_page_tells_the_time_of_all_and_what_validation_was_among(oovrec, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for name, *times in ((".", 600.0, 0.0), ("references/sasrec", 20.0, 40.0), ("references/popularity", 2.0, 4.0)):
        about = run / name / "environment.json"
        told = dict(zip(("seconds", "test_seconds"), times, strict=True))
        about.write_text(json.dumps(json.loads(about.read_text()) | told))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("validate_on: masked", "validate_on: raw"))
    oovrec("evaluate", run)
    page = (run / "report.html").read_text()
    assert "11 min" in page
    assert "items, those of the history among them, META ID (Llama) names the one" in page
