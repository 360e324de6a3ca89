"""How a model is trained: the options that every system shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from oovrec.config import Options


class TrainingConfig(Options):
    """Options of :func:`oovrec.training.loop.train`.

    Attributes:
        epochs: passes over the training part, at most.
        max_steps: optimiser steps, at most; 0 leaves it to ``epochs``.
        stop_after: epochs after which it ends, the schedule being that of all ``epochs``; 0 for none.
        batch_size: targets in a batch: positions of histories, or prompts.
        learning_rate: AdamW's, after warm-up.
        weight_decay: AdamW's, on matrices only (not on biases, norms and embeddings of one dimension).
        warmup_steps: optimiser steps in which the rate rises linearly from zero.
        schedule: the rate after warm-up: held, or falling to zero along a cosine.
        clip_norm: the gradient's norm is cut to this; 0 leaves it.
        accumulate: batches an optimiser step.
        patience: stop after this many validations without a better ndcg@10.
        validate_every: epochs from one validation to the next.
        validate_on: ``masked`` ranks the target among the items that its history has not, ``raw`` among all, which is
            for data whose users take the same items again.
        validate_days: held out by time, validate on targets of the first so many days alone, which a model meets that
            is retrained so often; 0 takes all.
        validation_users: validate on a fixed sample of this many users; 0 takes all.
        skipped: share of the items that about every second history of the training part lacks, drawn anew for each
            epoch, so that an item is also learnt from what came before the item before it.
        precision: ``auto`` is bf16 where the hardware multiplies it natively, else fp32.
        compile: by ``torch.compile``; ``auto`` does so on CUDA, but not for T5s and worded prompts: their steps are
            recorded and replayed there, in seconds. What cannot be compiled is trained without.
    """

    epochs: int = Field(30, ge=1)
    max_steps: int = Field(0, ge=0)
    stop_after: int = Field(0, ge=0)
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float = Field(1.0, ge=0)
    accumulate: int = Field(1, ge=1)
    patience: int = Field(10, ge=1)
    validate_every: int = Field(1, ge=1)
    validate_on: Literal["masked", "raw"] = "masked"
    validate_days: int = Field(0, ge=0)
    validation_users: int = Field(0, ge=0)
    skipped: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool | Literal["auto"] = "auto"

    @property
    def last_epoch(self) -> int:
        """The one with which it ends, unless something ends it before."""
        return min(self.epochs, self.stop_after or self.epochs)
