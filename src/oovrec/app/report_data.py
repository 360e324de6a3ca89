"""What a report shows, as plain data, and how it comes from a run's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oovrec.data.checks import Report
from oovrec.data.dataset import Dataset
from oovrec.evaluation.protocol import Evaluation, compare
from oovrec.evaluation.results import TokensFrom
from oovrec.tokens.table import BuiltFrom, Tokens, TokenTable

TITLES = 4  # example titles a cluster
SHOWN_HISTORY = 8  # newest items of an example user


@dataclass(frozen=True)
class Item:
    """An item as a person reads it.

    Attributes:
        title: its text, or its id where it has none.
        tokens: its tokens as they stand in a prompt; '' where the model uses none.
        cluster: number of its first token, by which it is coloured; None without tokens.
    """

    title: str
    tokens: str = ""
    cluster: int | None = None


@dataclass(frozen=True)
class Cluster:
    """The items that share a first token.

    Attributes:
        number: the token's place in the vocabulary.
        token: its text.
        size: how many items.
        titles: the most popular ones, best known first.
        position: the centroid on the map; None where the scheme has no centroids.
    """

    number: int
    token: str
    size: int
    titles: list[str]
    position: tuple[float, float] | None = None


@dataclass(frozen=True)
class TokenFacts:
    """How items and users are named.

    Attributes:
        method: the scheme.
        built_from: ``train``, or ``all`` where held-out interactions were seen.
        depth: tokens an item.
        item_words, user_words: tokens in the two vocabularies; no ``user_words`` where users have none.
        clusters: largest first.
        explained: share of the centroids' variance that the map keeps; None without a map.
    """

    method: str
    built_from: BuiltFrom
    depth: int
    item_words: int
    user_words: int | None
    clusters: list[Cluster]
    explained: float | None = None

    @classmethod
    def of(cls, tokens: Tokens, dataset: Dataset) -> TokenFacts:
        """The facts of tokens whose items stand in the dataset's order."""
        table, counts = tokens.items, np.bincount(dataset.histories("train").items, minlength=len(dataset.items))
        first, by_count = table.codes[:, 0], np.argsort(-counts, kind="stable")
        places, explained = _map(table)
        clusters = []
        for code in table.levels[0]:
            members = by_count[first[by_count] == code]
            titles = [_title(dataset, item) for item in members[:TITLES]]
            clusters.append(Cluster(int(code), table.vocabulary[code], len(members), titles, places.get(int(code))))
        clusters.sort(key=lambda cluster: -cluster.size)
        users = None if tokens.users is None else len(tokens.users.vocabulary)
        return cls(tokens.method, tokens.built_from, table.depth, len(table.vocabulary), users, clusters, explained)


def _map(table: TokenTable) -> tuple[dict[int, tuple[float, float]], float | None]:
    """First-level centroids on their two principal axes, by code, and the share of variance these keep."""
    if table.centroids is None:
        return {}, None
    codes = np.array([code for code in table.levels[0] if table.centroids[code].any()], np.int64)
    if len(codes) < 3 or table.centroids.shape[1] < 2:
        return {}, None
    points = table.centroids[codes].astype(np.float64)
    left, scales, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    plane = left[:, :2] * scales[:2]
    plane *= np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1, 1)  # signs of an SVD are arbitrary
    places = {int(code): (float(x), float(y)) for code, (x, y) in zip(codes, plane, strict=True)}
    return places, float((scales[:2] ** 2).sum() / max((scales**2).sum(), 1e-12))


@dataclass(frozen=True)
class SystemRow:
    """One system's figures.

    Attributes:
        label: its name for people.
        tokens_from: what its tokens were built from; ``none`` without tokens.
        blocks: as :meth:`Evaluation.blocks` gives them.
        lead: what the report's main system has over this one, as :func:`compare` gives it; None for itself.
    """

    label: str
    tokens_from: TokensFrom
    blocks: dict[str, dict[str, Any]]
    lead: dict[str, dict[str, Any]] | None = None

    @classmethod
    def of(
        cls, label: str, tokens_from: TokensFrom, evaluation: Evaluation, main: Evaluation | None = None
    ) -> SystemRow:
        """The row of an evaluation; ``main`` is the main system's, for every row but its own."""
        return cls(label, tokens_from, evaluation.blocks(), None if main is None else compare(main, evaluation))


@dataclass(frozen=True)
class ExampleUser:
    """A user, what the model was given and what it answered.

    Attributes:
        id: the user's.
        tokens: the user's tokens; '' where the model uses none.
        history: the newest items, oldest first.
        earlier: how many items stand before these.
        target: the held-out item.
        rank: where the target stands among the items that the user had not had.
        recommended: the best ten of these.
        hit: the target's place in ``recommended``, from 0; None if it is not there.
    """

    id: str
    tokens: str
    history: list[Item]
    earlier: int
    target: Item
    rank: int
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
        title = _title(dataset, index)
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
                rank=int(evaluation.masked[row]),
                recommended=[item(index) for index in best],
                hit=best.index(target) if target in best else None,
            )
        )
    return examples


def _title(dataset: Dataset, index: int) -> str:
    return (dataset.titles[index] if dataset.titles else "") or dataset.items[index]


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
        tokens: how items are named; None where no system uses tokens.
        examples: users with the main system's recommendations.
    """

    dataset: Report
    systems: list[SystemRow]
    environment: dict[str, Any]
    config: str
    seconds: float
    training: list[dict[str, Any]]
    tokens: TokenFacts | None
    examples: list[ExampleUser]

    @property
    def title(self) -> str:
        """The main system and the dataset."""
        return f"{self.systems[0].label} on {self.dataset.name}"
