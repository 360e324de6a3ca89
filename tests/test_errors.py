"""The sentence that people read."""

from __future__ import annotations

import pytest

from oovrec.errors import OovrecError


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
