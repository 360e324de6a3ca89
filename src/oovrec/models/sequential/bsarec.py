"""BSARec (Shin et al., An Attentive Inductive Bias for Sequential Recommendation beyond the Self-Attention, AAAI 2024).

Each block mixes causal self-attention with a filter over the sequence's frequencies: of the states' Fourier
transform over ``length`` positions the lowest ``components`` make the low-pass part, the rest, the high-pass part, is
weighted by a learnt β² a channel. α of the filter's output and 1 - α of the attention's go into a feed-forward part.
All parts are added to their inputs and normalised afterwards. As the transform is linear and shift-invariant, the
low-pass part is one matrix, a circulant one, of which a history of n items needs n rows and columns.

The filter mixes later states into earlier ones, so the paper makes every prefix of a history a sample of its own, the
item after it the target: ``causal: false``. With ``causal: true`` the matrix's upper half is left out. The filter then
still gives the last state of each prefix what the paper's gives it from the same states, no state sees a later
one, and one pass over a window teaches all its positions. Deviations:

- positions before the history's first item are zero for the filter; the authors let those (a position embedding
  with bias and norm) into it, and compute them; here they are not computed;
- of a prefix's last block only the last state is computed, the only one that is read (the result is the same);
- training histories longer than ``length`` are learnt from in full, not from their newest items alone, and no first
  item of a history is a target;
- AdamW; weights begin in a truncated normal; samples of one length share a batch.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.base import PAD, AttentionOptions, SequentialNetwork, SequentialRecommender, places
from oovrec.models.sequential.bert4rec import EPSILON, Attention, FeedForward, initialise
from oovrec.training.loop import Batch
from oovrec.training.windows import POOL


class BSARecOptions(AttentionOptions):
    """Options of BSARec.

    Attributes:
        heads: as in :class:`AttentionOptions`.
        attention_dropout: on the attention weights, in training; None takes ``dropout``, as the authors do.
        alpha: share of the filter, against the attention's.
        components: c, of the frequencies kept in the low-pass part, positive and negative ones counted.
        causal: learn all positions of a window in one pass; else one sample a prefix, as the paper does.
    """

    heads: int = Field(1, ge=1)
    attention_dropout: float | None = Field(None, ge=0, lt=1)
    alpha: float = Field(0.7, ge=0, le=1)
    components: int = Field(5, ge=1)
    causal: bool = False


class Filter(nn.Module):
    """The frequency rescaler, added to its input and normalised."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.randn(width))  # of β², as in the authors' code
        self.dropout, self.norm = Dropout(dropout), nn.LayerNorm(width, eps=EPSILON)

    def forward(self, states: Tensor, low: Tensor, queries: Tensor) -> Tensor:
        """``[B, Q, d]`` from states ``[B, L, d]``; ``low`` ``[Q, L]`` gives the queries' low-pass part."""
        slow = low @ states
        filtered: Tensor = self.norm(queries + self.dropout(slow + self.root**2 * (queries - slow)))
        return filtered


class Block(nn.Module):
    """Filter and attention side by side, then the feed-forward part."""

    def __init__(self, config: BSARecOptions) -> None:
        super().__init__()
        self.alpha = config.alpha
        self.filter = Filter(config.width, config.dropout)
        self.attention = Attention(config.width, config.heads, config.dropout, config.attention_dropout)
        self.feed = FeedForward(config.width, config.dropout)

    def forward(self, states: Tensor, low: Tensor, seen: Tensor, queries: Tensor) -> Tensor:
        """``[B, Q, d]``, one for each of the ``queries``; ``seen`` as in :class:`Attention`."""
        filtered, attended = self.filter(states, low, queries), self.attention(states, seen, queries)
        mixed: Tensor = self.feed(self.alpha * filtered + (1 - self.alpha) * attended)
        return mixed


