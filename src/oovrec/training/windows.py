"""Histories cut into windows and put into batches of like length, for models that learn every position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oovrec.data.histories import Histories

POOL = 50  # batches whose windows are sorted together: little padding, and batches still differ from epoch to epoch


@dataclass(frozen=True)
class Windows:
    """The windows of one epoch.

    Attributes:
        batches: about ``batch_size`` targets each, in windows of similar length, in random order.
        mean_targets: mean number of targets a batch. Divide each batch's summed loss by this constant: divided
            by its own count, a batch of short histories would weigh as much as one of long histories.
    """

    batches: list[Histories]
    mean_targets: float


def windows(
    histories: Histories, length: int, batch_size: int, rng: np.random.Generator, *, context: int = 0
) -> Windows:
    """Cut histories into windows and batch them by length.

    The targets of a history are all its items but the first ``context``. Each is in exactly one window, behind
    at least ``context`` items of its past. A history longer than ``length`` gives several windows,
    cut at an offset drawn anew each time, so that over the epochs a target stands at every place of a window.

    Args:
        histories: training histories.
        length: items in a window, at most, its context included.
        batch_size: targets in a batch, up to one window more or less: so one setting suits data of long and
            of short histories.
        rng: draws offsets and order.
        context: 1 where an item is predicted from those before it, 0 where the model has a token of
            its own to begin with.
    """
    starts, lengths, rows = _cut(histories, length, rng, context)
    cut = histories.cut(starts, lengths, histories.users[rows])
    targets, order = lengths - context, rng.permutation(len(cut))
    pool = (np.cumsum(targets[order]) - 1) // (POOL * batch_size)
    ordered = order[np.lexsort((lengths[order], pool))]
    batch = (np.cumsum(targets[ordered]) - 1) // batch_size
    parts = np.split(ordered, np.flatnonzero(np.diff(batch)) + 1) if len(ordered) else []
    batches = [cut.take(parts[i]) for i in rng.permutation(len(parts))]
    return Windows(batches, float(targets.sum()) / max(len(batches), 1))


def _cut(
    histories: Histories, length: int, rng: np.random.Generator, context: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start in ``histories.items``, length and history of each window."""
    stride = length - context
    targets = np.maximum(histories.lengths - context, 0)
    first = np.where(
        targets > stride, rng.integers(1, stride + 1, len(histories)), targets
    )  # targets of the first window
    count = np.where(targets > 0, 1 + -(-(targets - first) // stride), 0)
    rows = np.repeat(np.arange(len(histories)), count)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)  # of the window in its history
    begin = np.where(
        number > 0, first[rows] + (number - 1) * stride, 0
    )  # first target, counted from the history's first
    end = np.minimum(first[rows] + number * stride, targets[rows])
    return histories.indptr[rows] + begin, end - begin + context, rows
