"""Prompt templates, tokenised once and spliced with integers from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from oovrec.data.histories import Histories
from oovrec.language.packed import Packed, spliced
from oovrec.language.tokenizer import SOMETHING, Vocabulary
from oovrec.language.wordings import FIELD, GROUPS, Group, Task, Templates

SPLICED = ("", "user", "history", "item")  # fields in the order of their numbers; the first is none


@dataclass(frozen=True)
class Compiled:
    """A wording as integers: fixed ids, and before each but the first of them the number of a field."""

    pieces: list[np.ndarray]
    fields: list[int]


class Prompter:
    """Makes prompts of token ids from indices; equal to encoding the text, without any text.

    Every wording, user and item is a stretch of one pool of ids; a batch of prompts is a table of stretches.
    A rating is text and stands next to other text, so a wording that shows one is compiled for each rating there is.

    Args:
        vocabulary: the extended tokenizer.
        templates: the wordings.
        history: how many of the newest items a prompt shows.
        ratings: every rating there is, as text.
    """

    def __init__(self, vocabulary: Vocabulary, templates: Templates, history: int, ratings: Sequence[str] = ()) -> None:
        self.vocabulary, self.templates, self.history, self.ratings = vocabulary, templates, history, ratings
        self._first: dict[tuple[Task, Group], int] = {}
        compiled: list[Compiled] = []
        for group, task in product(GROUPS, templates.seen):
            wordings = templates.of(task, group)
            self._first[task, group] = len(compiled)
            rated = any("{rating}" in text for text in wordings)
            compiled += [
                self._compile(text.replace("{rating}", rating))
                for rating, text in product(ratings if rated else [""], wordings)
            ]
        between = self._encode(f"{SOMETHING}{templates.separator}{SOMETHING}")
        first, last = np.flatnonzero(between == vocabulary.something)
        self.separator = between[first + 1 : last]
        self._lay(compiled)

    def _lay(self, compiled: list[Compiled]) -> None:
        """The pool, and where each wording's pieces, each user and each item are in it."""
        end, some = self.vocabulary.end, np.array([[self.vocabulary.someone]])
        most = max(len(form.pieces) for form in compiled)
        nothing = np.empty(0, np.int64)
        pieces = [piece for form in compiled for piece in form.pieces + [nothing] * (most - len(form.pieces))]
        users = self.vocabulary.users if self.vocabulary.users is not None else np.empty((0, 1), np.int64)
        separators = np.tile(self.separator, (len(self.vocabulary.items), 1))
        spaced = np.hstack([self.vocabulary.items, separators])
        tables = [some, users, spaced]
        parts = [*pieces, *(table[table != end] for table in tables)]
        lengths = np.concatenate([[len(p) for p in pieces], *((table != end).sum(axis=1) for table in tables)])
        starts = np.cumsum(lengths) - lengths
        self._pool = np.concatenate(parts)
        spans = np.stack([starts, lengths], axis=1).astype(np.int64)
        edges = np.cumsum([len(pieces), 1 + len(users)])
        laid, self._users, self._items = np.split(spans, edges)  # each ``[n, 2]``: start, length; user -1 comes first
        self._pieces = laid.reshape(len(compiled), most, 2)
        fields = [form.fields + [0] * (most - 1 - len(form.fields)) for form in compiled]
        self._fields = np.array(fields, np.int64).reshape(len(compiled), most - 1)

    def wordings(
        self, task: Task, templates: np.ndarray, group: Group = "seen", ratings: np.ndarray | None = None
    ) -> np.ndarray:
        """``[n]`` numbers, for :meth:`packed`, of a task's wordings ``[n]``; ratings ``[n]`` are positions."""
        first, count = self._first[task, group], len(self.templates.of(task, group))
        return first + templates + (0 if ratings is None else ratings * count)

    def wording(self, task: Task, template: int = 0, group: Group = "seen", rating: int = 0) -> int:
        """The number of one wording."""
        return int(self.wordings(task, np.array(template), group, np.array(rating)))

    def packed(self, histories: Histories, wordings: np.ndarray, items: np.ndarray | None = None) -> Packed:
        """Prompts for users (-1: unknown) after their histories, in the given wordings ``[n]``.

        Args:
            items: ``[n]`` what is asked about; None where no wording has an item.
        """
        shown = histories.last(self.history)
        listed = self._listed(shown)
        pool = np.concatenate([self._pool, listed.ids])
        known = histories.users if self.vocabulary.users is not None else np.full(len(histories), -1)
        spans = np.zeros((len(histories), len(SPLICED), 2), np.int64)  # of each field
        spans[:, 1] = self._users[1 + known]
        spans[:, 2] = np.stack([len(self._pool) + np.cumsum(listed.lengths) - listed.lengths, listed.lengths], axis=1)
        if items is not None:
            spans[:, 3] = self._items[items] - [0, len(self.separator)]
        pieces, fields = self._pieces[wordings], self._fields[wordings]
        table = np.empty((len(histories), 2 * pieces.shape[1] - 1, 2), np.int64)  # [n, parts, 2]
        table[:, 0::2] = pieces
        table[:, 1::2] = np.take_along_axis(spans, fields[..., None], axis=1)
        return Packed(spliced(pool, table[..., 0], table[..., 1]), table[..., 1].sum(axis=1))

    def named(self, users: np.ndarray) -> Packed:
        """How users ``[n]`` (-1: unknown) are written."""
        known = users if self.vocabulary.users is not None else np.full(len(users), -1)
        starts, lengths = self._users[1 + known].T
        return Packed(spliced(self._pool, starts, lengths), lengths)

    def ids(
        self,
        user: int,
        items: np.ndarray,
        *,
        task: Task,
        template: int = 0,
        group: Group = "seen",
        item: int = 0,
        rating: int = 0,
    ) -> np.ndarray:
        """The prompt's ids ``[length]`` for a user (-1: unknown) after ``items`` (indices, oldest first)."""
        wording = self.wording(task, template, group, rating)
        return self.packed(Histories.of([items], [user]), np.array([wording]), np.array([item])).ids

    def text(
        self,
        user: str,
        items: Sequence[str],
        *,
        task: Task,
        template: int = 0,
        group: Group = "seen",
        item: str = "",
        rating: str = "",
    ) -> str:
        """The same prompt as text, for people and for tests; ``user``, ``items`` and ``item`` are token strings."""
        listed = self.templates.separator.join(items[-self.history :])
        values = {"user": user, "history": listed, "item": item, "rating": rating}
        return FIELD.sub(lambda field: values[field[1]], self.templates.of(task, group)[template])

    def _listed(self, histories: Histories) -> Packed:
        """Each history's items, with separators between them."""
        starts, lengths = self._items[histories.items].T
        last = histories.indptr[1:][histories.lengths > 0] - 1
        lengths = lengths.copy()
        lengths[last] -= len(self.separator)
        upto = np.concatenate([[0], np.cumsum(lengths)])[histories.indptr]
        return Packed(spliced(self._pool, starts, lengths), np.diff(upto))

    def _compile(self, text: str) -> Compiled:
        """``text`` encoded with a token in place of each field, and cut there."""
        ids = self._encode(FIELD.sub(SOMETHING, text))
        cuts = np.flatnonzero(ids == self.vocabulary.something)
        edges = zip([-1, *cuts], [*cuts, len(ids)], strict=True)
        fields = [SPLICED.index(field) for field in FIELD.findall(text)]
        return Compiled([ids[left + 1 : right] for left, right in edges], fields)

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self.vocabulary.tokenizer(text)["input_ids"], np.int64)
