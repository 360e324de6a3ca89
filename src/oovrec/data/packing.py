"""Files as they are or packed, by what their names end in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from oovrec.errors import OovrecError

TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt")  # endings of what may be packed
TORN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)  # what packed files raise when cut


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where its name ends in one of ``.gz``, ``.bz2``, ``.xz`` and ``.zip``.

    Raises:
        OovrecError: a ``.zip`` that holds other than one file, or needs a password.
        OSError, and those of ``TORN``: it cannot be read, then or later.
    """
    return UNPACK.get(path.suffix.lower(), _plain)(path)


def unpacked(path: Path) -> Path:
    """``path`` as what is packed in it is called: without the ending for that, if there is one.

    A ``.zip`` knows the name of its file, where its own tells no more.
    """
    plain = path.with_suffix("") if path.suffix.lower() in UNPACK else path
    if path.suffix.lower() == ".zip" and not ends(plain, *TEXTS):
        with suppress(OSError, *TORN), zipfile.ZipFile(path) as archive:
            return path.with_name(Path(_only(archive, path).filename).name)
    return plain


def ends(path: Path, *endings: str) -> bool:
    """Whether a file's name has one of the endings, in small letters or capitals."""
    return path.name.lower().endswith(endings)


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _only_file(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    return archive.open(_only(archive, path))


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The file in a ``.zip``, what macOS puts beside it aside."""
    inside = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if len(inside) != 1:
        raise OovrecError(f"holds {len(inside)} files, not one", where=path, remedy="unpack it and give the log")
    if inside[0].flag_bits & 1:
        raise OovrecError("needs a password", where=path, remedy="unpack it and give the log")
    return inside[0]


UNPACK: Mapping[str, Callable[[Path], IO[bytes]]] = {
    ".gz": _gzip,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zip": _only_file,
}
