"""SASRec (Kang & McAuley, Self-Attentive Sequential Recommendation, ICDM 2018), with a softmax over the catalogue.

The paper's network: item and position embeddings, causal self-attention and feed-forward blocks of width d,
dropout also on the attention weights, scores as inner products with the item embeddings. Where the paper and the
authors' code differ, the code is followed: item embeddings are scaled by √d at the input; of attention's inputs
only the queries are normalised; the residuals start from the normalised states. Deviations:

- the loss is the cross-entropy of a softmax over all items, not a binary one against one sampled item;
- AdamW with decoupled weight decay, not Adam;
- heads are mixed by an output projection, as is usual since;
- weights begin normal with deviation 0.02;
- histories are padded on the right and positions counted from the window's first item; windows of one
  length share a batch, and the loss of a batch is divided by the mean number of targets a batch.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.config import Options
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.base import Entities, NeuralRecommender
from oovrec.models.losses import softmax_cross_entropy
from oovrec.training.loop import Batch
from oovrec.training.windows import windows

CHUNK = 512  # histories scored at once


class SASRecOptions(Options):
    """Options of SASRec.

    Attributes:
        width: d, of embeddings, attention and feed-forward part.
        layers: blocks.
        heads: of the attention; divides ``width``.
        dropout: on embeddings, attention weights and both parts of a block.
        length: newest items of a history that are read.
    """

    width: int = Field(64, ge=1)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    length: int = Field(50, ge=1)


class Block(nn.Module):
    """Causal self-attention, then a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, states: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        normed = self.attention_norm(states)
        parts = self.query(normed), self.key(states), self.value(states)
        queries, keys, values = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        drop = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=drop, is_causal=True)
        normed = self.feed_norm(normed + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return normed + self.dropout(self.feed(normed))


class SASRecNetwork(nn.Module):
    """The network; forward gives the loss of a batch.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, items: int, config: SASRecOptions) -> None:
        super().__init__()
        self.items = nn.Embedding(items, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        self.scale = config.width**0.5  # without it the network learns much more slowly at first
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config.width, config.heads, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.apply(_initialise)

    def hidden(self, items: Tensor) -> Tensor:
        """``[B, L]`` right-padded items to ``[B, L, d]``; causal, so padding reaches no real position."""
        embedded = self.items(items) * self.scale + self.positions.weight[: items.shape[1]]
        return self.norm(self.blocks(self.dropout(embedded)))

    def forward(self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            items: ``[B, L]`` inputs.
            where: ``[n]`` the real positions among the ``B · L``.
            targets: ``[n]`` the item that follows each.
            scale: what the sum is divided by: the mean number of targets a batch.
        """
        states = self.hidden(items).flatten(0, 1).index_select(0, where)
        return softmax_cross_entropy(states, self.items.weight, targets) / scale


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


class SASRec(NeuralRecommender):
    """Self-attention over the history's items."""

    name = "sasrec"
    Config = SASRecOptions
    config: SASRecOptions
    module: SASRecNetwork

    def __init__(self, config: SASRecOptions, entities: Entities) -> None:
        super().__init__(config, entities)
        self.module = SASRecNetwork(len(entities.items), config)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        plan = windows(dataset.histories("train"), self.config.length + 1, batch_size, rng, context=1)
        return [partial(_batch, batch, plan.mean_targets) for batch in plan.batches]

    @torch.no_grad()
    def scores(self, histories: Histories) -> Tensor:
        """``[batch, items]`` inner products; all 0 after an empty history."""
        self.module.eval()
        return torch.cat([self._scores(batch) for _, batch in histories.batches(CHUNK)])

    def _scores(self, histories: Histories) -> Tensor:
        recent = histories.last(self.config.length)
        items, lengths = (
            torch.from_numpy(recent.padded(0)).to(self.device),
            torch.from_numpy(recent.lengths).to(self.device),
        )
        if not items.shape[1]:
            return torch.zeros(len(histories), len(self.entities.items), device=self.device)
        last = self.module.hidden(items)[torch.arange(len(items), device=self.device), lengths.clamp_min(1) - 1]
        last = last.float() * (lengths > 0)[:, None]
        with torch.autocast(self.device.type, enabled=False):  # coarser scores would tie
            return last @ self.module.items.weight.T


def _batch(batch: Histories, scale: float) -> dict[str, Tensor]:
    table = batch.padded(-1)
    inputs, targets = table[:, :-1].clip(0), table[:, 1:].ravel()
    where = np.flatnonzero(targets >= 0)
    arrays = {"items": inputs, "where": where, "targets": targets[where], "scale": np.float32(scale)}
    return {name: torch.as_tensor(array) for name, array in arrays.items()}
