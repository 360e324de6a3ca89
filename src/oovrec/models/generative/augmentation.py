"""Representation augmentation (META ID, Huang et al., ICML 2025): emb(token) += α · W · centroid(token).

A centroid is where a token's cluster lies in the space the ids were clustered in. Four ways to tell the
model: ``none``; ``initialise``, where the token's embedding begins as an image of its centroid and is learnt
plainly from there, as item vectors learnt beforehand are commonly used; ``linear``, the paper's, where a
learnt map of the centroid is added for good; ``mlp``, the same with a hidden layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.models.arithmetic import lossless

Augmentation = Literal["none", "initialise", "linear", "mlp"]
Side = Literal["input", "output"]
Sides = Side | Literal["both"]


class GrownTable(nn.Module):
    """A table of which the first rows stay and the others are learnt; in use as ``nn.Embedding``.

    Args:
        weight: ``[rows, d]``.
        known: how many stay.
    """

    def __init__(self, weight: Tensor, known: int) -> None:
        super().__init__()
        self.known = nn.Parameter(lossless(weight[:known].clone()), requires_grad=False)
        self.grown = nn.Parameter(weight[known:].clone())

    @property
    def weight(self) -> Tensor:
        """``[rows, d]``, a copy."""
        return torch.cat([self.known.float(), self.grown])

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` to ``[..., d]``."""
        place = ids - len(self.known)
        known = F.embedding(ids.clamp(max=len(self.known) - 1), self.known)
        grown = F.embedding(place.clamp(min=0), self.grown)
        return torch.where(place[..., None] < 0, known, grown)


@dataclass
class _Made:
    """The rows of all tokens of a table on one side, and how many have been asked for before they were made."""

    asked: int = 0
    rows: Tensor | None = None


# By table and side, of a thread that answers; None while it may learn.
_MADE: ContextVar[defaultdict[tuple[int, Side], _Made] | None] = ContextVar("made", default=None)


@contextmanager
def unchanging() -> Iterator[None]:
    """Within, no weight changes: the rows of a table with what is added to them are made and kept once that pays.

    That is when more of them have been asked for than there are: a large catalogue's are not made for a few. Until
    then, too, what is added is made in float32, under autocast as well.
    """
    before = _MADE.set(defaultdict(_Made))
    try:
        yield
    finally:
        _MADE.reset(before)


class AugmentedEmbedding(nn.Module):
    """A table of token embeddings to which a map of the tokens' centroids is added.

    Tokens without a centroid (words, and numbers in a cluster) have a row of zeros there and keep their
    plain embedding, as no map has a bias. Adding the sum into the table (export) gives a plain model with
    the same logits.

    Args:
        table: ``[size, width]`` embeddings to begin with.
        centroids: ``[size, c]``, or None for no augmentation.
        kind: see the module's text.
        alpha: α, the weight of what ``linear`` and ``mlp`` add.
        augments: whether they add it where a row is read as an input, as an output (of a model that ties the
            two) or both.
    """

    centroids: Tensor | None

    def __init__(
        self,
        table: Tensor,
        centroids: np.ndarray | Tensor | None,
        kind: Augmentation = "linear",
        alpha: float = 0.1,
        augments: Sides = "both",
    ) -> None:
        super().__init__()
        self.size, width = table.shape
        self.table: nn.Embedding | GrownTable = nn.Embedding(self.size, width)
        self.table.weight.data = table
        self.kind, self.alpha, self.augments = kind, alpha, augments
        known = None if centroids is None or kind == "none" else torch.as_tensor(centroids)
        self.project = None if known is None else _map(kind, known.shape[1], width)
        self.register_buffer("centroids", known, persistent=self.project is not None)
        if kind == "initialise" and known is not None:
            begin_at_centroids(table, known)

    def beside(self, output: Tensor) -> AugmentedEmbedding:
        """The output table of a model that does not tie it to this one, which is for inputs alone from here on.

        Args:
            output: ``[size, width]`` its rows to begin with; augmented likewise, by a map of its own.
        """
        other = AugmentedEmbedding(output, self.centroids, self.kind, self.alpha, self.augments)
        for table, unused in ((self, "output"), (other, "input")):
            if table.augments == unused:
                table.project = table.centroids = None
        return other

    @property
    def alike(self) -> bool:
        """Whether a token's row is the same as an input and as an output."""
        return self.project is None or self.augments == "both"

    def forward(self, ids: Tensor, side: Side = "input") -> Tensor:
        """``[...]`` token ids to ``[..., width]``."""
        known = self._known(side)
        if known is None:
            return self.table(ids)
        if (made := self._made(side, ids.numel())) is not None:
            return F.embedding(ids, made)
        return self.table(ids) + self._added(F.embedding(ids, known))

    def _made(self, side: Side, more: int) -> Tensor | None:
        """What :func:`unchanging` keeps of :meth:`whole`, if anything, when ``more`` rows are asked for."""
        if (made := _MADE.get()) is None:
            return None
        kept = made[id(self), "input" if self.alike else side]
        kept.asked += more
        if kept.rows is None and kept.asked > self.size:
            kept.rows = self.whole(side)
        return kept.rows

    def whole(self, side: Side = "input") -> Tensor:
        """``[size, width]``: the rows of all tokens."""
        plain, known = self.table.weight, self._known(side)
        return plain if known is None else plain + self._added(known)

    def _known(self, side: Side) -> Tensor | None:
        """The centroids, where their map is added on this side."""
        return self.centroids if self.project is not None and self.augments in (side, "both") else None

    def _added(self, centroids: Tensor) -> Tensor:
        assert self.project is not None
        with nullcontext() if _MADE.get() is None else torch.autocast(centroids.device.type, enabled=False):
            return self.alpha * self.project(centroids)


def _map(kind: Augmentation, inner: int, width: int) -> nn.Module | None:
    if kind == "linear":
        return nn.Linear(inner, width, bias=False)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(inner, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False))
    return None


@torch.no_grad()
def begin_at_centroids(table: Tensor, centroids: Tensor) -> None:
    """Put a random projection of each token's centroid into its row, spread like the rows of the whole table.

    A random projection keeps angles (Johnson & Lindenstrauss, 1984): tokens of like clusters begin alike.

    Args:
        table: ``[size, width]``, changed in place.
        centroids: ``[size, c]``; tokens without one have a row of zeros.
    """
    rows = centroids.any(dim=1)
    image = centroids[rows] @ torch.randn(centroids.shape[1], table.shape[1])
    middle = table.mean(dim=0)
    spread = (table - middle).square().mean() / image.square().mean()
    table[rows] = middle + image * spread.sqrt()
