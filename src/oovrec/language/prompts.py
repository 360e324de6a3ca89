"""Prompt templates, tokenised once and spliced with integers from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from oovrec.errors import OovrecError, unknown
from oovrec.files import read_yaml
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

    Args:
        vocabulary: the extended tokenizer.
        templates: the wordings.
        history: how many of the newest items a prompt shows.
    """

    def __init__(self, vocabulary: Vocabulary, templates: Templates, history: int) -> None:
        self.vocabulary, self.templates, self.history = vocabulary, templates, history
        groups = {"seen": templates.seen, "unseen": templates.unseen}
        self.compiled = {
            (task, group): [self._compile(text) for text in wordings[task]]
            for group, wordings in groups.items()
            for task in FIELDS
        }
        between = self._encode(f"{SOMETHING}{templates.separator}{SOMETHING}")
        first, last = np.flatnonzero(between == vocabulary.something)
        self.separator = between[first + 1 : last]
        separators = np.tile(self.separator, (len(vocabulary.items), 1))
        self._spaced_items = np.hstack([vocabulary.items, separators])  # [items, depth + separator]

    def ids(self, user: int, items: np.ndarray, *, task: Task, template: int = 0, group: str = "seen") -> np.ndarray:
        """The prompt's ids ``[length]`` for a user (-1: unknown) after ``items`` (indices, oldest first)."""
        form = self.compiled[task, group][template]
        parts = [form.pieces[0]]
        for field, piece in zip(form.fields, form.pieces[1:], strict=True):
            parts += [self.vocabulary.user_tokens(user) if field == SOMEONE else self._listed(items), piece]
        return np.concatenate(parts)

    def text(self, user: str, items: Sequence[str], *, task: Task, template: int = 0, group: str = "seen") -> str:
        """The same prompt as text, for people and for tests; ``user`` and ``items`` are token strings."""
        wording = (self.templates.seen if group == "seen" else self.templates.unseen)[task][template]
        listed = self.templates.separator.join(items[-self.history :])
        return wording.replace("{user}", user).replace("{history}", listed)

    def _listed(self, items: np.ndarray) -> np.ndarray:
        spaced = self._spaced_items[items[-self.history :]].ravel()
        listed = spaced[: len(spaced) - len(self.separator)]
        return listed[listed != self.vocabulary.end]

    def _compile(self, text: str) -> Compiled:
        names = {self.vocabulary.someone: SOMEONE, self.vocabulary.something: SOMETHING}
        ids = self._encode(text.replace("{user}", SOMEONE).replace("{history}", SOMETHING))
        cuts = np.flatnonzero(np.isin(ids, list(names)))
        edges = zip([-1, *cuts], [*cuts, len(ids)], strict=True)
        return Compiled([ids[left + 1 : right] for left, right in edges], [names[int(ids[cut])] for cut in cuts])

    def _encode(self, text: str) -> np.ndarray:
        return np.asarray(self.vocabulary.tokenizer(text)["input_ids"], np.int64)
