"""The one table that every reader makes: who took which item, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.files import sha256


@dataclass(frozen=True)
class Interactions:
    """An interaction log.

    Attributes:
        frame: columns ``user`` and ``item`` (strings), and where known ``time`` (int64 unix seconds)
            and ``rating`` (float64), ``summary`` and ``review`` (strings, '' for none); one row an interaction.
            ``microseconds`` (int64) after ``time`` order what is of one second. Without ``time`` a user's rows stand in
            time order.
        titles: item id to text; None where the log has no texts.
        attributes: item id to attribute numbers (from 1); None where the log has none.
        source: where it was read from.
        sha256: of the source files' bytes.
        notes: what reading changed, a sentence each.
    """

    frame: pl.DataFrame
    titles: dict[str, str] | None = None
    attributes: dict[str, tuple[int, ...]] | None = None
    source: str = ""
    sha256: str = ""
    notes: list[str] = field(default_factory=list)

    def read_from(self, source: Path, *files: Path) -> Interactions:
        """The same log with its origin recorded: the path that was asked for and the files that were read."""
        return replace(self, source=str(source), sha256=sha256(*files))

    def k_core(self, k: int) -> Interactions:
        """The largest part in which every user and every item has at least ``k`` interactions.

        Removing a user may leave an item with too few, and the other way round, so both are removed in
        turn until nothing changes. The result does not depend on the order of removal.
        """
        users, items = _codes(self.frame["user"])[0], _codes(self.frame["item"])[0]
        kept = np.arange(len(users))
        while True:
            enough = (_counts(users[kept]) >= k) & (_counts(items[kept]) >= k)
            if enough.all():
                break
            kept = kept[enough]
        if len(kept) == len(users):
            return self
        gone = [len(np.unique(codes)) - len(np.unique(codes[kept])) for codes in (users, items)]
        rows = f"{len(users) - len(kept):,} of {len(users):,}"
        note = f"{k}-core removed users: {gone[0]:,}, items: {gone[1]:,}, interactions: {rows}"
        return replace(self, frame=self.frame[kept], notes=[*self.notes, note])

    def dataset(self, name: str) -> Dataset:
        """Histories in time order; users and items are numbered as they first appear in the log.

        Interactions of one user at the same time keep the log's order.
        """
        users, user_ids = _codes(self.frame["user"])
        items, item_ids = _codes(self.frame["item"])
        times = self._column("time")
        microseconds = self._column("microseconds")
        order = np.lexsort([key for key in (microseconds, times, users) if key is not None])
        indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(user_ids)))])
        titles, attributes = self.titles, self.attributes
        ratings, summaries, reviews = (self._column(name) for name in ("rating", "summary", "review"))
        return Dataset(
            name=name,
            users=user_ids,
            items=item_ids,
            full=Histories(indptr.astype(np.int64), items[order].astype(np.int32), np.arange(len(user_ids))),
            times=None if times is None else times[order],
            microseconds=None if microseconds is None else microseconds[order],
            ratings=None if ratings is None else ratings[order],
            summaries=None if summaries is None else summaries[order],
            reviews=None if reviews is None else reviews[order],
            titles=None if titles is None else [" ".join(titles.get(item, "").split()) for item in item_ids],
            attributes=None if attributes is None else [attributes.get(item, ()) for item in item_ids],
            source=self.source,
            sha256=self.sha256,
            notes=self.notes,
        )

    def _column(self, name: str) -> np.ndarray | None:
        return self.frame[name].to_numpy() if name in self.frame.columns else None


def _codes(ids: pl.Series) -> tuple[np.ndarray, list[str]]:
    """``[rows]`` numbers of the ids in order of first appearance, and the distinct ids in that order."""
    distinct = ids.unique(maintain_order=True)
    return ids.cast(pl.Enum(distinct)).to_physical().to_numpy().astype(np.int64), distinct.to_list()


def _counts(codes: np.ndarray) -> np.ndarray:
    """``[rows]`` how often each row's code occurs."""
    return np.asarray(np.bincount(codes)[codes])


def number_attributes(values: dict[str, list[tuple[str, str]]]) -> dict[str, tuple[int, ...]]:
    """Item id to attribute numbers, from (kind, value) pairs; equal pairs share a number, the first one is 1."""
    numbers: dict[tuple[str, str], int] = {}
    return {
        item: tuple(numbers.setdefault(pair, len(numbers) + 1) for pair in dict.fromkeys(pairs))
        for item, pairs in values.items()
    }
