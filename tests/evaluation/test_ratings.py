"""Errors of ratings and their references, by hand and against a linear solver."""

from __future__ import annotations

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.ratings import DAMPING, biases, errors_block, evaluate_ratings, references


@pytest.fixture
def rated() -> Dataset:
    full = Histories.of([[0, 1, 2, 3], [1, 0, 2], [3, 1]], users=range(3))
    ratings = np.array([5, 3, 4, 1, 2, 4, 5, 3, 3], np.float64)
    return Dataset("rated", ["a", "b", "c"], ["w", "x", "y", "z"], full, ratings=ratings)


def test_errors_by_hand(rated: Dataset) -> None:
    asked = []

    def rate(histories: Histories, items: np.ndarray) -> np.ndarray:
        asked.append(([history.tolist() for history in histories], items.tolist()))
        return np.array([2.0, 2.0])

    block = evaluate_ratings(rate, rated, "test")
    assert asked == [([[0, 1, 2], [1, 0]], [3, 2])]
    assert block["rmse"] == pytest.approx(np.sqrt((1 + 9) / 2))  # 2 for 1 and for 5
    assert block["mae"] == pytest.approx(2)
    assert block["users"] == 2
    assert block["ci"] == {"rmse": [1, 3], "mae": [1, 3]}  # resamples of two: both errors 1, one each, both 3


def test_the_mean_of_the_training_part_is_a_reference(rated: Dataset) -> None:
    mean = np.mean([5, 3, 2, 3, 3])  # all but the last two of a and b; c has too few to hold any out
    expected = {"test": [1, 5], "validation": [4, 4]}
    for split, given in expected.items():
        block = references(rated, split)["mean"]
        assert block["rmse"] == pytest.approx(np.sqrt(np.mean((mean - np.array(given)) ** 2)))
        assert block["mae"] == pytest.approx(np.mean(np.abs(mean - np.array(given))))


def test_biases_solve_the_damped_least_squares() -> None:
    rng = np.random.default_rng(0)
    training = Histories.of([rng.integers(9, size=rng.integers(1, 40)) for _ in range(12)], users=range(12))
    ratings = rng.integers(1, 6, len(training.items)).astype(float)
    mean, users, items = biases(training, ratings, 9)
    design = np.zeros((len(ratings), 12 + 9))
    design[np.arange(len(ratings)), training.rows] = 1
    design[np.arange(len(ratings)), 12 + training.items] = 1
    damping = np.diag([DAMPING["user"]] * 12 + [DAMPING["item"]] * 9)
    exact = np.linalg.solve(design.T @ design + damping, design.T @ (ratings - ratings.mean()))
    assert mean == pytest.approx(ratings.mean())
    np.testing.assert_allclose(np.concatenate([users, items]), exact, atol=1e-3)


def test_biases_find_strict_users_and_good_items() -> None:
    rng = np.random.default_rng(1)
    strict, good = rng.normal(size=50), rng.normal(size=30)
    full = Histories.of([rng.permutation(30) for _ in range(50)], users=range(50))
    ratings = 3 + strict[full.rows] + good[full.items]
    data = Dataset("strict", [f"{n}" for n in range(50)], [f"{n}" for n in range(30)], full, ratings=ratings)
    found = references(data, "test")
    assert found["biases"]["rmse"] < found["mean"]["rmse"] / 2


def test_the_interval_of_the_mean_error_is_the_normal_one() -> None:
    errors = np.random.default_rng(3).normal(size=4000)
    block = errors_block(errors)
    half = 1.96 * np.abs(errors).std() / np.sqrt(len(errors))
    np.testing.assert_allclose(block["ci"]["mae"], [block["mae"] - half, block["mae"] + half], atol=half / 10)
    assert block["ci"]["rmse"][0] < block["rmse"] < block["ci"]["rmse"][1]


def test_the_reference_of_biases_stays_within_the_scale() -> None:
    rows = [[1, 2, 3, 4, 0, 5]] * 20 + [
        [0, 1, 2, 3, 4, 5]
    ] * 20  # kind users, to whom item 0 is held out; then strict ones
    full = Histories.of(rows, range(40))
    ratings = np.where((full.rows < 20) | (full.items == 0), 5.0, 1.0)  # item 0 is good
    data = Dataset("some", [f"u{user}" for user in range(40)], list("abcdef"), full, ratings=ratings)
    mean, users, items = biases(data.histories("train"), ratings[data.positions("train")], 6)
    targets = data.targets("validation")
    free, given = mean + users + items[targets], ratings[data.target_positions("validation")]
    assert free.max() > 5 or free.min() < 1, "the example should leave the scale"
    found = references(data, "validation")["biases"]
    assert found["mae"] == pytest.approx(np.abs(np.clip(free, 1, 5) - given).mean())
