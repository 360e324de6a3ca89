"""What recommenders that read a sequence of items share: windows of histories in, inner products with items out."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from oovrec.config import Options
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.losses import softmax_cross_entropy
from oovrec.models.sequential.vectors import TableNetwork, TableRecommender
from oovrec.training.loop import Batch
from oovrec.training.windows import windows

PAD = -1  # stands behind a history's newest item


class SequentialOptions(Options):
    """Options of every recommender of this kind.

    Attributes:
        width: d, of the item embeddings.
        dropout: share of the values that a training step leaves out.
        length: newest items of a history that are read.
    """

    width: int = Field(64, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    length: int = Field(50, ge=1)


class AttentionOptions(SequentialOptions):
    """Options of those that are made of self-attention.

    Attributes:
        layers: blocks.
        heads: of each attention; divides ``width``.
    """

    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            fits = max(heads for heads in range(1, min(self.heads, self.width + 1)) if self.width % heads == 0)
            what = f"{self.heads} does not divide model.width = {self.width}"
            remedy = f"set it to {fits}, or model.width to a multiple of {self.heads}"
            raise OovrecError(what, where="model.heads", remedy=remedy)
        return self


class SequentialNetwork(TableNetwork):
    """A network with a state a position; forward is the loss of a softmax over the catalogue at every position.

    A subclass gives :meth:`hidden`, and :meth:`last` where it reads a whole history otherwise.

    Args:
        items: size of the catalogue.
        width: of its embedding.
    """

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items, width)

    @abstractmethod
    def hidden(self, items: Tensor) -> Tensor:
        """``[B, L]`` items, right-padded by -1, to ``[B, L, d]``; position ``t`` sees the items up to ``t`` only."""

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """``[B, d]`` the state at the last of each history's ``lengths`` ``[B]`` of the items ``[B, L]`` (then -1)."""
        return newest(self.hidden(items), lengths)

    def forward(self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            items: ``[B, L]`` inputs, right-padded by -1.
            where: ``[n]`` the real positions among the ``B · L``.
            targets: ``[n]`` the item that follows each.
            scale: what the sum is divided by: the mean number of targets a batch.
        """
        states = self.hidden(items).flatten(0, 1).index_select(0, where)
        return softmax_cross_entropy(states, self.items.weight, targets) / scale


class SequentialRecommender(TableRecommender):
    """Ranks by the inner product of an item's embedding and the state at the history's last item.

    Its ``module`` is a :class:`SequentialNetwork`, learnt from every position of every training history. A system with
    another objective gives its own :meth:`epoch`.
    """

    config: SequentialOptions
    module: SequentialNetwork

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        plan = windows(dataset.histories("train"), self.config.length + 1, batch_size, rng, context=1)
        return [partial(next_items, batch, plan.mean_targets) for batch in plan.batches]

    def states(self, histories: Histories) -> Tensor:
        """``[batch, d]``; all 0 after an empty history."""
        recent = histories.last(self.config.length)
        lengths = torch.from_numpy(recent.lengths).to(self.device)
        if not recent.lengths.any():
            return torch.zeros(len(histories), self.config.width, device=self.device)
        last = self.module.last(torch.from_numpy(recent.padded(PAD)).to(self.device), lengths.clamp_min(1))
        return last * (lengths > 0)[:, None]

    def rows(self) -> Tensor:
        """``[items, d]`` the items' embeddings."""
        return self.module.items.weight[: len(self.entities.items)]


def next_items(batch: Histories, scale: float) -> dict[str, Tensor]:
    """All but the last item of each window, and for each of them the item that follows."""
    table = batch.padded(PAD)
    targets = table[:, 1:].ravel()
    where = np.flatnonzero(targets != PAD)
    inputs = np.where(table[:, 1:] == PAD, PAD, table[:, :-1])
    arrays = {"items": inputs, "where": where, "targets": targets[where], "scale": np.float32(scale)}
    return {name: torch.as_tensor(array) for name, array in arrays.items()}


def newest(states: Tensor, lengths: Tensor) -> Tensor:
    """``[B, d]`` of states ``[B, L, d]`` those at the last of each history's ``lengths`` ``[B]``."""
    return states[torch.arange(len(states), device=states.device), lengths - 1]


def places(real: Tensor) -> Tensor:
    """``[B, L]`` how many items of the history are newer, from which ones are ``real`` ``[B, L]``; 0 behind them."""
    return (real.sum(1, keepdim=True) - 1 - torch.arange(real.shape[1], device=real.device)).clamp_min(0)


def initialise(module: nn.Module) -> None:
    """Weights normal with deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
