"""Public datasets by name: where they officially lie, what is fetched, and the cache they are kept in.

A file whose SHA-256 is known is checked against it. Where the publisher gives none, the digest of the first download
is recorded in ``<name>.lock.json`` beside the cached folder, and every later download must agree with it ("trust on
first use").
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from filelock import FileLock

from oovrec.data.download import download, download_wheel
from oovrec.errors import OovrecError, unknown
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
    """A dataset: its files and on what terms their publisher gives them."""

    sources: tuple[Source, ...]
    licence: str


AMAZON_2014 = """Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Grocery_and_Gourmet_Food
    Health_and_Personal_Care Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_2018 = """AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards
    Grocery_and_Gourmet_Food Home_and_Kitchen Industrial_and_Scientific Kindle_Store Luxury_Beauty
    Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies
    Prime_Pantry Software Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_2023 = """All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products
    Beauty_and_Personal_Care Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry
    Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food Handmade_Products Health_and_Household
    Health_and_Personal_Care Home_and_Kitchen Industrial_and_Scientific Kindle_Store Magazine_Subscriptions
    Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software
    Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_FILES = {  # year: categories, reviews, metadata
    2014: (
        AMAZON_2014,
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_{}_5.json.gz",
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_{}.json.gz",
    ),
    2018: (
        AMAZON_2018,
        "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall/{}_5.json.gz",
        "https://jmcauley.ucsd.edu/data/amazon_v2/metaFiles2/meta_{}.json.gz",
    ),
    2023: (
        AMAZON_2023,
        "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/benchmark/5core/rating_only/{}.csv",
        "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw/meta_categories/meta_{}.jsonl",
    ),
}
AMAZON_TERMS = "J. McAuley's Amazon product data, for research use"
GROUPLENS_TERMS = "GroupLens: research use, no redistribution without permission; cite Harper and Konstan (2015)"


def _movielens(name: str, digest: str, ratings: str, movies: str) -> Entry:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    return Entry((Source(url, digest, (f"{name}/{ratings}", f"{name}/{movies}")),), GROUPLENS_TERMS)


def _amazon() -> dict[str, Entry]:
    return {
        f"amazon-{year}-{category.lower().replace('_', '-')}": Entry(
            (Source(reviews.format(category)), Source(metadata.format(category))), AMAZON_TERMS
        )
        for year, (categories, reviews, metadata) in AMAZON_FILES.items()
        for category in categories.split()
    }


_RECBOLE = Source(
    "pypi:recbole==1.2.1",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    ("recbole/dataset_example/ml-100k/ml-100k.inter", "recbole/dataset_example/ml-100k/ml-100k.item"),
)
CATALOG: dict[str, Entry] = {
    "ml-100k": Entry((_RECBOLE,), GROUPLENS_TERMS),
    "ml-1m": _movielens(
        "ml-1m", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20", "ratings.dat", "movies.dat"
    ),
    "ml-20m": _movielens(
        "ml-20m", "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3", "ratings.csv", "movies.csv"
    ),
    **_amazon(),
}
EXAMPLES = ("ml-100k", "ml-1m", "ml-20m", "amazon-2014-beauty", "amazon-2018-all-beauty", "amazon-2023-all-beauty")


def unknown_dataset(name: str) -> OovrecError:
    """An error for a name that the catalogue lacks: its nearest neighbour, or a few names as examples."""
    return unknown("dataset", name, CATALOG if get_close_matches(name, CATALOG, n=1) else EXAMPLES)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/oovrec/datasets``, by default ``~/.cache/oovrec/datasets``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oovrec" / "datasets"


def get(name: str) -> Path:
    """The folder of a named dataset, fetched into the cache where it is not there yet.

    The folder appears whole or not at all; an interrupted download goes on where it stopped. Of several
    processes that want it one fetches and the others wait.

    Raises:
        OovrecError: no such name; no network; a wrong checksum; a full disk.
    """
    if name not in CATALOG:
        raise unknown_dataset(name)
    cache = cache_folder()
    try:
        (cache / ".downloads").mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".downloads" / f"{name}.busy"):  # another process may be at it
            if not (cache / name).is_dir():
                _build(name, cache)
    except OSError as error:
        remedy = "free some space there or set XDG_CACHE_HOME to another folder"
        raise OovrecError(f"cannot be written ({error.strerror})", where=cache, remedy=remedy) from error
    return cache / name


def _build(name: str, cache: Path) -> None:
    """Fetch a dataset's files and make its folder appear in one step."""
    entry, folder, downloads = CATALOG[name], cache / name, cache / ".downloads" / name
    say(f"fetching {name} into {folder} ({entry.licence})")
    downloads.mkdir(exist_ok=True)
    files = [_fetch(source, downloads, cache / f"{name}.lock.json") for source in entry.sources]
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=cache) as parent:
        building = Path(parent) / name
        building.mkdir()
        for source, file in zip(entry.sources, files, strict=True):
            _unpack(source, file, building)
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
