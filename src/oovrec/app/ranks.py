"""``ranks.safetensors``: what a run did for each test user, so that it is scored once and compared often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oovrec.errors import OovrecError
from oovrec.evaluation.protocol import Evaluation
from oovrec.files import read_tensors, write_tensors

ARRAYS = ("users", "targets", "raw", "masked", "later_day", "days", "top_raw", "top_masked")
NUMBERS = ("items", "repeat_targets", "seed")


def write_ranks(path: Path, evaluation: Evaluation, data: str) -> None:
    """Write an evaluation; ``data`` is the fingerprint of what it was made on."""
    arrays = {name: value for name in ARRAYS if (value := getattr(evaluation, name)) is not None}
    said = {name: str(getattr(evaluation, name)) for name in (*NUMBERS, "hold_out")}
    write_tensors(path, arrays, {"data": data, **said})


def read_ranks(path: Path, data: str) -> Evaluation:
    """Read what :func:`write_ranks` wrote: everything but ``tasks``.

    Raises:
        OovrecError: missing, broken, or of other data.
    """
    arrays, header = read_tensors(path)
    try:
        if header["data"] != data:
            raise OovrecError("is of another dataset", where=path, remedy="evaluate the run again")
        values: dict[str, Any] = {name: int(header[name]) for name in NUMBERS}
        values["hold_out"] = header.get("hold_out", "last")  # which early files do not say
        return Evaluation(**{"later_day": None, **arrays, **values})
    except (KeyError, TypeError, ValueError) as error:
        raise OovrecError("is not the ranks of a run", where=path, remedy="evaluate the run again") from error
