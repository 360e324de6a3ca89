"""benchmarks/order.py: what differences are worth whose seeds hold out different items."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from oovrec.evaluation.protocol import Evaluation

USERS = 400


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("order")


def evaluation(ranks: np.ndarray, targets: np.ndarray) -> Evaluation:
    none = np.full((USERS, 10), -1)
    return Evaluation(np.arange(USERS), targets, ranks, ranks, None, none, none, 1000, 0)


def test_a_users_figures_are_means_over_seeds_of_different_targets(order: ModuleType) -> None:
    rng = np.random.default_rng(0)
    held_out = [rng.integers(1000, size=USERS) for _ in range(3)]
    theirs = [rng.integers(1, 40, USERS) for _ in held_out]
    ours = [np.maximum(1, ranks - rng.integers(0, 12, USERS)) for ranks in theirs]
    sides = [
        [evaluation(ranks, targets) for ranks, targets in zip(side, held_out, strict=True)] for side in (ours, theirs)
    ]
    found = order.against(*sides)
    hits = [np.mean([ranks <= 10 for ranks in side]) for side in (ours, theirs)]
    assert found["hit@10"]["mean"] == pytest.approx(hits[0])
    assert found["hit@10"]["difference"]["mean"] == pytest.approx(hits[0] - hits[1])
    low, high = found["hit@10"]["difference"]["interval"]
    assert low < hits[0] - hits[1] < high
    assert "difference" not in order.against(sides[1], sides[1])["hit@10"]
    with pytest.raises(AssertionError):  # of other orders
        order.against(sides[0], sides[1][::-1])
