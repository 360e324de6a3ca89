"""The item's count in the training part: the same ranking for everyone, and the least any model must beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oovrec.config import Options
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.base import Recommender
from oovrec.models.entities import Entities
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import EpochLog


class PopularityOptions(Options):
    """Popularity has none."""


class Popularity(Recommender):
    """Ranks items by how often they occur in the training histories."""

    name = "popularity"
    Config = PopularityOptions

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
        self.counts = torch.from_numpy(np.bincount(items, minlength=len(dataset.items))).float()
        return []

    def scores(self, histories: Histories) -> Tensor:
        """``[batch, items]`` training counts."""
        return self.counts.repeat(len(histories), 1)

    def state(self) -> dict[str, np.ndarray]:
        return {"counts": self.counts.numpy()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        if state["counts"].shape != self.counts.shape:
            raise ValueError("another number of items")
        self.counts = torch.from_numpy(state["counts"].copy())
