"""References for an audit: tokens of the same shape, known to be clean, to have seen everything, or made of texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.tokens.build import first_met
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.evidence import before_probes, text_vectors
from oovrec.tokens.geometry import unit
from oovrec.tokens.quality import clusters_of
from oovrec.tokens.skipgram import SkipGramConfig, embed
from oovrec.tokens.table import TokenTable
from oovrec.tokens.walks import Graph

Kind = Literal["clean", "leaky", "texts"]
SMALL = 150_000  # interactions up to which skip-grams are trained in full
FULL = SkipGramConfig()
BRIEF = SkipGramConfig(dimensions=48, epochs=1)
LARGEST = 2  # groups a level that references have at most: entities / LARGEST


@dataclass(frozen=True)
class Shape:
    """What a table of tokens says of its entities, without the names.

    Attributes:
        levels: ``[n]`` group of each entity by its first token, its first two, …; levels that put all together, or
            no two, are left out, and deeper ones that put hardly any two. Where every entity has a token of its own,
            groups of like vectors; none left if tokens have none.
        places: ``[n]`` place of each entity when the tuples are sorted, numbers as numbers.
    """

    levels: list[np.ndarray]
    places: np.ndarray

    @classmethod
    def of(cls, table: TokenTable) -> Shape:
        """The shape of ``table``."""
        levels: list[np.ndarray] = []
        for depth in range(1, table.depth):
            groups = np.unique(table.codes[:, :depth], axis=0, return_inverse=True)[1].reshape(-1)
            count = int(groups.max()) + 1
            known = bool(levels) and count == int(levels[-1].max()) + 1
            most = len(table) // LARGEST if levels else len(table) - 1
            if 1 < count <= most and not known:
                levels.append(groups)
        if table.stands_alone:
            levels.append(clusters_of(table))
        return cls(levels, places(table))

    @property
    def counts(self) -> tuple[int, ...]:
        """Groups a level."""
        return tuple(int(groups.max()) + 1 for groups in self.levels)


def places(table: TokenTable, level: int | None = None) -> np.ndarray:
    """``[n]`` place of each entity in the natural order of its tuple, or of its token of one ``level``."""
    ranks = np.empty(len(table.vocabulary), np.int64)
    ranks[sorted(range(len(ranks)), key=lambda code: _natural(table.vocabulary[code]))] = np.arange(len(ranks))
    values = ranks[table.codes if level is None else table.codes[:, [level]]]
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _natural(token: str) -> tuple[str, int, str]:
    digits = re.search(r"\d+", token)
    return (re.sub(r"\d+", "", token), int(digits.group()) if digits else -1, token)


@dataclass(frozen=True)
class Pair:
    """Shapes of item tokens and, where there are any, of user tokens."""

    items: Shape
    users: Shape | None


class References:
    """Makes references on a dataset; embeddings are learnt once and clustered for every shape.

    Args:
        count: references of each kind.
        done: called with the number of skip-gram runs finished, for a progress bar.
    """

    def __init__(self, dataset: Dataset, seed: int, count: int, done: Callable[[int], None] = lambda _: None) -> None:
        self.dataset, self.count, self._done = dataset, count, done
        self.config = FULL if len(dataset.full.items) <= SMALL else BRIEF
        self._seeds = np.random.SeedSequence(seed).generate_state(4 * count).tolist()
        self._embedded: dict[tuple[str, int], np.ndarray] = {}

    @cached_property
    def texts(self) -> np.ndarray | None:
        """``[items, d]``; None where the data has none."""
        return text_vectors(self.dataset)

    def base(self) -> np.ndarray:
        """``[users + items, d]`` embeddings learnt without the probes, of several runs side by side."""
        graph = Graph.of(before_probes(self.dataset), len(self.dataset.items))
        seeds = self._seeds[3 * self.count : 4 * self.count]
        runs = []
        for seed in seeds:
            runs.append(unit(embed(graph, self.config, seed)))
            self._done(1)
        return np.concatenate(runs, axis=1)

    def vectors(self, kind: Kind, run: int) -> np.ndarray | None:
        """``[users + items, d]`` what reference ``run`` of ``kind`` is clustered from; None for texts without texts."""
        if kind == "texts":
            return self._of_texts if run == 0 else None
        if (kind, run) not in self._embedded:
            histories = self.dataset.histories("train") if kind == "clean" else self.dataset.full
            seed = self._seeds[run + (self.count if kind == "leaky" else 0)]
            self._embedded[kind, run] = embed(Graph.of(histories, len(self.dataset.items)), self.config, seed)
            self._done(1)
        return self._embedded[kind, run]

    @cached_property
    def _of_texts(self) -> np.ndarray | None:
        """Items by their texts, users by the mean of their training items'."""
        if self.texts is None:
            return None
        training = self.dataset.histories("train")
        users = np.zeros((len(self.dataset.users), self.texts.shape[1]), np.float32)
        np.add.at(users, training.rows, self.texts[training.items])
        return np.concatenate([users, self.texts])

    def like(self, given: Pair, kind: Kind, run: int) -> Pair | None:
        """Reference ``run`` of the shape of ``given``; None where there is no such reference."""
        users = len(self.dataset.users)
        seed = self._seeds[2 * self.count + run]
        wanted = bool(given.items.levels) or bool(given.users and given.users.levels)
        vectors = self.vectors(kind, run) if wanted else None
        if kind == "texts" and vectors is None:
            return None
        if given.items.levels:
            assert vectors is not None
            items = Shape(_nested(vectors[users:], given.items.counts, seed), np.arange(len(self.dataset.items)))
        else:
            items = Shape([], self._numbered(kind, run))
        if given.users is None or not given.users.levels:
            return Pair(items, None)
        assert vectors is not None
        groups = _nested(vectors[:users], given.users.counts[:1], seed)
        return Pair(items, Shape(groups, np.arange(users)))

    def _numbered(self, kind: Kind, run: int) -> np.ndarray:
        """Places of items numbered as they are first met: by users in file order, or for later runs shuffled.

        Only leaky ones meet held-out items in time; an order made of texts is left out, training's stands for it.
        """
        histories = self.dataset.full if kind == "leaky" else self.dataset.histories("train")
        order = np.arange(len(histories))
        if run:
            np.random.default_rng(self._seeds[2 * self.count + run]).shuffle(order)
        met = first_met(histories.take(order))
        ranked = np.concatenate([met, np.setdiff1d(np.arange(len(self.dataset.items)), met)])
        return np.argsort(ranked).astype(np.int64)


def _nested(vectors: np.ndarray, counts: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Clusters, clusters within them, …, ``counts`` in all at each level; zero vectors form one more at each."""
    known = np.linalg.norm(vectors, axis=1) > 0
    groups = np.zeros(len(vectors), np.int64)
    levels = []
    for count in counts:
        groups = _divided(vectors, groups, known, min(count, len(vectors) // LARGEST), seed)
        levels.append(groups)
    return levels


def _divided(vectors: np.ndarray, groups: np.ndarray, known: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Each group divided in proportion to its size, into about ``count`` groups in all."""
    finer = np.zeros_like(groups)
    next_free, total = 0, int(known.sum())
    for group in np.unique(groups[known]):
        members = np.flatnonzero((groups == group) & known)
        parts = int(np.clip(round(count * len(members) / total), 1, len(members)))
        labels = cosine_kmeans(vectors[members], parts, seed)[0] if parts > 1 else np.zeros(len(members), np.int64)
        finer[members] = next_free + labels
        next_free += parts
    finer[~known] = next_free
    return np.unique(finer, return_inverse=True)[1].reshape(-1)
