"""Names for new items of a model that is not trained again.

A new item joins the cluster that stands out in its surroundings and takes there the first number that is free, which
the model knows from larger clusters. What surrounds it is told by the interactions seen so far (the known items before
and after it in histories) or by words (the known items whose titles and attributes share some with it). Clusters are
descended token by token, the coarsest first, so that this serves META ID's two tokens, CID's tree and semantic codes.
Where every item has one token of its own that carries a vector, a new item gets one more, made of what surrounds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens.build import scheme
from oovrec.tokens.rules import END
from oovrec.tokens.table import TokenTable
from oovrec.tokens.words import item_words

Evidence = Literal["interactions", "words"]
DIGITS = re.compile(r"\d+(?=\D*$)")  # the last of a token
LIKE = 20  # items taken about as often as a new one
PLACES = 10  # before and after an item in a history, that count as near


@dataclass(frozen=True)
class Described:
    """Items and what is said of them.

    Attributes:
        ids: ``[n]``.
        titles: ``[n]`` texts, '' where an item has none; None where no item has.
        attributes: ``[n]`` attribute numbers; None where no item has any.
    """

    ids: Sequence[str]
    titles: Sequence[str] | None = None
    attributes: Sequence[Sequence[int]] | None = None

    def take(self, rows: Sequence[int]) -> Described:
        """Some of them."""
        titles, attributes = self.titles, self.attributes
        return Described(
            [self.ids[row] for row in rows],
            titles and [titles[row] for row in rows],
            attributes and [attributes[row] for row in rows],
        )


@dataclass(frozen=True)
class Around:
    """What surrounds one new item.

    Attributes:
        by: what told it.
        items: ``[m]`` known items near it.
        weights: ``[m]`` how near, above 0.
        usual: ``[known]`` how much of each known item there is everywhere, above 0.
        own: how much there is of the new item itself; 0 where that is not known.
    """

    by: Evidence
    items: np.ndarray
    weights: np.ndarray
    usual: np.ndarray
    own: float = 0


def evidence(method: str) -> tuple[Evidence, ...]:
    """What tells where a new item belongs among tokens of ``method``, the better first.

    A scheme whose clusters hold like items says so by a tuple ``NEAR``.

    Raises:
        OovrecError: the scheme's tokens say nothing of what an item is like, or ``NEAR`` something else.
    """
    if not (near := getattr(scheme(method), "NEAR", ())):
        what = f"tokens of the method '{method}' do not stand for like items, so a new item has no place among them"
        raise OovrecError(what, remedy="use a run whose tokens are metavec, meta, collaborative or semantic")
    if not isinstance(near, tuple) or not all(kind in get_args(Evidence) for kind in near):
        remedy = f"write a tuple of some of: {', '.join(get_args(Evidence))}"
        raise OovrecError(f"has NEAR = {near!r}", where=f"scheme '{method}'", remedy=remedy)
    return near


def surroundings(
    method: str,
    known: Described,
    new: Described,
    histories: Histories | None = None,
    told_of: np.ndarray | None = None,
) -> list[Around | None]:
    """What surrounds each of the ``new`` items, by the first of the scheme's kinds of evidence that tells anything.

    None for an item of which none does.

    Args:
        method: the scheme of the known items' tokens.
        histories: of item indices, those from ``len(known.ids)`` on being new; None where there are none yet.
        told_of: ``[known]`` bool, the known items that tell anything, as :func:`in_place` says; None takes all.

    Raises:
        OovrecError: as :func:`evidence`; there are no histories, and nothing else would tell.
    """
    told: list[list[Around]] = []
    for kind in evidence(method):
        if kind == "words":
            told.append(by_words(known, new))
        elif histories is not None:
            told.append(by_interactions(histories, len(known.ids), len(new.ids)))
    if not told:
        what = f"tokens of the method '{method}' tell by interactions alone where a new item belongs"
        raise OovrecError(what, remedy="give --log")
    if told_of is not None:
        told = [[_without(around, told_of) for around in kind] for kind in told]
    return [next((around for around in kinds if len(around.items)), None) for kinds in zip(*told, strict=True)]


def in_place(table: TokenTable) -> np.ndarray:
    """``[n]`` bool: the items whose place is known, all but those of a cluster of which nothing was."""
    if table.centroids is None:
        return np.ones(len(table), bool)
    found: np.ndarray = table.centroids[table.codes[:, 0]].any(axis=1)
    return found


def _without(around: Around, kept: np.ndarray) -> Around:
    there = kept[around.items]
    return replace(around, items=around.items[there], weights=around.weights[there])


def by_interactions(histories: Histories, known: int, new: int) -> list[Around]:
    """The known items up to ``PLACES`` places before or after each new one, counted by one over the distance.

    Args:
        histories: item indices; those from ``known`` on are the new ones.
        known, new: how many there are.
    """
    rows, items, pairs = histories.rows, histories.items, []
    for distance in range(1, PLACES + 1):
        first = np.flatnonzero(rows[distance:] == rows[:-distance])
        centre = np.concatenate([first, first + distance])
        other = np.concatenate([first + distance, first])
        kept = (items[centre] >= known) & (items[other] < known)
        pairs.append((items[centre[kept]] - known, items[other[kept]], np.full(kept.sum(), 1 / distance)))
    centres, others, weights = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    often = 1.0 + np.bincount(items, minlength=known + new)
    near = csr_array((weights, (centres, others)), shape=(new, known))
    return _arounds("interactions", near, often[:known], often[known:])


def by_words(known: Described, new: Described) -> list[Around]:
    """The known items that share words of titles or attribute numbers, by the cosine of TF-IDF vectors."""
    of_known, of_new = _words(known), _words(new)
    near = csr_array((len(of_new), len(of_known)))
    if any(of_known):
        tfidf = TfidfVectorizer(analyzer=list)
        table = csr_array(tfidf.fit_transform(of_known))
        near = csr_array(tfidf.transform(of_new)) @ table.T
    return _arounds("words", near, np.ones(len(of_known)), np.zeros(len(of_new)))


def _words(items: Described) -> list[list[str]]:
    """As :func:`item_words`, attribute numbers being ``#7``, which no word of a title is."""
    if items.titles is None and items.attributes is None:
        return [[] for _ in items.ids]
    described = item_words(items.titles, items.attributes)
    return [[word if isinstance(word, str) else f"#{word}" for word in words] for words in described]


