"""Finished runs side by side: their figures over seeds, and the first one's lead over each other, user by user."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oovrec.app.pipeline import evaluated
from oovrec.app.results_table import Figure
from oovrec.app.runs import Run, load_run
from oovrec.errors import OovrecError, listed
from oovrec.evaluation.protocol import COMPARED, Evaluation, Figures, compare_by_days
from oovrec.evaluation.protocol import compare as compared
from oovrec.evaluation.results import TokensFrom
from oovrec.models.base import NeuralRecommender, system

SEEDS = 3  # of each system, before one is called better
TOO_FEW = "enough to look, too few to call one better"


@dataclass(frozen=True)
class Contender:
    """A system with the runs that differ in nothing but their seed.

    Attributes:
        label: its name for people; where others have it too, with the end of the first run's folder.
        tokens_from: what its tokens were built from, as :meth:`oovrec.app.runs.Run.tokens_from_in` has it.
        runs: folder by seed.
        random: whether a seed changes anything.
        figures: by block, then by metric of :data:`COMPARED`.
        users: how many are counted, by block.
        lead: what the first system has over this one, as :func:`oovrec.evaluation.protocol.compare` gives it; None
            for the first.
        retrained: whether it has learnt from what validates too.
        by_days: held out by time, ``figures`` by block and days since the moment of the test (``0-6``).
        users_by_days: how many are counted, by days.
        lead_by_days: ``lead`` likewise.
    """

    label: str
    tokens_from: TokensFrom
    runs: dict[int, Path]
    random: bool
    figures: dict[str, dict[str, Figure]]
    users: dict[str, int]
    lead: dict[str, dict[str, Any]] | None
    retrained: bool = False
    by_days: dict[str, dict[str, dict[str, Figure]]] = field(default_factory=dict)
    users_by_days: dict[str, int] = field(default_factory=dict)
    lead_by_days: Figures = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For programs: figures as ``mean`` and, of several seeds, ``deviation``."""
        figures = {block: _plain(metrics, self.users[block]) for block, metrics in self.figures.items()}
        by_days = {
            block: {days: _plain(metrics, self.users_by_days[days]) for days, metrics in periods.items()}
            for block, periods in self.by_days.items()
        }
        runs = {str(seed): str(folder) for seed, folder in self.runs.items()}
        about = {"system": self.label, "tokens_from": self.tokens_from, "retrained": self.retrained, "runs": runs}
        dated = {"by_days": by_days, "lead_by_days": self.lead_by_days or None} if by_days else {}
        return {**about, "figures": figures, "lead": self.lead, **dated}


def compare(
    runs: Sequence[Run | str | Path], data: str | None = None, *, later: str | Path | None = None
) -> list[Contender]:
    """The systems of finished runs, in the order in which the first of each was given.

    Runs whose seeds alone differ are one system, whose values are averaged user by user. A run
    that was not tested yet is, and its figures are kept.

    Args:
        runs: runs or their folders, of one dataset.
        data: where the data lies now, if not where it was.
        later: a newer log, to compare them on what came after theirs; see :func:`oovrec.app.later.evaluate_later`.

    Raises:
        OovrecError: a run is not finished or broken, is of another dataset than the first, was given twice, or names
            other items of ``later``; ``data`` is another dataset.
    """
    systems: dict[str, list[Run]] = {}  # by what their runs have in common
    for run in (one if isinstance(one, Run) else load_run(one) for one in listed(runs, "runs", where="runs")):
        same = systems.setdefault(run.common, [])
        _check_belongs(run, next(iter(systems.values())), same)
        same.append(run)
    groups = list(systems.values())
    if data is not None:
        groups[0][0].dataset(data)  # the others are of the same; kept tests would not look at it
    evaluations = [
        [evaluated(run, data) if later is None else run.evaluate_later(later, data) for run in group]
        for group in groups
    ]
    for run, own in zip(itertools.chain(*groups), itertools.chain(*evaluations), strict=True):
        if not own.of_same_users(evaluations[0][0]):  # of one log and split, so that items were added to one of them
            what = f"names other items than {groups[0][0].folder}, and so is asked for others"
            raise OovrecError(what, where=run.folder, remedy="compare runs that name the same items")
    return [
        _contender(label, group, own, evaluations[0])
        for label, group, own in zip(_labels(groups), groups, evaluations, strict=True)
    ]


