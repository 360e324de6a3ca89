"""Small datasets of known structure."""

from __future__ import annotations

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories

COMMUNITIES, USERS, ITEMS, LENGTH = 4, 30, 20, 12  # users and items a community


@pytest.fixture(scope="session")
def planted() -> Dataset:
    """Users ``c · 30 …`` take nine in ten of their items from ``c · 20 …``, the rest anywhere."""
    rng = np.random.default_rng(0)
    sequences = []
    for user in range(COMMUNITIES * USERS):
        own = np.arange(COMMUNITIES * ITEMS) // ITEMS == user // USERS
        weights = 0.9 * own / ITEMS + 0.1 / (COMMUNITIES * ITEMS)
        sequences.append(rng.choice(COMMUNITIES * ITEMS, LENGTH, replace=False, p=weights / weights.sum()))
    users = [f"u{index}" for index in range(len(sequences))]
    items = [f"i{index}" for index in range(COMMUNITIES * ITEMS)]
    return Dataset("planted", users, items, Histories.of(sequences, range(len(users))))


@pytest.fixture(scope="session")
def communities() -> np.ndarray:
    """The community of each user of ``planted``, then of each item."""
    return np.concatenate([np.arange(COMMUNITIES * USERS) // USERS, np.arange(COMMUNITIES * ITEMS) // ITEMS])
