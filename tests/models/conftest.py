"""A small world for models: items that follow rules, users who mostly obey them, tokens for both."""

from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.base import NeuralRecommender
from oovrec.models.entities import Entities
from oovrec.tokens.table import Tokens, TokenTable
from oovrec.training.loop import Batch

USERS, ITEMS, OBEDIENCE = 100, 40, 0.9


@pytest.fixture(scope="session")
def chains() -> Dataset:
    """All items stand in a ring; an item's neighbour follows it nine times in ten, which popularity cannot know."""
    rng = np.random.default_rng(11)
    ring = rng.permutation(ITEMS)
    successor = dict(zip(ring.tolist(), np.roll(ring, -1).tolist(), strict=True))
    sequences = []
    for length in rng.integers(4, 14, USERS):
        items = [int(rng.integers(ITEMS))]
        while len(items) < length:
            items.append(successor[items[-1]] if rng.random() < OBEDIENCE else int(rng.integers(ITEMS)))
        sequences.append(items)
    users, items = [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)]
    return Dataset(
        "chains", users, items, Histories.of(sequences, range(USERS)), titles=[f"Item {n}" for n in range(ITEMS)]
    )


@pytest.fixture(scope="session")
def entities(chains: Dataset) -> Entities:
    """The same with two-token ids: six clusters, numbered within."""
    items = TokenTable.of(chains.items, [(f"<CI{n % 6}>", f"<I{1001 + n // 6}>") for n in range(ITEMS)])
    users = TokenTable.of(chains.users, [(f"<CU{n % 9}>", f"<U{1001 + n // 9}>") for n in range(USERS)])
    return Entities.of(chains, Tokens(items, users, "meta", "train", 0))


@pytest.fixture(scope="session")
def bare(chains: Dataset) -> Entities:
    """The same without tokens."""
    return Entities.of(chains)


@pytest.fixture
def stopped_at() -> Callable[[NeuralRecommender, int], None]:
    """Make a model's training be interrupted, as by Ctrl-C, while its ``count``-th batch is made."""

    def stop(model: NeuralRecommender, count: int) -> None:
        original, made = model.epoch, [0]

        def interrupted(dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
            def wrapped(batch: Batch) -> Batch:
                def make() -> object:
                    made[0] += 1
                    if made[0] == count:
                        signal.raise_signal(signal.SIGINT)
                    return batch()

                return make

            return [wrapped(batch) for batch in original(dataset, batch_size, rng)]

        model.epoch = interrupted

    return stop
