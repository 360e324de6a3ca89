"""What generative recommenders share: an extended vocabulary, a restricted loss, exact decoding."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from oovrec.config import Options
from oovrec.data.histories import Histories
from oovrec.decoding.exact import exact_scores
from oovrec.decoding.stepper import Stepper
from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError, unknown
from oovrec.language.prompts import Prompter, Task, read_templates
from oovrec.language.tokenizer import OWN, Spelling, Vocabulary, extend, own_tokenizer, pretrained_tokenizer
from oovrec.models.base import Entities, NeuralRecommender
from oovrec.models.generative.augmentation import AugmentedEmbedding

CHUNK = {"cpu": 16, "cuda": 256}  # histories decoded at once: on a processor their logits stay in its cache


class GenerativeConfig(Options):
    """Options of every language-model recommender.

    Attributes:
        shape: a named architecture to train from scratch; the model's module lists them.
        backbone: a local folder or hub name of a pretrained checkpoint, in place of ``shape``.
        vocabulary: ``own`` (small, learnt from the templates) or a folder or hub name of a tokenizer;
            a ``backbone`` brings its own.
        spelling: ``tokens`` writes users and items by new tokens, ``pieces`` in the vocabulary's own pieces, as P5.
        templates: shipped templates or a YAML file of the same form.
        history: newest items shown to the model.
        alpha: weight α of the representation augmentation; 0 turns it off.
        unknown_users: share of training prompts whose user is replaced by ``<user>``, so that a history
            without a known user can be served.
        direct: prompts of the direct task (no history), as a share of the sequential ones.
    """

    shape: str = "compact"
    backbone: str | None = None
    vocabulary: str = OWN
    spelling: Spelling = "tokens"
    templates: str = "en"
    history: int = Field(20, ge=1)
    alpha: float = Field(0.1, ge=0)
    unknown_users: float = Field(0.1, ge=0, le=1)
    direct: float = Field(0.2, ge=0)


@dataclass(frozen=True)
class Sample:
    """A training prompt: the history's row, the target's place in ``Histories.items``, the task."""

    row: int
    where: int
    task: Task


class GenerativeRecommender(NeuralRecommender):
    """A language model that names items by their OOV tokens.

    A subclass gives the shapes it can build, :meth:`wrap` (the module to train), its batches
    (:meth:`epoch`), and :meth:`read`, which turns histories into a :class:`Stepper`.
    """

    needs_tokens = True
    config: GenerativeConfig
    shapes: ClassVar[dict[str, dict[str, object]]]
    hf_config: ClassVar[type[PretrainedConfig]]
    hf_model: ClassVar[type[PreTrainedModel]]
    causal: ClassVar[bool]

    def __init__(self, config: GenerativeConfig, entities: Entities, saved: Path | None = None) -> None:
        """Args:
        saved: a run folder's ``backbone/``: shape and tokenizer come from there, weights are loaded later.
        """
        super().__init__(config, entities)
        if entities.tokens is None:
            raise OovrecError(f"the system '{self.name}' needs tokens", remedy="build some with 'oovrec tokens build'")
        self.templates = read_templates(config.templates)
        self.vocabulary: Vocabulary = extend(self._tokenizer(saved), entities.tokens, config.spelling)
        self.prompter = Prompter(self.vocabulary, self.templates, config.history)
        network = self._network(saved)
        table = network.get_input_embeddings().weight.data
        width = table.shape[1]
        embedding = AugmentedEmbedding(len(self.vocabulary), width, self.vocabulary.centroids, config.alpha)
        embedding.table.weight.data = table
        self.backbone_config = network.config
        self._trie = Trie.of(self.vocabulary.items)
        self.module = self.wrap(network, embedding)

    def _tokenizer(self, saved: Path | None) -> PreTrainedTokenizerBase:
        if saved is not None:
            return pretrained_tokenizer(saved)
        source = self.config.backbone or self.config.vocabulary
        return (
            own_tokenizer(self.templates.texts(), causal=self.causal) if source == OWN else pretrained_tokenizer(source)
        )

    def _network(self, saved: Path | None) -> PreTrainedModel:
        if saved is None and self.config.backbone is not None:
            return self._pretrained(self.config.backbone)
        if saved is not None:
            shape = AutoConfig.from_pretrained(str(saved))
        else:
            if self.config.shape not in self.shapes:
                raise unknown("shape", self.config.shape, self.shapes, where="model.shape")
            ends = {"pad_token_id": self.vocabulary.pad, "eos_token_id": self.vocabulary.tokenizer.eos_token_id}
            shape = self.hf_config(vocab_size=len(self.vocabulary), **ends, **self.shapes[self.config.shape])
        return self.hf_model(shape)

    def _pretrained(self, name: str) -> PreTrainedModel:
        try:
            network = self.hf_model.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            remedy = "give a folder with config.json and model.safetensors, or a hub name while online"
            raise OovrecError(
                "no checkpoint can be loaded from here", where=f"model.backbone={name}", remedy=remedy
            ) from error
        network.resize_token_embeddings(len(self.vocabulary))
        return network

    @abstractmethod
    def wrap(self, network: PreTrainedModel, embedding: AugmentedEmbedding) -> nn.Module:
        """The module to train, with ``embedding`` as its input embedding."""

    @abstractmethod
    def read(self, histories: Histories) -> Stepper:
        """The model after reading the prompts of ``histories``."""

    @property
    def trie(self) -> Trie:
        """The catalogue's trie, where the weights are."""
        self._trie = self._trie.to(self.device)
        return self._trie

    @torch.no_grad()
    def scores(self, histories: Histories) -> Tensor:
        """``[batch, items]`` exact log-probability of each item under the constrained model."""
        self.module.eval()
        batches = histories.batches(CHUNK.get(self.device.type, CHUNK["cuda"]))
        parts = [exact_scores(self.read(batch), self.trie) for _, batch in batches]
        return torch.cat(parts)

    def save(self, folder: Path) -> None:
        """As :meth:`Recommender.save`, with the backbone's shape and the tokenizer under ``backbone/``."""
        self.backbone_config.save_pretrained(folder / "backbone")
        self.vocabulary.tokenizer.save_pretrained(folder / "backbone")
        super().save(folder)

    @classmethod
    def restore(cls, config: Options, entities: Entities, folder: Path) -> Self:
        assert isinstance(config, GenerativeConfig)
        return cls(config, entities, folder / "backbone")

    def prompt(self, items: np.ndarray, user: int) -> np.ndarray:
        """The prompt a history is scored with: the first seen wording; without items the direct task's."""
        task: Task = "sequential" if len(items) else "direct"
        return self.prompter.ids(user, items, task=task)

    def prompt_batches(
        self, training: Histories, batch_size: int, rng: np.random.Generator
    ) -> list[tuple[list[Sample], np.random.Generator]]:
        """One epoch's prompts, shuffled, in batches, each with the generator that words it.

        Every training interaction with a past is a sequential prompt; ``direct`` times as many
        interactions are drawn for the direct task.
        """
        position = np.arange(len(training.items)) - training.indptr[training.rows]
        sequential = np.flatnonzero(position > 0)
        direct = rng.choice(len(training.items), int(self.config.direct * len(sequential)))
        where = np.concatenate([sequential, direct])
        rows, known = training.rows[where], len(sequential)
        samples = [
            Sample(int(rows[i]), int(where[i]), "sequential" if i < known else "direct")
            for i in rng.permutation(len(where))
        ]
        batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
        return list(zip(batches, rng.spawn(len(batches)), strict=True))

    def training_prompt(self, training: Histories, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        """The prompt of one sample in a wording drawn at random."""
        template = int(rng.integers(len(self.templates.seen[sample.task])))
        user = -1 if rng.random() < self.config.unknown_users else int(training.users[sample.row])
        past = training.items[training.indptr[sample.row] : sample.where]
        return self.prompter.ids(user, past, task=sample.task, template=template)


def pad_right(rows: list[np.ndarray], pad: int) -> tuple[Tensor, Tensor]:
    """``[B, L]`` ids filled up on the right, and ``[B]`` their lengths."""
    lengths = np.array([len(row) for row in rows])
    table = np.full((len(rows), lengths.max()), pad, np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return torch.from_numpy(table), torch.from_numpy(lengths)


def full_precision(hidden: Tensor, rows: Tensor) -> Tensor:
    """``[..., n]`` float32 logits of output rows ``[n, d]``, under autocast too: coarser ones would tie."""
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden.float() @ rows.float().T


def restricted_loss(hidden: Tensor, nodes: Tensor, trie: Trie, rows: list[Tensor]) -> Tensor:
    """Sum of the items' negative log-probabilities, each token against its legal alternatives alone.

    Args:
        hidden: ``[n, depth, d]`` the states that predict each token of the targets.
        nodes: ``[n, depth]`` the targets' trie nodes.
        rows: for each level the output rows ``[alphabet, d]`` of its tokens.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    above = torch.zeros(len(nodes), dtype=torch.long, device=nodes.device)
    for depth, (level, weight) in enumerate(zip(trie.levels, rows, strict=True)):
        logits = (hidden[:, depth] @ weight.T).float()
        logits = logits.masked_fill(~level.mask(above), -torch.inf)
        total = total + F.cross_entropy(logits, level.symbol[nodes[:, depth]].long(), reduction="sum")
        above = nodes[:, depth]
    return total
