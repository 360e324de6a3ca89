"""eSASRec: a layer against its formula, both losses against the scores, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.esasrec import ESASRec, ESASRecOptions, LiGR
from oovrec.training.config import TrainingConfig


def made(bare: Entities, **options: object) -> ESASRec:
    torch.manual_seed(0)
    settings = {"width": 16, "length": 20, "dropout": 0, **options}
    model = ESASRec(ESASRecOptions.model_validate(settings), bare)
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5)
    model.module.eval()
    return model


def test_a_layer_is_the_papers_formula() -> None:
    """x + σ(W x) · f(LN x), f the causal attention, then the same with SwiGLU."""
    torch.manual_seed(1)
    layer = LiGR(ESASRecOptions(width=8, heads=2, dropout=0, expansion=3)).eval()
    states = torch.randn(3, 5, 8)
    normed = F.layer_norm(states, [8])
    queries, keys, values = layer.query(normed), layer.key(normed), layer.value(normed)
    mixed = torch.zeros_like(states)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            weights = (queries[:, t, None, head] * keys[:, : t + 1, head]).sum(2).div(2).softmax(1)
            mixed[:, t, head] = (weights[:, :, None] * values[:, : t + 1, head]).sum(1)
    half = states + layer.out(mixed) / (1 + torch.exp(-layer.attention_gate(states)))
    normed = F.layer_norm(half, [8])
    wide = normed @ layer.feed.gate.weight.T
    assert wide.shape[2] == 24
    fed = ((wide / (1 + torch.exp(-wide))) * (normed @ layer.feed.value.weight.T)) @ layer.feed.out.weight.T
    torch.testing.assert_close(layer(states), half + fed / (1 + torch.exp(-layer.feed_gate(half))))


@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_loss_is_the_mean_of_the_scores_it_trains(loss: str, chains: Dataset, bare: Entities) -> None:
    """The epoch's losses, recomputed target by target from :meth:`scores` of what precedes each."""
    model = made(bare, loss=loss, negatives=7)
    torch.nn.init.zeros_(model.module.positions.weight)  # alone, a past has its items at other places
    for batch in model.epoch(chains, 200, np.random.default_rng(0)):
        tensors = batch()
        with torch.no_grad():
            ours = float(model.module(**tensors) * tensors["scale"])
        rows, columns = np.divmod(tensors["where"].numpy(), tensors["items"].shape[1])
        pasts = [tensors["items"][row, : column + 1].numpy() for row, column in zip(rows, columns, strict=True)]
        scores, targets = model.scores(Histories.of(pasts)), tensors["targets"][:, None]
        candidates = targets if loss == "softmax" else torch.cat([targets, tensors["negatives"]], 1)
        assert candidates.shape[1] == (1 if loss == "softmax" else 8)
        over = scores if loss == "softmax" else scores.gather(1, candidates)
        total = (over.logsumexp(1) - scores.gather(1, targets)[:, 0]).sum()
        assert ours == pytest.approx(float(total), rel=1e-4)


def test_negatives_are_uniform_and_drawn_anew(chains: Dataset, bare: Entities) -> None:
    model = made(bare, loss="sampled", negatives=50)
    first, again, other = (model.epoch(chains, 10_000, np.random.default_rng(seed))[0]() for seed in (1, 1, 2))
    assert torch.equal(first["negatives"], again["negatives"])
    assert not torch.equal(first["negatives"], other["negatives"])
    counts = np.bincount(first["negatives"].ravel().numpy(), minlength=40)
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.2)


def test_a_state_sees_no_later_item(bare: Entities) -> None:
    net = made(bare).module
    items = torch.randint(40, (3, 9))
    other = items.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 40
    torch.testing.assert_close(net.hidden(other)[:, :5], net.hidden(items)[:, :5])
    assert not torch.allclose(net.hidden(other)[:, 5:], net.hidden(items)[:, 5:])


@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_it_learns_what_follows_what(loss: str, chains: Dataset, bare: Entities) -> None:
    model = ESASRec(ESASRecOptions.model_validate({"width": 32, "length": 10, "dropout": 0.2, "loss": loss}), bare)
    model.fit(chains, TrainingConfig(epochs=12, batch_size=64, learning_rate=1e-2, validate_every=12), seed=0)
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.7  # 10 of 40 items by chance
