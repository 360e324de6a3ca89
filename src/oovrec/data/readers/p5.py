"""P5's ``user_sequence.txt``: a line a user, its id and then its items, oldest first.

Beside it in a folder there may be ``times.tsv.gz`` (user, item, unix_time, a row an interaction, in the order of the
sequences), ``item_text.tsv`` (item, a tab, text) and ``item_attributes.json`` (item to a list of numbers).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from oovrec.data.columns import Columns
from oovrec.data.interactions import Interactions
from oovrec.data.packing import ends, unpacked
from oovrec.data.rows import absent, shown
from oovrec.data.text import numbered_lines, read_table, read_text
from oovrec.data.times import FORMS, unix_seconds
from oovrec.errors import OovrecError
from oovrec.files import read_json

FORMAT = "a P5 user_sequence.txt (also packed, or a folder with one)"
NAMED_COLUMNS = False
SEQUENCES, TIMES, TEXTS, ATTRIBUTES = "user_sequence.txt", "times.tsv.gz", "item_text.tsv", "item_attributes.json"


def reads(path: Path) -> bool:
    """A ``.txt`` file, perhaps packed, or a folder with ``user_sequence.txt``."""
    return ends(unpacked(path), ".txt") if path.is_file() else (path / SEQUENCES).is_file()


def read(path: Path, columns: Columns) -> Interactions:
    """The sequences of a file, or of a folder with the files that stand beside them.

    Raises:
        OovrecError: a file is broken; a user twice; a line with one item; times that are missing, of other
            interactions or out of order.
    """
    sequences = path if path.is_file() else path / SEQUENCES
    frame = _sequences(sequences)
    if path.is_file():
        return Interactions(frame).read_from(path, sequences)
    times, texts, attributes = path / TIMES, path / TEXTS, path / ATTRIBUTES
    log = Interactions(
        frame.with_columns(_times(times, frame)) if times.exists() else frame,
        _texts(texts) if texts.exists() else None,
        _attributes(attributes) if attributes.exists() else None,
    )
    return log.read_from(path, sequences, *(file for file in (times, texts, attributes) if file.exists()))


def _sequences(path: Path) -> pl.DataFrame:
    lines: dict[str, int] = {}  # user to the line it stands on
    lengths: list[int] = []
    items: list[str] = []
    for number, line in numbered_lines(read_text(path)):
        user, *history = line.split()
        where = f"{path}, line {number}"
        if len(history) < 2:
            many = "one item" if history else "no items"
            remedy = "write 'user item item …' with at least two items, or remove the line"
            raise OovrecError(f"has {many}", where=where, remedy=_remedy(line, remedy))
        if user in lines:
            what = f"user '{user}' already stands on line {lines[user]}"
            raise OovrecError(what, where=where, remedy=_remedy(line, "join the two lines"))
        lines[user] = number
        lengths.append(len(history))
        items += history
    users = pl.Series(lines.keys(), dtype=pl.String)
    return pl.DataFrame({"user": users.gather(np.repeat(np.arange(len(users)), lengths)), "item": items})


def _remedy(line: str, otherwise: str) -> str:
    """What to do about a bad line, which may be one of another format."""
    if any(separator in line for separator in "\t,;|"):
        return f"give the file the ending .csv if it is a table with a header line, else {otherwise}"
    return otherwise


def _times(path: Path, frame: pl.DataFrame) -> pl.Series:
    """``time`` of each row of ``frame``."""
    table = read_table(path, separator="\t", quoted=False)
    if table.columns != ["user", "item", "unix_time"]:
        remedy = "name the columns user, item, unix_time"
        raise OovrecError(f"has the columns {', '.join(table.columns)}", where=f"{path}, line 1", remedy=remedy)
    if len(table) != len(frame):
        remedy = f"give a row for each interaction of {SEQUENCES}"
        raise OovrecError(f"has {len(table):,} rows for {len(frame):,} interactions", where=path, remedy=remedy)
    seconds = unix_seconds(table["unix_time"])

    def refuse(bad: pl.Series, what: str, remedy: str) -> None:
        if bad.any():
            raise OovrecError(what, where=f"{path}, line {bad.arg_true()[0] + 2}", remedy=remedy)

    user, item = (table[name].str.strip_chars() for name in ("user", "item"))
    other = user.ne_missing(frame["user"]) | item.ne_missing(frame["item"])
    refuse(other, f"is not the interaction that {SEQUENCES} has there", f"write the rows in the order of {SEQUENCES}")
    wrong = table["unix_time"].filter(seconds.is_null()).first()
    what = "has no time" if absent(wrong) else f"{shown(wrong)} is not a time"
    refuse(seconds.is_null(), what, f"write all as {FORMS}")
    earlier = (frame["user"] == frame["user"].shift(1)) & (seconds < seconds.shift(1))
    remedy = "sort each user's items by time, in both files"
    refuse(earlier, "is earlier than the line above it, of the same user", remedy)
    return seconds.alias("time")


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in numbered_lines(read_text(path)):
        item, tab, text = line.partition("\t")
        item = item.strip()
        where = f"{path}, line {number}"
        if not tab:
            raise OovrecError("has no tab", where=where, remedy="write the item, a tab, its text")
        if item in texts:
            raise OovrecError(f"item '{item}' stands there twice", where=where, remedy="keep one of the lines")
        texts[item] = text.strip()
    return texts


def _attributes(path: Path) -> dict[str, tuple[int, ...]]:
    table = read_json(path)
    remedy = 'write an object like {"item": [1, 2]}'
    if not isinstance(table, dict):
        raise OovrecError("is not an object of lists", where=path, remedy=remedy)
    for item, numbers in table.items():
        if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise OovrecError(f"item '{item}' has no list of whole numbers", where=path, remedy=remedy)
    return {item: tuple(numbers) for item, numbers in table.items()}
