"""Files written whole or not at all, and read with one clear sentence when they are broken."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from oovrec.errors import FULL, OovrecError, refusal

BOM = "\ufeff"  # a byte order mark
NAME = re.compile(r"\w[^/\\\x00-\x1f\x7f]{0,99}")


class Unwritten(OovrecError):
    """A file or folder could not be written."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step.

    Raises:
        Unwritten: the disk is full or the folder cannot be written.
    """
    with _writing(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which on success becomes ``path`` in one step.

    A ``path`` that is there, empty, stays and is filled: it may be a link, a disk, or where the command runs.

    Raises:
        Unwritten: the disk is full or the folder cannot be written.
    """
    with _writing(path):
        there = path.is_dir()
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path if there else path.parent))
        try:
            yield temporary
            let_all_read(temporary)
            if there:
                for part in list(temporary.iterdir()):
                    os.replace(part, path / part.name)
            else:
                os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def let_all_read(folder: Path) -> None:
    """Let others read ``folder`` and what is in it; safetensors keeps what it writes to its owner."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def check_name(name: str, where: str) -> None:
    """That files and folders of results can be called ``name``.

    Raises:
        OovrecError: they cannot.
    """
    if not NAME.fullmatch(name):
        remedy = "begin with a letter or digit, and leave slashes out, for results are kept under it"
        raise OovrecError(f"{name[:100]!r} is no name", where=where, remedy=remedy)


@contextmanager
def locked(path: Path, what: Path, patience: float = 0) -> Iterator[None]:
    """Keep other processes that ask for the same from ``what`` meanwhile.

    Args:
        path: of the lock; its folder is made.
        patience: seconds to wait for one that is at it.

    Raises:
        OovrecError: one still is; the folder cannot be written.
    """
    lock = FileLock(path, timeout=patience)
    with _writing(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise OovrecError("another process is at it", where=what, remedy="wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the folder that ``path`` is to lie in; what cannot be written becomes a sentence about ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Unwritten as error:  # names a file in the temporary folder
        raise Unwritten(error.what, where=path, remedy=error.remedy) from error
    except OovrecError:
        raise
    except Exception as error:
        if (code := refusal(error)) is None:
            raise
        remedy = "free some space or choose another --out" if code in FULL else "choose a folder you can write to"
        raise Unwritten(f"cannot write ({os.strerror(code)})", where=path, remedy=remedy) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically, so that :func:`read_text` gives the same again."""
    mark = BOM if text.startswith(BOM) else ""  # reading takes the first one for the file's own, such as of an id
    with atomic(path) as temporary:
        temporary.write_text(mark + text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON atomically; NaN is refused, as JSON has no such number."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any, head: str = "") -> None:
    """Write ``value`` as YAML atomically, keys in their order, below the comment ``head``."""
    write_text(path, head + yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_text(path: Path, *, remedy: str = "check the path") -> str:
    """The text of ``path``, a byte order mark aside.

    Raises:
        OovrecError: missing, a folder, unreadable, empty or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise OovrecError("no such file", where=path, remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise OovrecError("is not UTF-8 text", where=path, remedy="give a text file") from error
    except OSError as error:
        raise OovrecError(f"cannot be read ({error.strerror})", where=path, remedy=remedy) from error
    if not text.strip():
        raise OovrecError("is empty", where=path, remedy=remedy)
    return text


def read_json(path: Path, *, remedy: str = "restore the file or make it again") -> Any:
    """The value of a JSON file.

    Raises:
        OovrecError: missing, or not JSON (the line is named).
    """
    try:
        return json.loads(read_text(path, remedy=remedy))
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise OovrecError(f"is not valid JSON ({error.msg})", where=where, remedy=remedy) from error
    except (ValueError, RecursionError) as error:  # a number of very many digits, lists in lists
        raise OovrecError(f"cannot be read as JSON ({error})", where=path, remedy=remedy) from error


class _Loader(yaml.SafeLoader):
    """As the safe loader, but a key that a mapping has already is an error and not a correction."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in names:
                raise yaml.MarkedYAMLError(problem=f"the key '{name}' is there twice", problem_mark=key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, *, remedy: str = "mend the file") -> Any:
    """The value of a YAML file.

    Raises:
        OovrecError: missing, or not YAML (the line is named).
    """
    try:
        return yaml.load(read_text(path, remedy=remedy), _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise OovrecError(
            f"is not valid YAML ({getattr(error, 'problem', error)})", where=where, remedy=remedy
        ) from error
    except ValueError as error:  # a date that there is not, a number that is none
        raise OovrecError(f"is not valid YAML ({error})", where=path, remedy=remedy) from error


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays and string metadata as safetensors, atomically, with a digest of both in the header."""
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    header = dict(metadata or {})
    with atomic(path) as temporary:
        save_file(ordered, temporary, metadata={**header, "sha256": _digest(ordered, header)})
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Put the metadata of a safetensors file in order: as they are written, equal contents make unequal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # what it was, unless it wrote a character otherwise
            file.seek(8)
            file.write(text.ljust(size))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of a safetensors file and its metadata.

    Raises:
        OovrecError: missing, truncated or tampered.
    """
    if not path.is_file():
        raise OovrecError("no such file", where=path, remedy="train the model again or check the path")
    remedy = "restore the file from a copy or train again"
    try:
        with safe_open(path, framework="numpy") as file:
            tensors, header = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise OovrecError(
            "is not a whole safetensors file (truncated or altered)", where=path, remedy=remedy
        ) from error
    if header.pop("sha256", None) not in (None, _digest(tensors, header)):
        raise OovrecError("was altered after it was written (its digest differs)", where=path, remedy=remedy)
    return tensors, header


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes, numbers and metadata; files of other programs carry none."""
    about = [[name, str(tensors[name].dtype), tensors[name].shape] for name in sorted(tensors)]
    digest = hashlib.sha256(json.dumps([about, dict(metadata)], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def sha256(*paths: Path) -> str:
    """SHA-256 of the given files' bytes, one after another, as hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
