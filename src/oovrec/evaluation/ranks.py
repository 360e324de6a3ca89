"""Where each target stands in the whole catalogue, and what stands first, without sorting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.evaluation.scan import MULTIPLIED, TASK, scan, scan_products
from oovrec.tokens.parallel import in_parallel, products_alone

MISSED = int(np.iinfo(np.int64).max)  # the rank of a target that is no candidate: beyond any cutoff
HALVES = (torch.float16, torch.bfloat16)  # which numba does not know, and in which items tie
LARGEST = 1 << 16  # items of which products are made while they are ranked; of more torch is faster at once
WIDEST = 256  # of the best, as many as are kept in order one by one; more are sorted out at once


@dataclass(frozen=True)
class Products:
    """Scores that are products, which a processor ranks while they are in its cache and keeps none of, if not too many.

    Attributes:
        states: ``[batch, d]`` float32.
        rows: ``[items, d]`` float32.
    """

    states: Tensor
    rows: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """``(batch, items)``."""
        return len(self.states), len(self.rows)

    def tables(self) -> list[np.ndarray]:
        """``[batch, d]`` and ``[d, items]``, each in one piece."""
        return [table.detach().contiguous().numpy() for table in (self.states, self.rows.T)]

    def whole(self) -> Tensor:
        """``[batch, items]`` all of them."""
        with torch.autocast(self.states.device.type, enabled=False):  # coarser scores would tie
            return self.states @ self.rows.T


@dataclass(frozen=True)
class Ranks:
    """Of each target its 1-based rank, and the best items.

    Ties count against the model: every other candidate that scores at least as high as the target
    stands before it, so a constant score is the worst one and not a lucky one.

    Attributes:
        raw: ``[batch]`` int64, among all items.
        masked: ``[batch]`` int64, among those that are not excluded; :data:`MISSED` for a target that is itself
            excluded, which is a miss and never left out.
        tops: ``[2, batch, width]`` int64 the best items, and the best that are not excluded; -1 where there
            are no more or at −inf. Of equals on a processor the lowest, if it is asked for :data:`WIDEST` or fewer.
        values: ``[2, batch, width]`` float32 their scores; −inf where there are no more.
    """

    raw: np.ndarray
    masked: np.ndarray
    tops: np.ndarray
    values: np.ndarray


def ranks(scores: Tensor | Products, targets: np.ndarray, excluded: Histories, width: int = 0) -> Ranks:
    """Rank each target.

    Args:
        scores: ``[batch, items]`` float32, higher is better, or what they are products of; infinities are fine.
        targets: ``[batch]`` item indices.
        excluded: items that are no candidates when masked, a sequence a row (repeated entries count once).
        width: how many of the best to tell.

    Raises:
        OovrecError: a score is NaN.
    """
    width = min(width, scores.shape[1])
    device = scores.states.device if isinstance(scores, Products) else scores.device
    scanned = device.type == "cpu" and width <= WIDEST
    if isinstance(scores, Products):
        if scanned and scores.shape[1] <= LARGEST:
            with products_alone():
                return _by_scan(scan_products, MULTIPLIED, scores.tables(), targets, excluded, width)
        scores = scores.whole()
    if scanned:
        return _by_scan(scan, TASK, [scores.detach().contiguous().numpy()], targets, excluded, width)
    return _by_tensors(scores, targets, excluded, width)


def check_shape(scores: Tensor | Products, histories: int, items: int) -> None:
    """Make sure that ``scores`` are ``[histories, items]``, of numbers that can be ranked.

    Raises:
        OovrecError: they are not.
    """
    if (kind := _unsuited(scores)) is not None:
        raise OovrecError(f"are {kind}", where="the system's scores", remedy="give a tensor of the type torch.float32")
    if scores.shape != (histories, items):
        what = f"have the shape {tuple(scores.shape)} for {histories} histories and {items} items"
        raise OovrecError(
            what, where="the system's scores", remedy="give a row for each history, a column for each item"
        )


def _unsuited(scores: Any) -> str | None:
    """What ``scores`` are that a processor cannot rank, as a system of another package may give them; else None."""
    if isinstance(scores, Products):
        return None
    if not isinstance(scores, Tensor):
        return f"no tensor but {type(scores).__name__}"
    return f"of the type {scores.dtype}" if scores.dtype in HALVES and scores.device.type == "cpu" else None


def _by_scan(
    kernel: Callable[..., int],
    size: int,
    tables: list[np.ndarray],
    targets: np.ndarray,
    excluded: Histories,
    width: int,
) -> Ranks:
    """By a ``kernel`` for ``size`` targets at a time; the first of its ``tables`` has a row a target."""
    count = len(targets)
    raw, masked = np.empty(count, np.int64), np.empty(count, np.int64)
    tops, values = np.empty((2, count, width), np.int64), np.empty((2, count, width), np.float32)

    def task(first: int) -> int:
        part = slice(first, first + size)
        bounds = excluded.indptr[first : first + size + 1]
        found = raw[part], masked[part], tops[:, part], values[:, part]
        spoilt = kernel(tables[0][part], *tables[1:], targets[part], bounds, excluded.items, MISSED, *found)
        return int(first + spoilt if spoilt >= 0 else -1)

    for row in in_parallel(task, range(0, count, size)):
        if row >= 0:
            raise _not_a_number(row)
    return Ranks(raw, masked, tops, values)


def _by_tensors(scores: Tensor, targets: np.ndarray, excluded: Histories, width: int) -> Ranks:
    """The same where the scores are on an accelerator, or many of the best are asked for."""
    spoilt = torch.isnan(scores.amax(dim=1))  # a NaN is a row's maximum: one pass, no copy
    if spoilt.any():
        raise _not_a_number(int(spoilt.nonzero()[0]))
    batch, items = scores.shape
    wanted = torch.from_numpy(targets).to(scores.device)
    own = scores.gather(1, wanted[:, None])
    raw = (scores >= own).sum(dim=1)  # the target is among those counted, so this is its rank
    cells = np.unique(excluded.rows * items + excluded.items)
    row, item = (torch.from_numpy(part).to(scores.device) for part in np.divmod(cells, items))

    def count(flags: Tensor) -> Tensor:
        return torch.bincount(row[flags], minlength=batch)

    repeats = count(item == wanted[row]) > 0
    masked = (raw - count(scores[row, item] >= own[row, 0])).masked_fill(repeats, MISSED)
    return Ranks(raw.cpu().numpy(), masked.cpu().numpy(), *_tops(scores, row, item, width))


def _tops(scores: Tensor, row: Tensor, item: Tensor, width: int) -> tuple[np.ndarray, np.ndarray]:
    """``tops`` and ``values``, where ``row`` and ``item`` are the excluded cells.

    One search serves both: whatever is excluded, among so many more the wanted ones are left.
    """
    if not width:
        return np.empty((2, len(scores), 0), np.int64), np.empty((2, len(scores), 0), np.float32)
    excluded = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    excluded[row, item] = True
    most = int(torch.bincount(row).max()) if len(row) else 0
    best = scores.topk(min(width + most, scores.shape[1]), dim=1)
    items = torch.where(best.values == -torch.inf, -1, best.indices)
    hidden = excluded.gather(1, best.indices)
    order = hidden.long().argsort(dim=1, stable=True)
    left = torch.where(hidden, -1, items).gather(1, order), best.values.masked_fill(hidden, -torch.inf).gather(1, order)
    both = zip((items, best.values.float()), left, strict=True)
    tops, values = (torch.stack([every[:, :width], kept[:, :width]]).cpu().numpy() for every, kept in both)
    return tops, values


def _not_a_number(row: int) -> OovrecError:
    remedy = "train the model again with a lower training.learning_rate"
    return OovrecError("the model gives NaN scores", where=f"row {row} of the batch", remedy=remedy)