class BSARecNetwork(SequentialNetwork):
    """Embeddings and blocks.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    low: Tensor

    def __init__(self, items: int, config: BSARecOptions) -> None:
        super().__init__(items, config.width)
        self.causal = config.causal
        self.positions = nn.Embedding(config.length, config.width)
        self.norm, self.dropout = nn.LayerNorm(config.width, eps=EPSILON), Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        low = low_pass(config.length, config.components)
        self.register_buffer("low", low.tril() if config.causal else low, persistent=False)
        self.apply(initialise)

    def hidden(self, items: Tensor) -> Tensor:
        """States of items ``[B, L]``, padded with -1.

        Causal ones are padded on the right and give ``[B, L, d]``; prefixes are padded on the left and give
        ``[B, 1, d]``, the last state.
        """
        longest, real = items.shape[1], items != PAD
        place = places(real) if self.causal else torch.arange(longest, device=items.device).flip(0)
        states = self.dropout(self.norm(self.items(items.clamp_min(0)) + self.positions(place)))
        itself = torch.eye(longest, dtype=torch.bool, device=items.device)  # padding sees something, or it were NaN
        seen = torch.ones_like(itself).tril() & (real[:, None, None] | itself)
        low, real = self.low[:longest, :longest], real[..., None]
        for block in self.blocks[:-1]:
            states = states * real
            states = block(states, low, seen, states)
        read = slice(None) if self.causal else slice(-1, None)
        states = states * real
        read_states: Tensor = self.blocks[-1](states, low[read], seen[..., read, :], states[:, read])
        return read_states

    def last(self, items: Tensor, lengths: Tensor) -> Tensor:
        return super().last(items, lengths) if self.causal else self.hidden(padded_left(items, lengths))[:, 0]


def low_pass(length: int, components: int) -> Tensor:
    """``[length, length]`` the matrix that keeps a sequence's mean and lowest ``components // 2`` frequencies."""
    spectrum = torch.fft.rfft(torch.eye(length, dtype=torch.float64), dim=0)
    spectrum[components // 2 + 1 :] = 0
    return torch.fft.irfft(spectrum, n=length, dim=0).float()


class BSARec(SequentialRecommender):
    """Self-attention and a filter of frequencies."""

    name = "bsarec"
    Config = BSARecOptions
    config: BSARecOptions
    module: BSARecNetwork

    def network(self) -> BSARecNetwork:
        return BSARecNetwork(len(self.entities.items), self.config)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        if self.config.causal:
            return super().epoch(dataset, batch_size, rng)
        histories = dataset.histories("train")
        targets, lengths = prefixes(histories, self.config.length)
        order = rng.permutation(len(targets))
        pool = np.arange(len(order)) // (POOL * batch_size)
        ordered = order[np.lexsort((lengths[order], pool))]  # little padding, as in :func:`windows`
        parts = np.split(ordered, range(batch_size, len(ordered), batch_size)) if len(ordered) else []
        scale = len(ordered) / max(len(parts), 1)
        chosen = [parts[number] for number in rng.permutation(len(parts))]
        return [partial(samples, histories, targets[part], lengths[part], scale) for part in chosen]


def prefixes(histories: Histories, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in ``histories.items`` each item stands that has one before it, and how many before it are read."""
    before = np.arange(len(histories.items)) - histories.indptr[histories.rows]
    targets = np.flatnonzero(before > 0)
    return targets, np.minimum(before[targets], length)


def samples(histories: Histories, targets: np.ndarray, lengths: np.ndarray, scale: float) -> dict[str, Tensor]:
    """For each of the ``targets`` ``[B]``, places in ``histories.items``: the ``lengths`` ``[B]`` items before it."""
    before = histories.cut(targets - lengths, lengths, np.full(len(targets), -1))
    items = padded_left(torch.from_numpy(before.padded(PAD)), torch.from_numpy(lengths))
    wanted = torch.from_numpy(histories.items[targets].astype(np.int64))
    return {"items": items, "where": torch.arange(len(items)), "targets": wanted, "scale": torch.tensor(scale)}


def padded_left(items: Tensor, lengths: Tensor) -> Tensor:
    """``[B, L]`` items, of which the first ``lengths`` are real, with those at the end and -1 before them."""
    columns = torch.arange(items.shape[1], device=items.device)
    real = items.where(columns < lengths[:, None], PAD)
    return real.gather(1, (columns + lengths[:, None]) % items.shape[1])
