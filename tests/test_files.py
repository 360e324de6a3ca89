"""Files written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from oovrec import files
from oovrec.errors import OovrecError

FULL = "Error while serializing: I/O error: No space left on device (os error 28)"  # safetensors' own words


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError(FULL)

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OovrecError, match=r"a\.safetensors: cannot write \(No space left on device\); free some space"):
        files.write_tensors(tmp_path / "a.safetensors", {"a": np.zeros(3)})
    assert not list(tmp_path.iterdir())


def test_what_the_system_does_not_refuse_is_a_defect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SafetensorError("no such dtype")

    monkeypatch.setattr(files, "save_file", broken)
    with pytest.raises(SafetensorError):
        files.write_tensors(tmp_path / "a.safetensors", {"a": np.zeros(3)})


def test_the_number_in_those_words_is_the_systems() -> None:
    assert errno.ENOSPC == 28
