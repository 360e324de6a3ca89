"""Caser: what it computes, against the paper's formulas in plain loops, and that it learns what popularity cannot."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.caser import Caser, CaserOptions
from oovrec.training.config import TrainingConfig

ITEMS, USERS, WIDTH, LENGTH = 6, 3, 4, 3


def small(**options: object) -> Caser:
    torch.manual_seed(0)
    config = CaserOptions(width=WIDTH, length=LENGTH, horizontal=2, vertical=2, dropout=0, **options)
    model = Caser(config, Entities([f"i{n}" for n in range(ITEMS)], [f"u{n}" for n in range(USERS)]))
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.7)
    torch.nn.init.zeros_(model.module.items.weight[-1])
    return model


def features(weights: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """z of one window ``[L, d]``, after equations 3 to 8 of the paper."""
    vertical = [
        (weights["vertical.weight"][k] * image[:, column]).sum() + weights["vertical.bias"][k]
        for column in range(WIDTH)
        for k in range(2)
    ]
    horizontal = []
    for h in range(1, LENGTH + 1):
        for k in range(2):
            kernel, bias = weights[f"horizontal.{h - 1}.weight"][k].T, weights[f"horizontal.{h - 1}.bias"][k]
            slides = [max((image[i : i + h] * kernel).sum() + bias, 0) for i in range(LENGTH - h + 1)]
            horizontal.append(max(slides))
    return np.maximum(weights["full.weight"] @ np.array(vertical + horizontal) + weights["full.bias"], 0)


@pytest.mark.parametrize("output", ["own", "tied"])
def test_scores_are_the_papers_formulas(output: str) -> None:
    model = small(output=output)
    weights = {name: tensor.double().numpy() for name, tensor in model.module.state_dict().items()}
    histories = Histories.of([[0, 1, 2], [5, 4, 3, 2, 1], [3], []], [0, 1, 2, 1])
    for history, user, scores in zip(histories, histories.users, model.scores(histories), strict=True):
        image = np.zeros((LENGTH, WIDTH))
        newest = history[-LENGTH:]
        image[LENGTH - len(newest) :] = weights["items.weight"][newest]
        both = np.concatenate([features(weights, image), weights["users.weight"][user]])
        if output == "own":
            expected = weights["output.weight"][:, :-1] @ both + weights["output.weight"][:, -1]
        else:
            state = np.maximum(weights["second.weight"] @ both + weights["second.bias"], 0)
            expected = weights["items.weight"][:-1] @ state
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_binary_cross_entropy_is_the_papers_formula() -> None:
    """With two items, the three negatives of a target are the other one."""
    model = Caser(CaserOptions(width=4, loss="bce", dropout=0), Entities(["a", "b"], ["u"]))
    torch.nn.init.normal_(model.module.output.weight)
    scores = model.scores(Histories.of([[0, 1], [1]], [0, 0]))
    items = torch.tensor([[2, 2, 2, 0, 1], [2, 2, 2, 2, 1]])
    ours = model.module(items, torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor(2.0))
    chances = scores.double().sigmoid()
    expected = -(
        chances[0, 0].log() + 3 * (1 - chances[0, 1]).log() + chances[1, 1].log() + 3 * (1 - chances[1, 0]).log()
    )
    assert float(ours.detach()) == pytest.approx(float(expected) / 2, rel=1e-5)


def test_softmax_is_over_the_catalogue(bare: Entities) -> None:
    module = Caser(CaserOptions(width=8), bare).module
    states, targets = torch.zeros(5, 17), torch.arange(5)
    assert float(module.loss(states, targets).detach()) == pytest.approx(5 * log(40))


def test_padding_stays_zero_in_training(chains: Dataset, bare: Entities) -> None:
    model = Caser(CaserOptions(width=8, output="tied"), bare)
    model.fit(chains, TrainingConfig(epochs=1, batch_size=64, precision="fp32"), seed=0)
    assert (model.module.items.weight[-1] == 0).all()
    assert (model.module.items.weight[:-1] != 0).all()


@pytest.mark.parametrize(("loss", "output"), [("softmax", "own"), ("softmax", "tied"), ("bce", "own")])
def test_it_learns_what_follows_what(chains: Dataset, bare: Entities, loss: str, output: str) -> None:
    model = Caser(CaserOptions(width=32, length=3, dropout=0.2, loss=loss, output=output), bare)
    training = TrainingConfig(epochs=20, batch_size=64, learning_rate=5e-3, validate_every=10, precision="fp32")
    logs = model.fit(chains, training, seed=0)
    assert logs[-1].loss < logs[0].loss
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.6  # popularity: below .45
