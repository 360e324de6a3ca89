"""What a tuple of tokens must be, whether a file gives it or a scheme."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence, Sized
from itertools import pairwise
from typing import Any

from oovrec.errors import OovrecError

LONGEST = 1000  # characters of a token between its brackets
TOKEN = re.compile(rf"<[^<>\s]{{1,{LONGEST}}}>")
END = "<end>"  # fills shorter tuples up, in memory only

Words = tuple[str, ...]


def check_count(ids: Sized, tuples: Sized) -> None:
    """Make sure that there is a tuple for every id.

    Raises:
        OovrecError: there are fewer, or more.
    """
    if len(tuples) != len(ids):
        what = f"a table of {len(ids):,} ids is given {len(tuples):,} tuples of tokens"
        raise OovrecError(what, remedy="give every id its own")


def check_tuples(ids: Sequence[str], tuples: Sequence[Any]) -> None:
    """Make sure that every id has a tuple of texts.

    Raises:
        OovrecError: there are no ids, or as many tuples as ids are not there; one is empty or something else.
    """
    check_count(ids, tuples)
    if not len(ids):
        raise OovrecError("a table is given no ids", remedy="name what there is to name")
    for name, entry in zip(ids, tuples, strict=True):
        listed = isinstance(entry, Collection) and not isinstance(entry, str) and len(entry) > 0
        if not listed or not all(isinstance(token, str) for token in entry):
            what = f"'{name}' is named by {entry!r}, which is no tuple of tokens"
            raise OovrecError(what, remedy="name it by texts such as ('<C3>', '<I17>')")


def misspelt(tokens: Iterable[Any]) -> Any:
    """The first that is no text, is not in angle brackets, has blanks, is too long, or fills tuples up; else None."""
    return next((token for token in tokens if not _spelt(token)), None)


def _spelt(token: Any) -> bool:
    return isinstance(token, str) and token != END and TOKEN.fullmatch(token) is not None


def begun(tuples: Iterable[Words]) -> tuple[Words, Words] | None:
    """A tuple that begins another one, and that other: a model that has written an id must know that it ends there.

    Sorted, a tuple stands next to one it begins.
    """
    pairs = pairwise(sorted(tuples))
    return next(((short, longer) for short, longer in pairs if longer[: len(short)] == short), None)


def twice(*vocabularies: Iterable[str]) -> str | None:
    """The first token that is listed a second time, such as for users and for items."""
    counts = Counter(token for vocabulary in vocabularies for token in vocabulary)
    return next((token for token, count in counts.items() if count > 1 and token != END), None)
