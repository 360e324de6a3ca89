"""CL4SRec (Xie et al., Contrastive Learning for Sequential Recommendation, ICDE 2022).

SASRec's network and loss, and λ times a contrastive one: two views of each history, each made by one of three
augmentations drawn at random, must recognise one another among the views of all the batch (NT-Xent, an InfoNCE).

- crop: a stretch of ⌊η n⌋ of the n items is kept;
- mask: ⌊γ n⌋ items are replaced by a mask embedding;
- reorder: a stretch of ⌊β n⌋ items is shuffled.

A view's representation is its last state, and similarity the inner product, as in the paper, which found a projection
to be of no use. Deviations, besides those of :mod:`oovrec.models.sequential.sasrec`, its softmax over all items among
them:

- the similarity is divided by a temperature of 8, as products of 64 normalised values are large: with 1, which is the
  paper's, learning was slow (ml-100k, validation ndcg@10 after 4 of 12 epochs .052, with 8 .092);
- views are of the windows that the batch learns from, so those of one long history are told apart too;
- a crop keeps at least one item.
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
from oovrec.models.sequential.base import PAD, SequentialRecommender, next_items
from oovrec.models.sequential.sasrec import SASRecNetwork, SASRecOptions
from oovrec.training.loop import Batch
from oovrec.training.windows import windows

MASK = -2


class CL4SRecOptions(SASRecOptions):
    """Options of CL4SRec.

    Attributes:
        contrast: λ, weight of the contrastive loss.
        temperature: of the similarities.
        crop: η, share of the items that a crop keeps.
        mask: γ, share of the items that are masked.
        reorder: β, share of the items that are shuffled.
    """

    contrast: float = Field(0.1, ge=0)
    temperature: float = Field(8.0, gt=0)
    crop: float = Field(0.6, gt=0, le=1)
    mask: float = Field(0.3, ge=0, le=1)
    reorder: float = Field(0.6, ge=0, le=1)


class CL4SRecNetwork(SASRecNetwork):
    """SASRec's, which reads the mask (-2) too."""

    def __init__(self, items: int, config: CL4SRecOptions) -> None:
        super().__init__(items, config)
        self.contrast, self.temperature = config.contrast, config.temperature
        self.mask = nn.Parameter(torch.zeros(config.width))

    def vectors(self, items: Tensor) -> Tensor:
        return torch.where((items == MASK)[..., None], self.mask, super().vectors(items))

    def forward(  # type: ignore[override]
        self,
        items: Tensor,
        where: Tensor,
        targets: Tensor,
        scale: Tensor,
        views: Tensor,
        lengths: Tensor,
        pairs: Tensor,
    ) -> Tensor:
        """Loss of a batch, its first arguments as in :class:`SequentialNetwork`.

        Args:
            views: ``[2 B, M]`` two of each window, the second ones behind the first ones.
            lengths: ``[2 B]`` of the views.
            pairs: mean number of windows a batch.
        """
        loss = super().forward(items, where, targets, scale)
        return loss + self.contrast * nt_xent(self.last(views, lengths).float() / self.temperature**0.5) / (2 * pairs)


def nt_xent(states: Tensor) -> Tensor:
    """Sum over ``[2 B, d]`` views of the cross-entropy with which each finds its other among all but itself."""
    count = len(states)
    with torch.autocast(states.device.type, enabled=False):
        similarities = (states @ states.T).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarities, torch.arange(count, device=states.device).roll(count // 2), reduction="sum")


class CL4SRec(SequentialRecommender):
    """SASRec with a contrastive loss between two views of a history."""

    name = "cl4srec"
    Config = CL4SRecOptions
    config: CL4SRecOptions

    def network(self) -> CL4SRecNetwork:
        return CL4SRecNetwork(len(self.entities.items), self.config)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        plan = windows(dataset.histories("train"), self.config.length + 1, batch_size, rng, context=1)
        pairs = sum(len(batch) for batch in plan.batches) / max(len(plan.batches), 1)
        make = partial(contrasted, config=self.config, scale=plan.mean_targets, pairs=pairs)
        seeds = rng.integers(2**63, size=len(plan.batches))
        return [partial(make, batch, seed=int(seed)) for batch, seed in zip(plan.batches, seeds, strict=True)]


def contrasted(batch: Histories, config: CL4SRecOptions, scale: float, pairs: float, seed: int) -> dict[str, Tensor]:
    """What SASRec learns from a batch, and two views of each window."""
    rng, recent = np.random.default_rng(seed), batch.last(config.length)
    both = augmented(recent.take(np.tile(np.arange(len(recent)), 2)), config, rng)
    views = {"views": both.padded(PAD), "lengths": both.lengths, "pairs": np.float32(pairs)}
    return next_items(batch, scale) | {name: torch.as_tensor(array) for name, array in views.items()}


def augmented(histories: Histories, config: CL4SRecOptions, rng: np.random.Generator) -> Histories:
    """Each history cropped, masked or reordered, which of them at random."""
    chosen = rng.integers(3, size=len(histories))
    kept = np.maximum(np.floor(config.crop * histories.lengths), 1)
    histories = cropped(histories, np.where(chosen == 0, kept, histories.lengths).astype(np.int64), rng)
    histories = masked(histories, np.where(chosen == 1, np.floor(config.mask * histories.lengths), 0), rng)
    return reordered(histories, np.where(chosen == 2, np.floor(config.reorder * histories.lengths), 0), rng)


def cropped(histories: Histories, sizes: np.ndarray, rng: np.random.Generator) -> Histories:
    """A random stretch of ``sizes`` ``[n]`` items of each."""
    first = rng.integers(histories.lengths - sizes + 1)
    return histories.cut(histories.indptr[:-1] + first, sizes, histories.users)


def masked(histories: Histories, sizes: np.ndarray, rng: np.random.Generator) -> Histories:
    """``sizes`` ``[n]`` random items of each replaced by :data:`MASK`."""
    rows = histories.rows
    drawn = np.lexsort((rng.random(len(rows)), rows))  # the places of each history, in random order
    rank = np.arange(len(rows)) - histories.indptr[rows]
    items = histories.items.copy()
    items[drawn[rank < sizes[rows]]] = MASK
    return Histories(histories.indptr, items, histories.users)


def reordered(histories: Histories, sizes: np.ndarray, rng: np.random.Generator) -> Histories:
    """A random stretch of ``sizes`` ``[n]`` items of each shuffled."""
    rows = histories.rows
    place = np.arange(len(rows)) - histories.indptr[rows]
    first = rng.integers(histories.lengths - sizes.astype(np.int64) + 1)[rows]
    inside = (place >= first) & (place < first + sizes[rows])
    key = np.where(inside, first + sizes[rows] * rng.random(len(rows)), place)  # within the stretch's own places
    return Histories(histories.indptr, histories.items[np.lexsort((key, rows))], histories.users)
