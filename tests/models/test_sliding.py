"""Sliding windows: each against brute force, and the random items that a target is compared with."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.entities import Entities
from oovrec.models.sequential.caser import Caser, CaserOptions
from oovrec.models.sequential.hgn import HGN, HGNOptions
from oovrec.models.sequential.sliding import latest

LENGTH = 3


def model(bare: Entities, ahead: int = 1) -> HGN:
    torch.manual_seed(0)
    return HGN(HGNOptions(width=8, length=LENGTH, ahead=ahead, dropout=0), bare)


@pytest.mark.parametrize("ahead", [1, 3])
def test_an_epoch_has_every_window_once(bare: Entities, ahead: int) -> None:
    """Single-item and empty histories give none, the end of a history fewer targets."""
    sequences = [[5, 6, 7, 8, 9], [], [1], [2, 3], [], [4, 4, 4]]
    data = Dataset(
        "small", bare.users, bare.items, Histories.of([[*s, 0, 0] if s else [] for s in sequences], range(6))
    )
    pad, expected = len(bare.items), Counter()
    for user, history in enumerate(sequences):
        for t in range(1, len(history)):
            window = [pad] * LENGTH + history[:t]
            expected[user, tuple(window[-LENGTH:]), tuple(history[t : t + ahead])] += 1
    batches = [batch() for batch in model(bare, ahead).epoch(data, 2 * ahead, np.random.default_rng(0))]
    found = Counter()
    for batch in batches:
        for n, (user, window) in enumerate(zip(batch["users"], batch["items"], strict=True)):
            targets = batch["targets"][batch["windows"] == n]
            found[int(user), tuple(window.tolist()), tuple(targets.tolist())] += 1
    assert found == expected
    assert [len(batch["items"]) for batch in batches] == [2, 2, 2, 1]  # 7 windows
    total = sum(len(batch["targets"]) for batch in batches)
    assert all(float(batch["scale"]) == pytest.approx(total / len(batches)) for batch in batches)


def test_an_epoch_of_nothing_has_no_batch(bare: Entities) -> None:
    data = Dataset("short", bare.users, bare.items, Histories.of([[1, 2, 3]], [0]))
    assert model(bare).epoch(data, 8, np.random.default_rng(0)) == []


def test_the_order_is_drawn_from_the_generator(bare: Entities, chains: Dataset) -> None:
    first, again, other = (model(bare).epoch(chains, 64, np.random.default_rng(seed))[0]() for seed in (1, 1, 2))
    assert torch.equal(first["targets"], again["targets"])
    assert not torch.equal(first["targets"], other["targets"])


def test_latest_pads_on_the_left() -> None:
    items = np.array([1, 2, 3, 4, 5, 99])
    table = latest(items, np.array([0, 3, 5]), np.array([3, 5, 5]), 2)
    np.testing.assert_array_equal(table, [[2, 3], [4, 5], [99, 99]])
    np.testing.assert_array_equal(latest(items, np.array([3]), np.array([5]), 4), [[99, 99, 4, 5]])


@pytest.mark.parametrize("ahead", [1, 2])
def test_loss_is_the_mean_of_the_scores_it_trains(bare: Entities, chains: Dataset, ahead: int) -> None:
    """The epoch's losses, recomputed target by target from the scores after what precedes each window's end."""
    sliding = model(bare, ahead)
    for parameter in sliding.module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.zeros_(sliding.module.items.weight[-1])
    batches = sliding.epoch(chains, 64, np.random.default_rng(0))
    with torch.no_grad():
        ours = sum(float(sliding.module(**batch())) for batch in batches) / len(batches)
    train = chains.histories("train")
    cut = [(n, history[:t], history[t : t + ahead]) for n, history in enumerate(train) for t in range(1, len(history))]
    logits = sliding.scores(Histories.of([past for _, past, _ in cut], [train.users[n] for n, _, _ in cut]))
    losses = [
        F.cross_entropy(row, torch.tensor(int(i)))
        for row, (_, _, items) in zip(logits, cut, strict=True)
        for i in items
    ]
    assert ours == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_a_target_is_never_its_own_negative(bare: Entities) -> None:
    """Scores that say which item they are of: all others come, about equally often."""
    module = model(bare).module
    with torch.no_grad():
        module.output.weight.zero_()
        module.output.weight[:, 0] = torch.arange(len(bare.items))
    targets = torch.tensor([0, 7, 39]).repeat(1300)
    states = torch.zeros(len(targets), 9)
    states[:, 0] = 1
    drawn = module.against(states, targets, 2).detach().long()
    assert torch.equal(drawn[:, 0], targets)
    for target in (0, 7, 39):
        counts = torch.bincount(drawn[targets == target, 1:].flatten(), minlength=40)
        assert counts[target] == 0
        assert counts.sum() == 2600
        others = counts[torch.arange(40) != target]
        assert (others - 2600 / 39).abs().max() < 5 * (2600 / 39) ** 0.5


def test_an_unknown_user_is_the_mean_user(bare: Entities) -> None:
    sliding = model(bare)
    weight = sliding.module.users.weight
    with torch.no_grad():
        weight.normal_()
        weight[3] = torch.cat([weight[:3], weight[4:]]).mean(0)  # so that the mean of all is user 3 itself
    known, unknown = sliding.scores(Histories.of([[1, 2], [1, 2]], [3, -1]))
    torch.testing.assert_close(known, unknown)
    assert not torch.allclose(known, sliding.scores(Histories.of([[1, 2]], [1]))[0])


def test_training_leaves_features_and_users_out(bare: Entities) -> None:
    """Caser's features before z, the values of HGN's user: nothing precedes, so that the state is the user's."""
    torch.manual_seed(0)
    caser = Caser(CaserOptions(width=8, dropout=0.5), bare).module.train()
    hgn = HGN(HGNOptions(width=8, length=3, dropout=0.5), bare).module.train()
    users = torch.arange(50)
    items = torch.arange(5).expand(50, -1)
    assert not torch.equal(caser.states(items, users), caser.states(items, users))
    state = hgn.states(torch.full((50, 3), len(bare.items)), users)[:, :-1]
    out = state == 0
    torch.testing.assert_close(state[~out], 2 * hgn.users.weight[users][~out])
    assert 0.4 < out.float().mean() < 0.6
