"""TIGER: an encoder-decoder over semantic ids (Rajput et al., "Recommender Systems with Generative Retrieval", 2023).

The encoder reads a token of the user and the codes of the newest items, no words; the decoder writes the codes of the
next. A user's token is one of 2,000, by a hash of the id. Differences from the paper (NeurIPS): AdamW, at our
rates and schedules instead of .01 that falls by the inverse square root; a share of the prompts has ``<user>`` in place
of the user, so that users who were never seen are served; the loss at a code is over the codes legal there (``loss:
full`` is the paper's), and the whole catalogue is scored exactly instead of by a beam.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerBase

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.packed import Packed
from oovrec.language.wordings import Group, Task
from oovrec.models.entities import Entities
from oovrec.models.generative.augmentation import Augmentation
from oovrec.models.generative.samples import Samples, Tasks, Training
from oovrec.models.generative.t5 import T5, T5Options, shape


class TigerOptions(T5Options):
    """Options of TIGER; those of prompts in words are fixed.

    Attributes:
        users: tokens that users share, each user's by a hash of the id; with 0 prompts say nothing of who asks.
    """

    shape: str = "paper"
    vocabulary: Literal["own"] = "own"
    templates: Literal["en"] = "en"
    augmentation: Augmentation = "none"
    tasks: Tasks = Tasks(direct=0)
    users: int = Field(2000, ge=0)

    @field_validator("tasks")
    @classmethod
    def _one_task(cls, tasks: Tasks) -> Tasks:
        if tasks.mixed() != ["sequential"]:
            raise OovrecError("TIGER learns the sequential task alone", where="model.tasks", remedy="leave it out")
        return tasks


class Tiger(T5):
    """TIGER's model on semantic ids; also on any other token scheme."""

    name = "tiger"
    Config = TigerOptions
    config: TigerOptions
    shapes = {
        "debug": shape(32, 2, 2, 64),
        "paper": shape(128, 4, 6, 1024, head_width=64),
        "recboard": shape(128, 6, 4, 256, head_width=64),  # deeper and narrower, as MTandHJ/RecBoard has it
    }

    def __init__(self, config: TigerOptions, entities: Entities, saved: Path | None = None) -> None:
        super().__init__(config, entities, saved)
        self._users = np.full(len(entities.users) + 1, self.vocabulary.someone)  # user -1 comes last
        if config.users:
            tokens = np.array(self.vocabulary.tokenizer.convert_tokens_to_ids(self._user_words()))
            self._users[:-1] = tokens[[crc32(user.encode()) % config.users for user in entities.users]]

    @property
    def worded(self) -> bool:
        return False

    @property
    def reads_users(self) -> bool:
        return False  # by tokens of its own instead

    def _user_words(self) -> list[str]:
        return [f"<H{number}>" for number in range(self.config.users)]

    def _tokenizer(self, saved: Path | None) -> PreTrainedTokenizerBase:
        tokenizer = super()._tokenizer(saved)
        tokenizer.add_tokens(self._user_words())
        return tokenizer

    def prompts(self, histories: Histories, task: Task = "sequential", group: Group = "seen") -> Packed:
        """The user's token, the codes of the newest items, ``</s>``."""
        shown = histories.last(self.config.history)
        codes = self.vocabulary.items[shown.items]
        real = codes != self.vocabulary.end
        ends = np.concatenate([[0], np.cumsum(real.sum(axis=1))])[shown.indptr]
        close = np.full(len(histories), self.vocabulary.tokenizer.eos_token_id)
        frame = np.stack([self._users[histories.users], close], axis=1)
        ids = np.insert(codes[real], np.stack([ends[:-1], ends[1:]], axis=1).ravel(), frame.ravel())
        return Packed(ids, 2 + np.diff(ends))

    def training_prompts(self, training: Training, samples: Samples) -> Packed:
        return self.prompts(samples.past(training))
