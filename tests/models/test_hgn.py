"""HGN: a case computed by hand, its two objectives, and that it learns what popularity cannot."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.hgn import HGN, HGNOptions
from oovrec.training.config import TrainingConfig


def hand_made(loss: str = "softmax") -> HGN:
    """d = 1, L = 2; users 1 and 3; items 1 and 2 with rows 1 and −1, biases 0.1 and 0; σ(ln 3) = 3/4."""
    model = HGN(HGNOptions(width=1, length=2, dropout=0, loss=loss), Entities(["a", "b"], ["u", "v"]))
    three = log(3)
    weights = {
        "users.weight": [[1.0], [3.0]],
        "items.weight": [[1.0], [2.0], [0.0]],
        "output.weight": [[1.0, 0.1], [-1.0, 0.0]],
        "feature_item.weight": [[three]],
        "feature_item.bias": [three],
        "feature_user.weight": [[-2 * three]],
        "instance_item.weight": [[2 * three]],
        "instance_user.weight": [[0.0], [-3 * three]],
    }
    model.module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return model


def test_scores_are_those_computed_by_hand() -> None:
    """After a, b of user u.

    Feature gates: σ(ln 3 · 1 − 2 ln 3 + ln 3) = 1/2 and σ(ln 3 · 2 − 2 ln 3 + ln 3) = 3/4: gated items 0.5 and 1.5.
    Instance gates: σ(2 ln 3 · 0.5 + 0) = 3/4 and σ(2 ln 3 · 1.5 − 3 ln 3) = 1/2; the average is
    (3/4 · 0.5 + 1/2 · 1.5) / (3/4 + 1/2) = 0.9. The state: u + 0.9 + (1 + 2) = 4.9.

    After b alone, which then stands in the second place: 1 + 1.5 + 2 = 4.5. After nothing: u = 1.
    """
    scores = hand_made().scores(Histories.of([[0, 1], [1], []], [0, 0, 0]))
    torch.testing.assert_close(scores, torch.tensor([[5.0, -4.9], [4.6, -4.5], [1.1, -1.0]]))


def test_only_the_newest_items_count() -> None:
    scores = hand_made().scores(Histories.of([[1, 1, 0, 1], [0, 1]], [0, 0]))
    torch.testing.assert_close(scores[0], scores[1])


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_losses_are_the_formulas(loss: str) -> None:
    """With two items the one that is not the target is the negative; then BPR is the softmax's cross-entropy too."""
    module = hand_made(loss).module
    items, users = torch.tensor([[0, 1], [2, 1]]), torch.tensor([0, 0])
    differences = torch.tensor([5.0 + 4.9, -4.5 - 4.6])  # target a after a, b; target b after b
    ours = module(items, users, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor(2.0))
    torch.testing.assert_close(ours, -F.logsigmoid(differences).sum() / 2)


def test_bpr_compares_with_one_item_not_with_all(bare: Entities) -> None:
    module = HGN(HGNOptions(width=8, loss="bpr"), bare).module
    states, targets = torch.zeros(5, 9), torch.arange(5)
    assert float(module.loss(states, targets).detach()) == pytest.approx(5 * log(2))


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_it_learns_what_follows_what(chains: Dataset, bare: Entities, loss: str) -> None:
    model = HGN(HGNOptions(width=32, length=3, dropout=0.2, loss=loss), bare)
    training = TrainingConfig(epochs=20, batch_size=64, learning_rate=1e-2, validate_every=10, precision="fp32")
    logs = model.fit(chains, training, seed=0)
    assert logs[-1].loss < logs[0].loss
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.6  # popularity: below .45
