"""A dataset as models see it: indexed histories, what of them is held out, item texts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError

Split = Literal["train", "validation", "test"]
HoldOut = Literal["last", "time"]
Until = Literal["validation", "test", "end"]
# Newest items that the split's histories lack, of leave-one-out.
LACKING: dict[Split, int] = {"train": 2, "validation": 2, "test": 1}
PERIODS = (0.8, 0.9)  # shares of the interactions that are older than what validates, and than what tests
LEARNT = {"test": "what validates is learnt from too", "end": "all is learnt from, and nothing is held out"}
DAY = 86_400  # seconds
MOST_RATINGS = 20  # different values; more are no scale


@dataclass(frozen=True)
class Dataset:
    """Histories of ``users`` over ``items``, and what of them is held out.

    Leave-one-out: a user's last item is the test target, the one before it the validation target, the rest the
    training part (P5, S3-Rec, SASRec). Users with fewer than three items are training only.

    By time (``held_from``): all is training that was before the first moment; a user's first item from there on, and
    before the second, is the validation target, that from the second on the test target (the global temporal split
    of Meng et al., RecSys 2020). Users without training part are not evaluated, nor are those with nothing held out.

    Attributes:
        name: a short name for tables and pages.
        users: ``[users]`` ids; the position is the user's index.
        items: ``[items]`` ids; the position is the item's index.
        full: all interactions, row ``u`` is user ``u``.
        times: ``[total]`` unix seconds along ``full.items``; None where unknown.
        microseconds: ``[total]`` how long after ``times``; None where all are whole seconds.
        ratings: ``[total]`` along ``full.items``; None where the log has none.
        summaries: ``[total]`` headlines of reviews, '' where there is none; None where the log has none.
        reviews: ``[total]`` the like, their texts.
        titles: ``[items]`` text of each item ('' where it has none); None where the data has no texts.
        attributes: ``[items]`` tuples of attribute numbers; None where the data has none.
        source: where it was read from.
        sha256: of the source files' bytes.
        notes: what reading changed (k-core removals, dropped columns), a sentence each.
        early: days of a split, held out by time, whose targets are evaluated; 0 takes all.
        sample: how many users are evaluated, drawn at random, always the same ones; 0 takes all.
        skipped: ``[total]`` bool along ``full.items``, interactions that the training part lacks; None for none.
        tie_seed: with which each user's items of the same time were put in random order; None leaves the log's order.
        held_from: unix seconds from which on items are held out for validation, and for the test; None leaves one out.
        until: what the training part ends before: each user's ``validation`` target, its ``test`` target, or nothing
            (``end``). A target that is learnt from is none.
        reading: what ``load_dataset`` was told beside ``source`` and ``tie_seed``, to read the same again.
    """

    name: str
    users: list[str]
    items: list[str]
    full: Histories
    times: np.ndarray | None = None
    microseconds: np.ndarray | None = None
    ratings: np.ndarray | None = None
    summaries: np.ndarray | None = None
    reviews: np.ndarray | None = None
    titles: list[str] | None = None
    attributes: list[tuple[int, ...]] | None = None
    source: str = ""
    sha256: str = ""
    notes: list[str] = field(default_factory=list)
    early: int = 0
    sample: int = 0
    skipped: np.ndarray | None = None
    tie_seed: int | None = None
    held_from: tuple[int, int] | None = None
    until: Until = "validation"
    reading: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Item id to index."""
        return {item: index for index, item in enumerate(self.items)}

    @cached_property
    def user_index(self) -> dict[str, int]:
        """User id to index."""
        return {user: index for index, user in enumerate(self.users)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, histories, times and what is held out: equal where the same is held out of the same."""
        digest = hashlib.sha256("\n".join([*self.users, "", *self.items]).encode())
        for array in (self.full.indptr, self.full.items, self.times):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(b"" if self.held_from is None else str(self.held_from).encode())
        digest.update(b"" if self.until == "validation" else self.until.encode())
        return digest.hexdigest()

    @cached_property
    def described(self) -> str:
        """SHA-256 over all else that is said of items and interactions; '' where nothing is."""
        texts = [None if written is None else written.tolist() for written in (self.summaries, self.reviews)]
        said = [self.titles, self.attributes, *texts]
        if self.ratings is None and not any(said):
            return ""
        digest = hashlib.sha256(json.dumps(said).encode())
        digest.update(b"" if self.ratings is None else np.ascontiguousarray(self.ratings).tobytes())
        return digest.hexdigest()

    @property
    def moments(self) -> list[np.ndarray]:
        """Columns ``[total]`` that together say when each interaction was, the finest first; empty where unknown."""
        return [column for column in (self.microseconds, self.times) if column is not None]

    @property
    def hold_out(self) -> HoldOut:
        """How targets are held out: each user's ``last`` items, or by ``time``."""
        return "last" if self.held_from is None else "time"

    @property
    def periods(self) -> list[str]:
        """When the moments of ``held_from`` were: dates in UTC, with the time of day where that is not midnight."""
        moments = (str(np.datetime64(moment, "s")) for moment in self.held_from or ())
        return [moment.removesuffix("T00:00:00").replace("T", " ") for moment in moments]

    def evaluated_users(self, split: Split) -> np.ndarray:
        """Indices of the users that have a target, with ``early`` an early one; with ``sample``, of so many of them."""
        known = self._lengths[split]
        end = self._lengths["test"] if split == "validation" else self.full.lengths
        users = np.flatnonzero((self._held_out["train"] > 0) & (known < end))  # whatever is learnt
        if self.early:
            users = users[self._days(split, self.full.indptr[users] + known[users]) < self.early]
        if not 0 < self.sample < len(users):
            return users
        return np.sort(np.random.default_rng(0).choice(users, self.sample, replace=False))

    def sampled(self, users: int) -> Dataset:
        """The same data, of which ``users`` users are evaluated; itself for 0, or where it has no more."""
        most = max(len(self.evaluated_users(split)) for split in ("validation", "test"))
        return replace(self, sample=users) if 0 < users < most else self

    def within(self, days: int) -> Dataset:
        """The same data, of which users with a target in the first ``days`` of a split are evaluated.

        Itself for 0 days, and where nothing is left to validate by.

        Raises:
            OovrecError: nothing is held out by time, or for nobody so early.
        """
        if not days or self.until != "validation":
            return self
        if self.held_from is None:
            remedy = "leave training.validate_days out, or give a data file with hold_out: time"
            raise OovrecError("nothing is held out by time, so no first days are", where=self.name, remedy=remedy)
        early = replace(self, early=days)
        if not len(early.evaluated_users("validation")):
            what = f"nobody has a target within {days:,} days of the training part"
            raise OovrecError(what, where=self.name, remedy="give training.validate_days more, or leave it out")
        return early

    def thinned(self, share: float, rng: np.random.Generator) -> Dataset:
        """The same data, where the training part of about every second user lacks a ``share`` of its items.

        So an item is also learnt from what came before the item before it. What is held out stays.
        """
        users = rng.random(len(self.users)) < 0.5
        return replace(self, skipped=users[self.full.rows] & (rng.random(len(self.full.items)) < share))

    def with_ties_shuffled(self, seed: int) -> Dataset:
        """The same interactions, each user's of the same time in random order: what is held out changes too.

        Where times are days, files mostly have a day's items in the order of their ids, which a model can learn.

        Raises:
            OovrecError: there are no times.
        """
        if self.times is None:
            what = "the log has no times, so no ties"
            raise OovrecError(what, where=self.source or self.name, remedy="leave tie_seed out")
        chance = np.random.default_rng(seed).random(len(self.times))
        order = np.lexsort((chance, *self.moments, self.full.rows))
        note = f"each user's items of the same time are in random order (seed {seed})"

        def moved(column: np.ndarray | None) -> np.ndarray | None:
            return None if column is None else column[order]

        return replace(
            self,
            full=replace(self.full, items=self.full.items[order]),
            ratings=moved(self.ratings),
            summaries=moved(self.summaries),
            reviews=moved(self.reviews),
            notes=[*self.notes, note],
            tie_seed=seed,
        )

    def held_out_by_time(self) -> Dataset:
        """The same interactions, of which the newest tenth is held out for the test and the tenth before it for
        validation, so that nothing is learnt from what came after a target.

        Raises:
            OovrecError: there are no times.
        """
        if self.times is None:
            what = "the log has no times, so nothing can be held out by time"
            raise OovrecError(what, where=self.source or self.name, remedy="leave hold_out out")
        validated, tested = (int(moment) for moment in np.quantile(self.times, PERIODS, method="higher"))
        held = replace(self, held_from=(validated, tested))
        new = int((held._held_out["train"] == 0).sum())
        began, ended = held.periods
        note = f"held out by time: each user's first item from {began} on validates, that from {ended} on tests"
        late = f"; users who came after the training part are not evaluated ({new:,})" if new else ""
        return replace(held, notes=[*self.notes, note + late])

    def learnt_until(self, until: Until) -> Dataset:
        """The same data, whose training part ends before ``until``; those who are tested stay the same users."""
        if until == self.until:
            return self
        notes = [note for note in self.notes if note not in LEARNT.values()]
        return replace(self, until=until, notes=[*notes, *([LEARNT[until]] if until in LEARNT else [])])

    def histories(self, split: Split) -> Histories:
        """What is known before the split's targets; for ``train``, every user's training part.

        Rows of ``validation`` and ``test`` are :meth:`evaluated_users`. The test histories hold what was held
        out for validation.
        """
        return self._known(self.full, split)

    def positions(self, split: Split) -> np.ndarray:
        """``[total]`` where each item of :meth:`histories` stands in ``full.items``, ``times`` and ``ratings``."""
        return self._known(replace(self.full, items=np.arange(len(self.full.items))), split).items

    def _known(self, full: Histories, split: Split) -> Histories:
        known = self._lengths[split]
        parts = full.cut(full.indptr[:-1], known, full.users)
        if split != "train":
            return parts.take(self.evaluated_users(split))
        if self.skipped is None:
            return parts
        return parts.where(~replace(full, items=self.skipped).cut(full.indptr[:-1], known, full.users).items)

    @cached_property
    def _lengths(self) -> dict[Split, np.ndarray]:
        """``[users]`` by split, how many of each user's items are known before its target, if there is one."""
        if self.until == "validation":
            return self._held_out
        learnt = self._held_out["test"] if self.until == "test" else self.full.lengths
        return {split: np.maximum(known, learnt) for split, known in self._held_out.items()}

    @cached_property
    def _held_out(self) -> dict[Split, np.ndarray]:
        """As :meth:`_lengths`, of a training part that ends before validation."""
        lengths = self.full.lengths
        if self.held_from is None or self.times is None:
            return {split: lengths - np.where(lengths < 3, 0, lacking) for split, lacking in LACKING.items()}
        validated, tested = (
            np.bincount(self.full.rows[self.times < moment], minlength=len(lengths)) for moment in self.held_from
        )
        return {"train": validated, "validation": validated, "test": tested}

    @cached_property
    def scale(self) -> np.ndarray | None:
        """``[values]`` the ratings of the training part, ascending; None where there are none or too many."""
        if self.ratings is None:
            return None
        values = np.unique(self.ratings[replace(self, skipped=None).positions("train")])
        return values if len(values) <= MOST_RATINGS else None

    def targets(self, split: Split) -> np.ndarray:
        """``[evaluated users]`` int64: the held-out item of each row of :meth:`histories`."""
        return self.full.items[self.target_positions(split)].astype(np.int64)

    def later_day(self, split: Split) -> np.ndarray | None:
        """``[evaluated users]`` bool: the target is of a later UTC day than the item before it; None without times."""
        if self.times is None:
            return None
        where = self.target_positions(split)
        return self.times[where] // DAY > self.times[where - 1] // DAY

    def days(self, split: Split) -> np.ndarray | None:
        """``[evaluated users]`` whole days from the split's beginning to the target; None but by time."""
        return None if self.held_from is None else self._days(split, self.target_positions(split))

    def _days(self, split: Split, positions: np.ndarray) -> np.ndarray:
        if self.held_from is None or self.times is None:
            raise ValueError("nothing is held out by time")
        return (self.times[positions] - self.held_from[split == "test"]) // DAY

    def target_positions(self, split: Split) -> np.ndarray:
        """``[evaluated users]`` where the targets stand in ``full.items``, ``times`` and ``ratings``."""
        if split == "train":
            raise ValueError("the training part has no single target")
        users = self.evaluated_users(split)
        return self.full.indptr[users] + self._lengths[split][users]
