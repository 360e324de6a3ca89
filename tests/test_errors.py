"""The sentence that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import pytest

from oovrec.errors import OovrecError, brief, unknown


@pytest.mark.parametrize(
    ("what", "where", "remedy", "sentence"),
    [
        ("holds no run", "../here", None, "../here: holds no run."),
        ("is broken.", None, None, "is broken."),
        ("is broken", "a/../b, line 3", "mend it.", "a/../b, line 3: is broken; mend it."),
    ],
)
def test_one_full_stop_and_places_as_they_are(what: str, where: str, remedy: str, sentence: str) -> None:
    assert str(OovrecError(what, where=where, remedy=remedy)) == sentence


def test_an_unknown_name_gets_its_neighbour_the_names_or_that_there_are_none() -> None:
    assert str(unknown("key", "widht", ["heads", "width"])) == "unknown key 'widht'; did you mean 'width'."
    assert str(unknown("key", "x", ["width", "heads"])) == "unknown key 'x'; choose one of: heads, width."
    many = [f"cust-{number:04}" for number in range(500)]
    assert str(unknown("user", "nobody", many)) == "unknown user 'nobody'; check it; there are 500."
    assert str(unknown("user", "cust-04", many)) == "unknown user 'cust-04'; did you mean 'cust-0400'."  # it begins so
    assert (
        str(unknown("key", "x", [], where="model")) == "model: unknown key 'x'; leave it out: there is no key to set."
    )


class Listed(Sequence[str]):
    """Ids of which it is known how many there are, and nothing else."""

    def __len__(self) -> int:
        return 60_000

    def __getitem__(self, _: object) -> NoReturn:
        raise AssertionError("an id was read")


def test_an_unknown_name_is_compared_with_few_alone() -> None:
    assert str(unknown("user", "customer-9", Listed())) == "unknown user 'customer-9'; check it; there are 60,000."
    few = [f"user-{number:03}" for number in range(100)]
    long = "user-007" + "x" * 5_000_000
    assert str(unknown("user", "user-007-", few)) == "unknown user 'user-007-'; did you mean 'user-007'."
    assert str(unknown("user", long, few)) == f"unknown user '{long[:200]}…'; check it; there are 100."


def test_a_text_from_outside_is_shown_in_brief() -> None:
    assert [brief(text) for text in ("", "x" * 200, "x" * 201)] == ["", "x" * 200, "x" * 200 + "…"]