def _arounds(by: Evidence, near: csr_array, usual: np.ndarray, own: np.ndarray) -> list[Around]:
    near = near.tocsr()
    near.sum_duplicates()
    parts = zip(pairwise(near.indptr.tolist()), own.tolist(), strict=True)
    return [Around(by, near.indices[first:end], near.data[first:end], usual, count) for (first, end), count in parts]


def extended(
    table: TokenTable, ids: Sequence[str], around: Sequence[Around], seed: int, twins: Mapping[str, str] | None = None
) -> tuple[TokenTable, dict[str, str]]:
    """``table`` and names for ``ids``; the names there are stay as they are.

    Whoever has more around it is named first, equals in random order, so that in each cluster numbers go on in the
    order of how much is known.

    Args:
        ids: ``[new]``.
        around: ``[new]``.
        seed: of the random order.
        twins: of earlier additions to the table.

    Returns:
        The larger table, whose vocabulary grows at its end; and for each number that is there as the twin of another,
        from this addition or an earlier one, that other.
    """
    clusters = Clusters(table, twins or {})
    known = np.array([part.weights.sum() for part in around])
    rows = np.empty((len(ids), table.depth), np.int32)
    for item in np.lexsort((np.random.default_rng(seed).permutation(len(ids)), -known)):
        rows[item] = clusters.join(around[item])
    further = clusters.vocabulary[len(table.vocabulary) :]
    centroids = table.centroids
    if centroids is not None:
        centroids = np.concatenate([centroids, np.zeros((len(further), centroids.shape[1]), centroids.dtype)])
    larger = TokenTable([*table.ids, *ids], np.concatenate([table.codes, rows]), clusters.vocabulary, centroids)
    words = clusters.vocabulary
    return larger, {words[twin]: words[number] for twin, number in clusters.twins.items()}


def blended(
    table: TokenTable, ids: Sequence[str], around: Sequence[Around], rows: np.ndarray
) -> tuple[TokenTable, dict[str, dict[str, float]]]:
    """``table``, in which each item has one token, and a token more for each of ``ids``.

    It points where the mean of its surroundings points. A mean is shorter than what it is of, and a row's length is
    much of an item's probability, so it is made as long as the rows of items that were taken as often.

    Args:
        rows: ``[known, d]`` the model's rows of the known items.

    Returns:
        The larger table; and for each new token the known tokens that it is made of, and how much of each.
    """
    assert table.centroids is not None
    first, lengths = max(map(_number, table.vocabulary)) + 1, np.linalg.norm(rows, axis=1)
    words = [DIGITS.sub(str(first + place), table.vocabulary[0]) for place in range(len(ids))]
    codes = np.arange(len(table.vocabulary), len(table.vocabulary) + len(ids), dtype=np.int32)[:, None]
    shares, vectors = {}, []
    for word, part in zip(words, around, strict=True):
        weights = part.weights * _length(part, lengths) / np.linalg.norm(part.weights @ rows[part.items])
        of = table.codes[part.items, 0]
        shares[word] = {table.vocabulary[code]: float(w) for code, w in zip(of.tolist(), weights, strict=True)}
        vectors.append(weights @ table.centroids[of])
    centroids = np.concatenate([table.centroids, np.array(vectors, table.centroids.dtype)])
    joined = np.concatenate([table.codes, codes])
    return TokenTable([*table.ids, *ids], joined, [*table.vocabulary, *words], centroids), shares


def _length(around: Around, lengths: np.ndarray) -> float:
    """The mean of the ``LIKE`` items' that were taken about as often; where that is not known, a rare item's."""
    if not around.own:
        return float(np.quantile(lengths, 0.1))
    apart = np.abs(np.log(around.usual) - np.log(around.own))
    return float(lengths[apart.argsort(kind="stable")[:LIKE]].mean())


