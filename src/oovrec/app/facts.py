"""Which data the results of a folder are of: ``<out>/<dataset>/dataset.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.files import read_json, write_json

FACTS = "dataset.json"


def facts(dataset: Dataset) -> dict[str, object]:
    """What the file holds."""
    return {
        "users": len(dataset.users),
        "items": len(dataset.items),
        "interactions": int(dataset.full.lengths.sum()),
        "fingerprint": dataset.fingerprint,
        "described": dataset.described,
        **({} if dataset.tie_seed is None else {"tie_seed": dataset.tie_seed}),
        **({} if dataset.held_from is None else {"held_from": dataset.periods}),
    }


@dataclass(frozen=True)
class Facts:
    """What a ``dataset.json`` says.

    Attributes:
        counts: of users, items and interactions.
        held_from: from when on items are held out for validation, and for the test; empty where one is left out.
    """

    counts: dict[str, int]
    held_from: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{number:,} {name}" for name, number in self.counts.items())
        if not self.held_from:
            return f"{counts}."
        began, ended = self.held_from
        return f"{counts}; held out by time, from {began} on for validation, from {ended} on for the test."


def read_facts(path: Path) -> Facts:
    """Read a ``dataset.json``.

    Raises:
        OovrecError: it is broken.
    """
    values = read_json(path)
    try:
        began, ended = values.get("held_from", ("", ""))
        counts = {name: int(values[name]) for name in ("users", "items", "interactions")}
        return Facts(counts, [str(began), str(ended)] if began else [])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = "does not count users, items and interactions"
        raise OovrecError(what, where=path, remedy="remove it and run the command again") from error


def check_facts(dataset: Dataset, out: Path) -> None:
    """Make sure that the results of this name in ``out`` are of the same data.

    Raises:
        OovrecError: they are of other data.
    """
    path = out / dataset.name / FACTS
    if not path.exists() or not read_facts(path):
        return
    known = read_json(path)
    found = known.get("fingerprint"), known.get("described", dataset.described)  # which early files do not say
    if found != (dataset.fingerprint, dataset.described):
        what = f"holds results of other data called '{dataset.name}'"
        raise OovrecError(what, where=path.parent, remedy="give another --out, or rename one of the two")


def write_facts(dataset: Dataset, out: Path) -> None:
    """Keep which data the results of this name are of."""
    write_json(out / dataset.name / FACTS, facts(dataset))
