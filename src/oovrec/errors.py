"""The one error that users meet: what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TypeVar

T = TypeVar("T")

LISTED = 40  # names that an error lists at most
SHOWN = 200  # characters of a name that an error shows at most
COMPARED = 20_000  # names times characters of an unknown one, beyond which it takes long to find the nearest
FULL = (errno.ENOSPC, errno.EDQUOT)  # numbers of a refusal: no room on the disk
# What an error says where memory is short; the last is cuDNN's attention, which does not name the reason.
MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate", "mha_graph.execute")


class OovrecError(Exception):
    """A mistake a person can mend: printed as one sentence, without a traceback.

    Args:
        what: what is wrong ("line has one item; a history needs at least two").
        where: the place: a file and line, a config key, a command option.
        remedy: what to do about it, as an imperative sentence.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        place = f"{self.where}: " if self.where else ""
        cure = f"; {remedy}" if remedy else ""
        super().__init__(f"{place}{what}{cure}".removesuffix(".") + ".")


@contextmanager
def within(place: object) -> Iterator[None]:
    """Put ``place``, such as a file, before the one that errors name in it."""
    try:
        yield
    except OovrecError as error:
        where = ", ".join(str(part) for part in (place, error.where) if part)
        raise OovrecError(error.what, where=where, remedy=error.remedy) from error


class Diverged(OovrecError):
    """A training whose loss is no longer a number."""


class Interrupted(Exception):
    """Raised by long work that was stopped by the user and left in a resumable state."""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is want of memory, the processor's or an accelerator's."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in MEMORY)


def refusal(error: BaseException) -> int | None:
    """The system's number of why it refused, which libraries in Rust have in their words alone; None for defects."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    code = re.search(r"\(os error (\d+)\)", str(error))
    return int(code[1]) if code else None


def brief(text: str) -> str:
    """As much of a text from outside as a sentence shows."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def listed(values: Iterable[T], kind: str, where: str) -> list[T]:
    """``values`` as a list.

    Args:
        kind: what they are, such as ``item ids``.

    Raises:
        OovrecError: they are one text, whose letters are not meant, or nothing that can be gone through.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise OovrecError(f"{brief(repr(values))} is no list of {kind}", where=where, remedy="give a list of them")
    return list(values)


def check_whole(number: int, where: str, remedy: str, least: int = 1) -> None:
    """Make sure that a number is a whole one from ``least``.

    Raises:
        OovrecError: it is not.
    """
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise OovrecError(f"{brief(repr(number))} is no whole number", where=where, remedy=remedy)
    if number < least:
        raise OovrecError(f"{number} is below {least}", where=where, remedy=remedy)


def unknown(kind: str, name: str, choices: Collection[str], *, where: object = None) -> OovrecError:
    """An error for a name that is not among ``choices``, naming its nearest neighbour unless there are very many."""
    name = brief(name)
    what = f"unknown {kind} '{name}'"
    if not choices:
        return OovrecError(what, where=where, remedy=f"leave it out: there is no {kind} to set")
    many = f"check it; there are {len(choices):,}"
    if len(choices) * (len(name) + 1) > COMPARED:  # new users ask a server all day
        return OovrecError(what, where=where, remedy=many)
    known = sorted(choices)
    begun = [choice for choice in known if name and choice.startswith(name)]
    few = f"choose one of: {', '.join(known)}" if len(known) <= LISTED else many
    close = [min(begun, key=len)] if begun else difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean '{close[0]}'" if close else few
    return OovrecError(what, where=where, remedy=remedy)
