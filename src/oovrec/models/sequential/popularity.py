"""The item's count in the training part: the same ranking for everyone, and the least any model must beat.

Of what was held out by time the count of the last days is a stronger one (RecentPop in Ji et al., A Re-visit of the
Popularity Baseline in Recommender Systems, SIGIR 2020).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from oovrec.config import Options
from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.base import Recommender
from oovrec.models.entities import Entities
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import EpochLog


class PopularityOptions(Options):
    """Options of :class:`Popularity`.

    Attributes:
        days: what goes before is the count in the training part's last so many days, of 24 hours, and among items of
            which that is the same the whole count decides; 0 goes by the whole count alone.
    """

    days: int = Field(0, ge=0)


class Popularity(Recommender):
    """Ranks items by how often they occur in the training histories."""

    name = "popularity"
    Config = PopularityOptions
    config: PopularityOptions

    def __init__(self, config: Options, entities: Entities) -> None:
        super().__init__(config, entities)
        self.counts = torch.zeros(len(entities.items))

    def fit(
        self,
        dataset: Dataset,
        training: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        resume: bool = False,
    ) -> list[EpochLog]:
        items = dataset.histories("train").items
        counts = np.bincount(items, minlength=len(dataset.items))
        if self.config.days:
            late = np.bincount(items[_newest(dataset, self.config.days)], minlength=len(dataset.items))
            counts = np.unique(late * (counts.max() + 1) + counts, return_inverse=True)[1]
        self.counts = torch.from_numpy(counts).float()
        return []

    def scores(self, histories: Histories) -> Tensor:
        """``[batch, items]`` training counts; with ``days`` the place among all different ones, from 0."""
        return self.counts.repeat(len(histories), 1)

    def state(self) -> dict[str, np.ndarray]:
        return {"counts": self.counts.numpy()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        if state["counts"].shape != self.counts.shape:
            raise ValueError("another number of items")
        self.counts = torch.from_numpy(state["counts"].copy())


def _newest(dataset: Dataset, days: int) -> np.ndarray:
    """``[total]`` bool: which interactions of the training part are of its last ``days``."""
    if dataset.times is None:
        what = "the log has no times to tell the last days by"
        raise OovrecError(what, where=f"model.days = {days}", remedy="set it to 0")
    times = dataset.times[dataset.positions("train")]
    return times > times.max() - days * DAY
