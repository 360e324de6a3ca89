"""Options that no model can have, or not together: a sentence that names them."""

from __future__ import annotations

from typing import Any

import pytest

from oovrec.config import Options, checked
from oovrec.errors import OovrecError
from oovrec.models.base import configured


@pytest.mark.parametrize("system", ["sasrec", "bert4rec", "esasrec", "fdsa", "s3rec", "cl4srec", "bsarec"])
@pytest.mark.parametrize(
    ("width", "heads", "remedy"),
    [
        (64, 3, "set it to 2, or model.width to a multiple of 3"),
        (7, 2, "set it to 1, or model.width to a multiple of 2"),
        (16, 32, "set it to 16, or model.width to a multiple of 32"),
    ],
)
def test_heads_divide_the_width(system: str, width: int, heads: int, remedy: str) -> None:
    with pytest.raises(OovrecError) as error:
        configured(system, {"width": width, "heads": heads})
    assert str(error.value) == f"model.heads: {heads} does not divide model.width = {width}; {remedy}."
    assert configured(system, {"width": width, "heads": width}).heads == width  # type: ignore[attr-defined]


def test_a_width_that_the_default_heads_do_not_divide() -> None:
    with pytest.raises(OovrecError, match=r"model\.heads: 2 does not divide model\.width = 63; set it to 1"):
        configured("sasrec", {"width": 63})


@pytest.mark.parametrize(
    ("system", "options", "sentence"),
    [
        ("gru4rec", {"width": 10**30}, f"model.width: {10**30} is too large; give at most 2147483647."),
        ("hgn", {"ahead": 2**63 - 1}, f"model.ahead: {2**63 - 1} is too large; give at most 2147483647."),
        (
            "llama",
            {"backbone": "any/one", "lora": {"rank": 2**40}},
            f"model.lora.rank: {2**40} is too large; give at most 2147483647.",
        ),
    ],
)
def test_a_number_beyond_all_machines(system: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OovrecError) as error:
        configured(system, options)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("tasks", "key"),
    [
        ({"direct": float("inf")}, "direct"),
        ({"rating": 1e300}, "rating"),
        ({"sequential": 1e-320}, "sequential"),
        ({"sequential": float("inf")}, "sequential"),
    ],
)
def test_weights_of_tasks_are_finite_and_not_without_measure(tasks: dict[str, float], key: str) -> None:
    with pytest.raises(
        OovrecError,
        match=rf"model\.tasks\.{key}: input should be (a finite|less than|greater than)",
    ):
        configured("t5", {"tasks": tasks})


def test_a_system_without_options_says_that_there_are_none() -> None:
    class Nothing(Options):
        """Of a system of another package."""

    with pytest.raises(OovrecError) as error:
        checked(Nothing, {"shape": "debug"}, where="model")
    assert str(error.value) == "model: unknown key 'shape'; leave it out: there is no key to set."
