"""The one way in which systems are scored: the whole catalogue, raw and masked, with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from oovrec.data.dataset import Dataset, HoldOut
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, unknown
from oovrec.evaluation import metrics
from oovrec.evaluation.ranks import Products, check_shape, ranks
from oovrec.evaluation.resampling import resampled_means
from oovrec.progress import Bar

Scores = Callable[[Histories], Tensor | Products]  # histories -> [batch, items], higher is better
Split = Literal["validation", "test"]
HeldOut = HoldOut | Literal["later"]  # the latter: in a newer log than the system's
Figures = dict[str, dict[str, Any]]  # by row (wordings, or a reference), then by metric; ``ci`` and ``users`` too
SPLITS = get_args(Split)
COMPARED = ("ndcg@10", "hit@10")
WEEK = 7  # days
AT_ONCE = 1024 if torch.accelerator.is_available() else 512  # users whose items are scored together


@dataclass(frozen=True)
class Evaluation:
    """What a system did for each user of a split.

    ``raw``: every item is a candidate; ``masked``: the history's own items are not.

    Attributes:
        users: ``[n]`` int64 user indices.
        targets: ``[n]`` int64 held-out items.
        raw, masked: ``[n]`` int64 1-based ranks of the targets.
        later_day: ``[n]`` bool, the target is of a later day than the item before it; None without times.
        top_raw, top_masked: ``[n, 10]`` int64 the best items, best first; -1 where there are no more.
        items: the catalogue's size.
        repeat_targets: how many targets stand in their own history, where masking makes them a miss.
        seed: of the bootstrap.
        hold_out: how the targets were held out.
        days: ``[n]`` int64 how many days after the split's beginning the target is; None but by time.
        tasks: by task the figures of what else the model was trained to do, and under other wordings: blocks by row.
    """

    users: np.ndarray
    targets: np.ndarray
    raw: np.ndarray
    masked: np.ndarray
    later_day: np.ndarray | None
    top_raw: np.ndarray
    top_masked: np.ndarray
    items: int
    repeat_targets: int
    seed: int = 0
    hold_out: HeldOut = "last"
    days: np.ndarray | None = None
    tasks: dict[str, Figures] = field(default_factory=dict)

    def of_same_users(self, other: Evaluation) -> bool:
        """Whether the same items of the same users were held out."""
        return np.array_equal(self.users, other.users) and np.array_equal(self.targets, other.targets)

    def blocks(self) -> dict[str, dict[str, Any]]:
        """``raw`` and ``masked``, and ``later_day_raw`` and ``later_day_masked`` where :attr:`apart`.

        Each maps metrics to means, ``ci`` to their 95% intervals and ``users`` to how many were counted.
        """
        return self._made

    @property
    def apart(self) -> np.ndarray | None:
        """``later_day`` where some targets are of a later day than the item before them, and others are not."""
        later = self.later_day
        return later if later is not None and 0 < later.sum() < len(later) else None

    @cached_property
    def by_days(self) -> Figures:
        """``masked`` and ``raw`` by how many days after the split's beginning the target is (``0-6``).

        Blocks of :data:`COMPARED` as those of :meth:`blocks`; empty but by time.
        """
        found: Figures = {"masked": {}, "raw": {}} if self.days is not None else {}
        for period, part in _periods(self.days):
            values = {name: _compared(getattr(self, name)[part]) for name in found}
            for name, (means, ci) in _means(values, self.seed).items():
                found[name][period] = {**means, "ci": ci, "users": int(part.sum())}
        return found

    @cached_property
    def _made(self) -> dict[str, dict[str, Any]]:
        """Resampled once, whoever asks for the blocks: the record of a run, its page, what is printed."""
        lists = {"raw": (self.raw, self.top_raw), "masked": (self.masked, self.top_masked)}
        blocks = _blocks(lists, self.items, self.seed)
        if (apart := self.apart) is not None:
            later = {f"later_day_{name}": (rank[apart], top[apart]) for name, (rank, top) in lists.items()}
            blocks |= _blocks(later, self.items, self.seed)
        return blocks


def _periods(days: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    """Periods by name, and which of the ``days`` lie there: a week at first, then as long as all before."""
    first, after = 0, WEEK
    while days is not None and first <= days.max():
        part = (days >= first) & (days < after)
        if part.any():
            yield f"{first}-{after - 1}", part
        first, after = after, 2 * after


def _blocks(lists: dict[str, tuple[np.ndarray, np.ndarray]], items: int, seed: int) -> dict[str, dict[str, Any]]:
    """The blocks of ranks and lists of the same users."""
    found = _means({name: metrics.per_user(rank) for name, (rank, _) in lists.items()}, seed)
    blocks: dict[str, dict[str, Any]] = {}
    for name, (rank, top) in lists.items():
        means, ci = found[name]
        share, interval = metrics.coverage(top, items)
        ends = {**ci, "coverage@10": list(interval)}
        blocks[name] = {**means, "coverage@10": share, "ci": ends, "users": len(rank)}
    return blocks


def _means(
    values: dict[str, dict[str, np.ndarray]], seed: int
) -> dict[str, tuple[dict[str, float], dict[str, list[float]]]]:
    """Means and intervals of ``[users]`` values by name and metric, of the same users, resampled for all at once."""
    table = np.stack([column for block in values.values() for column in block.values()], axis=1)
    intervals = iter(metrics.percentile_intervals(resampled_means(table, seed=seed)))
    return {
        name: (
            {metric: float(column.mean()) for metric, column in block.items()},
            {metric: list(next(intervals)) for metric in block},
        )
        for name, block in values.items()
    }


def evaluate(
    scores: Scores,
    dataset: Dataset,
    split: Split = "test",
    *,
    batch_size: int = AT_ONCE,
    seed: int = 0,
) -> Evaluation:
    """Rank the held-out item of every user among the whole catalogue, in one pass.

    Args:
        scores: from histories to ``[batch, items]`` scores, or to :class:`Products`.
        batch_size: users at a time; memory grows with ``batch_size`` × items, but for products of few items.
        seed: of the bootstrap of the intervals.

    Raises:
        OovrecError: a score is NaN, an item has none, no user has a target, or there is no such split.
    """
    histories, targets = _split(dataset, split)
    raw, masked = np.empty_like(targets), np.empty_like(targets)
    width = min(metrics.TOP, len(dataset.items))
    tops = np.empty((2, len(targets), width), np.int64)
    with Bar(f"evaluating on {split}", len(targets), "users") as bar:
        for rows, batch, scored in _scored(scores, histories, batch_size, len(dataset.items)):
            found = ranks(scored, targets[rows], batch, width)
            raw[rows], masked[rows], tops[:, rows] = found.raw, found.masked, found.tops
            bar.advance(len(batch))
    repeats = np.zeros(len(targets), bool)
    repeats[histories.rows[histories.items == targets[histories.rows]]] = True
    return Evaluation(
        users=histories.users,
        targets=targets,
        raw=raw,
        masked=masked,
        later_day=dataset.later_day(split),
        top_raw=tops[0],
        top_masked=tops[1],
        items=len(dataset.items),
        repeat_targets=int(repeats.sum()),
        seed=seed,
        hold_out=dataset.hold_out,
        days=dataset.days(split),
    )


def validation_score(
    scores: Scores,
    dataset: Dataset,
    block: Literal["masked", "raw"] = "masked",
    *,
    batch_size: int = AT_ONCE,
) -> float:
    """ndcg@10 on validation targets: the one figure by which models and epochs are chosen.

    Raises:
        OovrecError: a score is NaN, an item has none, or no user has a target.
    """
    histories, targets = _split(dataset, "validation")
    found = np.empty_like(targets)
    for rows, batch, scored in _scored(scores, histories, batch_size, len(dataset.items)):
        found[rows] = getattr(ranks(scored, targets[rows], batch), block)
    return float(metrics.ndcg(found, 10).mean())


Seeds = Evaluation | Sequence[Evaluation]  # of one system


def compare(a: Seeds, b: Seeds, *, seed: int = 0) -> Figures:
    """Paired bootstrap over users of a − b, for ndcg@10 and hit@10 of every block (Sakai, SIGIR 2006).

    Args:
        a, b: what a system did; of several seeds each user's values are averaged.

    Returns:
        By block, as :meth:`Evaluation.blocks` has them, then by metric: ``mean``, ``interval`` (95%), two-sided ``p``.
    """
    sides = _sides(a, b)
    first = sides[0][0]
    parts = {"": np.ones(len(first.users), bool)}
    if first.apart is not None:
        parts["later_day_"] = first.apart
    return {
        prefix + block: _lead(sides, block, part, seed)
        for (prefix, part), block in itertools.product(parts.items(), ("masked", "raw"))
    }


def compare_by_days(a: Seeds, b: Seeds, *, seed: int = 0) -> Figures:
    """As :func:`compare`, ``masked`` and ``raw`` by the periods of :attr:`Evaluation.by_days`; empty but by time."""
    sides = _sides(a, b)
    found: Figures = {}
    for (period, part), block in itertools.product(_periods(sides[0][0].days), ("masked", "raw")):
        found.setdefault(block, {})[period] = _lead(sides, block, part, seed)
    return found


def _sides(a: Seeds, b: Seeds) -> tuple[list[Evaluation], list[Evaluation]]:
    """The evaluations of either system, which must be of the same users and targets."""
    ours, theirs = ([side] if isinstance(side, Evaluation) else list(side) for side in (a, b))
    if not all(one.of_same_users(ours[0]) for one in (*ours, *theirs)):
        raise ValueError("the evaluations are not of the same users and targets")
    return ours, theirs


def _lead(
    sides: tuple[list[Evaluation], list[Evaluation]], block: str, part: np.ndarray, seed: int
) -> dict[str, dict[str, Any]]:
    """What the first side has over the second in a block, of the users in ``part`` (bool), by metric."""
    mine, other = (_averaged([getattr(one, block)[part] for one in side]) for side in sides)
    differences = {metric: metrics.paired_bootstrap(mine[metric], other[metric], seed=seed) for metric in COMPARED}
    return {metric: asdict(difference) for metric, difference in differences.items()}


def _averaged(ranks: list[np.ndarray]) -> dict[str, np.ndarray]:
    """``[users]`` means of each compared metric over several ``[users]`` ranks."""
    values = [_compared(one) for one in ranks]
    return {metric: np.mean([one[metric] for one in values], axis=0) for metric in COMPARED}


def _compared(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """``[users]`` values of each compared metric."""
    values = metrics.per_user(ranks)
    return {metric: values[metric] for metric in COMPARED}


def _split(dataset: Dataset, split: Split) -> tuple[Histories, np.ndarray]:
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    histories, targets = dataset.histories(split), dataset.targets(split)
    if not len(targets):
        what = f"nothing is held out for {split}"
        raise OovrecError(what, where=dataset.name, remedy="give a larger log")
    return histories, targets


@torch.no_grad()
def _scored(
    scores: Scores, histories: Histories, size: int, items: int
) -> Iterator[tuple[np.ndarray, Histories, Tensor | Products]]:
    """Rows, histories and scores of ``size`` users at a time, whose histories are of like length."""
    order = np.argsort(histories.lengths, kind="stable")
    for places, batch in histories.take(order).batches(size):
        scored = scores(batch)
        check_shape(scored, len(batch), items)
        yield order[places], batch, scored
