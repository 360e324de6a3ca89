"""Which cells of the table of results are done, which are to be filled, in which order, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from rich.table import Table
from rich.text import Text

from oovrec.app.cells import NAME, Cell, read_cells, same_training
from oovrec.app.facts import FACTS, read_facts
from oovrec.app.page import duration
from oovrec.app.tables import grid
from oovrec.errors import OovrecError
from oovrec.evaluation.results import Result, hardware
from oovrec.models.base import NeuralRecommender, system


@dataclass(frozen=True)
class Planned:
    """A cell and what is to be done about it.

    Attributes:
        cell: the cell.
        state: ``done`` where its file is that of today's recipe; else what is to be done, in words.
        seconds: how long a whole run of it takes by earlier results; None where there are none.
        elsewhere: these are of other hardware.
        interactions: of its dataset.
    """

    cell: Cell
    state: str
    seconds: float | None
    elsewhere: bool
    interactions: int

    @property
    def done(self) -> bool:
        return self.state == "done"

    @property
    def cost(self) -> tuple[bool, float, bool, int]:
        """What is cheaper comes first: by time; where that is not known, models without tokens and epochs first."""
        recipe = self.cell.run.recipe
        learned = issubclass(system(recipe.system), NeuralRecommender)
        work = learned * recipe.training.last_epoch * self.interactions
        return self.seconds is None, self.seconds or 0.0, recipe.tokens is not None, work


def plan(cells: Iterable[Cell], interactions: Mapping[str, int], out: Path) -> list[Planned]:
    """``cells``, the cheapest first.

    Args:
        interactions: by dataset: of each in ``cells``, and of others as far as they are known.
        out: the folder of results, which also say how long systems take.
    """
    earlier = read_cells(out)
    planned = [
        Planned(cell, _state(cell), *_expected(cell, earlier, interactions), interactions[cell.run.data.name])
        for cell in cells
    ]
    return sorted(planned, key=lambda one: one.cost)


def _state(cell: Cell) -> str:
    if cell.done:
        return "done"
    if cell.file.exists():
        return "to do again: its recipe has changed since"
    folder = cell.run.folder
    if not (folder / "config.yaml").exists():
        return "to do"
    try:
        return "to go on with" if same_training(cell.run) else f"to do: {folder} holds another training"
    except OovrecError as error:
        return f"to do anew, as {error}"


def _expected(cell: Cell, earlier: Mapping[Path, Result], interactions: Mapping[str, int]) -> tuple[float | None, bool]:
    """Seconds by the same system's results, scaled by interactions, and whether they are of other hardware.

    Those of this hardware go before others, and among them those on the same dataset.
    """
    wanted, machine = cell.run.data.name, hardware()
    known: list[tuple[bool, bool, float]] = []  # of this hardware, on this dataset, seconds
    for path, result in earlier.items():
        name = NAME.fullmatch(path.name)
        here = result.dataset == wanted
        if name and name["system"] == cell.system and (here or result.dataset in interactions):
            scale = 1.0 if here else interactions[wanted] / interactions[result.dataset]
            known.append((result.hardware == machine, here, result.wall_seconds * scale))
    if not known:
        return None, False
    best = max(one[:2] for one in known)
    return mean(one[2] for one in known if one[:2] == best), not best[0]


def shown(planned: Sequence[Planned]) -> list[Table | Text]:
    """The plan for people: every cell, its expected time, and the sum."""
    rows = [[one.cell.name, one.state, "" if one.done else _time(one)] for one in planned]
    open_ones = [one for one in planned if not one.done]
    known = [one.seconds for one in open_ones if one.seconds is not None]
    parts = [f"{duration(sum(known))} one after another"] if known else []
    parts += [f"{len(open_ones) - len(known)} whose time is not known"] if len(open_ones) > len(known) else []
    total = f"{len(open_ones)} of {len(planned)} cells to fill" + (f": {', and '.join(parts)}" if parts else "")
    return [grid({"cell": "left", "state": "left", "expected": "right"}, rows), Text(f"{total}.")]


def _time(one: Planned) -> str:
    if one.seconds is None:
        return "not known"
    return duration(one.seconds) + (" (on other hardware)" if one.elsewhere else "")


def known_interactions(out: Path) -> dict[str, int]:
    """Interactions of the datasets that have results in ``out``."""
    return {path.parent.name: read_facts(path).counts["interactions"] for path in sorted(out.glob(f"*/{FACTS}"))}
