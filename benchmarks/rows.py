"""Rows of the speed table: one JSON list a machine under ``results/speed/``, a row a name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from oovrec.app.waiting import spin_briefly
from oovrec.memory import keep_freed

spin_briefly()  # as the command line does, before torch is loaded
keep_freed()

import torch

from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import read_json, write_json

FOLDER = Path("results/speed")


def row(name: str, unit: str, ours: float, stock: float, settings: dict[str, Any], *, ratio: float) -> dict[str, Any]:
    """A measured row with its surroundings.

    Args:
        unit: of ``ours`` and ``stock``.
        settings: what was run: shape, data, batch, repeats, precision.
        ratio: how many times faster ours is (above 1 whether the unit is a rate or a duration); for
            ``step-vs-catalogue`` a large catalogue's step over a small one's.
    """
    figures = {"ours": _short(ours), "stock": _short(stock), "ratio": _short(ratio)}
    about = {"settings": settings, "hardware": hardware(), "versions": versions(), "commit": git_commit()}
    return {"name": name, "unit": unit, **figures, **about}


def wait() -> None:
    """Until an accelerator has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def write(row: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Put ``row`` into this machine's file in place of the row of the same name; returns the file."""
    slug = re.sub(r"[^a-z0-9]+", "-", row["hardware"].lower()).strip("-")
    path = folder / f"{slug}.json"
    rows = {known["name"]: known for known in read_json(path)} if path.exists() else {}
    rows[row["name"]] = row
    write_json(path, [rows[name] for name in sorted(rows)])
    return path
