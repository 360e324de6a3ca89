"""How items and users are named, as plain data for pages: clusters, their neighbours, their places on a map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array

from oovrec.data.dataset import Dataset
from oovrec.tokens.rules import END
from oovrec.tokens.table import Tokens, TokenTable

TITLES = 4  # example titles a cluster
SAMPLE = 12  # items of a cluster, from the best to the least known
NEAREST = 3
MOST_COMPARED = 2000  # clusters; of more, neither a map nor neighbours would be read
FLAT = 1e-9  # a second axis with less of the variance than this is noise

PlacedBy = Literal["centroids", "users"]


@dataclass(frozen=True)
class Item:
    """An item as a person reads it.

    Attributes:
        title: its text, or its id where it has none.
        tokens: its tokens as they stand in a prompt; '' where the model uses none.
        cluster: number of its first token, by which it is coloured; None without tokens.
        taken: its training interactions; None where that is of no interest.
    """

    title: str
    tokens: str = ""
    cluster: int | None = None
    taken: int | None = None


@dataclass(frozen=True)
class Neighbour:
    """A cluster near another: its number and token, and the cosine of the two."""

    number: int
    token: str
    cosine: float


@dataclass(frozen=True)
class Cluster:
    """The items that share a first token.

    Attributes:
        number: the token's place in the vocabulary.
        token: its text.
        size: how many items.
        titles: the most popular ones, best known first.
        position: its place on the map; None where it has none.
        share: of the training interactions.
        nearest: the clusters most like it, the nearest first.
        sample: some of its items, from the best to the least known.
    """

    number: int
    token: str
    size: int
    titles: list[str]
    position: tuple[float, float] | None = None
    share: float = 0.0
    nearest: tuple[Neighbour, ...] = ()
    sample: tuple[Item, ...] = ()


@dataclass(frozen=True)
class TokenFacts:
    """How items and users are named.

    Attributes:
        method: the scheme.
        built_from: as :attr:`Tokens.seen <oovrec.tokens.table.Tokens.seen>` says it.
        depth: tokens an item, of the longest name.
        item_words, user_words: tokens in the two vocabularies; no ``user_words`` where users have none.
        words_by_level: different tokens at each place of an item's name.
        clusters: largest first; none where no two items share their first token.
        explained: share of the variance that the map keeps; None without a map.
        placed_by: what clusters are compared and placed by: the scheme's ``centroids``, or the ``users`` who took
            their items in the training part; None where they are not compared.
    """

    method: str
    built_from: str
    depth: int
    item_words: int
    user_words: int | None
    words_by_level: list[int]
    clusters: list[Cluster]
    explained: float | None = None
    placed_by: PlacedBy | None = None

    @classmethod
    def of(cls, tokens: Tokens, dataset: Dataset) -> TokenFacts:
        """The facts of tokens whose items stand in the dataset's order."""
        table = tokens.items
        levels = [sum(table.vocabulary[code] != END for code in level) for level in table.levels]
        users = None if tokens.users is None else _words(tokens.users)
        names = (tokens.method, tokens.seen, table.depth, _words(table), users, levels)
        if levels[0] == len(table):
            return cls(*names, clusters=[])
        compared = _Compared.of(table, dataset)
        clusters = sorted(_clusters(table, dataset, compared), key=lambda cluster: -cluster.size)
        return cls(*names, clusters, compared.explained, compared.by)


def best_known(table: TokenTable, dataset: Dataset, most: int) -> list[Item]:
    """The items most often taken in the training part, best known first."""
    counts = _taken(dataset)
    return [_item(table, dataset, index, counts) for index in np.argsort(-counts, kind="stable")[:most]]


def title_of(dataset: Dataset, index: int) -> str:
    """An item's text, or its id where it has none."""
    return (dataset.titles[index] if dataset.titles else "") or dataset.items[index]


def _words(table: TokenTable) -> int:
    return sum(token != END for token in table.vocabulary)


def _taken(dataset: Dataset) -> np.ndarray:
    return np.bincount(dataset.histories("train").items, minlength=len(dataset.items))


def _item(table: TokenTable, dataset: Dataset, index: int, counts: np.ndarray) -> Item:
    return Item(title_of(dataset, index), table.text(index), int(table.codes[index, 0]), int(counts[index]))


