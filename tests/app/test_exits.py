"""A disk that is full while something is written that has no sentence of its own."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

import pytest


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), Exception("No space left on device (os error 28)")],
)
def test_a_full_disk_whoever_wrote(error: Exception, oovrec, log: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("oovrec.models.base.Recommender.save", full)
    said = oovrec("train", "popularity", "--data", log, "--out", tmp_path / "out", code=2).stderr
    assert said.splitlines()[-1] == "error: the disk is full; free some space or choose another --out."
    assert not (tmp_path / "out").exists()


def test_what_is_no_want_of_anything_is_a_defect(oovrec, log: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise ValueError("something else")

    monkeypatch.setattr("oovrec.models.base.Recommender.save", broken)
    with pytest.raises(ValueError, match="something else"):
        oovrec("train", "popularity", "--data", log, "--out", tmp_path / "out", code=1)
