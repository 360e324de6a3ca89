"""Packed logs give what the plain ones do; what is cut or altered is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from oovrec.data.readers import read
from oovrec.errors import OovrecError

LINES = "user,item,time\n" + "".join(f"u{row},i{row % 7},{row}\n" for row in range(500))


def zipped(data: bytes, *more: str) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("export/log.csv", *more):
            archive.writestr(name, data)
    return made.getvalue()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
    ".ZIP": lambda data: zipped(data, "empty/", "__MACOSX/export/._log.csv"),
}


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_log_is_the_plain_one(tmp_path: Path, ending: str) -> None:
    (plain := tmp_path / "log.csv").write_text(LINES)
    (packed := tmp_path / f"log.csv{ending}").write_bytes(PACK[ending](LINES.encode()))
    assert read(packed).frame.equals(read(plain).frame)
    assert read(packed).frame.height == 500


def cut(data: bytes) -> bytes:
    return data[:-40]


def altered(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 255]) + data[201:]


def replaced(data: bytes) -> bytes:
    return LINES.encode()


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip"])
@pytest.mark.parametrize("spoilt", [cut, altered, replaced])
def test_a_spoilt_file_is_named(tmp_path: Path, ending: str, spoilt: Callable[[bytes], bytes]) -> None:
    (path := tmp_path / f"log.csv{ending}").write_bytes(spoilt(PACK[ending](LINES.encode())))
    with pytest.raises(OovrecError, match=rf"log\.csv\{ending}: is not a whole \{ending} file .*; fetch it again"):
        read(path)


def test_a_zip_holds_one_file(tmp_path: Path) -> None:
    (path := tmp_path / "log.csv.zip").write_bytes(zipped(LINES.encode(), "items.csv"))
    with pytest.raises(OovrecError, match=r"log\.csv\.zip: holds 2 files, not one; unpack it and give the log"):
        read(path)


def test_a_zip_with_a_password_says_so(tmp_path: Path) -> None:
    data = bytearray(zipped(LINES.encode()))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    (path := tmp_path / "log.csv.zip").write_bytes(bytes(data))
    with pytest.raises(OovrecError, match=r"log\.csv\.zip: needs a password; unpack it"):
        read(path)


def test_a_zip_is_read_by_the_name_of_its_file(tmp_path: Path) -> None:
    """As Windows, macOS and Kaggle call archives."""
    (plain := tmp_path / "log.csv").write_text(LINES)
    for name in ("ratings-2.1.zip", "log v1.0 (2).zip", "archive.csv (1).zip", "archive.ZIP"):
        (path := tmp_path / name).write_bytes(zipped(LINES.encode()))
        assert read(path).frame.equals(read(plain).frame)
    path.write_bytes(zipped(LINES.encode(), "items.csv"))
    with pytest.raises(OovrecError, match=r"archive\.ZIP: holds 2 files, not one; unpack it and give the log"):
        read(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(OovrecError, match=r"archive\.ZIP: is of no format that oovrec reads"):
        read(path)
