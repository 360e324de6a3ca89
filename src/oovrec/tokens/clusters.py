"""k-means of directions: Lloyd's rounds over unit vectors, started by greedy k-means++.

Many points are taken in nested mini-batches (Newling and Fleuret, NIPS 2016): the rounds run on a random sample until
they gain little, then on one twice as large, and so on to all points. The early rounds, when the means travel far,
are thus cheap, and unlike in mini-batch k-means by running averages (Sculley, WWW 2010) no early label stays in a
mean. With few points the first sample is all of them.

The means keep their length while the clusters form (spherical k-means would stretch them to 1): a loose cluster then
has a short mean and attracts less. On Amazon Beauty that gave a validation lift of .547 instead of .512 with the same
embeddings.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from oovrec.progress import Bar
from oovrec.tokens.parallel import in_parallel

FEW = 1 << 16  # points up to which all are taken from the first round
FIRST = 1 << 14  # else, points in the first sample, and at least
FIRST_A_CLUSTER = 32
MOST_ROUNDS = 100
ENOUGH = 1e-5  # stop when a round lowers the mean squared distance by less than twice this (many points: ten times)
CHUNK = 1024  # points a task
SLAB = 64 * CHUNK  # points between two moves of the progress bar


def cosine_kmeans(
    vectors: np.ndarray, clusters: int, seed: int, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide ``vectors`` into ``clusters`` groups of similar direction.

    Every cluster has a member: an empty one takes the point that fits its own cluster worst. The
    result does not depend on the number of threads.

    Args:
        vectors: ``[n, d]``, none of them zero, ``n`` ≥ ``clusters``.

    Returns:
        labels ``[n]`` int64, and the directions of the means, ``[clusters, d]`` float32 of unit length.
    """
    points, rng = _unit(np.asarray(vectors, np.float32)), np.random.default_rng(seed)
    sizes = _sizes(len(points), clusters)
    order = rng.permutation(len(points)) if len(sizes) > 1 else np.empty(0, np.int64)
    enough = ENOUGH if len(sizes) == 1 else 10 * ENOUGH

    def sample(size: int) -> np.ndarray:
        return points if size == len(points) else points[order[:size]]

    means = sample(sizes[0])[_greedy_plus_plus(sample(sizes[0]), clusters, rng, threads)]
    for size in sizes:
        labels, means = _lloyd(sample(size), means, enough, threads)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    first = points[np.unique(labels, return_index=True)[1]]  # stands in where a cluster's points cancel out
    return labels, _unit(np.where(lengths > 1e-6, means, first))


def grouped(vectors: np.ndarray, seed: int, clusters: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """:func:`cosine_kmeans` of ``vectors`` ``[n, d]``; those that are zero form one further group, the last.

    Args:
        clusters: by default the square root of n, if so many are not zero.
    """
    seen = np.flatnonzero(vectors.any(axis=1))
    count = clusters or min(round(len(vectors) ** 0.5), len(seen))
    labels = np.full(len(vectors), count)
    labels[seen], centroids = cosine_kmeans(vectors[seen], count, seed)
    return labels, centroids


def _sizes(points: int, clusters: int) -> list[int]:
    """How many points each sample has; the last is all of them."""
    sizes = [points]
    if points > FEW:
        size = max(FIRST, FIRST_A_CLUSTER * clusters)
        while size < points:
            sizes.insert(-1, size)
            size *= 2
    return sizes


def _lloyd(points: np.ndarray, means: np.ndarray, enough: float, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rounds from ``means`` until one gains little: labels, and the means of each cluster's points."""
    best = -np.inf
    with Bar(f"k-means, up to {MOST_ROUNDS} rounds", MOST_ROUNDS * len(points), "points") as bar:
        for _ in range(MOST_ROUNDS):
            labels, fit = _nearest(points, means, threads, bar)
            _fill_empty(labels, fit, len(means))
            means = _means(points, labels, len(means))
            gain, best = fit.mean(dtype=np.float64) - best, fit.mean(dtype=np.float64)
            if gain < enough:
                break
    return labels, means


def _greedy_plus_plus(points: np.ndarray, clusters: int, rng: np.random.Generator, threads: int | None) -> list[int]:
    """Points to start from: of a few drawn by squared distance to those chosen, the one that brings all nearest.

    k-means++ with several trials a step (Arthur and Vassilvitskii, 2007, section 5).
    """
    trials = 2 + int(np.log(clusters))
    chosen = [int(rng.integers(len(points)))]
    distances = _nearer(points, points[chosen], np.full(len(points), np.inf, np.float32), threads)[0][0]
    with Bar("k-means start", clusters, "clusters") as bar:
        while len(chosen) < clusters:
            distances[chosen] = 0
            if not distances.any():  # nothing but copies of the chosen points is left
                distances[np.setdiff1d(np.arange(len(points)), chosen)] = 1
            cumulated = np.cumsum(distances, dtype=np.float64)
            drawn = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1], side="right")
            nearer, sums = _nearer(points, points[drawn], distances, threads)
            winner = int(sums.argmin())
            chosen.append(int(drawn[winner]))
            distances = nearer[winner]
            bar.advance()
    return chosen


