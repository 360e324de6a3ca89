"""How a run does on what was taken after its log ended: the test of a model in use, one retrained on everything too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.markup import escape
from torch import Tensor

from oovrec.app.runs import Run
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import existing, is_data_file, read_all, read_data_file
from oovrec.errors import OovrecError
from oovrec.evaluation import protocol
from oovrec.evaluation.protocol import Evaluation
from oovrec.evaluation.ranks import MISSED, Products
from oovrec.progress import say

UNKNOWN = -1  # the target of a user who took an item that the run cannot name


@dataclass(frozen=True)
class Later:
    """A newer log as a run sees it.

    Attributes:
        dataset: its users over the run's items; each user's first item after the run's log is the test target.
        entities: ``[users]`` the run's index of each of them, -1 for new ones.
        unknown: ``[evaluated users]`` bool, the target is an item that the run cannot name.
    """

    dataset: Dataset
    entities: np.ndarray
    unknown: np.ndarray


def evaluate_later(run: Run, log: str | Path, data: Dataset | str | None = None, users: int = 0) -> Evaluation:
    """Rank, for each user of a newer log, the first item taken after the run's own log ended.

    The history is all that the user had taken until then. An item that the run cannot name is missed, with the highest
    possible rank and -1 as the target.

    Args:
        log: a newer log with what came before as well, read as the run's was.
        data: the run's own data, or where it lies now.
        users: of so many of its users, drawn at random; 0 takes all.

    Raises:
        OovrecError: the run is not finished, its data cannot be read, there are no times, or nobody whom the run can
            serve took anything later.
    """
    model, later = run.model, _later(run, log, run.dataset(data), users)

    def scores(histories: Histories) -> Tensor | Products:
        return model.ranked(replace(histories, users=later.entities[histories.users]))

    with run.arithmetic(), torch.no_grad():
        found = protocol.evaluate(scores, later.dataset)
    raw, masked, targets = (
        np.where(later.unknown, missed, values)
        for missed, values in ((MISSED, found.raw), (MISSED, found.masked), (UNKNOWN, found.targets))
    )
    repeats = int((masked[~later.unknown] == MISSED).sum())
    return replace(found, raw=raw, masked=masked, targets=targets, repeat_targets=repeats, hold_out="later")


def _later(run: Run, log: str | Path, own: Dataset, users: int) -> Later:
    seen = _read(run, log)
    times, ended = _times(seen, log), int(_times(own, run.data.source).max())
    moment = str(np.datetime64(ended, "s")).replace("T", " ")
    after = times > ended
    if not after.any():
        raise OovrecError(f"has nothing after {moment}, where the run's log ends", where=log, remedy="give a newer log")
    entities = run.model.entities
    items = np.array([entities.item_index.get(item, UNKNOWN) for item in seen.items], np.int32)[seen.full.items]
    kept = (items != UNKNOWN) | after  # what came before is a history, of what the run knows
    full = replace(seen.full, items=np.maximum(items, 0)).where(kept)
    held = (ended + 1, ended + 1)
    dataset = Dataset(seen.name, seen.users, entities.items, full, times[kept], held_from=held, until="test")
    dataset = dataset.sampled(users)
    if not len(dataset.evaluated_users("test")):
        what = f"nobody of it who took something after {moment} had taken an item before that the run knows"
        raise OovrecError(what, where=log, remedy="give a log of its catalogue that has also what came before")
    unknown = items[kept][dataset.target_positions("test")] == UNKNOWN
    say(escape(f"{log}, after {moment}: the run cannot name {unknown.mean():.1%} of {len(unknown):,} users' items"))
    known = {user: row for row, user in enumerate(entities.users)}
    return Later(dataset, np.array([known.get(user, -1) for user in seen.users], np.int64), unknown)


def log_name(log: str | Path) -> str:
    """What a newer log is called, as its data file says or its own name does."""
    told = read_data_file(existing(log)).name if is_data_file(log) else None
    return told or Path(log).stem


def _times(dataset: Dataset, where: str | Path) -> np.ndarray:
    if dataset.times is None:
        raise OovrecError("has no times, so nothing of it is later", where=where, remedy="give logs with times")
    return dataset.times


def _read(run: Run, log: str | Path) -> Dataset:
    """All of a log, read as the run's data was."""
    source = run.data.renewed(str(log))
    told = read_data_file(existing(log)) if is_data_file(log) else source
    seen = read_all(told.source, told.columns, ("rating", "title", "summary", "review"))
    dataset = seen.dataset(log_name(log))
    return dataset if told.tie_seed is None else dataset.with_ties_shuffled(told.tie_seed)