def _clusters(table: TokenTable, dataset: Dataset, compared: _Compared) -> list[Cluster]:
    counts, first = _taken(dataset), table.codes[:, 0]
    order = np.lexsort((-counts, first))  # by cluster, the best known first
    ends = [*np.unique(first[order], return_index=True)[1], len(order)]
    clusters = []
    for start, end in pairwise(ends):
        members, code = order[start:end], int(first[order[start]])
        chosen = np.unique(np.linspace(0, len(members) - 1, SAMPLE).round().astype(int))
        clusters.append(
            Cluster(
                number=code,
                token=table.vocabulary[code],
                size=len(members),
                titles=[title_of(dataset, index) for index in members[:TITLES]],
                position=compared.places.get(code),
                share=float(counts[members].sum() / max(counts.sum(), 1)),
                nearest=compared.nearest.get(code, ()),
                sample=tuple(_item(table, dataset, index, counts) for index in members[chosen]),
            )
        )
    return clusters


@dataclass(frozen=True)
class _Compared:
    """Clusters set beside each other, by code; empty where there is nothing to compare them by."""

    places: dict[int, tuple[float, float]]
    nearest: dict[int, tuple[Neighbour, ...]]
    explained: float | None
    by: PlacedBy | None

    @classmethod
    def of(cls, table: TokenTable, dataset: Dataset) -> _Compared:
        codes, products, by = _products(table, dataset)
        if not 2 <= len(codes) <= MOST_COMPARED:
            return cls({}, {}, None, None)
        lengths = np.sqrt(np.diag(products))
        places, explained = _plane(products)
        return cls(
            {int(code): (float(x), float(y)) for code, (x, y) in zip(codes, places, strict=False)},
            _nearest(table, codes, products / np.outer(lengths, lengths)),
            explained,
            by,
        )


def _products(table: TokenTable, dataset: Dataset) -> tuple[np.ndarray, np.ndarray, PlacedBy]:
    """First-level codes that have a vector, ``[k]``, and the ``[k, k]`` inner products of their vectors.

    A vector is the code's centroid, or, where the scheme has none, how often each user took the cluster's items in
    the training part, brought to length 1.
    """
    codes = table.levels[0]
    if table.centroids is not None and table.centroids[codes].any():
        points = table.centroids[codes].astype(np.float64)
        met = points.any(axis=1)
        return codes[met], points[met] @ points[met].T, "centroids"
    training = dataset.histories("train")
    rows = np.searchsorted(codes, table.codes[training.items, 0])
    taken = csr_array((np.ones(len(rows)), (rows, training.rows)), (len(codes), len(training)))
    taken.sum_duplicates()
    met = np.flatnonzero(np.bincount(rows, minlength=len(codes)))
    if len(met) > MOST_COMPARED:
        return codes[met], np.empty((0, 0)), "users"
    products = (taken[met] @ taken[met].T).toarray()
    lengths = np.sqrt(np.diag(products))
    return codes[met], products / np.outer(lengths, lengths), "users"


def _plane(products: np.ndarray) -> tuple[np.ndarray, float | None]:
    """``[k, 2]`` principal coordinates of points known by their inner products, and the share of variance kept.

    Without rows where the points lie on a line, or there are fewer than three.
    """
    if len(products) < 3:
        return np.empty((0, 2)), None
    means = products.mean(axis=0)
    centred = products - means - means[:, None] + means.mean()
    last = len(centred) - 1
    values, vectors = eigh(centred, subset_by_index=[last - 1, last])
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[1] <= FLAT * np.trace(centred):
        return np.empty((0, 2)), None
    plane = vectors * np.sqrt(values)
    plane *= np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1, 1)  # signs of eigenvectors are arbitrary
    return plane, float(values.sum() / np.trace(centred))


def _nearest(table: TokenTable, codes: np.ndarray, cosines: np.ndarray) -> dict[int, tuple[Neighbour, ...]]:
    others = cosines - 2 * np.eye(len(cosines))
    best = np.argsort(-others, axis=1, kind="stable")[:, :NEAREST]
    return {
        int(code): tuple(
            Neighbour(int(codes[other]), table.vocabulary[codes[other]], float(cosines[row, other]))
            for other in best[row]
            if others[row, other] > 0
        )
        for row, code in enumerate(codes)
    }