def _nearer(
    points: np.ndarray, others: np.ndarray, distances: np.ndarray, threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """``[others, n]`` the smaller of ``distances`` and 1 - cosine to each of ``others``, and its sums over points."""
    nearer = np.empty((len(others), len(distances)), np.float32)

    def chunk(start: int) -> np.ndarray:
        part = slice(start, start + CHUNK)
        near = nearer[:, part]
        _products(others, points[part], near)
        np.subtract(1, near, out=near)
        np.clip(near, 0, distances[part], out=near)
        return near.sum(axis=1, dtype=np.float64)

    return nearer, np.sum(in_parallel(chunk, range(0, len(points), CHUNK), threads), axis=0)


def _nearest(points: np.ndarray, means: np.ndarray, threads: int | None, bar: Bar) -> tuple[np.ndarray, np.ndarray]:
    """For each point the nearest mean (the first of equals), and its fit, falling with the squared distance."""
    labels, fit = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    handicap = (means.astype(np.float64) ** 2).sum(axis=1).astype(np.float32) / 2

    def chunk(start: int) -> None:
        part = slice(start, start + CHUNK)
        fits = np.empty((len(labels[part]), len(means)), np.float32)
        _products(points[part], means, fits)
        fits -= handicap
        labels[part] = fits.argmax(axis=1)
        fit[part] = np.take_along_axis(fits, labels[part, None], axis=1)[:, 0]

    for slab in range(0, len(points), SLAB):
        last = min(slab + SLAB, len(points))
        in_parallel(chunk, range(slab, last, CHUNK), threads)
        bar.advance(last - slab)
    return labels, fit


@njit(cache=True, nogil=True, fastmath=True)
def _products(rows, others, products):  # type: ignore[no-untyped-def]
    # not a BLAS product, whose rounding may change with the number of threads and so tip near ties
    for row in range(rows.shape[0]):
        for other in range(others.shape[0]):
            product = np.float32(0)
            for j in range(rows.shape[1]):
                product += rows[row, j] * others[other, j]
            products[row, other] = product


def _fill_empty(labels: np.ndarray, fit: np.ndarray, clusters: int) -> None:
    """Give each empty cluster, in place, the worst fitting point of those that do not stand alone."""
    sizes = np.bincount(labels, minlength=clusters)
    empty = np.flatnonzero(sizes == 0).tolist()
    if not empty:
        return
    for point in np.argsort(fit, kind="stable"):
        if sizes[labels[point]] > 1:
            sizes[labels[point]] -= 1
            labels[point] = empty.pop()
            if not empty:
                return


def _means(points: np.ndarray, labels: np.ndarray, clusters: int) -> np.ndarray:
    sums = np.zeros((clusters, points.shape[1]))
    _add(points, labels, sums)
    return (sums / np.bincount(labels, minlength=clusters)[:, None]).astype(np.float32)


@njit(cache=True, nogil=True)
def _add(points, labels, sums):  # type: ignore[no-untyped-def]
    for point in range(len(points)):
        for j in range(points.shape[1]):
            sums[labels[point], j] += points[point, j]


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("a zero vector has no direction")
    return (vectors / lengths).astype(np.float32, copy=False)
