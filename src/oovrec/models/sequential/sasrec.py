"""SASRec (Kang & McAuley, Self-Attentive Sequential Recommendation, ICDM 2018), with a softmax over the catalogue.

The paper's network: item and position embeddings, causal self-attention and feed-forward blocks of width d,
scores as inner products with the item embeddings. As in the authors' code, item embeddings are scaled by √d at the
input; positions are counted back from the newest item; of attention's inputs only the queries are normalised; of the
attention the weights are dropped out, not the output; the feed-forward part's residual starts from its normalised
input. The attention's residual starts from the states as they are, as in the paper (in the code, from the normalised
ones). Deviations:

- the loss is the cross-entropy of a softmax over all items, not a binary one against one sampled item;
- AdamW with decoupled weight decay, not Adam;
- heads are mixed by an output projection, as is usual since;
- weights begin normal with deviation 0.02, with which it learns faster at first than by Glorot's rule;
- windows of one length share a batch, and the loss of a batch is divided by the mean number of targets a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.base import (
    PAD,
    AttentionOptions,
    SequentialNetwork,
    SequentialRecommender,
    initialise,
    newest,
    places,
)


class SASRecOptions(AttentionOptions):
    """Options of SASRec: ``width`` is d of attention and feed-forward part too."""


class Block(nn.Module):
    """Self-attention, causal unless told otherwise, then a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, width))

    def forward(self, states: Tensor, real: Tensor | None = None, asked: Tensor | None = None) -> Tensor:
        """``[B, L, d]`` to the same; with ``real`` ``[B, L]`` each position sees all the real ones.

        Args:
            asked: ``[B, q, d]`` the states that are wanted; None wants all.
        """
        asked = states if asked is None else asked
        parts = self.query(self.attention_norm(asked)), self.key(states), self.value(states)
        queries, keys, values = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        drop = self.dropout.p if self.training else 0.0
        sees = {"is_causal": True} if real is None else {"attn_mask": real[:, None, None]}
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=drop, **sees)
        normed = self.feed_norm(asked + self.out(mixed.transpose(1, 2).flatten(2)))
        return normed + self.dropout(self.feed(normed))


class SASRecNetwork(SequentialNetwork):
    """Embeddings, blocks, a norm.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, items: int, config: SASRecOptions) -> None:
        super().__init__(items, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        self.scale = config.width**0.5  # without it the network learns much more slowly at first
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(initialise)

    def hidden(self, items: Tensor) -> Tensor:
        return self.encode(self.vectors(items), items != PAD)

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """As :class:`SequentialNetwork` says; of the last block no other state is computed."""
        real = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        states = self.embedded(self.vectors(items), real)
        for block in self.blocks[:-1]:
            states = block(states)
        read: Tensor = self.norm(self.blocks[-1](states, real, newest(states, lengths)[:, None])).squeeze(1)
        return read

    def encode(self, vectors: Tensor, real: Tensor, causal: bool = True) -> Tensor:
        """``[B, L, d]`` states of item vectors of that shape, of which those at ``real`` ``[B, L]`` are a history's."""
        states = self.embedded(vectors, real)
        for block in self.blocks:
            states = block(states, None if causal else real)
        read: Tensor = self.norm(states)
        return read

    def vectors(self, items: Tensor) -> Tensor:
        """``[B, L, d]`` of items ``[B, L]``; any at padding (-1)."""
        found: Tensor = self.items(items.clamp_min(0))
        return found

    def embedded(self, vectors: Tensor, real: Tensor) -> Tensor:
        """``[B, L, d]`` what the first block reads."""
        return self.dropout(vectors * self.scale + self.positions(places(real)))


class SASRec(SequentialRecommender):
    """Self-attention over the history's items."""

    name = "sasrec"
    Config = SASRecOptions
    config: SASRecOptions

    def network(self) -> SASRecNetwork:
        return SASRecNetwork(len(self.entities.items), self.config)
