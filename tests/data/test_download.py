"""Downloads against a local server that breaks off, ignores ranges, changes its file, or refuses."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from oovrec.data import download as module
from oovrec.data.download import download
from oovrec.errors import OovrecError

CONTENT = np.random.default_rng(0).bytes(900_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"v1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the coming answers break off
    statuses: list[int] = field(default_factory=list)  # of the coming answers, instead of the file
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    sent: int = 0
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = self.start()
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            body = body[: state.cuts.pop(0)] if state.cuts else body
            self.wfile.write(body)
            state.sent += len(body)

        def start(self) -> int:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            same = self.headers["If-Range"] in (None, state.etag)
            return int(asked[1]) if asked and state.ranges and same else 0

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/file.bin"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path / "file.bin", sha256=DIGEST)
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}
    download(server.url, path, sha256=DIGEST)
    assert len(server.asked) == 1  # what is there and right is not fetched again


def test_interruptions_go_on_where_they_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 250_001]
    path = download(server.url, tmp_path / "file.bin", sha256=DIGEST, pause=0)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=550001-"]
    assert server.sent == len(CONTENT)


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000]
    with pytest.raises(OovrecError, match=r"300,000 of 900,000 bytes.*check the network and call again"):
        download(server.url, tmp_path / "file.bin", attempts=1)
    assert not (tmp_path / "file.bin").exists()
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("change", ["ignores ranges", "names no version", "changed the file"])
def test_where_resuming_is_not_safe_it_begins_anew(server: Server, tmp_path: Path, change: str) -> None:
    server.cuts = [300_000]
    if change == "names no version":
        server.etag = None
    with pytest.raises(OovrecError):
        download(server.url, tmp_path / "file.bin", attempts=1)
    if change == "ignores ranges":
        server.ranges = False
    elif change == "changed the file":
        server.content, server.etag = CONTENT[::-1], '"v2"'
    assert download(server.url, tmp_path / "file.bin").read_bytes() == server.content
    assert server.asked == [None, None if change == "names no version" else "bytes=300000-"]


def test_a_part_that_is_already_whole_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.etag").write_text('"v1"')
    assert download(server.url, tmp_path / "file.bin", sha256=DIGEST).read_bytes() == CONTENT
    assert server.asked == ["bytes=900000-", None]


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=f"has SHA-256 {DIGEST}, not {'0' * 64}; try again"):
        download(server.url, tmp_path / "file.bin", sha256="0" * 64)
    assert left(tmp_path) == set()


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_not_asked_twice(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status] * 9
    with pytest.raises(OovrecError, match=rf"file\.bin: the server answers {status} \(.*\); check the address"):
        download(server.url, tmp_path / "file.bin", pause=0)
    assert len(server.asked) == 1
    assert left(tmp_path) == set()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_server_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status, status]
    assert download(server.url, tmp_path / "file.bin", pause=0).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=r"cannot be fetched .*; check the network"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", attempts=2, pause=0)


def test_a_full_disk_is_not_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, part: Path) -> None:
        server.asked.append(None)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_fetch", full)
    with pytest.raises(OSError, match="No space left"):
        download(server.url, tmp_path / "file.bin")
    assert len(server.asked) == 1


def test_a_whole_file_of_another_digest_is_fetched_again(tmp_path: Path) -> None:
    published, path = tmp_path / "published.json", tmp_path / "got.json"
    published.write_text("the new version")
    path.write_text("an older version")
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert download(published.as_uri(), path).read_text() == "an older version"  # any will do
    assert download(published.as_uri(), path, sha256=digest).read_text() == "the new version"


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"ETag": '"v1"', "Last-Modified": "Tue"}, '"v1"'),
        ({"ETag": 'W/"v1"', "Last-Modified": "Tue"}, "Tue"),  # weak: the bytes may be others (RFC 9110 §13.1.5)
        ({"ETag": None, "Last-Modified": "Tue"}, "Tue"),
        ({"ETag": 'W/"v1"', "Last-Modified": None}, None),
    ],
)
def test_only_what_names_the_bytes_is_remembered(headers: dict, kept: str | None, tmp_path: Path) -> None:
    (validator := tmp_path / "file.part.etag").write_text('"v0"')
    module._remember(tmp_path / "file.part", type("Answer", (), {"headers": headers}))
    assert (validator.read_text() if validator.exists() else None) == kept
