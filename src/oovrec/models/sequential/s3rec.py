"""S3-Rec (Zhou et al., S³-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual Information
Maximization, CIKM 2020).

Four tasks train an encoder that looks both ways; from its weights a SASRec is then fine-tuned. With e an embedding, F
an encoder state and W a linear map of each task's own:

- associated attributes (AAP): which attributes a has the item at a position t that is not masked? Fₜ W eₐ;
- masked item (MIP): which item stood at a masked position t? Fₜ W eᵢ;
- masked attributes (MAP): which attributes has the item there? Fₜ W eₐ;
- segment (SP): does segment s̃ fill the gap in a history s, or one from elsewhere? s W s̃, each the state at the last
  position: of the history with the segment masked, and of the segment with all the rest masked.

A fifth of the items is masked and, as in the authors' code, always the last. Deviations:

- AAP and MAP are binary cross-entropies over all attributes, SP a pairwise loss with one segment, as in the
  authors' code; but the functions above are compared as they are, without a sigmoid before the loss's own;
- AAP reads the encoder's state, as in the code; in the paper it reads the item's embedding, which all its attributes
  then bend: on Beauty, after 4 epochs and 6 of fine-tuning, validation ndcg@10 .0136 against .0264;
- masked items and the next item are learnt by a softmax over the catalogue (the paper's contrast with all other
  items); ``loss: bpr`` is the paper's ranking loss for both, −log σ of the difference to one item drawn
  from all but the target, those of the history included;
- the encoder is this library's SASRec in both stages, with its normal beginnings, AdamW, windows, padding and batches:
  a window, not each prefix of a history, is a sequence to mask;
- losses are summed and divided by the mean number of items a batch.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.files import read_text, write_text
from oovrec.models.losses import other_items, softmax_cross_entropy
from oovrec.models.sequential.attributes import attribute_table
from oovrec.models.sequential.base import SequentialRecommender, newest
from oovrec.models.sequential.sasrec import SASRecNetwork, SASRecOptions
from oovrec.training.config import TrainingConfig
from oovrec.training.group import leading
from oovrec.training.loop import Batch, EpochLog
from oovrec.training.windows import windows


class S3RecOptions(SASRecOptions):
    """Options of S3-Rec.

    Attributes:
        pretrain_epochs: passes of the first stage; 0 leaves it out.
        masked: share of the items that are masked in it.
        aap_weight: of associated attributes in its loss.
        mip_weight: of masked items.
        map_weight: of masked attributes.
        sp_weight: of segments.
        loss: ``softmax`` over the catalogue, or ``bpr``, pairwise with one negative.
    """

    pretrain_epochs: int = Field(20, ge=0)
    masked: float = Field(0.2, gt=0, lt=1)
    aap_weight: float = Field(0.2, ge=0)
    mip_weight: float = Field(1.0, ge=0)
    map_weight: float = Field(1.0, ge=0)
    sp_weight: float = Field(0.5, ge=0)
    loss: Literal["softmax", "bpr"] = "softmax"


class S3RecNetwork(SASRecNetwork):
    """SASRec, with the paper's loss as a choice."""

    def __init__(self, items: int, config: S3RecOptions) -> None:
        super().__init__(items, config)
        self.bpr = config.loss == "bpr"

    def forward(self, items: Tensor, where: Tensor, targets: Tensor, scale: Tensor) -> Tensor:
        return self.item_loss(self.hidden(items).flatten(0, 1).index_select(0, where), targets) / scale

    def item_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Sum of the losses of ``[n, d]`` states whose items are ``targets`` ``[n]``."""
        weight = self.items.weight
        if not self.bpr:
            return softmax_cross_entropy(states, weight, targets)
        others = other_items(targets, len(weight)).squeeze(1)
        margin = (states * (F.embedding(targets, weight) - F.embedding(others, weight))).sum(1)
        return -F.logsigmoid(margin.float()).sum()


class Pretraining(nn.Module):
    """The network's weights in an encoder that looks both ways, and the four tasks; forward is their weighted loss.

    Args:
        network: to be trained; shared.
        table: ``[items, most]`` the items' attributes, as :func:`attribute_table` gives them.
        config: the tasks' weights.
    """

    table: Tensor

    def __init__(self, network: S3RecNetwork, table: Tensor, config: S3RecOptions) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.register_buffer("table", table)
        self.attributes = nn.Parameter(torch.randn(int(table.max()), config.width) * 0.02)
        self.mask = nn.Parameter(torch.randn(config.width) * 0.02)
        self.aap, self.mip, self.map, self.sp = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(
        self, items: Tensor, lengths: Tensor, masked: Tensor, segment: Tensor, foreign: Tensor, scale: Tensor
    ) -> Tensor:
        """Loss of a batch.

        Args:
            items: ``[B, L]`` right-padded histories.
            lengths: ``[B]`` theirs.
            masked: ``[B, L]`` bool, the positions for masked items and attributes.
            segment: ``[B, L]`` bool, a stretch of each history; none where it is too short.
            foreign: ``[B, L]`` the items with others in the segment's place.
            scale: what the sum is divided by: the mean number of items a batch.
        """
        config, real = self.config, torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        states, shown = self.encode(items, masked, real), real & ~masked
        loss = config.aap_weight * self.attribute_loss(self.aap(states[shown]), items[shown])
        loss = loss + config.mip_weight * self.network.item_loss(self.mip(states[masked]), items[masked])
        loss = loss + config.map_weight * self.attribute_loss(self.map(states[masked]), items[masked])
        return (loss + config.sp_weight * self.segments(items, lengths, segment, foreign, real)) / scale

    def attribute_loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Sum of the binary cross-entropies of every attribute for ``[n, d]`` states of ``items`` ``[n]``."""
        has = torch.zeros(len(items), len(self.attributes) + 1, device=items.device)
        has = has.scatter_(1, self.table[items], 1.0)[:, 1:]
        return F.binary_cross_entropy_with_logits((states @ self.attributes.T).float(), has, reduction="sum")

    def segments(self, items: Tensor, lengths: Tensor, segment: Tensor, foreign: Tensor, real: Tensor) -> Tensor:
        """SP: sum over the histories that have a segment."""
        sequences, hidden = torch.cat([items, items, foreign]), torch.cat([segment, ~segment, ~segment])
        states = self.encode(sequences, hidden, real.repeat(3, 1))
        context, own, other = newest(states, lengths.repeat(3)).chunk(3)
        margin = (self.sp(context) * (own - other)).sum(1)
        return -F.logsigmoid(margin.float())[segment.any(1)].sum()

    def encode(self, items: Tensor, hidden: Tensor, real: Tensor) -> Tensor:
        """``[B, L, d]`` states of the items ``[B, L]``, those ``hidden`` masked; each sees all ``real`` positions."""
        vectors = torch.where(hidden[..., None], self.mask, self.network.items(items.clamp_min(0)))
        return self.network.encode(vectors, real, causal=False)


