"""What a report shows, as plain data, and how it comes from a run's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oovrec.app.token_facts import Item, TokenFacts, title_of
from oovrec.data.checks import Report
from oovrec.data.dataset import Dataset
from oovrec.evaluation.protocol import Evaluation, Figures, compare, compare_by_days
from oovrec.evaluation.ranks import MISSED
from oovrec.evaluation.results import TokensFrom
from oovrec.tokens.table import Tokens

SHOWN_HISTORY = 8  # newest items of an example user


@dataclass(frozen=True)
class SystemRow:
    """One system's figures.

    Attributes:
        label: its name for people.
        tokens_from: what its tokens were built from; ``none`` without tokens.
        blocks: as :meth:`Evaluation.blocks` gives them.
        lead: what the report's main system has over this one, as :func:`compare` gives it; None for itself.
        tasks, by_days: as in :class:`Evaluation`.
        lead_by_days: ``lead`` by days, as :func:`compare_by_days` gives it; empty for itself, and where nothing was
            held out by time.
    """

    label: str
    tokens_from: TokensFrom
    blocks: Figures
    lead: Figures | None = None
    tasks: dict[str, Figures] = field(default_factory=dict)
    by_days: Figures = field(default_factory=dict)
    lead_by_days: Figures = field(default_factory=dict)

    @classmethod
    def of(
        cls, label: str, tokens_from: TokensFrom, evaluation: Evaluation, main: Evaluation | None = None
    ) -> SystemRow:
        """The row of an evaluation; ``main`` is the main system's, for every row but its own."""
        return cls(
            label,
            tokens_from,
            evaluation.blocks(),
            lead=None if main is None else compare(main, evaluation),
            tasks=evaluation.tasks,
            by_days=evaluation.by_days,
            lead_by_days={} if main is None else compare_by_days(main, evaluation),
        )

    def task_tables(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The tasks' figures for people: rows by task, those under seen wordings beside those under unseen ones."""
        seen = {f"seen_{name}": self.blocks[name] for name in ("raw", "masked")}
        return {task: (seen if task == "sequential" else {}) | rows for task, rows in self.tasks.items()}


@dataclass(frozen=True)
class ExampleUser:
    """A user, what the model was given and what it answered.

    Attributes:
        id: the user's.
        tokens: the user's tokens; '' where the model uses none.
        history: the newest items, oldest first.
        earlier: how many items stand before these.
        target: the held-out item.
        rank: where the target stands among the items that the user had not had; None if it is none of them.
        recommended: the best ten of these.
        hit: the target's place in ``recommended``, from 0; None if it is not there.
    """

    id: str
    tokens: str
    history: list[Item]
    earlier: int
    target: Item
    rank: int | None
    recommended: list[Item]
    hit: int | None


def example_users(
    dataset: Dataset, evaluation: Evaluation, rows: Sequence[int] | np.ndarray, tokens: Tokens | None = None
) -> list[ExampleUser]:
    """The given rows of a test evaluation, masked, for people to read.

    Args:
        tokens: the model's, in the dataset's order; None for models without.
    """
    histories = dataset.histories("test").take(np.asarray(rows))

    def item(index: int) -> Item:
        title = title_of(dataset, index)
        return Item(title, tokens.items.text(index), int(tokens.items.codes[index, 0])) if tokens else Item(title)

    examples = []
    for row, history in zip(rows, histories, strict=True):
        user, target = int(evaluation.users[row]), int(evaluation.targets[row])
        best = [int(index) for index in evaluation.top_masked[row] if index >= 0]
        examples.append(
            ExampleUser(
                id=dataset.users[user],
                tokens=tokens.users.text(user) if tokens and tokens.users else "",
                history=[item(int(index)) for index in history[-SHOWN_HISTORY:]],
                earlier=max(0, len(history) - SHOWN_HISTORY),
                target=item(target),
                rank=int(rank) if (rank := evaluation.masked[row]) != MISSED else None,
                recommended=[item(index) for index in best],
                hit=best.index(target) if target in best else None,
            )
        )
    return examples


@dataclass(frozen=True)
class ReportData:
    """Everything on the page.

    Attributes:
        dataset: as ``data.checks.inspect`` describes it.
        systems: the main system first, then what it is compared with.
        environment: as ``environment.json`` holds it (hardware, versions, seed, commit, data_sha256).
        config: the recipe as it was run, YAML.
        seconds: wall time of the whole run.
        training: the main system's epochs, each a line of ``log.jsonl``.
        validated_on: the candidates of its validation.
        validated_days: of how many days its targets were; 0 for all.
        tokens: how items are named; None where the main system uses no tokens.
        spoken: whether it names items by them, and does not only carry what they stand for.
        examples: users with the main system's recommendations.
        notice: what else a reader must know of what the main system has learnt from.
    """

    dataset: Report
    systems: list[SystemRow]
    environment: dict[str, Any]
    config: str
    seconds: float
    training: list[dict[str, Any]]
    validated_on: str
    tokens: TokenFacts | None
    spoken: bool
    examples: list[ExampleUser]
    notice: str = ""
    validated_days: int = 0

    @property
    def title(self) -> str:
        """The main system and the dataset."""
        return f"{self.systems[0].label} on {self.dataset.name}"
