"""The catalogue: pinned and first-use digests, archives, an all-or-nothing cache, and ml-100k itself."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from oovrec.data import catalog
from oovrec.data.cache import fetched
from oovrec.data.catalog import CATALOG, Entry, Source
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError

SEQUENCES = b"u1 a b c\nu2 b c a\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "oovrec" / "datasets"


@pytest.fixture
def publisher(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive by file address, and 'toy' in the catalogue for it."""
    archive = tmp_path / "toy.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("toy-1.0/user_sequence.txt", SEQUENCES)
        file.writestr("toy-1.0/README", "not wanted")
    source = Source(archive.as_uri(), members=("toy-1.0/user_sequence.txt",))
    monkeypatch.setitem(CATALOG, "toy", Entry((source,), "free"))
    return archive


def test_an_archives_members_are_cached(publisher: Path, cache: Path) -> None:
    assert catalog.get("toy") == cache / "toy"
    assert [path.name for path in (cache / "toy").iterdir()] == ["user_sequence.txt"]
    assert {path.name for path in cache.iterdir()} == {"toy", "toy.lock.json", ".downloads"}
    publisher.unlink()
    data = load_dataset("toy", k_core=1)  # from the cache alone
    assert (data.name, len(data.users), len(data.items)) == ("toy", 2, 3)


def test_the_first_download_is_trusted_and_the_next_must_agree(publisher: Path, cache: Path) -> None:
    catalog.get("toy")
    digest = hashlib.sha256(publisher.read_bytes()).hexdigest()
    assert json.loads((cache / "toy.lock.json").read_text()) == {publisher.as_uri(): digest}
    (cache / "toy" / "user_sequence.txt").unlink()
    (cache / "toy").rmdir()
    with zipfile.ZipFile(publisher, "a") as file:
        file.writestr("toy-1.0/more", "changed")
    with pytest.raises(OovrecError, match=f"not {digest}"):
        catalog.get("toy")
    assert not (cache / "toy").exists()


def test_a_pinned_digest_holds_from_the_start(publisher: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "toy", Entry((Source(publisher.as_uri(), "0" * 64),), "free"))
    with pytest.raises(OovrecError, match="not 0000"):
        catalog.get("toy")
    assert {path.name for path in cache.iterdir()} == {".downloads"}


@pytest.mark.parametrize("fault", ["no archive", "no member"])
def test_a_wrong_archive_leaves_no_folder(publisher: Path, cache: Path, fault: str) -> None:
    if fault == "no archive":
        publisher.write_bytes(b"<html>moved</html>")
    else:
        with zipfile.ZipFile(publisher, "w") as file:
            file.writestr("toy-2.0/user_sequence.txt", SEQUENCES)
    with pytest.raises(OovrecError, match=r"toy\.zip: is not the archive that was expected"):
        catalog.get("toy")
    assert {path.name for path in cache.iterdir()} == {".downloads", "toy.lock.json"}


def test_an_unwritable_cache(publisher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OovrecError, match=r"cannot be written .*; .*set XDG_CACHE_HOME"):
        catalog.get("toy")


def test_what_is_there_is_taken_where_nothing_can_be_written(cache: Path) -> None:
    (cache / "toy").mkdir(parents=True)
    (cache / ".downloads").write_text("no folder can be made here, whoever asks")
    assert fetched("datasets", "toy", Entry((), "CC0")) == cache / "toy"


def test_nobody_without_a_home_is_told_where_to_keep_things(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(OovrecError, match="no home folder to keep what is fetched in; set XDG_CACHE_HOME"):
        catalog.get("ml-100k")


def test_of_several_that_want_it_one_fetches(publisher: Path, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(catalog.get, ["toy"] * 8))
    assert folders == [cache / "toy"] * 8
    assert (cache / "toy" / "user_sequence.txt").read_bytes() == SEQUENCES


def test_a_requirement_that_pip_cannot_find(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "toy", Entry((Source("pypi:oovrec-toy==0.0"),), "free"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OovrecError, match=r"oovrec-toy==0\.0: pip cannot download it \(.*\); check the network"):
        catalog.get("toy")


def test_every_entry_is_well_formed() -> None:
    for name, entry in CATALOG.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert entry.licence
        for source in entry.sources:
            address = urlsplit(source.url)
            assert address.scheme in ("http", "https", "pypi")
            assert source.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", source.sha256)
    beauty = [source.url.rsplit("/", 1)[1] for source in CATALOG["amazon-2014-beauty"].sources]
    assert beauty == ["reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"]


def test_ml_100k(cache: Path) -> None:
    """The counts that DESIGN names; one history against the ratings file read by hand."""
    try:
        data = load_dataset("ml-100k")
    except OovrecError as error:
        if "pip cannot download" in str(error):
            pytest.skip("no package index to fetch the recbole wheel from")
        raise
    assert (len(data.users), len(data.items), len(data.full.items)) == (943, 1349, 99287)
    with (cache / "ml-100k" / "ml-100k.inter").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["user_id:token"] == "196"]
    mine = sorted(rows, key=lambda row: float(row["timestamp:float"]))
    history = [data.items[item] for item in data.full[data.user_index["196"]]]
    assert history == [row["item_id:token"] for row in mine if row["item_id:token"] in data.item_index]
    assert data.titles is not None
    assert data.attributes is not None
    assert data.titles[data.item_index["50"]] == "Star Wars (1977)"
    genres = {item: set(data.attributes[data.item_index[item]]) for item in ("1", "8", "50")}
    assert len(genres["50"]) == 5  # action, adventure, romance, science fiction, war
    assert len(genres["1"] & genres["8"]) == 2  # Toy Story and Babe: children's, comedy


def test_every_file_is_trusted_on_first_use(cache: Path, tmp_path: Path) -> None:
    files = [tmp_path / "reviews.json", tmp_path / "meta.json"]
    for path in files:
        path.write_text(path.name)
    fetched("datasets", "toy", Entry(tuple(Source(path.as_uri()) for path in files), "free"))
    lock = json.loads((cache / "toy.lock.json").read_text())
    assert lock == {path.as_uri(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_a_killed_process_left_is_removed(publisher: Path, cache: Path) -> None:
    left, other = cache / ".toy.abc", cache / ".toys.abc"  # the other of another dataset
    (left / "toy").mkdir(parents=True)
    other.mkdir()
    catalog.get("toy")
    assert not left.exists()
    assert other.exists()
    assert list((cache / ".downloads").iterdir()) == [cache / ".downloads" / "toy.busy"]