class Clusters:
    """The clusters of a table: all tokens of a name but the last, which is a number in the cluster.

    Numbers rank the members of a cluster, the most popular first. A new item of which it is known how often it was
    taken stands where its rank is; as that number is another's already, it gets a new one, its twin, which the model
    is to begin to read and write as it does the other. Any other new item gets the first number that is free, and
    where none is, a twin of the last. Where every number is an item's own, none is free.

    Clusters without a centroid in a table that has some hold items nothing was known of; nobody joins them.
    """

    def __init__(self, table: TokenTable, twins: Mapping[str, str]) -> None:
        self.vocabulary = list(table.vocabulary)
        code = {word: number for number, word in enumerate(self.vocabulary)}
        self.twins = {code[twin]: code[number] for twin, number in twins.items()}
        last = (table.codes != code.get(END, -1)).sum(axis=1) - 1
        rows, paths = np.arange(len(table)), table.codes.copy()
        self.number = paths[rows, last].copy()
        paths[rows, last] = code.get(END, -1)
        self.paths, of = np.unique(paths, axis=0, return_inverse=True)
        self.of = of.reshape(-1)  # numpy 2.0 gave it the shape of the rows
        self.last = np.zeros(len(self.paths), np.int64)
        self.last[self.of] = last
        placed = in_place(table)  # a number of others alone was never learnt
        every = sorted(set(self.number.tolist()), key=lambda number: _number(self.vocabulary[number]))
        learnt = set(self.number[placed].tolist()) - self.twins.keys()
        self.numbers, self.highest = [n for n in every if n in learnt], self.vocabulary[every[-1]]
        self.place = {number: place for place, number in enumerate(self.numbers)}
        self.taken: list[set[int]] = [set() for _ in self.paths]
        for cluster, number in zip(self.of.tolist(), self.number.tolist(), strict=True):
            self.taken[cluster].add(number)
        self.shared = len(every) < len(table)
        self.open = np.unique(self.of[placed])

    def join(self, around: Around) -> np.ndarray:
        """``[depth]`` the name of one more item with these surroundings, which is taken from now on."""
        cluster = self._nearest(around)
        taken = self.taken[cluster]
        number = self._rank(cluster, around) if around.own else None
        if number is None:
            number = self._free(taken)
        if number in taken:
            number = self._twin(number, taken)
        taken.add(number)
        name = self.paths[cluster].copy()
        name[self.last[cluster]] = number
        return name

    def _free(self, taken: set[int]) -> int:
        """The first number that a cluster has not taken; where none is free, its last."""
        if self.shared:
            return next((number for number in self.numbers if number not in taken), self.numbers[-1])
        return max(taken & self.place.keys(), key=self.place.__getitem__)

    def _rank(self, cluster: int, around: Around) -> int | None:
        """The number of the first member that is not more popular; None where all are."""
        members = np.flatnonzero(self.of[: len(around.usual)] == cluster)
        rank = int((around.usual[members] > around.own).sum())
        numbers = sorted((self.twins.get(n, n) for n in self.number[members].tolist()), key=self.place.__getitem__)
        return numbers[rank] if rank < len(numbers) else None

    def _twin(self, number: int, taken: set[int]) -> int:
        """A twin of ``number`` that the cluster has not, or one more."""
        for twin, other in self.twins.items():
            if other == number and twin not in taken:
                return twin
        self.twins[twin := len(self.vocabulary)] = number
        self.highest = DIGITS.sub(str(_number(self.highest) + 1), self.highest)
        self.vocabulary.append(self.highest)
        return twin

    def _nearest(self, around: Around) -> int:
        """The cluster whose first token stands out among what is near, then among those its second token, …."""
        near = np.bincount(self.of[around.items], weights=around.weights, minlength=len(self.paths))
        usual = np.bincount(self.of, weights=around.usual, minlength=len(self.paths))
        among = self.open
        for tokens in self.paths.T:
            branch = np.unique(tokens[among], return_inverse=True)[1]
            found, expected = (np.bincount(branch, weights=counts[among]) for counts in (near, usual))
            among = among[branch == excess(found, expected).argmax()]
        return int(among[0])


def _number(token: str) -> int:
    """The last number in a token, by which those of new items go on.

    Raises:
        OovrecError: there is none.
    """
    if not (digits := DIGITS.search(token)):
        what = f"the token {token} has no number, so nothing says what a new item's would be called"
        raise OovrecError(what, remedy="use a run whose last tokens have one, such as <I17>")
    return int(digits[0])


def excess(near: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """By how many standard deviations ``near`` exceeds its share of ``usual``: Pearson's residuals of counts.

    A plain majority would go to clusters that are popular everywhere.
    """
    expected = near.sum() * usual / usual.sum()
    return np.divide(near - expected, np.sqrt(expected), where=expected > 0, out=np.zeros(len(near)))
