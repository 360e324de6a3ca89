"""Files as they are or packed, by what their names end in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

from oovrec.errors import OovrecError

TORN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)  # what packed files raise when cut


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where its name ends in one of ``.gz``, ``.bz2``, ``.xz`` and ``.zip``.

    Raises:
        OovrecError: a ``.zip`` that holds other than one file, or needs a password.
        OSError, and those of ``TORN``: it cannot be read, then or later.
    """
    return UNPACK.get(path.suffix.lower(), _plain)(path)


def unpacked(path: Path) -> Path:
    """``path`` without the ending that says how it is packed, if there is one."""
    return path.with_suffix("") if path.suffix.lower() in UNPACK else path


def ends(path: Path, *endings: str) -> bool:
    """Whether a file's name has one of the endings, in small letters or capitals."""
    return path.name.lower().endswith(endings)


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _only_file(path: Path) -> IO[bytes]:
    """The file in a ``.zip``, what macOS puts beside it aside."""
    archive = zipfile.ZipFile(path)
    inside = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if len(inside) != 1:
        raise OovrecError(f"holds {len(inside)} files, not one", where=path, remedy="unpack it and give the log")
    if inside[0].flag_bits & 1:
        raise OovrecError("needs a password", where=path, remedy="unpack it and give the log")
    return archive.open(inside[0])


UNPACK: Mapping[str, Callable[[Path], IO[bytes]]] = {
    ".gz": _gzip,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zip": _only_file,
}
