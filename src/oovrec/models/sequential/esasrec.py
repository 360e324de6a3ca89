"""eSASRec (Tikhonovich et al., eSASRec: Enhancing Transformer-based Recommendations in a Modular Fashion, RecSys 2025).

SASRec's task with LiGR layers (Borisyuk et al., From Features to Transformers: Redefining Ranking for Scalable
Impact, 2025) and a softmax: each of a layer's two parts, causal self-attention and a SwiGLU feed-forward part, reads
its normalised input, and its output is added through a gate, the sigmoid of a linear map of the input before the norm.
Deviations:

- the softmax is over all items by default; the paper's, ``loss: sampled``, is over the target and ``negatives`` items
  drawn uniformly for each position, and is, as in the paper, not corrected for a target drawn;
- a norm stands behind the last layer, whose states otherwise grow with the number of layers;
- AdamW; weights begin in a truncated normal; item embeddings are scaled by √d at the input, as in
  :mod:`oovrec.models.sequential.sasrec`;
- windows of one length share a batch, and a batch's loss is divided by the mean number of targets a batch.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.base import PAD, SequentialNetwork, SequentialRecommender, next_items, places
from oovrec.models.sequential.bert4rec import initialise
from oovrec.models.sequential.sasrec import SASRecOptions
from oovrec.training.loop import Batch
from oovrec.training.windows import windows


class ESASRecOptions(SASRecOptions):
    """Options of eSASRec.

    Attributes:
        expansion: width of the feed-forward part's hidden layer, in multiples of ``width``.
        loss: a softmax over all items or over ``negatives`` sampled ones.
        negatives: for each position.
    """

    expansion: int = Field(4, ge=1)
    loss: Literal["softmax", "sampled"] = "softmax"
    negatives: int = Field(256, ge=1)


class SwiGLU(nn.Module):
    """W₃ (SiLU(W₁ x) · W₂ x), without biases (Shazeer, GLU Variants Improve Transformer, 2020)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.out, self.dropout = nn.Linear(inner, width, bias=False), Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        fed: Tensor = self.out(self.dropout(F.silu(self.gate(states)) * self.value(states)))
        return fed


class LiGR(nn.Module):
    """Causal self-attention, then a SwiGLU, both behind a norm and before a gate."""

    def __init__(self, config: ESASRecOptions) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, Dropout(config.dropout)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.feed = SwiGLU(width, config.expansion * width, config.dropout)
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_gate, self.feed_gate = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        attended = self.dropout(self._attend(self.attention_norm(states)))
        states = states + self.attention_gate(states).sigmoid() * attended
        fed = self.dropout(self.feed(self.feed_norm(states)))
        return states + self.feed_gate(states).sigmoid() * fed

    def _attend(self, states: Tensor) -> Tensor:
        parts = self.query(states), self.key(states), self.value(states)
        queries, keys, values = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        drop = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=drop, is_causal=True)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class ESASRecNetwork(SequentialNetwork):
    """Embeddings, layers, a norm.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, items: int, config: ESASRecOptions) -> None:
        super().__init__(items, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        self.scale = config.width**0.5
        self.dropout = Dropout(config.dropout)
        self.layers = nn.Sequential(*(LiGR(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.apply(initialise)

    def hidden(self, items: Tensor) -> Tensor:
        embedded = self.items(items.clamp_min(0)) * self.scale + self.positions(places(items != PAD))
        states: Tensor = self.norm(self.layers(self.dropout(embedded)))
        return states

    def forward(
        self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor, negatives: Tensor | None = None
    ) -> Tensor:
        """As in :class:`SequentialNetwork`, but where there are ``negatives`` ``[n, k]`` over each target and those."""
        if negatives is None:
            return super().forward(items, where, targets, scale)
        states = self.hidden(items).flatten(0, 1).index_select(0, where)
        candidates = self.items(torch.cat([targets[:, None], negatives], 1))  # [n, 1 + k, d]
        logits = (candidates @ states[:, :, None]).squeeze(2).float()
        return F.cross_entropy(logits, torch.zeros_like(targets), reduction="sum") / scale


class ESASRec(SequentialRecommender):
    """Self-attention in gated layers."""

    name = "esasrec"
    Config = ESASRecOptions
    config: ESASRecOptions

    def network(self) -> ESASRecNetwork:
        return ESASRecNetwork(len(self.entities.items), self.config)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        if self.config.loss == "softmax":
            return super().epoch(dataset, batch_size, rng)
        plan = windows(dataset.histories("train"), self.config.length + 1, batch_size, rng, context=1)
        shape, seeds = (len(self.entities.items), self.config.negatives), rng.integers(2**63, size=len(plan.batches))
        make = partial(with_negatives, scale=plan.mean_targets, shape=shape)
        return [partial(make, batch, seed=int(seed)) for batch, seed in zip(plan.batches, seeds, strict=True)]


def with_negatives(batch: Histories, scale: float, shape: tuple[int, int], seed: int) -> dict[str, Tensor]:
    """What SASRec learns from a batch and, by ``shape``, of how many items how many negatives a target."""
    tensors, (items, negatives) = next_items(batch, scale), shape
    drawn = np.random.default_rng(seed).integers(items, size=(len(tensors["targets"]), negatives))
    return tensors | {"negatives": torch.from_numpy(drawn)}
