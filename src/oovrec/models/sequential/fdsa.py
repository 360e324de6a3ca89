"""FDSA (Zhang et al., Feature-level Deeper Self-Attention Network for Sequential Recommendation, IJCAI 2019).

The paper's network: an item's features become one vector by vanilla attention; self-attention blocks run over the
sequence of items and, apart from them, over the sequence of features; a fully connected layer joins the two states,
and a score is its inner product with an item's embedding. Deviations:

- the features are the data's attributes, each with a learnt embedding; the paper adds topic words of texts by word2vec;
- items have any number of attributes, so an attribute's weight in the attention comes from its own embedding, by one
  vector for all (in the paper from all of a fixed number of fields); an item without any has a zero vector;
- the blocks are those of this library's SASRec (√d at the input, where norms and dropout stand, a last norm), and each
  of the two sequences has its own position embeddings;
- the loss is a softmax over the catalogue; ``loss: bce`` is the paper's, with a negative drawn from all items but
  the target, those of the history included;
- AdamW with decoupled weight decay; windows, padding and batches as in SASRec.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.models.arithmetic import Dropout
from oovrec.models.losses import other_items
from oovrec.models.sequential.attributes import attribute_table
from oovrec.models.sequential.base import (
    PAD,
    AttentionOptions,
    SequentialNetwork,
    SequentialRecommender,
    initialise,
    places,
)
from oovrec.models.sequential.sasrec import Block


class FDSAOptions(AttentionOptions):
    """Options of FDSA.

    Attributes:
        layers: blocks over items, and as many over features.
        loss: ``softmax`` over the catalogue, or ``bce``, binary cross-entropy with one negative.
    """

    layers: int = Field(2, ge=1)
    loss: Literal["softmax", "bce"] = "softmax"


class FeatureAttention(nn.Module):
    """An item's attributes as one vector: the mean of their embeddings, weighted by a softmax over them.

    Args:
        table: ``[items, most]`` attributes from 1, 0 where there are no more.
        width: of the embeddings.
    """

    table: Tensor

    def __init__(self, table: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.attributes = nn.Embedding(int(table.max()) + 1, width)  # row 0 has no weight in any item
        self.importance = nn.Linear(width, 1, bias=False)

    def forward(self, items: Tensor) -> Tensor:
        """``[B, L]`` items to ``[B, L, d]``."""
        numbers = self.table[items]
        embedded, real = self.attributes(numbers), numbers > 0
        weights = self.importance(embedded).squeeze(-1).float().masked_fill(~real, -1e9).softmax(-1) * real
        return (weights[..., None] * embedded).sum(-2)


class Encoder(nn.Module):
    """Self-attention blocks over a sequence of vectors."""

    def __init__(self, config: FDSAOptions) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.length, config.width)
        self.scale = config.width**0.5
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config.width, config.heads, config.dropout) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, vectors: Tensor, place: Tensor) -> Tensor:
        """``[B, L, d]`` to the same, each vector at its ``place`` ``[B, L]`` counted back from the newest."""
        placed = vectors * self.scale + self.positions(place)
        return self.norm(self.blocks(self.dropout(placed)))


class FDSANetwork(SequentialNetwork):
    """Two encoders, side by side, and the layer that joins them.

    Args:
        table: ``[items, most]`` the items' attributes, as :func:`attribute_table` gives them.
        config: its shape.
    """

    def __init__(self, table: Tensor, config: FDSAOptions) -> None:
        super().__init__(len(table), config.width)
        self.features = FeatureAttention(table, config.width)
        self.item_encoder, self.feature_encoder = Encoder(config), Encoder(config)
        self.join = nn.Linear(2 * config.width, config.width)
        self.bce = config.loss == "bce"
        self.apply(initialise)

    def hidden(self, items: Tensor) -> Tensor:
        place, items = places(items != PAD), items.clamp_min(0)
        states = self.item_encoder(self.items(items), place), self.feature_encoder(self.features(items), place)
        return self.join(torch.cat(states, -1))

    def forward(self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        if not self.bce:
            return super().forward(items, where, targets, scale)
        states = self.hidden(items).flatten(0, 1).index_select(0, where)
        return binary_cross_entropy(states, self.items.weight, targets) / scale


def binary_cross_entropy(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum of −log σ(score of the target) − log σ(−score of another item, drawn for each state).

    Args:
        states: ``[n, d]``.
        weight: ``[items, d]`` output rows.
        targets: ``[n]`` item indices.
    """
    others = other_items(targets, len(weight)).squeeze(1)
    wanted, unwanted = ((states * F.embedding(items, weight)).sum(1).float() for items in (targets, others))
    return -(F.logsigmoid(wanted) + F.logsigmoid(-unwanted)).sum()


class FDSA(SequentialRecommender):
    """Self-attention over the history's items and over their attributes."""

    name = "fdsa"
    Config = FDSAOptions
    config: FDSAOptions

    def network(self) -> FDSANetwork:
        return FDSANetwork(attribute_table(self.entities), self.config)
