"""Downloads that go on where they stopped, and are checked before anyone sees them."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from oovrec import __version__
from oovrec.errors import OovrecError
from oovrec.files import sha256 as digest_of
from oovrec.progress import Bar

BLOCK = 1 << 18  # bytes
TIMEOUT = 60  # seconds without a byte
KILO = 1000
BUSY = 429  # HTTP: too many requests


def download(url: str, path: Path, *, sha256: str | None = None, attempts: int = 5, pause: float = 1.0) -> Path:
    """Fetch ``url`` to ``path``, which appears only when it is whole and right.

    What has come is kept in ``<path>.part``; a later attempt, in this call or another, asks for the rest by
    an HTTP range request (RFC 9110 §14), provided the server says that the file is still the same.

    Args:
        sha256: the expected digest; None accepts any.
        attempts: tries before giving up on a broken connection or a failing server.
        pause: seconds before the second try; doubled before each further one.

    Raises:
        OovrecError: the server refuses; the network fails; the digest is wrong; the disk is full.
    """
    if path.exists() and sha256 in (None, digest_of(path)):
        return path
    part = path.with_name(path.name + ".part")
    for attempt in range(attempts):
        try:
            _fetch(url, part)
            break
        except (OSError, HTTPException) as error:
            _give_up(url, error, last=attempt == attempts - 1)
            time.sleep(pause * 2**attempt)
    if sha256 is not None and (found := digest_of(part)) != sha256:
        _forget(part)
        remedy = "try again; if it stays so, the publisher has changed the file"
        raise OovrecError(f"has SHA-256 {found}, not {sha256}", where=url, remedy=remedy)
    part.replace(path)
    _forget(part)
    return path


def download_wheel(requirement: str, folder: Path, *, sha256: str | None = None) -> Path:
    """Fetch a wheel with pip, so that its settings (index, proxy, certificates) hold; none of it is run.

    Raises:
        OovrecError: pip is missing or fails; the digest is wrong.
    """
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary", ":all:"]
    options = ["--dest", str(folder), "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, *options], capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        remedy = "check the network and pip's settings"
        raise OovrecError(f"pip cannot download it ({last})", where=requirement, remedy=remedy)
    wheel = next(iter(folder.glob(f"{requirement.partition('==')[0].replace('-', '_')}-*.whl")))
    if sha256 is not None and (found := digest_of(wheel)) != sha256:
        wheel.unlink()
        raise OovrecError(f"has SHA-256 {found}, not {sha256}", where=requirement, remedy="check pip's package index")
    return wheel


def _give_up(url: str, error: Exception, *, last: bool) -> None:
    """Raise unless another try may help."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != BUSY:
        remedy = "check the address; the publisher may have moved the file"
        raise OovrecError(f"the server answers {error.code} ({error.reason})", where=url, remedy=remedy) from error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        raise error
    if last:
        reason = getattr(error, "reason", error)
        remedy = "check the network and call again; it goes on where it stopped"
        raise OovrecError(f"cannot be fetched ({reason})", where=url, remedy=remedy) from error


def _fetch(url: str, part: Path) -> None:
    """One try: append what is missing to ``part``, or begin anew where the server wants that."""
    with _open(url, part) as response:
        start = part.stat().st_size if response.status == 206 else 0
        length = response.headers["Content-Length"]
        total = None if length is None else start + int(length)
        _remember(part, response)
        with part.open("ab" if start else "wb") as file, Bar(part.stem, (total or 0) // KILO, "kB") as bar:
            bar.advance(start // KILO)
            while block := response.read(BLOCK):
                file.write(block)
                bar.advance(file.tell() // KILO - bar.done)
            if total is not None and file.tell() < total:
                raise ConnectionError(f"the connection ended after {file.tell():,} of {total:,} bytes")


def _open(url: str, part: Path) -> HTTPResponse:
    """The server's answer: 206 with the rest of ``part``, or 200 with the whole file."""
    headers = {"User-Agent": f"oovrec/{__version__}"}
    same = _validator_file(part)
    if part.exists() and part.stat().st_size and same.exists():
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": same.read_text()}
    try:
        response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies behind what we have: begin anew
            raise
        _forget(part)
        return _open(url, part)


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _remember(part: Path, response: HTTPResponse) -> None:
    """Keep what names this version of the file: a strong ETag, else its date; without either there is no resuming."""
    tag = response.headers["ETag"] or ""
    validator = tag if tag and not tag.startswith("W/") else response.headers["Last-Modified"]
    if validator:
        _validator_file(part).write_text(validator)
    else:
        _validator_file(part).unlink(missing_ok=True)


def _forget(part: Path) -> None:
    for file in (part, _validator_file(part)):
        file.unlink(missing_ok=True)
