"""Residual quantisers on planted vectors: brute force, errors that fall, and other threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from oovrec.tokens.repeatable import repeatable
from oovrec.tokens.residual import Quantised, residual_kmeans, rqvae


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """``[600, 20]`` vectors of four groups along some axes, and three along others, and the ``[600, 2]`` groups."""
    rng = np.random.default_rng(0)
    groups = np.column_stack([np.arange(600) % 4, np.arange(600) // 4 % 3])
    vectors = 10 * np.eye(4, 20)[groups[:, 0]] + 7 * np.eye(3, 20, 10)[groups[:, 1]]
    return (vectors + 0.1 * rng.normal(size=(600, 20))).astype(np.float32), groups


@pytest.fixture(scope="module")
def learnt(planted: tuple[np.ndarray, np.ndarray]) -> Quantised:
    return rqvae(planted[0], 2, 4, 240, 0)


def walk(vectors: np.ndarray, found: Quantised) -> tuple[np.ndarray, np.ndarray]:
    """Codes by brute force down the levels, and what they leave of the vectors."""
    residual, chosen = vectors.astype(np.float64), []
    for codebook in found.codebooks.astype(np.float64):
        distances = ((residual[:, None] - codebook) ** 2).sum(axis=2)
        chosen.append(distances.argmin(axis=1))
        residual = residual - codebook[chosen[-1]]
    return np.column_stack(chosen), residual


def test_residual_kmeans_takes_the_nearest_code_at_each_level() -> None:
    vectors = np.random.default_rng(1).normal(size=(500, 8))
    found = residual_kmeans(vectors, 3, 16, 0)
    codes, residual = walk(vectors, found)
    np.testing.assert_array_equal(found.codes, codes)
    spread = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    assert found.left[-1] == found.lost == pytest.approx((residual**2).sum() / spread, rel=1e-5)
    assert 1 > found.left[0] > found.left[1] > found.left[2] > 0
    for code in range(16):  # a first-level code is the mean of its vectors
        np.testing.assert_allclose(found.codebooks[0, code], vectors[codes[:, 0] == code].mean(axis=0), atol=1e-4)


def test_residual_kmeans_finds_planted_levels(planted: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, groups = planted
    found = residual_kmeans(vectors, 2, 4, 0)
    assert adjusted_rand_score(found.codes[:, 0], groups[:, 0]) == 1
    pairs = [code[0] * 4 + code[1] for code in found.codes]
    assert adjusted_rand_score(pairs, groups[:, 0] * 3 + groups[:, 1]) > 0.9


def test_copies_of_few_vectors_need_few_codes() -> None:
    with pytest.warns(UserWarning, match="distinct clusters"):
        found = residual_kmeans(np.repeat(np.eye(3), 10, axis=0), 2, 8, 0)
    assert len(np.unique(found.codes[:, 0])) == 3
    assert found.left == pytest.approx([0, 0], abs=1e-9)


def test_rqvae_codes_what_it_was_given(planted: tuple[np.ndarray, np.ndarray], learnt: Quantised) -> None:
    groups = planted[1]
    assert learnt.codes.shape == (600, 2)
    assert learnt.codebooks.shape == (2, 4, 32)
    # which of the two comes first is the encoder's affair
    pairs = [first * 4 + second for first, second in learnt.codes]
    assert adjusted_rand_score(pairs, groups[:, 0] * 3 + groups[:, 1]) > 0.9
    assert 1 > learnt.left[0] > learnt.left[1] >= 0


def test_two_levels_say_more_than_the_best_single_one(
    planted: tuple[np.ndarray, np.ndarray], learnt: Quantised
) -> None:
    vectors = planted[0]
    spread = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    best = KMeans(4, n_init=10, random_state=0).fit(vectors).inertia_ / spread
    assert best > 0.25
    assert learnt.lost < best - 0.05
    assert residual_kmeans(vectors, 2, 4, 0).lost < best - 0.05


def test_rqvae_learns(planted: tuple[np.ndarray, np.ndarray], learnt: Quantised) -> None:
    assert rqvae(planted[0], 2, 4, 1, 0).lost > 2 * learnt.lost


def test_the_seed_determines_all_on_any_number_of_threads(planted: tuple[np.ndarray, np.ndarray]) -> None:
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    vectors = planted[0]
    for quantise in (lambda seed: residual_kmeans(vectors, 2, 9, seed), lambda seed: rqvae(vectors, 2, 9, 3, seed)):
        one = quantise(0)
        torch.set_num_threads(2)
        two, other = quantise(0), quantise(1)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(before)
        np.testing.assert_array_equal(one.codes, two.codes)
        np.testing.assert_array_equal(one.codebooks, two.codebooks)
        assert not np.array_equal(one.codebooks, other.codebooks)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_repeatable_puts_back_what_it_changed() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with repeatable(3):
        assert torch.get_num_threads() == 1
        assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(3))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
