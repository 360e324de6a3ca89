"""BSARec: its filter against numpy's Fourier transform, what a sample shows, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential import bert4rec
from oovrec.models.sequential.bsarec import PAD, Block, BSARec, BSARecOptions, low_pass
from oovrec.training.config import TrainingConfig


def made(bare: Entities, causal: bool, length: int = 20) -> BSARec:
    torch.manual_seed(0)
    model = BSARec(BSARecOptions(width=16, length=length, dropout=0, heads=2, causal=causal), bare)
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5)
    model.module.eval()
    return model


def fourier_low(sequence: np.ndarray, length: int, components: int) -> np.ndarray:
    """The low-pass part of a sequence at the end of ``length`` positions, by the transform itself."""
    placed = np.zeros((length, sequence.shape[1]))
    placed[length - len(sequence) :] = sequence
    spectrum = np.fft.rfft(placed, axis=0, norm="ortho")
    spectrum[components // 2 + 1 :] = 0
    return np.fft.irfft(spectrum, n=length, axis=0, norm="ortho")[length - len(sequence) :]


@pytest.mark.parametrize("length", [12, 13])
@pytest.mark.parametrize("components", [1, 3, 5, 100])
@pytest.mark.parametrize("real", [4, 12])
def test_the_low_pass_matrix_is_the_fourier_transforms(length: int, components: int, real: int) -> None:
    sequence = np.random.default_rng(0).normal(size=(real, 3))
    low = low_pass(length, components).double().numpy()
    expected = fourier_low(sequence, length, components)
    np.testing.assert_allclose(low[:real, :real] @ sequence, expected, atol=1e-6)
    for n in range(1, real + 1):  # causal: at its last item, each prefix's own transform
        np.testing.assert_allclose(
            np.tril(low)[n - 1, :real] @ sequence, fourier_low(sequence[:n], length, components)[-1], atol=1e-6
        )
    if components == 100:
        np.testing.assert_allclose(low, np.eye(length), atol=1e-6)


def test_a_block_is_the_papers_formula() -> None:
    """α · LN(x + low + β² (x - low)) + (1 - α) · attention, then the feed-forward part."""
    torch.manual_seed(1)
    states, low = torch.randn(2, 6, 8), low_pass(9, 3)[:6, :6]
    seen = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    block = Block(BSARecOptions(width=8, heads=2, dropout=0, alpha=0.6))
    slow = torch.from_numpy(np.stack([fourier_low(rows, 9, 3) for rows in states.numpy()])).float()
    filtered = F.layer_norm(states + slow + block.filter.root**2 * (states - slow), [8], eps=1e-12)
    plain = bert4rec.Block(8, 2, 0.0)
    plain.attention, plain.feed = block.attention, block.feed
    mixed = 0.6 * filtered + 0.4 * plain.attention(states, seen)
    torch.testing.assert_close(block(states, low, seen, states), block.feed(mixed))
    torch.testing.assert_close(  # of the last state alone
        block(states, low[-1:], seen[..., -1:, :], states[:, -1:]), block(states, low, seen, states)[:, -1:]
    )
    block.alpha = 0.0
    torch.testing.assert_close(block(states, low, seen, states), plain(states, seen))


def test_a_causal_state_sees_no_later_item(bare: Entities) -> None:
    net = made(bare, causal=True).module
    items = torch.randint(40, (3, 9))
    other = items.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 40
    torch.testing.assert_close(net.hidden(other)[:, :5], net.hidden(items)[:, :5])
    assert not torch.allclose(net.hidden(other)[:, 5:], net.hidden(items)[:, 5:])


def test_a_prefix_is_filtered_both_ways(bare: Entities) -> None:
    """The difference of the two modes: an earlier state has seen later items, but never the target."""
    scores = {causal: made(bare, causal).scores(Histories.of([[1, 2, 3]])) for causal in (True, False)}
    assert not torch.allclose(scores[True], scores[False])
    one = BSARecOptions(width=16, length=3, dropout=0, layers=1)
    nets = [BSARec(one.model_copy(update={"causal": causal}), bare) for causal in (True, False)]
    nets[1].load_state(nets[0].state())
    full = Histories.of([[1, 2, 3]])  # one layer, and positions that are the same from either end
    torch.testing.assert_close(nets[0].scores(full), nets[1].scores(full))


def test_each_prefix_is_a_sample_without_its_target(chains: Dataset, bare: Entities) -> None:
    length, train = 5, chains.histories("train")
    batches = made(bare, causal=False, length=length).epoch(chains, 64, np.random.default_rng(0))
    found = []
    for batch in batches:
        tensors = batch()
        for row, target in zip(tensors["items"].numpy(), tensors["targets"].tolist(), strict=True):
            real = row[row != PAD]
            assert (row[len(row) - len(real) :] == real).all()  # padding comes first
            found.append((*real.tolist(), target))
    expected = [tuple(h[max(0, t - length) : t + 1].tolist()) for h in train for t in range(1, len(h))]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("causal", [True, False])
def test_loss_is_the_mean_of_the_scores_it_trains(causal: bool, chains: Dataset, bare: Entities) -> None:
    """The epoch's losses, recomputed target by target from :meth:`scores` of what precedes each."""
    model = made(bare, causal)
    torch.nn.init.zeros_(model.module.positions.weight)  # alone, a past has its items at other places
    batches = model.epoch(chains, 32, np.random.default_rng(0))
    with torch.no_grad():
        ours = sum(float(model.module(**batch())) for batch in batches)
    pairs = [(h[:t], int(h[t])) for h in chains.histories("train") for t in range(1, len(h))]
    logits = model.scores(Histories.of([past for past, _ in pairs]))
    total = F.cross_entropy(logits, torch.tensor([target for _, target in pairs]), reduction="sum")
    assert ours / len(batches) == pytest.approx(float(total) / len(pairs), rel=1e-4)


def test_it_learns_what_follows_what(chains: Dataset, bare: Entities) -> None:
    model = BSARec(BSARecOptions(width=32, length=10, dropout=0.2), bare)
    model.fit(chains, TrainingConfig(epochs=12, batch_size=32, learning_rate=3e-3, validate_every=6), seed=0)
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.7  # 10 of 40 items by chance


@pytest.mark.parametrize(("rate", "chance"), [(None, False), (0.5, True)])
def test_attention_weights_have_a_dropout_of_their_own(rate: float | None, chance: bool) -> None:
    torch.manual_seed(2)
    states, seen = torch.randn(2, 6, 8), torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    block = Block(BSARecOptions(width=8, heads=2, dropout=0, attention_dropout=rate)).train()
    first, second = (block(states, low_pass(6, 3), seen, states) for _ in range(2))
    assert torch.equal(first, second) is not chance
