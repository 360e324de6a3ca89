"""Orders of tokens that tell which target of a day comes last: an artefact of how logs are stored, not taste.

Where times are whole days, many logs keep a day's items in the order of their ids. Tokens that keep that order too
tell a model that, among a day's items, the target is the greatest one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.tokens.quality import SPLITS
from oovrec.tokens.references import places
from oovrec.tokens.table import TokenTable

SMALLEST = 0.1  # difference of shares that is worth naming
LEAST_P = 0.001


@dataclass(frozen=True)
class Artefact:
    """How often a target stands after the item before it, in one order of the tokens.

    Attributes:
        order: ``tuple``, the tuples' natural order, or ``last token``, that of their last tokens alone.
        same_day: share of targets of the day of the item before them that stand after it.
        later_day: the same of targets of a later day.
        difference: of the two.
        p: two-sided, of a difference this great by chance.
        named: whether it is great and sure enough to be an artefact.
    """

    order: str
    same_day: float
    later_day: float
    difference: float
    p: float
    named: bool


def same_day_order(dataset: Dataset, items: TokenTable) -> list[Artefact]:
    """Test each order of the item tokens, in the dataset's order of items; nothing without times or such targets."""
    if dataset.times is None:
        return []
    last = np.concatenate([dataset.histories(split).newest() for split in SPLITS])
    targets = np.concatenate([dataset.targets(split) for split in SPLITS])
    later = np.concatenate([dataset.later_day(split) for split in SPLITS])
    orders = {"tuple": places(items)}
    if items.depth > 1:
        orders["last token"] = places(items, items.depth - 1)
    if not 0 < later.sum() < len(later):
        return []
    return [_compared(name, place[targets] - place[last], later) for name, place in orders.items()]


def _compared(order: str, steps: np.ndarray, later: np.ndarray) -> Artefact:
    """Two shares compared by the normal approximation; equal places are left out."""
    moved = steps != 0
    rises, later = steps[moved] > 0, later[moved]
    counts = [int((~later).sum()), int(later.sum())]
    if not min(counts):
        return Artefact(order, 0.0, 0.0, 0.0, 1.0, False)
    same, after = float(rises[~later].mean()), float(rises[later].mean())
    pooled = float(rises.mean())
    error = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / counts[0] + 1 / counts[1]))
    p = math.erfc(abs(same - after) / error / math.sqrt(2))
    return Artefact(order, same, after, same - after, p, abs(same - after) >= SMALLEST and p < LEAST_P)
