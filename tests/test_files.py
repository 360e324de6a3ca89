"""Files written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

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


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EDQUOT, "x"), r"\(Disk quota exceeded\); free some space or choose another --out\.$"),
        (OSError(errno.EROFS, "x"), r"\(Read-only file system\); choose a folder you can write to\.$"),
        (OSError("No space left on device (os error 28)"), r"\(No space left on device\); free some space"),  # Polars'
        (Exception("No space left on device (os error 28)"), r"\(No space left on device\); free some space"),
    ],
)
@pytest.mark.parametrize("kind", [files.atomic, files.atomic_folder])
def test_what_the_system_refuses_is_a_sentence_whoever_wrote(kind, error, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(files.Unwritten, match=rf"^{tmp_path}/out: cannot write {sentence}"), kind(tmp_path / "out"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_folder_that_fails_is_an_error_about_the_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(files.Unwritten, match=rf"^{tmp_path}/out: cannot write \(No space left on device\); free"),
        files.atomic_folder(tmp_path / "out") as folder,
        files.atomic(folder / "tokens" / "a.json"),
    ):
        raise OSError(errno.ENOSPC, "x")


@pytest.mark.parametrize("named", ["empty", "link", "."])
def test_an_empty_folder_that_is_there_is_filled_and_stays(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "link").symlink_to(empty)
    monkeypatch.chdir(empty if named == "." else tmp_path)
    before = empty.stat().st_ino
    with files.atomic_folder(Path(named)) as folder:
        files.write_text(folder / "tokens" / "a.json", "{}")
        assert [path.name for path in empty.iterdir()] == [folder.name]
    assert [path.relative_to(empty).as_posix() for path in empty.rglob("*")] == ["tokens", "tokens/a.json"]
    assert empty.stat().st_ino == before
    assert (tmp_path / "link").is_symlink()


def test_a_sentence_that_quotes_the_system_stays_as_it_is(tmp_path: Path) -> None:
    told = OovrecError("cannot be loaded (No such file or directory (os error 2))")
    with pytest.raises(OovrecError) as found, files.atomic(tmp_path / "out"):
        raise told
    assert found.value is told


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    about = {name: f"value of {name}, größer" for name in "abcdefghij"}
    arrays = {"x": np.arange(6.0).reshape(2, 3), "y": np.zeros(0, np.int32)}
    for number in range(6):
        files.write_tensors(tmp_path / f"{number}", arrays, about)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    found, told = files.read_tensors(tmp_path / "0")
    assert told == about
    assert np.array_equal(found["x"], arrays["x"])
    assert list(load_file(tmp_path / "0")) == ["x", "y"]


@pytest.mark.parametrize("text", ["\ufeffi0\tFilm\n", "\ufeff\ufeffi0\n", "i0\n\ufeffi1\n"])
def test_a_text_that_begins_with_a_byte_order_mark_is_read_as_it_was_written(text: str, tmp_path: Path) -> None:
    files.write_text(tmp_path / "text", text)
    assert files.read_text(tmp_path / "text") == text
