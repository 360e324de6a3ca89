"""Prompt templates, tokenised once and spliced with integers from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, unknown
from oovrec.files import read_yaml
from oovrec.language.packed import Packed, spliced
from oovrec.language.tokenizer import SOMEONE, SOMETHING, Vocabulary

Task = Literal["sequential", "direct"]
FIELDS = {"sequential": {"{user}", "{history}"}, "direct": {"{user}"}}


@dataclass(frozen=True)
class Templates:
    """The wordings of each task.

    Attributes:
        separator: what stands between two items of a history.
        seen: wordings to train on, by task.
        unseen: wordings kept for testing, by task.
    """

    separator: str
    seen: dict[str, list[str]]
    unseen: dict[str, list[str]]

    def texts(self) -> list[str]:
        """Every wording, for learning a vocabulary."""
        return [
            self.separator,
            *(text for group in (self.seen, self.unseen) for task in group.values() for text in task),
        ]


def read_templates(name: str = "en") -> Templates:
    """The shipped templates called ``name``, or those of a YAML file of the same form.

    Raises:
        OovrecError: no such file; not YAML; a task, its wordings or one of their fields is missing.
    """
    shipped = resources.files("oovrec.language") / "templates"
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(str(shipped / f"{name}.yaml"))
    if not path.is_file() and path.parent == Path(str(shipped)):
        raise unknown("templates", name, [p.stem for p in Path(str(shipped)).glob("*.yaml")])
    form = read_yaml(path)
    for task, fields in FIELDS.items():
        for group in ("seen", "unseen"):
            wordings = form.get(task, {}).get(group) if isinstance(form, dict) else None
            if not wordings:
                raise OovrecError(f"has no {group} wordings for the task '{task}'", where=path, remedy="add some")
            for text in wordings:
                if missing := [field for field in fields if text.count(field) != 1]:
                    raise OovrecError(f"the {task} wording '{text}' needs {missing[0]} exactly once", where=path)
    groups = [{task: list(form[task][group]) for task in FIELDS} for group in ("seen", "unseen")]
    return Templates(str(form.get("separator", ", ")), *groups)


@dataclass(frozen=True)
class Compiled:
    """A wording as integers: fixed ids, and before each but the first of them the name of a field."""

    pieces: list[np.ndarray]
    fields: list[str]


class Prompter:
    """Makes prompts of token ids from indices; equal to encoding the text, without any text.

    Every wording, user and item is a stretch of one pool of ids; a batch of prompts is a table of stretches.

    Args:
        vocabulary: the extended tokenizer.
        templates: the wordings.
        history: how many of the newest items a prompt shows.
    """

    def __init__(self, vocabulary: Vocabulary, templates: Templates, history: int) -> None:
        self.vocabulary, self.templates, self.history = vocabulary, templates, history
        groups = {"seen": templates.seen, "unseen": templates.unseen}
        texts = [(task, group, text) for group, forms in groups.items() for task in FIELDS for text in forms[task]]
        self._first: dict[tuple[str, str], int] = {}
        for number, (task, group, _) in enumerate(texts):
            self._first.setdefault((task, group), number)
        compiled = [self._compile(text) for *_, text in texts]
        between = self._encode(f"{SOMETHING}{templates.separator}{SOMETHING}")
        first, last = np.flatnonzero(between == vocabulary.something)
        self.separator = between[first + 1 : last]
        self._lay(compiled)

    def _lay(self, compiled: list[Compiled]) -> None:
        """The pool, and where each wording's pieces, each user and each item are in it."""
        end, some = self.vocabulary.end, np.array([[self.vocabulary.someone]])
        most = 1 + max(map(len, FIELDS.values()))
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
        fields = [form.fields + [""] * (most - 1 - len(form.fields)) for form in compiled]
        self._fields = np.array(fields)  # [wordings, 2]

    def wording(self, task: Task, template: int = 0, group: str = "seen") -> int:
        """The number of a wording, for :meth:`packed`."""
        return self._first[task, group] + template

    def packed(self, histories: Histories, wordings: np.ndarray) -> Packed:
        """Prompts for users (-1: unknown) after their histories, in the given wordings ``[n]``."""
        shown = histories.last(self.history)
        listed = self._listed(shown)
        pool = np.concatenate([self._pool, listed.ids])
        history = np.stack([len(self._pool) + np.cumsum(listed.lengths) - listed.lengths, listed.lengths], axis=1)
        known = histories.users if self.vocabulary.users is not None else np.full(len(histories), -1)
        user = self._users[1 + known]
        pieces, fields = self._pieces[wordings], self._fields[wordings]
        spans = [pieces[:, 0]]
        for place in range(fields.shape[1]):
            field = fields[:, place, None]
            spans += [np.where(field == SOMEONE, user, np.where(field == SOMETHING, history, 0)), pieces[:, place + 1]]
        table = np.stack(spans, axis=1)  # [n, parts, 2]
        return Packed(spliced(pool, table[..., 0], table[..., 1]), table[..., 1].sum(axis=1))

    def ids(self, user: int, items: np.ndarray, *, task: Task, template: int = 0, group: str = "seen") -> np.ndarray:
        """The prompt's ids ``[length]`` for a user (-1: unknown) after ``items`` (indices, oldest first)."""
        return self.packed(Histories.of([items], [user]), np.array([self.wording(task, template, group)])).ids

    def text(self, user: str, items: Sequence[str], *, task: Task, template: int = 0, group: str = "seen") -> str:
        """The same prompt as text, for people and for tests; ``user`` and ``items`` are token strings."""
        wording = (self.templates.seen if group == "seen" else self.templates.unseen)[task][template]
        listed = self.templates.separator.join(items[-self.history :])
        return wording.replace("{user}", user).replace("{history}", listed)

    def _listed(self, histories: Histories) -> Packed:
        """Each history's items, with separators between them."""
        starts, lengths = self._items[histories.items].T
        last = histories.indptr[1:][histories.lengths > 0] - 1
        lengths = lengths.copy()
        lengths[last] -= len(self.separator)
        upto = np.concatenate([[0], np.cumsum(lengths)])[histories.indptr]
        return Packed(spliced(self._pool, starts, lengths), np.diff(upto))

    def _compile(self, text: str) -> Compiled:
        names = {self.vocabulary.someone: SOMEONE, self.vocabulary.something: SOMETHING}
        ids = self._encode(text.replace("{user}", SOMEONE).replace("{history}", SOMETHING))
        cuts = np.flatnonzero(np.isin(ids, list(names)))
        edges = zip([-1, *cuts], [*cuts, len(ids)], strict=True)
        return Compiled([ids[left + 1 : right] for left, right in edges], [names[int(ids[cut])] for cut in cuts])

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self.vocabulary.tokenizer(text)["input_ids"], np.int64)
