"""Amazon reviews as J. McAuley's group publishes them: 5-core reviews and item metadata in one folder.

2014: ``reviews_<category>_5.json.gz`` and ``meta_<category>.json.gz``, whose lines are Python literals, not JSON;
2018: ``<category>_5.json.gz`` and ``meta_<category>.json.gz``; 2023: ``<category>.csv`` (user_id, parent_asin, rating,
timestamp in milliseconds) and ``meta_<category>.jsonl``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from oovrec.data.columns import Columns, interactions, table_interactions
from oovrec.data.interactions import Interactions, number_attributes
from oovrec.data.rows import written
from oovrec.data.text import stream_lines
from oovrec.errors import OovrecError

FORMAT = "an Amazon reviews folder (reviews and meta_*)"
NAMED_COLUMNS = False
REVIEWS = ("*_5.json.gz", "*.csv")
FIELDS = {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
FIELDS |= {"summary": "summary", "review": "reviewText"}
ITEM = re.compile(r"""["'](?:parent_asin|asin)["']: *["']([^"']+)["']""")


def reads(path: Path) -> bool:
    """A folder with one file of reviews and one of metadata."""
    return len(_reviews(path)) == 1 and len(_metadata(path)) == 1


def read(path: Path, columns: Columns) -> Interactions:
    """Reviews as interactions, with their texts (2014, 2018); items' titles; brand and categories as attributes.

    Raises:
        OovrecError: a file is truncated; a line that is not of its format; a review without user, item or time.
    """
    reviews, metadata = _reviews(path)[0], _metadata(path)[0]
    if reviews.suffix == ".csv":
        log = table_interactions(reviews, None)
    else:
        log = interactions(_json_reviews(reviews), None, reviews, lambda row: f"review {row + 1}")
    items = dict(_items(metadata, set(log.frame["item"])))
    titles = {item: " ".join(str(about.get("title") or "").split()) for item, about in items.items()}
    attributes = number_attributes({item: list(_attributes(about)) for item, about in items.items()})
    return replace(log, titles=titles, attributes=attributes).read_from(path, reviews, metadata)


def _reviews(path: Path) -> list[Path]:
    return [file for pattern in REVIEWS for file in path.glob(pattern)]


def _metadata(path: Path) -> list[Path]:
    return [*path.glob("meta_*.json.gz"), *path.glob("meta_*.jsonl")]


def _json_reviews(path: Path) -> pl.DataFrame:
    rows: dict[str, list[str | None]] = {role: [] for role in FIELDS}
    for number, line in stream_lines(path):
        review = _parsed(line, where := f"{path}, line {number}")
        for role, field in FIELDS.items():
            value = review.get(field)
            plain = type(value) is str and value.isascii()  # as nearly all are, of many millions
            rows[role].append(value if plain else _text(value, field, where))
    return pl.DataFrame(rows, schema=dict.fromkeys(FIELDS, pl.String))


def _text(value: Any, field: str, where: str) -> str | None:
    """A text, or a number as it is written: some files have ids or times as the one, some as the other."""
    if value is None or isinstance(value, str):
        return written(value, field, where)
    if isinstance(value, int | float):
        return str(value)
    what = f"'{field}' holds neither a text nor a number"
    raise OovrecError(what, where=where, remedy="write one there or remove the line")


def _items(path: Path, wanted: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The metadata of the wanted items; other lines (most of them) are not parsed."""
    for number, line in stream_lines(path):
        found = ITEM.search(line)
        if found and found[1] in wanted:
            about = _parsed(line, where := f"{path}, line {number}")
            yield found[1], about | {"title": written(about.get("title"), "title", where)}


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            value = ast.literal_eval(line.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError) as error:  # of lists as keys, and of lists in lists
        raise OovrecError("is neither JSON nor a Python literal", where=where, remedy="fetch the file again") from error
    if not isinstance(value, dict):
        raise OovrecError("is not an object", where=where, remedy="fetch the file again")
    return value


def _attributes(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if brand := about.get("brand") or about.get("store"):
        yield "brand", str(brand)
    listed = about.get("category") or about.get("categories") or []
    for category in listed if isinstance(listed, list) else [listed]:
        # 2014 lists paths through the category tree, the later years one path
        yield from (("category", str(name)) for name in (category if isinstance(category, list) else [category]))