def corrupted(batch: Histories, others: np.ndarray, share: float, scale: float, seed: int) -> dict[str, Tensor]:
    """A batch for :class:`Pretraining`: what is masked, where the segments are, and what stands in for them.

    A segment has up to half of its history's items, its stand-in is a stretch of ``others`` as long.
    """
    rng = np.random.default_rng(seed)
    items, lengths = batch.padded(0), batch.lengths
    column = np.arange(items.shape[1])
    masked = rng.random(items.shape) < share
    masked = (masked & (column < lengths[:, None])) | (column == lengths[:, None] - 1)
    size = rng.integers(1, np.maximum(lengths // 2, 1) + 1) * (lengths > 1)
    begin = rng.integers(0, lengths - size + 1)
    segment = (column >= begin[:, None]) & (column < (begin + size)[:, None])
    start = rng.integers(0, len(others) - size + 1) - begin
    foreign = np.where(segment, others[np.where(segment, start[:, None] + column, 0)], items)
    arrays = {"items": items, "lengths": lengths, "masked": masked, "segment": segment, "foreign": foreign}
    return {name: torch.as_tensor(array) for name, array in {**arrays, "scale": np.float32(scale)}.items()}


class S3Rec(SequentialRecommender):
    """SASRec, from weights that the histories and the items' attributes have shaped."""

    name = "s3rec"
    Config = S3RecOptions
    config: S3RecOptions
    module: S3RecNetwork

    def network(self) -> S3RecNetwork:
        return S3RecNetwork(len(self.entities.items), self.config)

    def fit(
        self,
        dataset: Dataset,
        training: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        resume: bool = False,
    ) -> list[EpochLog]:
        """As in every recommender, in two stages; the log is the second's, whose state lies beside the first's."""
        if not self.config.pretrain_epochs:
            return super().fit(dataset, training, seed=seed, folder=folder, resume=resume)
        second = folder / "checkpoint" / "finetuning" if folder else None
        if folder and not resume:
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        self.begin(seed)
        self.pretrain(dataset, training, seed, folder, resume)
        begun = second is not None and (second / "checkpoint" / "state.safetensors").exists()
        logs = self.train(self.module, self.epoch, dataset, training, seed=seed, folder=second, resume=begun)
        if folder and second and leading():
            write_text(folder / "log.jsonl", read_text(second / "log.jsonl"))
        return logs

    def pretrain(
        self, dataset: Dataset, training: TrainingConfig, seed: int, folder: Path | None, resume: bool
    ) -> None:
        """The first stage; validated once, at its end."""
        epochs = self.config.pretrain_epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = Pretraining(self.module, attribute_table(self.entities), self.config)
        stage = training.model_copy(update={"epochs": epochs, "stop_after": 0, "validate_every": epochs})
        self.train(module, self.corrupted_epoch, dataset, stage, seed=seed, folder=folder, resume=resume)

    def corrupted_epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        """The batches of an epoch of the first stage."""
        histories = dataset.histories("train")
        plan = windows(histories, self.config.length, batch_size, rng)
        seeds = rng.integers(2**63, size=len(plan.batches))
        fixed = partial(corrupted, others=histories.items, share=self.config.masked, scale=plan.mean_targets)
        return [partial(fixed, batch, seed=int(seed)) for batch, seed in zip(plan.batches, seeds, strict=True)]
