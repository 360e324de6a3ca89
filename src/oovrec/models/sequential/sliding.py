"""What recommenders share that read a user and a fixed number of newest items: windows, unknown users, losses."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.losses import other_items, softmax_cross_entropy
from oovrec.models.sequential.base import SequentialOptions
from oovrec.models.sequential.vectors import TableNetwork, TableRecommender
from oovrec.training.loop import Batch


class SlidingOptions(SequentialOptions):
    """Options of every recommender of this kind.

    Attributes:
        length: L, newest items that are read.
        ahead: T, items after a window that it is to predict.
    """

    length: int = Field(5, ge=1)
    ahead: int = Field(1, ge=1)


class SlidingNetwork(TableNetwork):
    """A network with a state a window; an item's score is the product of the state and the item's row.

    A subclass gives :meth:`states`, and :meth:`loss` where it has another than the softmax over the catalogue.

    Args:
        users: number of users.
        items: size of the catalogue; this number as an item is padding.
        width: of the embeddings.
        output: of an item's row, without its bias; 0 for items without rows of their own.
    """

    def __init__(self, users: int, items: int, width: int, output: int) -> None:
        super().__init__()
        self.users = nn.Embedding(users, width)
        self.items = nn.Embedding(items + 1, width, padding_idx=items)
        nn.init.normal_(self.users.weight, std=1 / width)
        nn.init.normal_(self.items.weight[:-1], std=1 / width)  # padding stays 0
        if output:
            self.output = nn.Embedding(items, output + 1)  # the last column is the bias: states end with a 1
            nn.init.normal_(self.output.weight[:, :-1], std=1 / output)
            nn.init.zeros_(self.output.weight[:, -1])

    @abstractmethod
    def states(self, items: Tensor, users: Tensor) -> Tensor:
        """``[n, L]`` left-padded items and their ``[n]`` users (-1 unknown) to ``[n, w]``."""

    def rows(self) -> Tensor:
        """``[items, w]`` of the items, their biases included."""
        return self.output.weight

    def user_vectors(self, users: Tensor) -> Tensor:
        """``[n, d]`` the users' embeddings; of an unknown one their mean."""
        known = self.users(users.clamp_min(0))
        if (users >= 0).all():
            return known
        return torch.where(users[:, None] >= 0, known, self.users.weight.mean(0))

    def forward(self, items: Tensor, users: Tensor, windows: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            items: ``[n, L]`` windows, left-padded.
            users: ``[n]`` whose they are.
            windows: ``[m]`` the window of each target.
            targets: ``[m]`` items to predict.
            scale: what the sum is divided by: the mean number of targets a batch.
        """
        return self.loss(self.states(items, users).index_select(0, windows), targets) / scale

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Sum over the targets ``[m]``, each of its state ``[m, w]``."""
        return softmax_cross_entropy(states, self.rows(), targets)

    def against(self, states: Tensor, targets: Tensor, others: int) -> Tensor:
        """``[m, 1 + others]`` scores of each target and of random items other than it."""
        rows = self.rows()
        chosen = torch.cat([targets[:, None], other_items(targets, len(rows), others)], 1)
        return torch.einsum("mw,mow->mo", states, F.embedding(chosen, rows))


class SlidingRecommender(TableRecommender):
    """Scores from the user and the newest items; after an empty history from the user alone.

    Its ``module`` is a :class:`SlidingNetwork`. A window ends before every item of a training history but the first;
    its targets are the ``ahead`` items that follow, as far as the history has them.
    """

    config: SlidingOptions
    module: SlidingNetwork

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        histories = dataset.histories("train")
        bounds, ahead = histories.indptr, self.config.ahead
        ends = np.delete(np.arange(len(histories.items)), bounds[:-1][histories.lengths > 0])
        count = max(1, round(len(ends) * ahead / batch_size)) if len(ends) else 0
        rows = np.searchsorted(bounds, ends, side="right") - 1
        scale = np.minimum(ahead, bounds[rows + 1] - ends).sum() / max(count, 1)
        padded = np.append(histories.items, len(self.entities.items))
        order = rng.permutation(len(ends))
        make = partial(_batch, padded, histories, ahead=ahead, length=self.config.length, scale=scale)
        return [partial(make, rows[part], ends[part]) for part in np.array_split(order, count or 1) if len(part)]

    def states(self, histories: Histories) -> Tensor:
        padded, bounds = np.append(histories.items, len(self.entities.items)), histories.indptr
        items = torch.from_numpy(latest(padded, bounds[:-1], bounds[1:], self.config.length)).to(self.device)
        return self.module.states(items, torch.from_numpy(histories.users).to(self.device))

    def rows(self) -> Tensor:
        return self.module.rows()


def latest(items: np.ndarray, starts: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """``[n, length]`` int64, the newest of each ``items[start:end]``, left-padded with the last of ``items``."""
    places = ends[:, None] + np.arange(-length, 0)
    return items[np.where(places >= starts[:, None], places, -1)].astype(np.int64)


def _batch(
    padded: np.ndarray,
    histories: Histories,
    rows: np.ndarray,
    ends: np.ndarray,
    *,
    ahead: int,
    length: int,
    scale: float,
) -> dict[str, Tensor]:
    """The windows of the histories ``rows`` that end before the items ``ends``, and their targets."""
    following = ends[:, None] + np.arange(ahead)
    there = following < histories.indptr[rows + 1][:, None]
    arrays = {
        "items": latest(padded, histories.indptr[rows], ends, length),
        "users": histories.users[rows],
        "windows": np.nonzero(there)[0],
        "targets": padded[following[there]].astype(np.int64),
        "scale": np.float32(scale),
    }
    return {name: torch.as_tensor(array) for name, array in arrays.items()}
