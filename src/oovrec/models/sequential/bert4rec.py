"""BERT4Rec (Sun et al., BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer, CIKM 2019).

Attention in both directions over a history in which some items are hidden behind a mask token; a softmax over the
catalogue names them. To recommend, the mask token is put after the history. As in the paper: each part of a block is
added to its input and normalised afterwards, the feed-forward part is a GELU of width 4d, and a layer with GELU and
norm stands before the inner products with the item embeddings, to which each item's bias is added. Deviations:

- besides the samples with random masks there are, as in the paper, some with the last item alone hidden, but in these
  the history is cut after an item drawn anew each time: a last item is then not always the same one, and nothing
  of what follows is seen;
- a window of which no item would be hidden has its last one hidden;
- ``length`` items are read besides the mask token, so there is one position embedding more;
- AdamW, no warm-up of the rate unless wanted; histories are padded on the right, windows of one length share a batch,
  and a batch's loss is divided by the expected number of hidden items a batch;
- after an empty history the items' biases alone are the scores.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.arithmetic import Dropout
from oovrec.models.losses import softmax_cross_entropy
from oovrec.models.sequential.base import PAD, AttentionOptions, SequentialNetwork, SequentialRecommender
from oovrec.training.loop import Batch
from oovrec.training.windows import windows

EPSILON = 1e-12  # of the norms, as in BERT


class BERT4RecOptions(AttentionOptions):
    """Options of BERT4Rec.

    Attributes:
        masked: ρ, the probability that an item is hidden.
        last: share of the samples that hide the last item alone.
    """

    masked: float = Field(0.2, gt=0, le=1)
    last: float = Field(0.5, ge=0, le=1)


class Attention(nn.Module):
    """Multi-head self-attention, added to its input and normalised.

    Args:
        width: of the states.
        heads: divide it.
        dropout: on the result.
        dropped: dropout on the attention weights; None takes ``dropout``.
    """

    def __init__(self, width: int, heads: int, dropout: float, dropped: float | None = None) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.dropped = dropout if dropped is None else dropped
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, states: Tensor, seen: Tensor, queries: Tensor | None = None) -> Tensor:
        """``[B, Q, d]``, of the ``queries`` of that shape or else of all ``states``.

        Args:
            states: ``[B, L, d]``.
            seen: true where a position (last but one axis) sees another (last axis); broadcast to ``[B, heads, Q, L]``.
            queries: the states to go on with.
        """
        queries = states if queries is None else queries
        parts = self.query(queries), self.key(states), self.value(states)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        drop = self.dropped if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=drop)
        attended: Tensor = self.norm(queries + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return attended


class FeedForward(nn.Module):
    """A hidden layer of width 4d with GELU, added to its input and normalised."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout, self.norm = Dropout(dropout), nn.LayerNorm(width, eps=EPSILON)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        fed: Tensor = self.norm(states + self.dropout(self.layers(states)))
        return fed


