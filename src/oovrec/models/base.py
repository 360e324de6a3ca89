"""The contract that every recommender keeps, from popularity to a LLaMA."""

from __future__ import annotations

import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from oovrec.config import Options, checked, flat
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, check_whole, unknown, within
from oovrec.evaluation.protocol import AT_ONCE, Figures, Split, validation_score
from oovrec.evaluation.ranks import Products, check_shape, ranks
from oovrec.files import read_tensors, write_tensors
from oovrec.models.entities import Entities
from oovrec.plugins import check_alone, check_config, imported, outside
from oovrec.training.checkpoint import learnt, put
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch, EpochLog, train

TokenUse = Literal["none", "possible", "needed"]
MOST = 2**31 - 1  # of a whole number among the options
FAMILIES = ("sequential", "generative")
OUTSIDE = "oovrec.systems"  # entry points of other packages: a system's name and its module


@dataclass(frozen=True)
class Recommendations:
    """The best items of each history, best first.

    Attributes:
        items: ``[batch, k]`` item indices.
        scores: ``[batch, k]`` their scores; −inf where there are no more that can be recommended, whatever the index.
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
    token_use: ClassVar[TokenUse] = "none"

    def __init__(self, config: Options, entities: Entities) -> None:
        self.config, self.entities = config, entities

    @classmethod  # noqa: B027, for many systems there is nothing to check
    def check(cls, config: Options) -> None:
        """Raise OovrecError where no model can be made of ``config``, as far as that shows before there are tokens."""

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

    def ranked(self, histories: Histories) -> Tensor | Products:
        """What :meth:`scores` gives, or the factors of it: for whoever ranks the catalogue and keeps no scores."""
        return self.scores(histories)

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
            check_shape(scored := self.ranked(batch), len(batch), len(self.entities.items))
            found = ranks(scored, np.zeros(len(batch), np.int64), batch, k)
            items[order[rows]], values[order[rows]] = found.tops[int(mask_seen)], found.values[int(mask_seen)]
        return Recommendations(items, values)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` (config and entities' fingerprints in its header), ``items.tsv``, ``tokens/``."""
        self.entities.save(folder)
        header = {"system": self.name, "config": self.config.model_dump_json(), "items": self.entities.fingerprint}
        header["tokens"] = self.entities.tokens.method if self.entities.tokens else ""
        header["naming"] = self.entities.naming
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
        held = dataset.within(training.validate_days).sampled(training.validation_users)

        def validate() -> float:
            return validation_score(self.ranked, held, training.validate_on)

        def epoch(rng: np.random.Generator) -> list[Batch]:
            seen = dataset.thinned(training.skipped, rng) if training.skipped else dataset
            return batches(seen, training.batch_size, rng)

        figure = validate if dataset.until == "validation" else None
        marks = {"system": self.name, "tokens": self.entities.tokens_origin, **self.marks}
        return train(
            module,
            epoch,
            figure,
            training,
            seed=seed,
            folder=folder,
            resume=resume,
            data=dataset.fingerprint,
            model=self.config,
            marks=marks,
        )

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
        OovrecError: it is below 1, or no whole number.
    """
    check_whole(k, "k", "ask for at least one item")


def systems() -> dict[str, type[Recommender]]:
    """Every recommender by name, but for what is broken of other packages.

    A module ``models/<family>/<name>.py`` holds the class of that name; other packages say by an entry point of the
    group ``oovrec.systems`` which of their modules does.
    """
    found = own_systems()
    for name in sorted(outside(OUTSIDE).keys() - found.keys()):
        with suppress(OovrecError):
            found[name] = system(name)
    return found


def own_systems() -> dict[str, type[Recommender]]:
    """Every recommender of oovrec itself, by name."""
    found = ((name, _system(name, importlib.import_module(module))) for name, module in _own_modules())
    return {name: value for name, value in found if value is not None}


def modules() -> dict[str, str]:
    """Path of each module that may hold a system, by its name; none is imported."""
    return outside(OUTSIDE) | dict(_own_modules())


def _own_modules() -> Iterator[tuple[str, str]]:
    for family in FAMILIES:
        package = importlib.import_module(f"oovrec.models.{family}")
        for module in pkgutil.iter_modules(package.__path__):
            yield module.name, f"{package.__name__}.{module.name}"


def _system(name: str, module: ModuleType) -> type[Recommender] | None:
    """The recommender that bears the ``name``, if its module holds one."""
    for value in vars(module).values():
        ours = isinstance(value, type) and issubclass(value, Recommender)
        if ours and value.__dict__.get("name") == name:
            return cast(type[Recommender], value)
    return None


def system(name: str) -> type[Recommender]:
    """The recommender called ``name``; no other is imported.

    Raises:
        OovrecError: there is none, and the nearest name is given; or it is another package's and broken.
    """
    if (own := _own(name)) is not None:
        return own
    if (module := imported(OUTSIDE, name)) is None:
        raise unknown("system", name, {*own_systems(), *outside(OUTSIDE)})
    return _whole(name, module)


def check_only(name: str) -> None:
    """Make sure that no other package has a system of the ``name``, where oovrec has one.

    Raises:
        OovrecError: one does.
    """
    if _own(name) is not None:
        check_alone(OUTSIDE, name)


def _own(name: str) -> type[Recommender] | None:
    module = dict(_own_modules()).get(name)
    return _system(name, importlib.import_module(module)) if module else None


def _whole(name: str, module: ModuleType) -> type[Recommender]:
    """The system in another package's ``module``, which has all that it needs."""
    if (found := _system(name, module)) is None:
        remedy = "give its class that name, or rename the entry point"
        what = f"has no recommender with name = '{name}', as its entry point is called"
        raise OovrecError(what, where=module.__name__, remedy=remedy)
    where = f"{module.__name__}.{found.__name__}"
    check_config(found, where)
    if lacking := sorted(found.__abstractmethods__):
        raise OovrecError(f"does not define {', '.join(lacking)}", where=where, remedy="add what every system needs")
    if found.token_use not in get_args(TokenUse):
        remedy = "set it to 'none', 'possible' or 'needed'"
        raise OovrecError(f"has token_use = {found.token_use!r}", where=where, remedy=remedy)
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


def _tokens(method: str) -> str:
    return f"'{method}' tokens" if method else "no tokens"


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
    entities.check_tokens()
    there = entities.tokens.method if entities.tokens else ""
    if (wanted := header.get("tokens", there)) != there:
        what = f"was trained with {_tokens(wanted)}, and the folder has {_tokens(there)}"
        raise OovrecError(what, where=path, remedy="restore what is missing or train again")
    if header.get("naming", entities.naming) != entities.naming:
        raise OovrecError(
            "was trained with other tokens than tokens/ holds", where=path, remedy="take both from one run"
        )
    config = configured(header["system"], json.loads(header["config"]))
    with within(folder):
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
