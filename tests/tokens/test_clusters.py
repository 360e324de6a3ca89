"""k-means of directions against brute force, scikit-learn, and itself on other threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oovrec.tokens import clusters as module
from oovrec.tokens.clusters import CHUNK, cosine_kmeans


def blobs(counts: list[int], spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of random lengths around orthogonal directions, and the direction of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    directions = np.linalg.qr(rng.normal(size=(16, 16)))[0][: len(counts)]
    vectors = directions[labels] + rng.normal(scale=spread, size=(len(labels), 16))
    return vectors * rng.uniform(0.1, 10, size=(len(labels), 1)), labels


def objective(vectors: np.ndarray, labels: np.ndarray, clusters: int) -> float:
    """Sum of squared distances of the unit vectors to the mean of their cluster."""
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = np.stack([points[labels == cluster].mean(axis=0) for cluster in range(clusters)])
    return float(((points - means[labels]) ** 2).sum())


def test_reaches_the_best_of_all_divisions() -> None:
    vectors, _ = blobs([3, 2, 4], spread=0.15, seed=0)
    divisions = (np.array(labels) for labels in itertools.product(range(3), repeat=9) if len(set(labels)) == 3)
    best = min(objective(vectors, labels, 3) for labels in divisions)
    labels, _ = cosine_kmeans(vectors, 3, seed=0)
    assert objective(vectors, labels, 3) == pytest.approx(best, rel=1e-6)


def test_is_as_good_as_scikit_learn_where_nothing_is_planted() -> None:
    cluster = pytest.importorskip("sklearn.cluster", reason="scikit-learn is not installed")
    vectors = np.random.default_rng(4).normal(size=(2000, 8))
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    theirs = [cluster.KMeans(40, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(5)]
    found = [objective(vectors, cosine_kmeans(vectors, 40, seed=seed)[0], 40) for seed in range(5)]
    assert np.mean(found) < 1.01 * np.mean(theirs)


def test_agrees_with_scikit_learn_on_planted_clusters() -> None:
    cluster = pytest.importorskip("sklearn.cluster", reason="scikit-learn is not installed")
    metrics = pytest.importorskip("sklearn.metrics")
    vectors, planted = blobs([200, 50, 100, 400, 80], spread=0.1, seed=1)
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    theirs = cluster.KMeans(5, n_init=10, random_state=0).fit_predict(points)
    labels, _ = cosine_kmeans(vectors, 5, seed=0)
    assert metrics.adjusted_rand_score(labels, theirs) == 1
    assert metrics.adjusted_rand_score(labels, planted) == 1


def test_centroids_are_the_directions_of_their_members() -> None:
    vectors = np.random.default_rng(2).normal(size=(500, 16)).astype(np.float32)
    labels, centroids = cosine_kmeans(vectors, 20, seed=0)
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sums = np.stack([points[labels == cluster].sum(axis=0) for cluster in range(20)])
    np.testing.assert_allclose(centroids, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)
    assert centroids.dtype == np.float32


def test_depends_on_the_seed_and_not_on_threads() -> None:
    vectors = np.random.default_rng(3).normal(size=(3 * CHUNK, 8))
    one, two, other = (cosine_kmeans(vectors, 30, seed=s, threads=t) for s, t in ((0, 1), (0, 2), (1, 2)))
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()
    assert (one[0] != other[0]).any()


def test_many_points_are_taken_in_samples_that_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 1000)
    monkeypatch.setattr(module, "FIRST", 200)
    seen, lloyd = [], module._lloyd
    monkeypatch.setattr(module, "_lloyd", lambda points, *rest: seen.append(len(points)) or lloyd(points, *rest))
    vectors = np.random.default_rng(5).normal(size=(1001, 4))
    cosine_kmeans(vectors[:1000], 5, seed=0)
    assert seen == [1000]
    cosine_kmeans(vectors, 5, seed=0)
    assert seen[1:] == [200, 400, 800, 1001]
    cosine_kmeans(vectors, 20, seed=0)
    assert seen[5:] == [640, 1001]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples for a few thousand points already."""
    monkeypatch.setattr(module, "FEW", 1000)
    monkeypatch.setattr(module, "FIRST", 500)


def test_samples_recover_planted_clusters(samples: None) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    vectors, planted = blobs([2000, 500, 1000, 4000, 800], spread=0.1, seed=1)
    labels, _ = cosine_kmeans(vectors, 5, seed=0)
    assert metrics.adjusted_rand_score(labels, planted) == 1


def test_samples_cost_at_most_one_percent_of_the_objective(monkeypatch: pytest.MonkeyPatch, samples: None) -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(60, 8))[rng.integers(60, size=6000)] + rng.normal(scale=0.5, size=(6000, 8))
    few = np.mean([objective(vectors, cosine_kmeans(vectors, 40, seed=seed)[0], 40) for seed in range(4)])
    monkeypatch.setattr(module, "FEW", len(vectors))
    everything = np.mean([objective(vectors, cosine_kmeans(vectors, 40, seed=seed)[0], 40) for seed in range(4)])
    assert few < 1.01 * everything


def test_samples_do_not_depend_on_threads(samples: None) -> None:
    vectors = np.random.default_rng(7).normal(size=(3 * CHUNK, 8))
    one, two, three = (cosine_kmeans(vectors, 30, seed=0, threads=threads) for threads in (1, 2, 3))
    for other in (two, three):
        assert (one[0] == other[0]).all()
        assert (one[1] == other[1]).all()


@pytest.mark.parametrize("vectors", [np.ones((10, 4)), np.repeat(np.eye(4), 3, axis=0), np.eye(6)])
def test_no_cluster_is_empty(vectors: np.ndarray) -> None:
    labels, centroids = cosine_kmeans(vectors, 6, seed=0)
    assert sorted(set(labels.tolist())) == list(range(6))
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-6)


def test_opposite_points_in_one_cluster_leave_a_unit_centroid() -> None:
    _, centroids = cosine_kmeans(np.array([[1.0, 0], [-1.0, 0]]), 1, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1)


def test_a_zero_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="zero vector"):
        cosine_kmeans(np.zeros((3, 4)), 2, seed=0)
