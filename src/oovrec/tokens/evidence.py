"""What tokens know of interactions beyond what the training part tells: a score test against a model of the latter.

A conditional logit (McFadden, 1974) picks a user's real target among targets of other users, which cancels popularity
and season. Its features come from training interactions, item texts and the order of ids only. The *excess* of a
feature of the tokens is what it would add: the residual, at the real target, of that feature given the others, in
standard deviations (Rao's score test, a user at a time). Tokens that know nothing more have an excess of 0.

Besides the validation and the test target there is a *probe*: each user's newest training item, hidden from the
model as if it were held out. Tokens may know probes; how well they do says how much these tokens remember of what
they have seen, and so how much of held-out items they would remember, had they seen them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Literal

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.ids import id_order
from oovrec.tokens.geometry import unit

Target = Literal["probe", "validation", "test"]
TARGETS: tuple[Target, ...] = ("probe", "validation", "test")
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]  # items [t, 1] and [t, c] → [t, c]

NEWEST = 50  # items of a history that candidates are compared with
NEGATIVES = (20, 200)  # least and most candidates beside the target
CANDIDATES = 400_000  # in all, where that leaves so many a user
PAIRS = 500_000  # of items compared at a time
RIDGE = 10.0
ROUNDS = 30  # Newton steps at most
TEXT_DIMENSIONS = 64


def before_probes(dataset: Dataset) -> Histories:
    """Every user's training part without its newest item; whole where it has only one."""
    training = dataset.histories("train")
    kept = np.where(training.lengths > 1, training.lengths - 1, training.lengths)
    return training.cut(training.indptr[:-1], kept, training.users)


def audited_users(dataset: Dataset) -> np.ndarray:
    """Indices of the users who have a validation and a test target, and a probe behind another item."""
    probed = np.flatnonzero(dataset.histories("train").lengths > 1)
    return reduce(np.intersect1d, (probed, dataset.evaluated_users("validation"), dataset.evaluated_users("test")))


def text_vectors(dataset: Dataset) -> np.ndarray | None:
    """``[items, d]`` latent semantic analysis of the items' words and attributes (Deerwester et al., 1990).

    None without texts, and where they tell no item from another.
    """
    if dataset.titles is None and dataset.attributes is None:
        return None
    titles = dataset.titles or [""] * len(dataset.items)
    attributes = dataset.attributes or [()] * len(dataset.items)
    words = [{*title.lower().split(), *map(str, marks)} - {""} for title, marks in zip(titles, attributes, strict=True)]
    column = {word: index for index, word in enumerate(sorted(set().union(*words)))}
    if len(column) < 2:
        return None
    rows = np.repeat(np.arange(len(words)), [len(found) for found in words])
    columns = [column[word] for found in words for word in sorted(found)]
    counts = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(words), len(column)))
    rarity = np.log(len(words) / counts.sum(axis=0))
    if not rarity.any():
        return None
    counts = counts @ diags_array(rarity)
    norms = np.sqrt(counts.multiply(counts).sum(axis=1))
    counts = diags_array(1 / np.maximum(norms, 1e-9)) @ counts
    if min(counts.shape) <= TEXT_DIMENSIONS:
        return unit(counts.toarray())
    rng = np.random.default_rng(0)  # a start at random, as one that singular vectors span would end at rounding errors
    left, singular, _ = svds(counts, TEXT_DIMENSIONS, v0=rng.uniform(-1, 1, min(counts.shape)), rng=rng)
    return unit(left * singular)


