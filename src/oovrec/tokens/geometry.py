"""Embeddings: at unit length, and scored as in the META ID paper, by memorisation of who took what and diversity."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from oovrec.data.dataset import Dataset

PAIRS = 10_000  # sampled for diversity
SAMPLE = 4_000  # entities whose pairs are compared for memorisation, at most


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows of ``vectors``, brought to length 1 where they are not zero, as float32."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def ratings_matrix(dataset: Dataset) -> csr_array:
    """``[users, items]`` sparse training ratings less their user's mean; ones where the data has no ratings.

    The cosine of its columns is the adjusted cosine of items (Sarwar et al., WWW 2001). Without ratings
    every deviation would be zero, so an interaction counts as 1 against the 0 of all others, a
    catalogue's mean being nearly 0.
    """
    training = dataset.histories("train")
    values = np.ones(len(training.items))
    if dataset.ratings is not None:
        position = np.arange(len(dataset.full.items)) - np.repeat(dataset.full.indptr[:-1], dataset.full.lengths)
        known = dataset.ratings[position < np.repeat(training.lengths, dataset.full.lengths)].astype(np.float64)
        sums = np.bincount(training.rows, known, minlength=len(training))
        values = known - (sums / np.maximum(training.lengths, 1))[training.rows]
    return csr_array((values, (training.rows, training.items)), shape=(len(dataset.users), len(dataset.items)))


def memorisation(vectors: np.ndarray, ratings: csr_array, seed: int) -> float:
    """One less the mean squared difference, over pairs, of the cosine of ``vectors`` and that of ``ratings``.

    The cosines of ratings are brought to 0 … 1 by their least and greatest value, as in the authors'
    script (which also reduces the vectors by PCA, and compares all pairs). Rows of zeros have cosine 0.

    Args:
        vectors: ``[n, d]``.
        ratings: ``[n, m]`` sparse; for items, the transposed matrix of ratings.
        seed: draws ``SAMPLE`` of the rows where there are more.
    """
    rows = np.arange(len(vectors))
    if len(rows) > SAMPLE:
        rows = np.random.default_rng(seed).choice(rows, SAMPLE, replace=False)
    upper = np.triu_indices(len(rows), 1)
    embedded = _cosines(vectors[rows].astype(np.float64))[upper]
    chosen = ratings.tocsr()[rows]
    norms = np.sqrt(chosen.multiply(chosen).sum(axis=1))
    rated = (chosen @ chosen.T).toarray() / np.maximum(np.outer(norms, norms), 1e-300)
    rated = rated[upper]
    spread = np.ptp(rated)
    scaled = (rated - rated.min()) / spread if spread else np.zeros_like(rated)
    return 1 - float(np.mean((scaled - embedded) ** 2))


def diversity(vectors: np.ndarray, seed: int) -> float:
    """Mean symmetric Kullback–Leibler divergence of the softmax of two vectors, over ``PAIRS`` random pairs."""
    rng = np.random.default_rng(seed)
    first = rng.integers(len(vectors), size=PAIRS)
    second = (first + rng.integers(1, len(vectors), size=PAIRS)) % len(vectors)
    shifted = vectors.astype(np.float64) - vectors.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    # (KL(p, q) + KL(q, p)) / 2 = Σ (p - q)(log p - log q) / 2
    difference = (np.exp(logs)[first] - np.exp(logs)[second]) * (logs[first] - logs[second])
    return float(difference.sum(axis=1).mean() / 2)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    return np.asarray(unit @ unit.T)
