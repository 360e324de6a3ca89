"""Which prompts an epoch trains on: a mixture of tasks, drawn and worded anew each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from oovrec.config import Options
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.prompts import Prompter
from oovrec.language.wordings import RANKING, TASKS, Task
from oovrec.training.windows import POOL

MOST = 1000  # of a weight, and 1 / MOST the least of the unit: with more of it an epoch has no end
WRITTEN: tuple[Task, ...] = ("explanation", "review")  # answered by words
KINDS: tuple[tuple[Task, ...], ...] = (RANKING, *((task,) for task in TASKS if task not in RANKING))


class Tasks(Options):
    """How many prompts of each task an epoch has, relative to the sequential ones (the tasks are P5's).

    Every training interaction with a past is one sequential prompt an epoch; those of other tasks are drawn.

    Attributes:
        sequential: the next item, after a history; the unit of the other weights.
        direct: an item, for a user alone.
        rating: what a user rates an item.
        explanation: the headline of a user's review of an item.
        review: the text of a review with a given rating.
    """

    sequential: float = Field(1.0, ge=1 / MOST, le=MOST)
    direct: float = Field(0.2, ge=0, le=MOST)
    rating: float = Field(0.0, ge=0, le=MOST)
    explanation: float = Field(0.0, ge=0, le=MOST)
    review: float = Field(0.0, ge=0, le=MOST)

    def share(self, task: Task) -> float:
        """Prompts of ``task`` for one sequential prompt."""
        weight: float = getattr(self, task)
        return weight / self.sequential

    def mixed(self) -> list[Task]:
        """The tasks that are trained."""
        return [task for task in TASKS if self.share(task)]


def written_texts(dataset: Dataset, task: Task) -> np.ndarray | None:
    """``[total]`` what users wrote, along ``dataset.full.items``: headlines (explanation) or reviews."""
    return dataset.summaries if task == "explanation" else dataset.reviews


@dataclass(frozen=True)
class Training:
    """The training part, and what it says beside its items.

    Attributes:
        histories: the items.
        ratings: ``[total]`` position of each one's rating in the dataset's scale; None without a scale.
        texts: by task, ``[total]`` what was written about each one; '' where nothing was.
    """

    histories: Histories
    ratings: np.ndarray | None
    texts: dict[Task, np.ndarray]

    @classmethod
    def of(cls, dataset: Dataset) -> Training:
        """That of a dataset."""
        known, ratings = dataset.positions("train"), None
        if dataset.ratings is not None and dataset.scale is not None:
            ratings = np.searchsorted(dataset.scale, dataset.ratings[known])
        texts = {task: written[known] for task in WRITTEN if (written := written_texts(dataset, task)) is not None}
        return cls(dataset.histories("train"), ratings, texts)


@dataclass(frozen=True)
class Samples:
    """Training prompts to be made.

    Attributes:
        task: what answers them; ``sequential`` stands for ``direct`` too.
        rows: ``[n]`` the history of each.
        where: ``[n]`` the target's place in ``Histories.items``.
        users: ``[n]`` who is named; -1 for ``<user>``.
        wordings: ``[n]`` numbers of wordings, as :meth:`Prompter.wordings` gives them.
    """

    task: Task
    rows: np.ndarray
    where: np.ndarray
    users: np.ndarray
    wordings: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray | slice) -> Samples:
        """Some of them."""
        parts = {name: getattr(self, name)[chosen] for name in ("rows", "where", "users", "wordings")}
        return replace(self, **parts)

    def cut(self, size: int) -> list[Samples]:
        """All of them, ``size`` at a time."""
        return [self.take(slice(at, at + size)) for at in range(0, len(self), size)]

    def past(self, training: Training) -> Histories:
        """What of the training histories stands before each target, under the users that are named."""
        begin = training.histories.indptr[self.rows]
        return training.histories.cut(begin, self.where - begin, self.users)


Lengths = Callable[[Samples], np.ndarray]


@dataclass(frozen=True)
class Mixture:
    """Draws the prompts of an epoch.

    Attributes:
        prompter: words them.
        tasks: how many there are of each task.
        unknown_users: share of prompts whose user is not named.
    """

    prompter: Prompter
    tasks: Tasks
    unknown_users: float

    def epoch(self, training: Training, batch_size: int, rng: np.random.Generator, lengths: Lengths) -> list[Samples]:
        """Batches in random order, of prompts of like length with answers of one kind: items, ratings or texts.

        Args:
            lengths: of samples' prompts, ``[n]``.
        """
        batches: list[Samples] = []
        for kind in KINDS:
            if tasks := [task for task in kind if self.tasks.share(task)]:
                for pool in self._kind(tasks, training, rng).cut(POOL * batch_size):
                    batches += pool.take(np.argsort(lengths(pool), kind="stable")).cut(batch_size)
        return [batches[number] for number in rng.permutation(len(batches))]

    def _kind(self, tasks: list[Task], training: Training, rng: np.random.Generator) -> Samples:
        histories = training.histories
        places = [self._places(task, training, rng) for task in tasks]
        wordings = [self._worded(task, at, training, rng) for task, at in zip(tasks, places, strict=True)]
        where = np.concatenate(places)
        rows = histories.rows[where]
        users = np.where(rng.random(len(rows)) < self.unknown_users, -1, histories.users[rows])
        order = rng.permutation(len(rows))
        return Samples(tasks[0], rows, where, users, np.concatenate(wordings)).take(order)

    def _places(self, task: Task, training: Training, rng: np.random.Generator) -> np.ndarray:
        """``[n]`` targets of a task: interactions with a past, for the direct task any."""
        histories = training.histories
        past = np.arange(len(histories.items)) - histories.indptr[histories.rows]
        known = np.flatnonzero(past > 0)
        if task == "sequential":
            return known
        count = int(self.tasks.share(task) * len(known))
        possible = np.arange(len(past)) if task == "direct" else known
        if task in WRITTEN:
            possible = known[training.texts[task][known] != ""] if task in training.texts else known[:0]
            if not len(possible):
                what = f"the data has no texts for the task '{task}'"
                raise OovrecError(what, where=f"model.tasks.{task}", remedy="set it to 0, or give data with reviews")
        return possible[rng.choice(len(possible), count)]

    def _worded(self, task: Task, where: np.ndarray, training: Training, rng: np.random.Generator) -> np.ndarray:
        templates = rng.integers(len(self.prompter.templates.seen[task]), size=len(where))
        ratings = None if training.ratings is None or task != "review" else training.ratings[where]
        return self.prompter.wordings(task, templates, ratings=ratings)
