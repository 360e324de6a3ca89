"""Predicted ratings of held-out items against those that users gave: RMSE and MAE, beside two references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation import metrics
from oovrec.evaluation.resampling import resampled_means

Rate = Callable[[Histories, np.ndarray], np.ndarray]  # histories, items [n] -> ratings [n]
DAMPING = {"item": 10.0, "user": 15.0}  # ratings of the mean that a bias begins with
ROUNDS = 10


def evaluate_ratings(rate: Rate, dataset: Dataset, split: Literal["validation", "test"], *, seed: int = 0) -> Any:
    """Errors of the ratings predicted for every user's held-out item, as :func:`errors_block` gives them."""
    predicted = rate(dataset.histories(split), dataset.targets(split))
    return errors_block(predicted - _given(dataset, split), seed=seed)


def references(dataset: Dataset, split: Literal["validation", "test"], *, seed: int = 0) -> dict[str, Any]:
    """The errors of two predictions that need no model, from the ratings of the training part.

    ``mean``: their mean; ``biases``: the mean, the user's bias and the item's, by damped least squares (Koren,
    Factor in the neighbors, TKDD 2010, section 2.1). An item that was never rated has no bias.
    """
    assert dataset.ratings is not None
    training = dataset.histories("train")
    ratings = dataset.ratings[dataset.positions("train")]
    mean, users, items = biases(training, ratings, len(dataset.items))
    known, given = dataset.histories(split).users, _given(dataset, split)
    personal = np.clip(mean + users[known] + items[dataset.targets(split)], ratings.min(), ratings.max())
    return {name: errors_block(found - given, seed=seed) for name, found in (("mean", mean), ("biases", personal))}


def biases(training: Histories, ratings: np.ndarray, items: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean rating, and the bias of each user and item, which minimise the squared error with damping.

    Args:
        training: row ``u`` is user ``u``.
        ratings: ``[total]`` along ``training.items``.
        items: how many there are.
    """
    rows, mean = training.rows, float(ratings.mean())
    of_user, of_item = np.zeros(len(training)), np.zeros(items)
    for _ in range(ROUNDS):
        left = ratings - mean - of_user[rows]
        of_item = _sums(training.items, left, items) / (DAMPING["item"] + np.bincount(training.items, minlength=items))
        left = ratings - mean - of_item[training.items]
        of_user = _sums(rows, left, len(training)) / (DAMPING["user"] + training.lengths)
    return mean, of_user, of_item


def errors_block(errors: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """``rmse`` and ``mae`` of errors ``[users]``, ``ci`` their 95% intervals by resampling users, and ``users``."""
    table = np.stack([errors**2, np.abs(errors)], axis=1)
    squared, absolute = metrics.percentile_intervals(resampled_means(table, seed=seed))
    interval = {"rmse": [float(np.sqrt(end)) for end in squared], "mae": list(absolute)}
    rmse, mae = float(np.sqrt(table[:, 0].mean())), float(table[:, 1].mean())
    return {"rmse": rmse, "mae": mae, "ci": interval, "users": len(errors)}


def _given(dataset: Dataset, split: Literal["validation", "test"]) -> np.ndarray:
    assert dataset.ratings is not None
    given: np.ndarray = dataset.ratings[dataset.target_positions(split)]
    return given


def _sums(keys: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(keys, values, minlength=size)
