"""Runs: what a training leaves behind in a folder, and what can be done with it.

``config.yaml`` (recipe and data), ``environment.json``, ``model.safetensors``, ``items.tsv``, ``users.txt``,
``tokens/``, ``backbone/`` (of generative models), ``log.jsonl``, ``metrics.json``, ``ranks.safetensors``,
``report.html``, ``*.png``; ``references/<recipe>/`` holds runs of the same form.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from oovrec.app.recipe import Recipe, parse_recipe
from oovrec.app.source import Source
from oovrec.config import checked, flat
from oovrec.data.catalog import CATALOG
from oovrec.data.columns import Columns
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.text import numbered_lines
from oovrec.errors import OovrecError, listed, unknown
from oovrec.evaluation.protocol import Evaluation
from oovrec.evaluation.results import TokensFrom
from oovrec.files import read_json, read_text, read_yaml
from oovrec.models.base import Recommendations, Recommender, load, system
from oovrec.tokens.build import check_options
from oovrec.training.checkpoint import EpochLog


@dataclass(frozen=True)
class Recommended:
    """One item of a list.

    Attributes:
        rank: from 1.
        id: the item's.
        title: its text; '' where it has none.
        score: higher is better; a log-probability where the model has them.
        tokens: its name as it stands in a prompt; '' where the model uses none.
    """

    rank: int
    id: str
    title: str
    score: float
    tokens: str = ""


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        recipe: how it was trained.
        data: what it was trained on.
    """

    folder: Path
    recipe: Recipe
    data: Source

    @cached_property
    def model(self) -> Recommender:
        """The trained model.

        Raises:
            OovrecError: the training is not finished, a file is broken, or the model is not what ``config.yaml`` says.
        """
        self.check_finished()
        model = load(self.folder)
        self._check_is_of(model)
        return model

    def check_finished(self) -> None:
        """Make sure that there is a trained model.

        Raises:
            OovrecError: there is none yet.
        """
        if not (self.folder / "model.safetensors").exists():
            remedy = "finish it by its own command with --resume"
            raise OovrecError("its training is not finished", where=self.folder, remedy=remedy)

    def _check_is_of(self, model: Recommender) -> None:
        """Make sure that what goes by the recipe's name in tables is what the recipe says."""
        tokens, wanted = model.entities.tokens, self.recipe.tokens
        found = flat({"system": model.name, "model": model.config.model_dump(mode="json")})
        told = flat({"system": self.recipe.system, "model": self.recipe.model})
        found |= {"tokens.method": tokens and tokens.method, "tokens.from": tokens and tokens.built_from}
        told |= {"tokens.method": wanted and wanted.method, "tokens.from": wanted and wanted.built_from}
        key = next((key for key in told if told[key] != found.get(key)), None)
        if key is not None:
            what = f"says {key} = {told[key]}, and the model beside it was trained with {found.get(key)}"
            raise OovrecError(what, where=self.folder / "config.yaml", remedy="restore the file or train again")

    def dataset(self, data: Dataset | str | None = None) -> Dataset:
        """The data it was trained on; items that were added since are in the catalogue and in no history.

        Args:
            data: the dataset, already read, or where it lies now, if not where it was.

        Raises:
            OovrecError: it is not there, or is not the same.
        """
        count = sum(self.added.values())
        if isinstance(data, Dataset):
            data = data.learnt_until("validation")  # which the run's source is read as
            if count and data.items[-count:] == self.model.entities.items[-count:]:
                self.data.verified(replace(data, items=data.items[:-count]))
                return data.learnt_until(self.recipe.until)
            found = self.data.verified(data)
        else:
            if data is None and self.data.source not in CATALOG and not os.access(self.data.source, os.R_OK):
                remedy = "say where it lies now by --data"
                raise OovrecError("the run's data cannot be read there", where=self.data.source, remedy=remedy)
            found = (self.data if data is None else self.data.moved(data)).load()
        return (self._with_added(found) if count else found).learnt_until(self.recipe.until)

    @cached_property
    def added(self) -> dict[str, int]:
        """How many items were named after the training, by what told where they belong; {} for none."""
        counts = self._tokens_told.get("added", {})
        if not isinstance(counts, dict) or not all(isinstance(count, int) for count in counts.values()):
            raise self._untold()
        return counts

    @property
    def common(self) -> str:
        """What runs have in common that differ in their seed alone: the recipe, and which items were added.

        A scheme's options are those that its tokens were built with, given in the recipe or not.
        """
        recipe = self.recipe
        if recipe.tokens is not None and isinstance(options := self._tokens_told.get("config"), dict):
            with suppress(OovrecError):  # of a scheme that is not installed here
                options = check_options(recipe.tokens.method, options, where="tokens").model_dump()
            recipe = recipe.model_copy(update={"tokens": recipe.tokens.model_copy(update={"options": options})})
        return f"{recipe.settings_hash} {self.added}"

    @cached_property
    def _tokens_told(self) -> dict[str, Any]:
        """What ``tokens.json`` says; nothing where there is none."""
        path = self.folder / "tokens" / "tokens.json"
        about = read_json(path) if path.exists() else {}
        if not isinstance(about, dict):
            raise self._untold()
        return about

    def _untold(self) -> OovrecError:
        where, remedy = self.folder / "tokens" / "tokens.json", "restore the file or train again"
        return OovrecError("does not say what tokens it is of", where=where, remedy=remedy)

    @property
    def tokens_from(self) -> TokensFrom:
        """``train`` or ``all``; ``none`` for systems without tokens."""
        return "none" if self.recipe.tokens is None else self.recipe.tokens.built_from

    def tokens_from_in(self, evaluation: Evaluation) -> TokensFrom:
        """:attr:`tokens_from` as a test has it: all that a scheme built tokens from came before what is later.

        What imported tokens have seen nobody knows.
        """
        if evaluation.hold_out != "later":
            return self.tokens_from
        tokens = self.model.entities.tokens
        return self.tokens_from if tokens is None or tokens.given else "train"

    @property
    def speaks(self) -> bool:
        """Whether the model names items by tokens; one without a vocabulary at most carries what they stand for."""
        return system(self.recipe.system).token_use == "needed"

    def arithmetic(self) -> AbstractContextManager[Any]:
        """What the model answers in: a language model as in its training and validation, any other in float32."""
        return self.model.arithmetic(self.recipe.training)

    @property
    def label(self) -> str:
        """The system for tables: ``SASRec``, ``META ID (Llama)``, ``SASRec with META vectors``.

        With what a pretrained model is called (``META ID (Llama, Qwen3-0.6B)``), and the marks of a retrained one and
        of items that were added.
        """
        name, tokens = system(self.recipe.system).__name__, self.recipe.tokens
        if backbone := self.recipe.model.get("backbone"):
            name = f"{name}, {Path(backbone).name}"
        count = sum(self.added.values())
        label = name
        if tokens is not None:
            method = tokens.method.upper()
            label = f"{method} ID ({name})" if self.speaks else f"{name} with {method} vectors"
        label = f"{label}, retrained" if self.recipe.retrained else label
        return f"{label} + {count:,} new items" if count else label

    def add_items(
        self,
        items: str | Path | None,
        out: str | Path,
        *,
        log: str | Path | None = None,
        columns: Columns | None = None,
    ) -> Run:
        """A run whose model also names new items; see :func:`oovrec.app.additions.add_items`."""
        from oovrec.app.additions import add_items

        return add_items(self, items, out, log=log, columns=columns)[0]

    def batch(
        self,
        out: str | Path,
        *,
        k: int = 10,
        log: str | Path | None = None,
        columns: Columns | None = None,
        data: str | None = None,
        mask_seen: bool = True,
    ) -> Path:
        """The ``k`` best items of everybody, in a file; see :func:`oovrec.app.batch.batch`."""
        from oovrec.app.batch import batch

        return batch(self, out, k=k, log=log, columns=columns, data=data, mask_seen=mask_seen)

    def evaluate_later(self, log: str | Path, data: Dataset | str | None = None, users: int = 0) -> Evaluation:
        """How well it does on what came after its log; see :func:`oovrec.app.later.evaluate_later`."""
        from oovrec.app.later import evaluate_later

        return evaluate_later(self, log, data, users)

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of its ``log.jsonl``, each an :class:`~oovrec.training.checkpoint.EpochLog`'s values."""
        path = self.folder / "log.jsonl"
        lines = numbered_lines(read_text(path)) if path.exists() else ()
        return [_epoch(line, f"{path}, line {number}") for number, line in lines]

    def recommend(
        self,
        *,
        user: str | int | None = None,
        history: Iterable[str | int] | None = None,
        k: int = 10,
        data: Dataset | str | None = None,
        mask_seen: bool = True,
        skip_unknown: bool = False,
    ) -> list[Recommended]:
        """The ``k`` best items that the history lacks, for a known user or after a history given by hand.

        Ids are strings; a number is taken for the string it is written as.

        Args:
            user: an id; everything the user is known to have taken is the history. Needs the dataset.
            history: item ids, oldest first; a list, not one string. Needs nothing but the run folder.
            k: how many; at least 1.
            data: the dataset, or where it lies now.
            mask_seen: leave the history's own items out.
            skip_unknown: go by those of the history's items that the run knows, if there are any.

        Raises:
            OovrecError: neither or both of user and history; an unknown id; a history that is no list; a ``k`` below 1.
        """
        dataset = self.dataset(data) if user is not None and history is None else None
        known = self.histories(user, history, dataset, skip_unknown)
        with self.arithmetic():
            return self.named(self.model.recommend(known, k, mask_seen=mask_seen))[0]

    def histories(
        self,
        user: str | int | None,
        history: Iterable[str | int] | None,
        dataset: Dataset | None,
        skip_unknown: bool = False,
    ) -> Histories:
        """What :meth:`recommend` asks the model with, one history; arguments and errors as there.

        Args:
            dataset: as :meth:`dataset` gives it; a history by hand needs none.
        """
        if user is not None and history is None and dataset is not None:
            return self._history_of(str(user), dataset)
        if history is not None and user is None:
            return self._history(history, skip_unknown)
        raise OovrecError("give a user or a history, one of the two")

    def named(self, best: Recommendations) -> list[list[Recommended]]:
        """The lists that a model made, for people; without items that cannot be recommended."""
        entities = self.model.entities
        titles = entities.titles or [""] * len(entities.items)
        tokens = entities.tokens.items if entities.tokens and self.speaks else None

        def row(rank: int, item: int, score: float) -> Recommended:
            return Recommended(rank, entities.items[item], titles[item], score, tokens.text(item) if tokens else "")

        lists = (zip(*pair, strict=True) for pair in zip(best.items.tolist(), best.scores.tolist(), strict=True))
        return [[row(rank, *pair) for rank, pair in enumerate(pairs, 1) if pair[1] > -math.inf] for pairs in lists]

    def _with_added(self, dataset: Dataset) -> Dataset:
        entities = self.model.entities
        return replace(dataset, items=entities.items, titles=entities.titles, attributes=entities.attributes)

    def _history_of(self, user: str, dataset: Dataset) -> Histories:
        if user not in dataset.user_index:
            raise self._unknown("user", user, dataset.users, where=dataset.name)
        return dataset.full.take(slice(dataset.user_index[user], dataset.user_index[user] + 1))

    def _history(self, history: Iterable[str | int], skip_unknown: bool) -> Histories:
        items = [str(item) for item in listed(history, "item ids", where="history")]
        if not items:
            raise OovrecError("the history is empty", remedy="give at least one item id")
        index = self.model.entities.item_index
        known = [index[item] for item in items if item in index]
        if skip_unknown and not known:
            what = "the run knows none of its items"
            remedy = "; ".join(filter(None, ["give one that it knows", self.data.left_out]))
            raise OovrecError(what, where="history", remedy=remedy)
        if len(known) < len(items) and not skip_unknown:
            raise self._unknown("item", next(item for item in items if item not in index), index, where="history")
        return Histories.of([known])

    def _unknown(self, kind: str, name: str, choices: Collection[str], *, where: object) -> OovrecError:
        """As :func:`oovrec.errors.unknown`; a name may also be missing because the k-core lacks it."""
        error = unknown(kind, name, choices, where=where)
        return OovrecError(error.what, where=where, remedy="; ".join(filter(None, [error.remedy, self.data.left_out])))


def _epoch(line: str, where: str) -> dict[str, Any]:
    try:
        return asdict(EpochLog(**json.loads(line)))
    except (TypeError, ValueError) as error:
        raise OovrecError("is no epoch of a training", where=where, remedy="remove the line or train again") from error


def load_run(folder: str | Path) -> Run:
    """The run that ``folder`` holds.

    Raises:
        OovrecError: it holds none, or its ``config.yaml`` is broken.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise OovrecError("holds no run", where=folder, remedy="give a folder made by 'oovrec run' or 'oovrec train'")
    values = read_yaml(path, remedy="restore the file or train again")
    if not isinstance(values, dict) or not isinstance(data := values.pop("data", None), dict):
        raise OovrecError("has no 'data' section", where=path, remedy="restore the file or train again")
    columns = checked(Columns, data.get("columns") or {}, where=f"{path}, data.columns")
    return Run(
        Path(folder),
        parse_recipe(values, str(path)),
        checked(Source, {**data, "columns": columns}, where=f"{path}, data"),
    )
