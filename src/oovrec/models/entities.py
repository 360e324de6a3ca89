"""What a model speaks about: users, items and their tokens, kept beside its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.files import read_json, read_text, write_text
from oovrec.tokens.table import Tokens

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
        tokens: their OOV tokens; None for models that have none.
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

    @cached_property
    def naming(self) -> str:
        """SHA-256 over everybody's tokens in order, and over what they were built from; '' without tokens."""
        if self.tokens is None:
            return ""
        digest = hashlib.sha256(self.tokens.built_from.encode())
        for table in (self.tokens.items, self.tokens.users):
            if table is not None:
                digest.update("\n".join(table.vocabulary).encode())
                digest.update(np.ascontiguousarray(table.codes, np.int32).tobytes())
        return digest.hexdigest()

    @property
    def tokens_origin(self) -> dict[str, Any] | None:
        """How the tokens were made, which with the data says what they are."""
        if self.tokens is None:
            return None
        return {key: value for key, value in self.tokens.summary().items() if key != "vocabulary"}

    def check_tokens(self) -> None:
        """Make sure that the tokens are of these items and users, in their order.

        Raises:
            OovrecError: they are not.
        """
        if self.tokens is None:
            return
        for table, ids, listed in ((self.tokens.items, self.items, "items"), (self.tokens.users, self.users, "users")):
            if table is not None and table.ids != ids:
                what = f"names other {listed} than the run's, or in another order"
                raise OovrecError(what, where=table.file, remedy="restore the file or train again")

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
