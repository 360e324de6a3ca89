"""Where each target stands in the whole catalogue, without sorting it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError


def ranks(scores: Tensor, targets: Tensor, excluded: Histories | None = None) -> Tensor:
    """The 1-based rank of each target among all candidates.

    Ties count against the model: every other candidate that scores at least as high as the target
    stands before it, so a constant score is the worst one and not a lucky one.

    Args:
        scores: ``[batch, items]``, higher is better; infinities are fine.
        targets: ``[batch]`` item indices.
        excluded: items that are no candidates, a sequence a row (repeated entries count once). A
            target that is itself excluded ranks below every candidate: a miss, never left out.

    Returns:
        ``[batch]`` int64, on the device of ``scores``.

    Raises:
        OovrecError: a score is NaN.
    """
    if excluded is not None:
        return both_ranks(scores, targets, excluded)[1]
    return _among_all(scores, targets.to(scores.device))[0]


def both_ranks(scores: Tensor, targets: Tensor, excluded: Histories) -> tuple[Tensor, Tensor]:
    """:func:`ranks` among all candidates and among those that are not ``excluded``, in one pass over the scores."""
    targets = targets.to(scores.device)
    raw, own = _among_all(scores, targets)
    return raw, _without(excluded, scores, targets, own, raw)


def _among_all(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks ``[batch]``, and the targets' own scores ``[batch, 1]``."""
    spoilt = torch.isnan(scores.amax(dim=1))  # a NaN is a row's maximum: one pass, no copy
    if spoilt.any():
        row = int(spoilt.nonzero()[0])
        remedy = "train the model again with a lower training.learning_rate"
        raise OovrecError("the model gives NaN scores", where=f"row {row} of the batch", remedy=remedy)
    own = scores.gather(1, targets[:, None])
    # the target is among those counted, so this is its rank; on a processor 32 bits count far faster than 64
    return (scores >= own).sum(dim=1, dtype=torch.int32).long(), own


def _without(excluded: Histories, scores: Tensor, targets: Tensor, own: Tensor, ahead: Tensor) -> Tensor:
    batch, items = scores.shape
    cells = np.unique(excluded.rows * items + excluded.items)
    row, item = (torch.from_numpy(part).to(scores.device) for part in np.divmod(cells, items))

    def count(flags: Tensor) -> Tensor:
        return torch.bincount(row[flags], minlength=batch)

    everything = torch.ones_like(row, dtype=torch.bool)
    below_all = items - count(everything) + 1
    repeats = count(item == targets[row]) > 0
    return torch.where(repeats, below_all, ahead - count(scores[row, item] >= own[row, 0]))
