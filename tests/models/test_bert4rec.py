"""BERT4Rec: what it hides, what it computes, and that it learns what popularity cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.bert4rec import PAD, BERT4Rec, BERT4RecOptions, Block, cloze
from oovrec.training.config import TrainingConfig

MASK = 40  # behind the 40 items of the small world


def made(bare: Entities, **options: float) -> BERT4Rec:
    torch.manual_seed(0)
    model = BERT4Rec(BERT4RecOptions(width=16, length=20, dropout=0, **options), bare)  # type: ignore[arg-type]
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5)
    model.module.eval()
    return model


def normed(states: Tensor) -> Tensor:
    return (states - states.mean(-1, keepdim=True)) / states.var(-1, correction=0, keepdim=True).sqrt()


def test_a_block_is_the_papers_formula() -> None:
    """LN(x + W softmax(Q Kᵀ / √(d / heads)) V), then LN(x + W₂ GELU(W₁ x)); padding is not seen."""
    torch.manual_seed(1)
    block = Block(width=8, heads=2, dropout=0.0)
    states, length = torch.randn(5, 8), 3
    part = block.attention
    queries, keys, values = part.query(states), part.key(states), part.value(states)
    mixed = torch.zeros_like(states)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            weights = (queries[t, head] @ keys[:length, head].T / 2).softmax(0)
            mixed[t, head] = weights @ values[:length, head]
    attended = normed(states + part.out(mixed))
    wide = block.feed.layers[0](attended)
    gelu = wide * (1 + torch.erf(wide / 2**0.5)) / 2
    seen = (torch.arange(5) < length)[None, None, None]
    torch.testing.assert_close(block(states[None], seen)[0], normed(attended + block.feed.layers[2](gelu)))


def test_scores_are_read_at_a_mask_token_behind_the_history(bare: Entities) -> None:
    model = made(bare)
    net = model.module
    table = torch.tensor([[3, 9, 5, MASK]])
    states = normed(net.items.weight[table] + net.positions.weight[:4])
    states = states * net.norm.weight + net.norm.bias
    for block in net.blocks:
        states = block(states, torch.ones(1, 1, 1, 4, dtype=torch.bool))
    expected = net.output(states[0, 3]) @ net.items.weight[:MASK].T + net.bias
    scores = model.scores(Histories.of([[3, 9, 5], [], list(range(30)), list(range(10, 30))]))
    torch.testing.assert_close(scores[0], expected)
    torch.testing.assert_close(scores[1], net.bias.detach())
    torch.testing.assert_close(scores[2], scores[3])  # only the newest `length` items count


def test_a_target_is_never_shown(chains: Dataset, bare: Entities) -> None:
    model = made(bare, masked=0.3, last=0.5)
    batches = model.epoch(chains, 64, np.random.default_rng(0))
    originals = [batch.args[0] for batch in batches]  # type: ignore[attr-defined]
    hidden = shown = cut = 0
    for batch, original in zip(batches, originals, strict=True):
        tensors = batch()
        items, where = tensors["items"].numpy(), tensors["where"].numpy()
        rows, columns = np.divmod(where, items.shape[1])
        assert (items[rows, columns] == MASK).all()
        assert (items == MASK).sum() == len(where)
        for row, history in enumerate(original):
            end = int((items[row] != PAD).sum())
            mine = columns[rows == row]
            assert len(mine) >= 1
            assert (items[row, end:] == PAD).all()
            np.testing.assert_array_equal(np.delete(items[row, :end], mine), np.delete(history[:end], mine))
            np.testing.assert_array_equal(tensors["targets"].numpy()[rows == row], history[mine])
            if end < len(history):  # what follows a hidden last item is not there
                cut += 1
                assert mine.tolist() == [end - 1]
            else:
                hidden, shown = hidden + len(mine), shown + end
    assert cut > 20
    assert 0.25 < hidden / shown < 0.4  # .3, some more where the last item alone was hidden


@pytest.mark.parametrize(("masked", "last"), [(0.15, 0.0), (0.15, 0.6), (1.0, 0.0)])
def test_a_batchs_loss_is_divided_by_the_mean_number_of_targets(
    masked: float, last: float, chains: Dataset, bare: Entities
) -> None:
    model = made(bare, masked=masked, last=last)
    epochs = [model.epoch(chains, 64, np.random.default_rng(seed)) for seed in range(40)]
    counts = [np.mean([len(batch()["targets"]) for batch in epoch]) for epoch in epochs]
    scales = [float(epoch[0]()["scale"]) for epoch in epochs]
    assert np.mean(counts) == pytest.approx(np.mean(scales), rel=0.02)


def test_hiding_the_last_item_trains_the_scores(chains: Dataset, bare: Entities) -> None:
    """The loss of such samples, recomputed from :meth:`scores` of what precedes each hidden item."""
    model = made(bare, last=1.0)
    batch = chains.histories("train").take(slice(0, 30))
    batch = batch.take(batch.lengths > 1)
    tensors = cloze(batch, model.config, MASK, scale=1.0, seed=5)
    with torch.no_grad():
        loss = model.module(**tensors)
    ends = (tensors["items"] != PAD).sum(1).tolist()
    assert len(set(ends)) > 3
    logits = model.scores(Histories.of([history[: end - 1] for history, end in zip(batch, ends, strict=True)]))
    torch.testing.assert_close(loss, F.cross_entropy(logits, tensors["targets"], reduction="sum"))


def test_maskings_differ_from_epoch_to_epoch_and_depend_on_the_generator_alone(chains: Dataset, bare: Entities) -> None:
    model = made(bare)
    first, again, other = (model.epoch(chains, 1000, np.random.default_rng(seed))[0]() for seed in (1, 1, 2))
    assert torch.equal(first["items"], again["items"])
    assert first["items"].shape != other["items"].shape or not torch.equal(first["items"], other["items"])


def test_it_learns_what_follows_what(chains: Dataset, bare: Entities) -> None:
    model = BERT4Rec(BERT4RecOptions(width=32, length=10, dropout=0.1, last=0.8), bare)
    training = TrainingConfig(epochs=60, batch_size=64, learning_rate=3e-3, validate_every=20, schedule="cosine")
    model.fit(chains, training, seed=0)
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.7  # 10 of 40 items by chance
