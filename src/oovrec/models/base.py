"""The contract that every recommender keeps, from popularity to a LLaMA."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from oovrec.config import Options, checked, flat
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, unknown
from oovrec.evaluation.protocol import AT_ONCE, Figures, Split, validation_score
from oovrec.files import read_json, read_tensors, read_text, write_tensors, write_text
from oovrec.tokens.table import Tokens
from oovrec.training.checkpoint import learnt, put
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch, EpochLog, train

MOST = 2**31 - 1  # of a whole number among the options
FAMILIES = ("sequential", "generative")
SCALE = "scale.json"  # in a run folder: the ratings there are
ATTRIBUTES = "item_attributes.json"  # in a run folder; the form is that of the data's own file


@dataclass(frozen=True)
class Entities:
    """The users and items a model speaks about, and their tokens.

    Attributes:
        items: ``[items]`` ids; the position is the model's item index.
        users: ``[users]`` ids.
        titles: ``[items]`` texts, or None.
        attributes: ``[items]`` tuples of attribute numbers, or None.
        tokens: their OOV tokens; None for models that need none.
        scale: the ratings that items can get, ascending; None where the data has no scale.
    """

    items: list[str]
    users: list[str]
    titles: list[str] | None = None
    tokens: Tokens | None = None
    attributes: list[tuple[int, ...]] | None = None
    scale: tuple[float, ...] | None = None

    @classmethod
    def of(cls, dataset: Dataset, tokens: Tokens | None = None) -> Entities:
        """The entities of a dataset; tokens are put in the dataset's order.

        Raises:
            OovrecError: an item or user of the dataset has no tokens.
        """
        if tokens is not None:
            items = tokens.items.reindexed(dataset.items)
            users = tokens.users and tokens.users.reindexed(dataset.users)
            tokens = Tokens(items, users, tokens.method, tokens.built_from, tokens.seed, tokens.config, tokens.details)
        scale = None if dataset.scale is None else tuple(dataset.scale.tolist())
        return cls(dataset.items, dataset.users, dataset.titles, tokens, dataset.attributes, scale)

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Item id to index."""
        return {item: index for index, item in enumerate(self.items)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the item ids in order: a checkpoint fits data with the same one."""
        return hashlib.sha256("\n".join(self.items).encode()).hexdigest()

    @property
    def tokens_origin(self) -> dict[str, Any] | None:
        """How the tokens were made, which with the data says what they are."""
        if self.tokens is None:
            return None
        return {key: value for key, value in self.tokens.summary().items() if key != "vocabulary"}

    def save(self, folder: Path) -> None:
        """Write ``items.tsv`` (id, title) and ``users.txt``; ``item_attributes.json``, ``scale.json``, ``tokens/``.

        The last three only where there is something to write.
        """
        self.save_items(folder)
        write_text(folder / "users.txt", "\n".join(self.users) + "\n")
        if self.attributes is not None:
            table = dict(zip(self.items, self.attributes, strict=True))
            write_text(folder / ATTRIBUTES, json.dumps(table, ensure_ascii=False))
        if self.scale is not None:
            write_text(folder / SCALE, json.dumps(self.scale))
        if self.tokens is not None:
            self.tokens.save(folder / "tokens")

    def save_items(self, folder: Path) -> None:
        """Write ``items.tsv``: id, title."""
        titles = self.titles or [""] * len(self.items)
        lines = (f"{item}\t{' '.join(title.split())}" for item, title in zip(self.items, titles, strict=True))
        write_text(folder / "items.tsv", "\n".join(lines) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Entities:
        """Read what :meth:`save` wrote."""
        rows = [line.partition("\t") for line in read_text(folder / "items.tsv").splitlines()]
        titles = [row[2] for row in rows]
        users = read_text(folder / "users.txt").splitlines()
        tokens = Tokens.load(folder / "tokens") if (folder / "tokens" / "tokens.json").exists() else None
        items = [row[0] for row in rows]
        attributes = _attributes(folder / ATTRIBUTES, items) if (folder / ATTRIBUTES).exists() else None
        scale = _scale(folder / SCALE) if (folder / SCALE).exists() else None
        return cls(items, users, titles if any(titles) else None, tokens, attributes, scale)


def _attributes(path: Path, items: list[str]) -> list[tuple[int, ...]]:
    try:
        table = read_json(path)
        return [tuple(map(int, table[item])) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        what = "does not give each item of items.tsv a list of numbers"
        raise OovrecError(what, where=path, remedy="restore the file") from error


def _scale(path: Path) -> tuple[float, ...]:
    try:
        return tuple(map(float, read_json(path)))
    except (TypeError, ValueError) as error:
        raise OovrecError("is not a list of numbers", where=path, remedy="restore the file") from error


@dataclass(frozen=True)
class Recommendations:
    """The best items of each history, best first.

    Attributes:
        items: ``[batch, k]`` item indices.
        scores: ``[batch, k]`` their scores.
    """

    items: np.ndarray
    scores: np.ndarray


class Recommender(ABC):
    """Ranks the whole catalogue after a history.

    A subclass names itself (``name``, by which recipes and checkpoints find it), its options
    (``Config``), and gives :meth:`scores`; learned ones derive from :class:`NeuralRecommender`.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Options]]
    token_use: ClassVar[Literal["none", "possible", "needed"]] = "none"

    def __init__(self, config: Options, entities: Entities) -> None:
        self.config, self.entities = config, entities

    @abstractmethod
    def fit(
        self,
        dataset: Dataset,
        training: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        resume: bool = False,
    ) -> list[EpochLog]:
        """Learn from the training part of ``dataset``; validation targets choose the epoch, nothing else.

        Args:
            training: shared options; models without epochs ignore them.
            seed: of every random choice.
            folder: the run folder: log and resumable state go there; None keeps nothing.
            resume: go on from the state in ``folder``.

        Returns:
            One entry an epoch.
        """

    @abstractmethod
    def scores(self, histories: Histories) -> Tensor:
        """``[batch, items]`` float32, higher is better: log-probabilities where the model has them."""

    def arithmetic(self, training: TrainingConfig) -> AbstractContextManager[Any]:
        """What a run answers in that was trained with ``training``: float32, unless a system says otherwise."""
        return nullcontext()

    def task_figures(self, dataset: Dataset, split: Split) -> dict[str, Figures]:
        """By task the figures of what else the model was trained to do."""
        return {}

    @classmethod
    def restore(cls, config: Options, entities: Entities, folder: Path) -> Self:
        """The model that ``folder`` holds, its weights still to be loaded."""
        return cls(config, entities)

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Named arrays that, with config and entities, make the fitted model again."""

    @abstractmethod
    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take over what :meth:`state` gave; raises KeyError, ValueError or RuntimeError where it does not fit."""

    def recommend(self, histories: Histories, k: int = 10, *, mask_seen: bool = True) -> Recommendations:
        """The ``k`` best items of each history, without the history's own unless ``mask_seen`` is off.

        Raises:
            OovrecError: ``k`` is below 1.
        """
        check_count(k)
        return self._best(histories, k, mask_seen)

    def _best(self, histories: Histories, k: int, mask_seen: bool) -> Recommendations:
        """The same from the scores of all items, for some histories of like length at a time."""
        order = np.argsort(histories.lengths, kind="stable")
        items = np.empty((len(order), min(k, len(self.entities.items))), np.int64)
        values = np.empty(items.shape, np.float32)
        for rows, batch in histories.take(order).batches(AT_ONCE):
            scores = self.scores(batch)
            if mask_seen:
                scores[torch.from_numpy(batch.rows), torch.from_numpy(batch.items.astype(np.int64))] = -torch.inf
            best = scores.topk(items.shape[1], dim=1)
            items[order[rows]], values[order[rows]] = best.indices.cpu().numpy(), best.values.float().cpu().numpy()
        return Recommendations(items, values)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` (config and entities' fingerprint in its header), ``items.tsv``, ``tokens/``."""
        self.entities.save(folder)
        header = {"system": self.name, "config": self.config.model_dump_json(), "items": self.entities.fingerprint}
        write_tensors(folder / "model.safetensors", self.state(), header)


class NeuralRecommender(Recommender):
    """A recommender with a torch module, trained by the one loop.

    A subclass builds ``self.module`` in ``__init__`` (its forward takes a batch's tensors by name and
    returns the loss) and gives :meth:`epoch` and :meth:`scores`.
    """

    module: nn.Module

    @abstractmethod
    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        """The batches of one epoch, in order; each is a function that makes its tensors when called."""

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return next(self.module.parameters()).device

    def fit(
        self,
        dataset: Dataset,
        training: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        resume: bool = False,
    ) -> list[EpochLog]:
        self.begin(seed)
        return self.train(self.module, self.epoch, dataset, training, seed=seed, folder=folder, resume=resume)

    def begin(self, seed: int) -> None:
        """New weights: every fit begins anew, from its own seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = type(self)(self.config, self.entities).module

    def train(
        self,
        module: nn.Module,
        batches: Callable[[Dataset, int, np.random.Generator], list[Batch]],
        dataset: Dataset,
        training: TrainingConfig,
        *,
        seed: int,
        folder: Path | None,
        resume: bool,
    ) -> list[EpochLog]:
        """Train ``module`` (the recommender's own, or one around it) on an epoch's ``batches``, as :meth:`fit` says."""

        def validate() -> float:
            return validation_score(self.scores, dataset, users=training.validation_users)

        def epoch(rng: np.random.Generator) -> list[Batch]:
            seen = dataset.thinned(training.skipped, rng) if training.skipped else dataset
            return batches(seen, training.batch_size, rng)

        options = self.config.model_dump(mode="json")
        model = {"system": self.name, **options, "tokens": self.entities.tokens_origin, **self.marks}
        data = dataset.fingerprint
        return train(module, epoch, validate, training, seed=seed, folder=folder, resume=resume, data=data, model=model)

    @property
    def marks(self) -> dict[str, str]:
        """What besides options, tokens and data an interrupted training must find unchanged."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.detach().cpu().numpy() for name, tensor in learnt(self.module).items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        put(self.module, {name: torch.from_numpy(array.copy()) for name, array in state.items()})


def check_count(k: int) -> None:
    """Make sure that lists of ``k`` items can be asked for.

    Raises:
        OovrecError: it is below 1.
    """
    if k < 1:
        raise OovrecError("is below 1", where=f"k = {k}", remedy="ask for at least one item")


def systems() -> dict[str, type[Recommender]]:
    """Every recommender by name: a module ``models/<family>/<name>.py`` holds the class of that name."""
    found = ((name, _system(module)) for name, module in _modules())
    return {name: value for name, value in found if value is not None}


def _modules() -> Iterator[tuple[str, str]]:
    """Name and path of each module that may hold a system; none is imported."""
    for family in FAMILIES:
        package = importlib.import_module(f"oovrec.models.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            yield module.name, f"{package.__name__}.{module.name}"


def _system(module: str) -> type[Recommender] | None:
    """The recommender that bears the name of its ``module``, if that is a system's."""
    for value in vars(importlib.import_module(module)).values():
        ours = isinstance(value, type) and issubclass(value, Recommender)
        if ours and value.__dict__.get("name") == module.rpartition(".")[2]:
            return cast(type[Recommender], value)
    return None


def system(name: str) -> type[Recommender]:
    """The recommender called ``name``; no other is imported.

    Raises:
        OovrecError: there is none; the nearest name is given.
    """
    module = dict(_modules()).get(name)
    found = _system(module) if module else None
    if found is None:
        raise unknown("system", name, systems())
    return found


def configured(name: str, options: dict[str, Any]) -> Options:
    """The options of system ``name``, checked.

    Raises:
        OovrecError: an unknown key or a value out of range.
    """
    config = checked(system(name).Config, options, where="model")
    for key, value in flat(config.model_dump(), "model.").items():
        if isinstance(value, int) and value > MOST:
            raise OovrecError(f"{value} is too large", where=key, remedy=f"give at most {MOST}")
    return config


def load(folder: Path) -> Recommender:
    """The fitted model in ``folder``, on the accelerator where there is one.

    Raises:
        OovrecError: a file is missing, broken or of other data than the rest.
    """
    path = folder / "model.safetensors"
    state, header = read_tensors(path)
    entities = Entities.load(folder)
    if missing := {"system", "config", "items"} - header.keys():
        raise OovrecError(
            f"has no '{min(missing)}' in its header", where=path, remedy="give a run folder made by oovrec"
        )
    if header["items"] != entities.fingerprint:
        remedy = "take both from one run"
        raise OovrecError("was trained on other items than items.tsv lists", where=path, remedy=remedy)
    config = configured(header["system"], json.loads(header["config"]))
    model = system(header["system"]).restore(config, entities, folder)
    try:
        model.load_state(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise OovrecError(
            "does not fit its own config", where=path, remedy="restore the file or train again"
        ) from error
    if isinstance(model, NeuralRecommender) and (device := torch.accelerator.current_accelerator(check_available=True)):
        model.module.to(device)
    return model