def notes(contenders: Sequence[Contender]) -> list[str]:
    """What a reader of the comparison must know."""
    few = [one.label for one in contenders if one.random and len(one.runs) < SEEDS]
    leaky = [one.label for one in contenders if one.tokens_from == "all"]
    more = [one.label for one in contenders if one.retrained]
    found = []
    if few:
        found.append(f"fewer than {SEEDS} seeds of {', '.join(few)}: {TOO_FEW}")
    if leaky:
        found.append(f"the tokens of {', '.join(leaky)} saw held-out items; such figures compare with no others")
    if 0 < len(more) < len(contenders):
        found.append(f"{', '.join(more)}: learnt from what validates too, as the others did not")
    return found


def _check_belongs(run: Run, first: Sequence[Run], same: Sequence[Run]) -> None:
    """Make sure that a run is of the first system's data, and that its training is not there already."""
    if first and run.data.fingerprint != first[0].data.fingerprint:
        what = f"was trained on other data than {first[0].folder}, or on another order of it"
        raise OovrecError(what, where=run.folder, remedy="compare runs of the same data")
    twin = next((other for other in same if other.recipe.seed == run.recipe.seed), None)
    if twin is not None:
        what = f"is the same training with the same seed as {twin.folder}"
        raise OovrecError(what, where=run.folder, remedy="give one of the two")


def _labels(groups: list[list[Run]]) -> list[str]:
    """Systems' names; where others have it too, with as much of the first run's folder as tells them apart."""
    firsts = [group[0] for group in groups]
    parts = [run.folder.resolve().parts for run in firsts]

    def apart(own: int) -> str:
        others = [parts[row] for row, run in enumerate(firsts) if row != own and run.label == firsts[own].label]
        if not others:
            return firsts[own].label
        sizes = range(1, len(parts[own]) + 1)
        size = next(size for size in sizes if all(one[-size:] != parts[own][-size:] for one in others))
        return f"{firsts[own].label}, {Path(*parts[own][-size:])}"

    return [apart(row) for row in range(len(groups))]


def _contender(label: str, runs: list[Run], own: list[Evaluation], first: list[Evaluation]) -> Contender:
    blocks, dated = [evaluation.blocks() for evaluation in own], [evaluation.by_days for evaluation in own]
    return Contender(
        label=label,
        tokens_from=runs[0].tokens_from_in(own[0]),
        runs={run.recipe.seed: run.folder for run in runs},
        random=issubclass(system(runs[0].recipe.system), NeuralRecommender),
        figures={name: _over_seeds([one[name] for one in blocks]) for name in blocks[0]},
        users={name: block["users"] for name, block in blocks[0].items()},
        lead=None if own is first else compared(first, own),
        retrained=runs[0].recipe.retrained,
        by_days={
            name: {days: _over_seeds([one[name][days] for one in dated]) for days in periods}
            for name, periods in dated[0].items()
        },
        users_by_days={days: block["users"] for days, block in dated[0].get("masked", {}).items()},
        lead_by_days={} if own is first else compare_by_days(first, own),
    )


def _over_seeds(blocks: list[dict[str, Any]]) -> dict[str, Figure]:
    return {metric: Figure.of(blocks, metric) for metric in COMPARED}


def _plain(figures: dict[str, Figure], users: int) -> dict[str, Any]:
    return {metric: _summary(figure) for metric, figure in figures.items()} | {"users": users}


def _summary(figure: Figure) -> dict[str, float]:
    mean = {"mean": figure.value}
    return mean if figure.seeds == 1 else {**mean, "deviation": figure.high - figure.value}
