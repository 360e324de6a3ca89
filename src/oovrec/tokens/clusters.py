"""Spherical k-means (Dhillon and Modha, 2001), started by k-means++ (Arthur and Vassilvitskii, 2007)."""

from __future__ import annotations

import numpy as np
from numba import njit

from oovrec.tokens.parallel import in_parallel

CHUNK = 2048  # points a task
MOST_ROUNDS = 100
ENOUGH = 1e-4  # stop when a round raises the mean cosine by less than this


def spherical_kmeans(
    vectors: np.ndarray, clusters: int, seed: int, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide ``vectors`` into ``clusters`` groups of high cosine to the group's centroid.

    Every cluster has a member: an empty one takes the point that fits its own cluster worst. The
    result does not depend on the number of threads.

    Args:
        vectors: ``[n, d]``, none of them zero, ``n`` ≥ ``clusters``.

    Returns:
        labels ``[n]`` int64 and centroids ``[clusters, d]`` float32 of unit length.
    """
    points = _unit(np.ascontiguousarray(vectors, np.float32))
    rng = np.random.default_rng(seed)
    centroids = _plus_plus(points, clusters, rng, threads)
    labels, cosines = _nearest(points, centroids, threads)
    for _ in range(MOST_ROUNDS):
        _fill_empty(labels, cosines, clusters)
        centroids = _means(points, labels, centroids)
        before = cosines.mean(dtype=np.float64)
        labels, cosines = _nearest(points, centroids, threads)
        if cosines.mean(dtype=np.float64) - before < ENOUGH:
            break
    _fill_empty(labels, cosines, clusters)
    return labels, _means(points, labels, centroids)


def _plus_plus(points: np.ndarray, clusters: int, rng: np.random.Generator, threads: int | None) -> np.ndarray:
    """Centroids chosen among the points one by one, far ones with more probability."""
    chosen = [int(rng.integers(len(points)))]
    distances = np.full(len(points), np.inf)
    while len(chosen) < clusters:
        _, cosines = _nearest(points, points[chosen[-1:]], threads)
        distances = np.minimum(distances, np.maximum(1 - cosines.astype(np.float64), 0))
        distances[chosen] = 0
        if distances.sum() == 0:  # nothing but copies of the chosen points is left
            distances[np.setdiff1d(np.arange(len(points)), chosen)] = 1
        chosen.append(int(rng.choice(len(points), p=distances / distances.sum())))
    return points[chosen]


def _nearest(points: np.ndarray, centroids: np.ndarray, threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """For each point the centroid of the highest cosine (the first of equals) and that cosine."""
    labels, cosines = np.empty(len(points), np.int64), np.empty(len(points), np.float32)

    def chunk(start: int) -> None:
        part = slice(start, start + CHUNK)
        _nearest_kernel(points[part], centroids, labels[part], cosines[part])

    in_parallel(chunk, range(0, len(points), CHUNK), threads)
    return labels, cosines


@njit(cache=True, nogil=True, fastmath=True)
def _nearest_kernel(points, centroids, labels, cosines):  # type: ignore[no-untyped-def]
    # not a BLAS product, whose rounding may change with the number of threads and so tip near ties
    for point in range(points.shape[0]):
        best, label = np.float32(-2), 0
        for c in range(centroids.shape[0]):
            cosine = np.float32(0)
            for j in range(points.shape[1]):
                cosine += points[point, j] * centroids[c, j]
            if cosine > best:
                best, label = cosine, c
        labels[point], cosines[point] = label, best


def _fill_empty(labels: np.ndarray, cosines: np.ndarray, clusters: int) -> None:
    """Give each empty cluster, in place, the worst fitting point of those that do not stand alone."""
    sizes = np.bincount(labels, minlength=clusters)
    if sizes.all():
        return
    empty = list(np.flatnonzero(sizes == 0))
    for point in np.argsort(cosines, kind="stable"):
        if not empty:
            return
        if sizes[labels[point]] > 1:
            sizes[labels[point]] -= 1
            labels[point] = empty.pop(0)
            sizes[labels[point]] = 1


def _means(points: np.ndarray, labels: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Unit sums of each cluster's points; a cluster whose points cancel out keeps its centroid."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=len(before)))[:-1]])
    sums = np.add.reduceat(points[np.argsort(labels, kind="stable")], starts, dtype=np.float64)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(norms > 1e-12, sums / np.maximum(norms, 1e-12), before).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError("a zero vector has no direction")
    return (vectors / norms).astype(np.float32)
