"""Sets of prompt templates: for each task the wordings to train on and those kept for testing, from YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from oovrec.data.text import home
from oovrec.errors import OovrecError, brief, unknown
from oovrec.files import read_yaml

Task = Literal["sequential", "direct", "rating", "explanation", "review"]
Group = Literal["seen", "unseen"]
TASKS: tuple[Task, ...] = get_args(Task)
GROUPS: tuple[Group, ...] = get_args(Group)
RANKING: tuple[Task, ...] = ("sequential", "direct")  # answered by an item; what every set has
OPTION = "model.templates"  # where a recipe has them
FIELD = re.compile(r"\{ *(\w*) *\}")
NEEDED: dict[Task, tuple[str, ...]] = {
    "sequential": ("user", "history"),
    "direct": ("user",),
    "rating": ("user", "item"),
    "explanation": ("user", "item"),
    "review": ("user", "item", "rating"),
}
POSSIBLE: dict[Task, tuple[str, ...]] = {"rating": ("history",), "explanation": ("history",), "review": ("history",)}


@dataclass(frozen=True)
class Templates:
    """The wordings of some tasks.

    Attributes:
        separator: what stands between two items of a history.
        seen: wordings to train on, by task.
        unseen: wordings kept for testing, by task.
    """

    separator: str
    seen: dict[Task, list[str]]
    unseen: dict[Task, list[str]]

    def of(self, task: Task, group: Group) -> list[str]:
        """One task's wordings."""
        return (self.seen if group == "seen" else self.unseen)[task]

    def to_dict(self) -> dict[str, Any]:
        """The form of a YAML file."""
        form: dict[str, Any] = {"separator": self.separator}
        return form | {task: {group: self.of(task, group) for group in GROUPS} for task in self.seen}

    def texts(self) -> list[str]:
        """Every wording, for learning a vocabulary."""
        groups = (self.seen, self.unseen)
        return [self.separator, *(text for group in groups for wordings in group.values() for text in wordings)]


def is_file(name: str) -> bool:
    """Whether ``name`` means a YAML file, and not a shipped set."""
    return name.endswith((".yaml", ".yml"))


def read_templates(source: str | Mapping[str, Any] = "en", tasks: Iterable[Task] | None = TASKS) -> Templates:
    """The shipped templates called ``source``, or those of a YAML file of the same form, or of what it holds.

    Args:
        tasks: the ones wanted; None for those that are there.

    Raises:
        OovrecError: no such file; not YAML; an unknown task; a wanted one, its wordings or a field of them is
            missing; a field the task does not have.
    """
    path = _path(source) if isinstance(source, str) else None
    form = source if path is None else read_yaml(path, remedy="check the path, or mend the file")
    form, where = form if isinstance(form, Mapping) else {}, path or OPTION
    for key in form:
        if key not in ("separator", *TASKS):
            raise unknown("task", str(key), TASKS, where=where)
    separator = _text(form.get("separator", ", "), "the separator", where)
    wanted = [task for task in TASKS if task in set(form if tasks is None else tasks)]
    groups = [{task: _wordings(form, task, group, where) for task in wanted} for group in GROUPS]
    return Templates(separator, *groups)


def _path(name: str) -> Path:
    if is_file(name):
        return home(name)
    shipped = Path(str(resources.files("oovrec.language") / "templates"))
    if not (path := shipped / f"{name}.yaml").is_file():
        known = unknown("templates", name, [other.stem for other in shipped.glob("*.yaml")])
        raise OovrecError(known.what, where=OPTION, remedy=f"{known.remedy}, or give a YAML file of your own")
    return path


def _wordings(form: Mapping[str, Any], task: Task, group: Group, path: Path | str) -> list[str]:
    part = form.get(task)
    wordings = part.get(group) if isinstance(part, dict) else None
    if not isinstance(wordings, list) or not wordings:
        remedy = "add some" if task in RANKING else f"add some, or set model.tasks.{task} to 0"
        raise OovrecError(f"has no {group} wordings for the task '{task}'", where=path, remedy=remedy)
    texts = [_text(text, f"a {group} wording of the task '{task}'", path) for text in wordings]
    for text in texts:
        _check(text, task, path)
    return texts


def _text(value: Any, what: str, path: Path | str) -> str:
    """``value``, which YAML may have read as something else: ``- After {history}: what?`` is a mapping."""
    if not isinstance(value, str):
        raise OovrecError(f"{what} is no text but {brief(str(value))}", where=path, remedy="put it in quotes")
    return value


def _check(text: str, task: Task, path: Path | str) -> None:
    fields, possible = FIELD.findall(text), POSSIBLE.get(task, ())
    for field in fields:
        if field not in NEEDED[task] + possible:
            raise unknown("field", field, NEEDED[task] + possible, where=f"{path}, the {task} wording '{text}'")
    for field in NEEDED[task]:
        if fields.count(field) != 1:
            raise OovrecError(f"the {task} wording '{text}' needs {{{field}}} exactly once", where=path)
    for field in possible:
        if fields.count(field) > 1:
            raise OovrecError(f"the {task} wording '{text}' has {{{field}}} twice", where=path, remedy="keep one")