class Candidates:
    """A target of each user among targets of other users, and the history that they are compared with.

    Attributes:
        histories: ``[n]`` histories before the probe, the newest items.
        before: ``[n]`` int64, the item just before the target, itself held out where the target is the test's.
        items: ``[n, c]`` int64 candidates; column 0 is the target.
    """

    def __init__(self, dataset: Dataset, target: Target, seed: int) -> None:
        before, training = before_probes(dataset), dataset.histories("train")
        users = audited_users(dataset)
        self.histories = before.take(users).last(NEWEST)
        if target == "probe":
            targets, seen = training.take(users).newest(), self.histories
        else:
            rows = np.searchsorted(dataset.evaluated_users(target), users)
            targets, seen = dataset.targets(target)[rows], dataset.histories(target).take(rows)
        self.before = seen.newest()
        count = int(np.clip(CANDIDATES // len(users), *NEGATIVES))
        self.items = np.concatenate([targets[:, None], _negatives(dataset, users, targets, count, seed)], axis=1)

    @property
    def users(self) -> np.ndarray:
        """``[n]`` user indices."""
        return self.histories.users

    def compared(self, similarity: Similarity) -> np.ndarray:
        """``[n, c, 3]`` float32: greatest and mean similarity of each candidate to the history; to ``before``."""
        starts, lengths = self.histories.indptr, self.histories.lengths
        values = np.empty((*self.items.shape, 3), np.float32)
        step = max(1, int(PAIRS / (lengths.mean() * self.items.shape[1])))
        for begin in range(0, len(lengths), step):
            part = slice(begin, begin + step)
            rows = np.repeat(np.arange(len(lengths))[part], lengths[part])
            first = starts[:-1][part] - starts[begin]
            past = self.histories.items[starts[begin] : starts[begin] + len(rows)].astype(np.int64)
            similar = similarity(past[:, None], self.items[rows])
            values[part, :, 0] = np.maximum.reduceat(similar, first)
            values[part, :, 1] = np.add.reduceat(similar, first) / lengths[part, None]
            values[part, :, 2] = similarity(self.before[part, None], self.items[part])
        return values


def _negatives(dataset: Dataset, users: np.ndarray, targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``[n, count]`` other users' targets that the user never took; after a few trials what is left is kept."""
    rng = np.random.default_rng(seed)
    drawn = targets[rng.integers(len(targets), size=(len(targets), count))]
    shape = len(dataset.users), len(dataset.items)
    taken = csr_array((np.ones(len(dataset.full.items)), (dataset.full.rows, dataset.full.items)), shape=shape)
    for _ in range(20):
        own = np.asarray(taken[np.repeat(users, count), drawn.reshape(-1)]).reshape(drawn.shape) > 0
        if not own.any():
            break
        drawn[own] = targets[rng.integers(len(targets), size=int(own.sum()))]
    return drawn


class Evidence:
    """The model of one kind of target by what the training part tells; measures what a feature would add to it.

    Args:
        vectors: ``[users + items, d]`` embeddings learnt from :func:`before_probes`.
        texts: ``[items, t]`` of :func:`text_vectors`, or None.
    """

    def __init__(
        self, dataset: Dataset, target: Target, vectors: np.ndarray, texts: np.ndarray | None, seed: int
    ) -> None:
        self.candidates = Candidates(dataset, target, seed)
        known = _known_features(self.candidates, dataset, vectors, texts)
        flat = known.reshape(-1, known.shape[2])
        known = (known - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-6)
        self._chances = _chances(known, _fit(known))
        self._known = self._centred(known)
        weighted = self._weighted(self._known)
        self._inverse = np.linalg.inv(weighted.T @ weighted + RIDGE * np.eye(weighted.shape[1]))

    def excess(self, features: np.ndarray) -> np.ndarray:
        """``[n, f]`` excess of each of the ``[n, c, f]`` ``features`` at the users' targets."""
        own = self._centred(features)
        slope = self._inverse @ (self._weighted(self._known).T @ self._weighted(own))
        rest = own - self._known @ slope.astype(np.float32)
        spread = np.sqrt(np.einsum("nc,ncf->f", self._chances, rest**2) / len(rest))
        return rest[:, 0] / np.maximum(spread, 1e-9)

    def _centred(self, features: np.ndarray) -> np.ndarray:
        return features - np.matmul(self._chances[:, None], features)

    def _weighted(self, features: np.ndarray) -> np.ndarray:
        return (features * np.sqrt(self._chances)[:, :, None]).reshape(-1, features.shape[2])


def _known_features(
    candidates: Candidates, dataset: Dataset, vectors: np.ndarray, texts: np.ndarray | None
) -> np.ndarray:
    """``[n, c, f]`` what training interactions, texts and ids say of each candidate."""
    users, items, before = len(dataset.users), candidates.items, before_probes(dataset)
    popularity = np.bincount(before.items, minlength=len(dataset.items))
    near = candidates.compared(cosine(vectors[users:]))
    together = candidates.compared(_cooccurrence(before, len(dataset.items)))
    order = id_order(dataset.items)
    to_user = np.einsum("nd,ncd->nc", unit(vectors)[candidates.users], unit(vectors)[users + items])
    features = [
        np.stack([to_user, to_user**2], axis=2),
        *(near, near[:, :, :2] ** 2),
        *(together, np.sqrt(together)),
        candidates.compared(closeness(order)),
        np.sign(order[items] - order[candidates.before][:, None])[:, :, None],
        np.stack([np.log1p(popularity[items]), popularity[items] == 0], axis=2),
    ]
    if texts is not None:
        alike = candidates.compared(cosine(texts))
        features += [alike, alike[:, :, :2] ** 2]
    return np.concatenate(features, axis=2).astype(np.float32)


def cosine(vectors: np.ndarray) -> Similarity:
    """Cosine of the items' vectors, ``[items, d]``."""
    directions = unit(vectors)
    return lambda past, items: np.einsum("td,tcd->tc", directions[past[:, 0]], directions[items])


def closeness(places: np.ndarray) -> Similarity:
    """Minus the logarithm of how far apart two items stand in an order; ``[items]`` places."""
    return lambda past, items: -np.log1p(np.abs(places[past] - places[items])).astype(np.float32)


def _cooccurrence(histories: Histories, items: int) -> Similarity:
    """Cosine of the items' columns of who took what."""
    ones = np.ones(len(histories.items), np.float32)
    taken = csr_array((ones, (histories.rows, histories.items)), shape=(len(histories), items))
    scale = diags_array(1 / np.sqrt(np.maximum(taken.sum(axis=0), 1)))
    table = csr_array(scale @ (taken.T @ taken) @ scale)
    table.sort_indices()

    def similarity(past: np.ndarray, others: np.ndarray) -> np.ndarray:
        both = np.broadcast_to(past, others.shape).reshape(-1), others.reshape(-1)
        return np.asarray(table[both], np.float32).reshape(others.shape)

    return similarity


def _chances(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``[n, c]`` the model's probabilities of the candidates."""
    scores = features @ weights.astype(np.float32)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _fit(features: np.ndarray) -> np.ndarray:
    """``[f]`` weights of a conditional logit for column 0, with a ridge, by Newton steps, halved where too long."""
    weights = np.zeros(features.shape[2])
    value = _objective(features, weights)
    for _ in range(ROUNDS):
        chances = _chances(features, weights)
        means = np.matmul(chances[:, None], features)[:, 0]
        slope = (features[:, 0] - means).sum(axis=0, dtype=np.float64) - RIDGE * weights
        root = (features * np.sqrt(chances)[:, :, None]).reshape(-1, len(weights))
        curvature = root.T @ root - means.T @ means + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature.astype(np.float64), slope)
        while (better := _objective(features, weights + step)) < value and np.abs(step).max() > 1e-6:
            step /= 2
        if better < value:
            break
        weights, gained, value = weights + step, better - value, better
        if gained < 1e-4 * len(features):
            break
    return weights


def _objective(features: np.ndarray, weights: np.ndarray) -> float:
    chances = np.maximum(_chances(features, weights)[:, 0], 1e-30)
    return float(np.log(chances, dtype=np.float64).sum() - RIDGE / 2 * (weights**2).sum())