class Block(nn.Module):
    """Attention, then the feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.feed = Attention(width, heads, dropout), FeedForward(width, dropout)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        """``[B, L, d]`` to the same; ``seen`` as in :class:`Attention`."""
        fed: Tensor = self.feed(self.attention(states, seen))
        return fed


class BERT4RecNetwork(SequentialNetwork):
    """Embeddings, the mask token's behind the items'; blocks; the layer before the products with the items.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, items: int, config: BERT4RecOptions) -> None:
        super().__init__(items + 1, config.width)
        self.mask = items  # the mask token's index
        self.positions = nn.Embedding(config.length + 1, config.width)
        self.norm, self.dropout = nn.LayerNorm(config.width, eps=EPSILON), Dropout(config.dropout)
        blocks = (Block(config.width, config.heads, config.dropout) for _ in range(config.layers))
        self.blocks = nn.ModuleList(blocks)
        norm = nn.LayerNorm(config.width, eps=EPSILON)
        self.output = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), norm)
        self.bias = nn.Parameter(torch.zeros(items))
        self.apply(initialise)

    def hidden(self, items: Tensor) -> Tensor:
        """``[B, L]`` items, mask tokens and padding (-1) to ``[B, L, d]``; each position sees all but padding."""
        embedded = self.items(items.clamp_min(0)) + self.positions.weight[: items.shape[1]]
        states: Tensor = self.dropout(self.norm(embedded))
        for block in self.blocks:
            states = block(states, (items != PAD)[:, None, None])
        return states

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        rows, columns = torch.arange(len(items), device=items.device), torch.arange(items.shape[1], device=items.device)
        known = items.where(columns < lengths[:, None], PAD)
        asked = F.pad(known, (0, 1), value=PAD)
        asked[rows, lengths] = self.mask
        state: Tensor = self.output(self.hidden(asked)[rows, lengths])
        return state

    def forward(self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            items: ``[B, L]`` as for :meth:`hidden`.
            where: ``[n]`` the positions to name among the ``B · L``.
            targets: ``[n]`` the items hidden there.
            scale: what the sum is divided by: the expected number of targets a batch.
        """
        states = self.output(self.hidden(items).flatten(0, 1).index_select(0, where))
        return softmax_cross_entropy(biased(states), self.rows(), targets) / scale

    def rows(self) -> Tensor:
        """``[items, d + 1]`` the items' embeddings and biases."""
        return torch.cat([self.items.weight[: self.mask], self.bias[:, None]], 1)


def biased(states: Tensor) -> Tensor:
    """``[n, d + 1]`` of states ``[n, d]``, with a factor for the bias."""
    return torch.cat([states, torch.ones_like(states[:, :1])], 1)


def initialise(module: nn.Module) -> None:
    """Weights within two deviations of 0.02 (a truncated normal), biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class BERT4Rec(SequentialRecommender):
    """The cloze task: hidden items named from what stands on both sides."""

    name = "bert4rec"
    Config = BERT4RecOptions
    config: BERT4RecOptions
    module: BERT4RecNetwork

    def network(self) -> BERT4RecNetwork:
        return BERT4RecNetwork(len(self.entities.items), self.config)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        """Each window once; ``batch_size`` counts its items but the first, of which the hidden ones are targets."""
        plan = windows(dataset.histories("train"), self.config.length + 1, batch_size, rng, context=1)
        scale = self._targets(plan.batches) / max(len(plan.batches), 1)
        seeds = rng.integers(2**63, size=len(plan.batches))
        cloze_of = partial(cloze, config=self.config, mask=self.module.mask, scale=scale)
        return [partial(cloze_of, batch, seed=int(seed)) for batch, seed in zip(plan.batches, seeds, strict=True)]

    def _targets(self, batches: list[Histories]) -> float:
        """The number of hidden items to expect."""
        lengths = np.concatenate([batch.lengths for batch in batches]) if batches else np.empty(0)
        masked = self.config.masked * lengths + (1 - self.config.masked) ** lengths  # one where it would be none
        return float(((1 - self.config.last) * masked + self.config.last).sum())

    def states(self, histories: Histories) -> Tensor:
        """``[batch, d + 1]``; of an empty history the bias alone."""
        return biased(super().states(histories))

    def rows(self) -> Tensor:
        return self.module.rows()


def cloze(batch: Histories, config: BERT4RecOptions, mask: int, scale: float, seed: int) -> dict[str, Tensor]:
    """Windows with some items hidden behind the token ``mask``, and which items those were."""
    rng = np.random.default_rng(seed)
    only_last = rng.random(len(batch)) < config.last
    ends = np.where(only_last, rng.integers(2, batch.lengths + 1), batch.lengths)
    table = batch.cut(batch.indptr[:-1], ends, batch.users).padded(PAD)
    final = np.arange(table.shape[1]) == ends[:, None] - 1
    masked = (rng.random(table.shape) < config.masked) & (table != PAD) & ~only_last[:, None]
    masked |= final & ~masked.any(axis=1, keepdims=True)
    where = np.flatnonzero(masked)
    arrays = {"items": np.where(masked, mask, table), "where": where, "targets": table.ravel()[where]}
    return {name: torch.as_tensor(array) for name, array in (arrays | {"scale": np.float32(scale)}).items()}
