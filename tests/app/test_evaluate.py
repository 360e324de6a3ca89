"""Evaluating a run: what is kept, what is only shown, and references that are not finished."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

import oovrec as package
from oovrec.app.runs import load_run
from oovrec.errors import OovrecError
from oovrec.evaluation.results import read_result

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


def test_a_reference_that_is_not_finished_is_left_out(oovrec, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "references" / "sasrec" / "model.safetensors").unlink()
    told = oovrec("evaluate", run)
    assert "META ID (Llama)" in told.stdout
    assert "note: sasrec is left out, for its training is not finished; 'oovrec run --out" in told.stderr
    assert "Popularity" in (page := (run / "report.html").read_text())
    assert "SASRec" not in page


def test_a_folder_is_evaluated_as_its_run_is(popularity: Path) -> None:
    assert package.evaluate(popularity).blocks() == package.evaluate(load_run(popularity)).blocks()


def test_a_split_that_there_is_not(popularity: Path) -> None:
    before = (popularity / "environment.json").read_bytes()
    with pytest.raises(OovrecError, match="unknown split 'tset'; did you mean 'test'"):
        package.evaluate(popularity, "tset")
    assert (popularity / "environment.json").read_bytes() == before
