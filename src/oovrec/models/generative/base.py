"""What generative recommenders share: an extended vocabulary, a restricted loss, exact decoding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from oovrec.config import Options, checked
from oovrec.data.dataset import MOST_RATINGS, Dataset
from oovrec.data.histories import Histories
from oovrec.decoding.exact import exact_scores, exact_top_k
from oovrec.decoding.stepper import Stepper
from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError, unknown
from oovrec.evaluation.protocol import Figures, Split
from oovrec.files import write_json
from oovrec.language.packed import Packed
from oovrec.language.prompts import Prompter
from oovrec.language.tokenizer import OWN, Spelling, Vocabulary, extend, filled, own_tokenizer, pretrained_tokenizer
from oovrec.language.wordings import RANKING, Group, Task, is_file, read_templates
from oovrec.models import backbones
from oovrec.models.base import NeuralRecommender, Recommendations
from oovrec.models.entities import Entities
from oovrec.models.generative import pretrained
from oovrec.models.generative.augmentation import Augmentation, AugmentedEmbedding, Sides
from oovrec.models.generative.lora import LoraOptions, adapt
from oovrec.models.generative.network import IGNORED, ItemNetwork, Loss
from oovrec.models.generative.samples import Mixture, Samples, Tasks, Training
from oovrec.progress import quiet_transformers
from oovrec.training.config import TrainingConfig
from oovrec.training.optimizer import autocast

CHUNK = {"cpu": 16, "cuda": 1024}  # histories decoded at once: on a processor their logits stay in its cache
ONE_STEP = {"cpu": 128, "cuda": 1024}  # the same of ids of one token: all that each lot does anew is the output rows
SEARCHED = {"cpu": 128, "cuda": 2048}  # histories searched at once for their best items
LORA_REMEDY = "give model.backbone, or leave model.lora out"


class GenerativeConfig(Options):
    """Options of every language-model recommender.

    Attributes:
        shape: a named architecture to train from scratch; the model's module lists them.
        backbone: a pretrained model in place of ``shape``: a name of the catalogue ('oovrec model get'), a local
            folder or a hub name.
        lora: train adapters and the OOV tokens' rows alone (LoRA), on a ``backbone``; None trains everything.
        vocabulary: ``own`` (small, learnt from the templates) or a folder or hub name of a tokenizer;
            a ``backbone`` brings its own.
        spelling: ``tokens`` writes users and items by new tokens, ``pieces`` in the vocabulary's own pieces, as P5.
        templates: shipped templates or a YAML file of the same form, what it holds from then on, as it may change or
            go.
        history: newest items shown to the model.
        augmentation: how tokens' centroids enter their embeddings: ``none``, ``initialise``, ``linear`` (the paper's)
            or ``mlp``; see :mod:`oovrec.models.generative.augmentation`.
        alpha: weight α of what ``linear`` and ``mlp`` add.
        augments: where they add it: to the rows that the model reads, to the output layer's, or to both; an output
            layer that is not tied to the input table has a map of its own.
        unknown_users: share of training prompts whose user is replaced by ``<user>``, so that a history
            without a known user can be served.
        tasks: what is trained, by weights; see :class:`Tasks`.
        words: the longest text that is learnt or written, in tokens.
        loss: ``restricted`` learns each token against its legal alternatives alone, ``full`` against the whole
            vocabulary, as the stock models do.
        scored: how many items of a history are scored, the best with those it has and the best without; others are
            at -inf. 0 scores all. Deep ids are evaluated faster so; hits and ndcg are exact up to this rank, and mrr
            counts no target beyond it.
    """

    shape: str = "compact"
    backbone: str | None = None
    lora: LoraOptions | None = None
    vocabulary: str = OWN
    spelling: Spelling = "tokens"
    templates: str | dict[str, Any] = "en"
    history: int = Field(20, ge=1)
    augmentation: Augmentation = "linear"
    alpha: float = Field(0.1, ge=0)
    augments: Sides = "both"
    unknown_users: float = Field(0.1, ge=0, le=1)
    tasks: Tasks = Tasks()
    words: int = Field(64, ge=2)
    loss: Loss = "restricted"
    scored: int = Field(0, ge=0)

    @field_validator("alpha")
    @classmethod
    def _augments_something(cls, alpha: float) -> float:
        if alpha == 0:
            remedy = "set model.augmentation=none to go without"
            raise OovrecError("is 0, which augments nothing", where="model.alpha", remedy=remedy)
        return alpha

    @field_validator("backbone")
    @classmethod
    def _from_any_folder(cls, value: str | None) -> str | None:
        return value if value is None else backbones.absolute(value)

    @field_validator("lora", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """Unknown keys name their neighbours."""
        return checked(LoraOptions, value, where="model.lora") if isinstance(value, Mapping) else value

    @field_validator("templates")
    @classmethod
    def _in_full(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        return read_templates(value, None).to_dict() if isinstance(value, str) and is_file(value) else value

    @model_validator(mode="after")
    def _worded(self) -> Self:
        """An error comes before tokens are built."""
        if not isinstance(self.templates, str):
            read_templates(self.templates, {*RANKING, *self.tasks.mixed()})
        return self

    @model_validator(mode="after")
    def _on_a_backbone(self) -> Self:
        if self.lora is not None and self.backbone is None:
            raise OovrecError("adapts a pretrained model, and there is none", where="model.lora", remedy=LORA_REMEDY)
        return self


class GenerativeRecommender(NeuralRecommender):
    """A language model that names items by their OOV tokens.

    A subclass gives the shapes it can build, :meth:`wrap` (the module to train), its batches
    (:meth:`epoch`), and :meth:`stepper`, which reads prompts.
    """

    token_use = "needed"
    config: GenerativeConfig
    module: ItemNetwork
    shapes: ClassVar[dict[str, dict[str, object]]]
    kinds: ClassVar[pretrained.Kinds]  # of stock models that it can stand for, the first where it builds a shape
    causal: ClassVar[bool]
    ratings: Trie | None = None  # the answers to the rating task

    def __init__(self, config: GenerativeConfig, entities: Entities, saved: Path | None = None) -> None:
        """Args:
        saved: a run folder's ``backbone/``: shape and tokenizer come from there, weights are loaded later.
        """
        super().__init__(config, entities)
        if entities.tokens is None:
            raise OovrecError(f"the system '{self.name}' needs tokens", remedy="build some with 'oovrec tokens build'")
        self._check_tasks()
        self.templates = read_templates(config.templates, {*RANKING, *config.tasks.mixed()})
        self.base = self._base(saved)
        self._check_configs(saved)
        tokens = entities.tokens if self.reads_users else replace(entities.tokens, users=None)
        self.vocabulary: Vocabulary = extend(self._tokenizer(saved), tokens, config.spelling)
        rating_words = [f"{value:g}" for value in entities.scale or ()]
        self.prompter = Prompter(self.vocabulary, self.templates, config.history, rating_words)
        network = self._network(saved)
        table = network.get_input_embeddings().weight.data
        augmented = config.augmentation, config.alpha, config.augments
        embedding = AugmentedEmbedding(table, self.vocabulary.centroids, *augmented)
        self.backbone_config = network.config
        self._trie = Trie.of(self.vocabulary.items)
        if config.tasks.rating:
            pieces = self.vocabulary.tokenizer(rating_words, add_special_tokens=False)["input_ids"]
            self.rating_codes = filled(pieces, self.vocabulary.end)
            self.ratings = Trie.of(self.rating_codes)
        self.module = self.wrap(network, embedding)
        if config.lora is not None and self.base is not None:
            sizes = len(pretrained_tokenizer(self.base)), pretrained.config_of(self.kinds, self.base).vocab_size
            adapt(self.module, config.lora, min(*sizes, self.vocabulary.someone))  # what it has no rows for is learnt

    @classmethod
    def check(cls, config: Options) -> None:
        assert isinstance(config, GenerativeConfig)
        if config.backbone is not None:
            folder = backbones.find(config.backbone)
            pretrained.config_of(cls.kinds, folder)
            pretrained_tokenizer(folder)
        else:
            cls._sizes(config.shape)

    @classmethod
    def _sizes(cls, shape: str) -> dict[str, object]:
        """Those of the named architecture."""
        if shape not in cls.shapes:
            raise unknown("shape", shape, cls.shapes, where="model.shape")
        return cls.shapes[shape]

    def _base(self, saved: Path | None) -> Path | None:
        """The folder of the pretrained weights that this model starts from or, saved with LoRA, is a change of."""
        if self.config.backbone is None or (saved is not None and self.config.lora is None):
            return None
        if saved is None:
            return backbones.find(self.config.backbone)
        return backbones.restored(self.config.backbone, saved)

    def _check_configs(self, saved: Path | None) -> None:
        """Of what is to be loaded, before tokenizers, which read it too."""
        if saved is not None:
            pretrained.config_of(self.kinds, saved, run=True)
        if self.base is not None:
            pretrained.config_of(self.kinds, self.base)

    def _tokenizer(self, saved: Path | None) -> PreTrainedTokenizerBase:
        if saved is not None:
            return pretrained_tokenizer(saved, run=True)
        source = self.base or self.config.vocabulary
        return (
            own_tokenizer(self.templates.texts(), causal=self.causal) if source == OWN else pretrained_tokenizer(source)
        )

    def _network(self, saved: Path | None) -> PreTrainedModel:
        if self.base is not None:
            return self._pretrained(self.base)
        if saved is not None:
            return pretrained.built(self.kinds, saved, vocab_size=len(self.vocabulary))
        ends = {"pad_token_id": self.vocabulary.pad, "eos_token_id": self.vocabulary.tokenizer.eos_token_id}
        sizes = self._sizes(self.config.shape)
        kind = self.kinds[0]
        return kind(kind.config_class(vocab_size=len(self.vocabulary), **ends, **sizes, **self.changes))

    def _pretrained(self, folder: Path) -> PreTrainedModel:
        network = pretrained.loaded(self.kinds, folder, **self.changes)
        tables = network.get_input_embeddings(), network.get_output_embeddings()
        network.config.tie_word_embeddings = tables[0].weight is tables[1].weight  # else resizing would tie them
        with quiet_transformers(advice=False):  # that new rows begin like the known ones
            network.resize_token_embeddings(len(self.vocabulary))
        return network

    @property
    def changes(self) -> dict[str, object]:
        """What the options change of the stock configuration, beside the shape."""
        return {}

    @property
    def worded(self) -> bool:
        """Whether it reads prompts in words, and so can learn any task."""
        return True

    @property
    def reads_users(self) -> bool:
        """Whether prompts name users; where they do not, the vocabulary has no tokens for them."""
        return True

    @abstractmethod
    def wrap(self, network: PreTrainedModel, embedding: AugmentedEmbedding) -> ItemNetwork:
        """The module to train, with ``embedding`` as its input embedding."""

    @abstractmethod
    def stepper(self, prompts: Packed) -> Stepper:
        """The model after reading ``prompts``."""

    def read(self, histories: Histories) -> Stepper:
        """The model after reading the prompts of ``histories``."""
        return self.stepper(self.prompts(histories))

    @cached_property
    def marks(self) -> dict[str, str]:
        """With LoRA the digest of the weights that stay; else nothing."""
        return {} if self.base is None or self.config.lora is None else {"base": backbones.fingerprint(self.base)}

    def arithmetic(self, training: TrainingConfig) -> AbstractContextManager[Any]:
        """What it was trained and validated in."""
        return autocast(training, self.device)

    def task_figures(self, dataset: Dataset, split: Split) -> dict[str, Figures]:
        """As :func:`oovrec.models.generative.tasks.task_figures`."""
        from oovrec.models.generative.tasks import task_figures

        return task_figures(self, dataset, split)

    @property
    def trie(self) -> Trie:
        """The catalogue's trie, where the weights are."""
        self._trie = self._trie.to(self.device)
        return self._trie

    @torch.no_grad()
    def item_rows(self) -> np.ndarray:
        """``[items, depth, d]`` float32 output rows of each item's tokens."""
        codes = torch.from_numpy(self.vocabulary.items).to(self.device)
        rows: np.ndarray = self.module.rows(codes.flatten()).float().view(*codes.shape, -1).cpu().numpy()
        return rows

    def scores(self, histories: Histories, task: Task = "sequential", group: Group = "seen") -> Tensor:
        """``[batch, items]`` exact log-probability of each item under the constrained model; see ``config.scored``.

        Args:
            task: ``direct`` looks at the users alone.
            group: whose first wording is used.
        """
        if not self.config.scored:
            return self.answered(self.prompts(histories, task, group), self.trie)
        scores = torch.full((len(histories), len(self.entities.items)), -torch.inf, device=self.device)
        for mask_seen in (True, False):  # in this order: what is masked in the first has its score in the second
            best = self._best(histories, self.config.scored, mask_seen, task, group)
            items, values = (torch.from_numpy(part).to(self.device) for part in (best.items, best.scores))
            scores.scatter_(1, items, values)
        return scores

    @torch.no_grad()
    def answered(self, prompts: Packed, trie: Trie) -> Tensor:
        """``[prompts, entries]`` exact log-probability of each entry of ``trie``."""
        none = torch.empty(0, len(trie.items), device=self.device)
        with self.module.answering():
            parts = (exact_scores(self.stepper(part), trie) for part in self.chunks(prompts, trie.depth))
            return torch.cat([none, *parts])

    def chunks(self, prompts: Packed, depth: int) -> Iterator[Packed]:
        """As many prompts at a time as are decoded at once, for answers of so many tokens."""
        sizes = ONE_STEP if depth == 1 else CHUNK
        size = sizes.get(self.device.type, sizes["cuda"])
        return (prompts.take(np.arange(at, min(at + size, len(prompts)))) for at in range(0, len(prompts), size))

    @torch.no_grad()
    def _best(
        self, histories: Histories, k: int, mask_seen: bool, task: Task = "sequential", group: Group = "seen"
    ) -> Recommendations:
        """Only items that may be among the best are scored; ties: lower index."""
        order = np.argsort(np.minimum(histories.lengths, self.config.history), kind="stable")  # prompts of like length
        items = np.empty((len(order), min(k, len(self.entities.items))), np.int64)
        scores = np.empty(items.shape, np.float32)
        with self.module.answering():
            for rows, batch in histories.take(order).batches(SEARCHED.get(self.device.type, SEARCHED["cuda"])):
                seen = torch.from_numpy(batch.padded(-1)).to(self.device) if mask_seen else None
                best = exact_top_k(self.stepper(self.prompts(batch, task, group)), self.trie, k, seen)
                items[order[rows]], scores[order[rows]] = (part.cpu().numpy() for part in best)
        return Recommendations(items, scores)

    def save(self, folder: Path) -> None:
        """As :meth:`Recommender.save`, with the backbone's shape and the tokenizer under ``backbone/``.

        With LoRA the weights are what was learnt, and ``backbone/base.json`` says what they are a change of.
        """
        self.backbone_config.save_pretrained(folder / "backbone")
        if self.config.lora is not None:
            write_json(folder / "backbone" / "base.json", {"name": self.config.backbone, **self.marks})
        self.vocabulary.tokenizer.save_pretrained(folder / "backbone")
        super().save(folder)

    @classmethod
    def restore(cls, config: Options, entities: Entities, folder: Path) -> Self:
        assert isinstance(config, GenerativeConfig)
        return cls(config, entities, folder / "backbone")

    def prompts(self, histories: Histories, task: Task = "sequential", group: Group = "seen") -> Packed:
        """The prompts that histories are scored with: a group's first wording; without items the direct task's."""
        first = [self.prompter.wording("direct", group=group), self.prompter.wording(task, group=group)]
        return self.prompter.packed(histories, np.where(histories.lengths > 0, first[1], first[0]))

    def prompt(self, items: np.ndarray, user: int) -> np.ndarray:
        """The prompt of one history."""
        return self.prompts(Histories.of([items], [user])).ids

    def samples(self, training: Training, batch_size: int, rng: np.random.Generator) -> list[Samples]:
        """One epoch's prompts, each worded at random, in batches of like length."""
        mixture = Mixture(self.prompter, self.config.tasks, self.config.unknown_users)
        return mixture.epoch(training, batch_size, rng, lambda some: self.training_prompts(training, some).lengths)

    def training_prompts(self, training: Training, samples: Samples) -> Packed:
        """The prompts of samples."""
        return self.prompter.packed(samples.past(training), samples.wordings, training.histories.items[samples.where])

    def answer(self, training: Training, samples: Samples) -> tuple[np.ndarray, dict[str, Tensor]]:
        """What samples are answered by.

        Returns:
            ``[n, depth]`` ids, those of texts followed by IGNORED; and the same as
            :meth:`oovrec.models.generative.network.ItemNetwork.answers` takes it.
        """
        if samples.task == "sequential":
            items = training.histories.items[samples.where]
            return self.vocabulary.items[items], {"nodes": self._trie.nodes(torch.from_numpy(items))}
        if samples.task == "rating":
            assert training.ratings is not None
            assert self.ratings is not None
            ratings = training.ratings[samples.where]
            return self.rating_codes[ratings], {"ratings": self.ratings.nodes(torch.from_numpy(ratings))}
        words = self.vocabulary.written(training.texts[samples.task][samples.where], self.config.words, IGNORED)
        return words, {"words": torch.from_numpy(words)}

    def _check_tasks(self) -> None:
        """Raise where a task is to be trained that the model or the data cannot have."""
        for task in self.config.tasks.mixed():
            where = f"model.tasks.{task}"
            if task not in RANKING and not self.worded:
                what = f"'{self.name}' reads no words here, so it learns to recommend and nothing else"
                raise OovrecError(what, where=where, remedy="set it to 0, or use t5, or llama with form=prompt")
            if task in ("rating", "review") and self.entities.scale is None:
                what = f"the data has no ratings, or more than {MOST_RATINGS} different ones"
                raise OovrecError(what, where=where, remedy="set it to 0")
