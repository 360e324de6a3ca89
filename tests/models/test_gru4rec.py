"""GRU4Rec: what it computes, against the paper's formulas in plain loops, and that it learns what popularity cannot."""

from __future__ import annotations

import numpy as np
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.gru4rec import GRU4Rec, GRU4RecOptions
from oovrec.training.config import TrainingConfig


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def recurrent(inputs: np.ndarray, into: np.ndarray, again: np.ndarray) -> np.ndarray:
    """``[L, h]`` states of one layer; the matrices of reset, update and candidate stand one below the other."""
    states, state = [], np.zeros(again.shape[1])
    for x in inputs:
        (reset, update, candidate), (r, z, c) = np.split(into @ x, 3), np.split(again @ state, 3)
        keep = sigmoid(update + z)
        state = keep * state + (1 - keep) * np.tanh(candidate + sigmoid(reset + r) * c)
        states.append(state)
    return np.array(states)


def test_scores_are_the_papers_formulas() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecOptions(width=4, units=5, layers=2, length=4), Entities([f"i{n}" for n in range(7)], []))
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    weights = {name: tensor.double().numpy() for name, tensor in model.module.state_dict().items()}
    histories = Histories.of([[0, 1, 2, 3], [6], [5, 4, 3, 2, 1, 0]])
    for history, scores in zip(histories, model.scores(histories), strict=True):
        states = weights["items.weight"][history[-4:]]
        for layer in range(2):
            states = recurrent(states, weights[f"units.weight_ih_l{layer}"], weights[f"units.weight_hh_l{layer}"])
        expected = weights["items.weight"] @ (weights["out.weight"] @ states[-1] + weights["out.bias"])
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_dropout_is_on_the_embeddings_alone() -> None:
    """Values are left out or doubled before the recurrence, and nothing is left out after it."""
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecOptions(width=2, units=3, dropout=0.5), Entities(["a"], []))
    torch.nn.init.ones_(model.module.items.weight)
    items = torch.zeros(200, 1, dtype=torch.long)
    inputs = torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]], [[2.0, 0.0]], [[2.0, 2.0]]])
    possible = model.module.out(model.module.units(inputs)[0])[:, 0].detach()
    found = model.module.train().hidden(items)[:, 0].detach()
    nearest = (found[:, None] - possible).abs().amax(2)
    assert float(nearest.amin(1).max()) < 1e-6
    assert set(nearest.argmin(1).tolist()) == {0, 1, 2, 3}


def test_it_learns_what_follows_what(chains: Dataset, bare: Entities) -> None:
    model = GRU4Rec(GRU4RecOptions(width=32, units=32, length=10, dropout=0.2), bare)
    training = TrainingConfig(epochs=20, batch_size=64, learning_rate=1e-2, validate_every=10, precision="fp32")
    logs = model.fit(chains, training, seed=0)
    assert logs[-1].loss < logs[0].loss
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.6  # popularity: below .45
