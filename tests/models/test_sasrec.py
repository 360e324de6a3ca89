"""SASRec: what it computes, against plain formulas, and that it learns what popularity cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate, validation_score
from oovrec.models.entities import Entities
from oovrec.models.sequential.base import places
from oovrec.models.sequential.popularity import Popularity, PopularityOptions
from oovrec.models.sequential.sasrec import Block, SASRec, SASRecOptions
from oovrec.training.config import TrainingConfig


@pytest.fixture
def model(bare: Entities) -> SASRec:
    torch.manual_seed(0)
    made = SASRec(SASRecOptions(width=16, length=6), bare)
    for parameter in made.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5)
    made.module.eval()
    return made


def test_attention_is_the_papers_formula() -> None:
    """softmax(Q Kᵀ / √(d / heads)) V per head, positions after the query left out."""
    torch.manual_seed(1)
    block = Block(width=8, heads=2, dropout=0.0).eval()
    states = torch.randn(3, 5, 8)
    normed = block.attention_norm(states)
    queries, keys, values = block.query(normed), block.key(states), block.value(states)
    mixed = torch.zeros_like(states)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            weights = (queries[:, t, None, head] * keys[:, : t + 1, head]).sum(2).div(2).softmax(1)
            mixed[:, t, head] = (weights[:, :, None] * values[:, : t + 1, head]).sum(1)
    attended = block.feed_norm(states + block.out(mixed))
    feed = block.feed[3](block.feed[0](attended).relu())
    torch.testing.assert_close(block(states), attended + feed)


def test_loss_is_the_mean_of_the_scores_it_trains(model: SASRec, chains: Dataset) -> None:
    """The epoch's losses, recomputed target by target from :meth:`scores` of what precedes each."""
    length = 20  # no history is longer, so that each is one window
    model = SASRec(SASRecOptions(width=16, length=length, dropout=0), model.entities)
    torch.nn.init.zeros_(model.module.positions.weight)  # alone, a past has its items at other places
    batches = model.epoch(chains, 32, np.random.default_rng(0))
    with torch.no_grad():
        ours = sum(float(model.module(**batch())) for batch in batches)
    pairs = [(h[:t], int(h[t])) for h in chains.histories("train") for t in range(1, len(h))]
    logits = model.scores(Histories.of([past for past, _ in pairs]))
    total = F.cross_entropy(logits, torch.tensor([target for _, target in pairs]), reduction="sum")
    assert ours / len(batches) == pytest.approx(float(total) / len(pairs), rel=1e-4)


def test_places_are_counted_back_from_the_newest_item() -> None:
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert places(real).tolist() == [[3, 2, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_history_is_at_the_same_places_beside_a_longer_one(model: SASRec) -> None:
    alone, beside = model.scores(Histories.of([[1, 2]])), model.scores(Histories.of([[1, 2], [5, 4, 3, 2, 1]]))
    torch.testing.assert_close(alone[0], beside[0])


def test_only_the_newest_items_count(model: SASRec) -> None:
    long, short = [9, 8, 7, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]
    scores = model.scores(Histories.of([long, short, short[1:]]))
    torch.testing.assert_close(scores[0], scores[1])
    assert not torch.allclose(scores[1], scores[2])


def test_the_last_state_asked_for_alone_is_the_one_among_all(model: SASRec) -> None:
    items, lengths = torch.tensor([[3, 1, 2, 4], [5, 6, -1, -1], [7, -1, -1, -1]]), torch.tensor([4, 2, 1])
    among_all = model.module.hidden(items)[torch.arange(3), lengths - 1]
    torch.testing.assert_close(model.module.last(items, lengths), among_all)


def test_an_empty_history_prefers_nothing(model: SASRec) -> None:
    assert (model.scores(Histories.of([[], []])) == 0).all()
    assert (model.scores(Histories.of([[], [1]]))[0] == 0).all()


def test_scores_are_not_rounded_under_autocast(model: SASRec) -> None:
    """In bf16 a catalogue's scores would tie, and ties count against the model."""
    with torch.autocast("cpu", torch.bfloat16):
        scores = model.scores(Histories.of([[1, 2, 3]]))
    assert not torch.equal(scores, scores.bfloat16().float())


def test_it_learns_what_follows_what(chains: Dataset, bare: Entities) -> None:
    popularity = Popularity(PopularityOptions(), bare)
    assert popularity.fit(chains, TrainingConfig()) == []
    sasrec = SASRec(SASRecOptions(width=32, length=10, dropout=0.2), bare)
    logs = sasrec.fit(chains, TrainingConfig(epochs=40, batch_size=16, learning_rate=3e-3, validate_every=5), seed=0)
    assert logs[-1].loss < logs[0].loss
    best = max(log.ndcg for log in logs if log.ndcg is not None)
    assert validation_score(sasrec.scores, chains) == pytest.approx(best, abs=0.01)  # the best epoch's weights are back
    hits = {model.name: evaluate(model.scores, chains).blocks()["masked"]["hit@10"] for model in (sasrec, popularity)}
    assert hits["sasrec"] > 0.7
    assert hits["popularity"] < 0.45  # 10 of 40 items by chance


@pytest.mark.parametrize("block", ["raw", "masked"])
def test_it_is_validated_among_the_candidates_that_are_asked_for(chains: Dataset, bare: Entities, block: str) -> None:
    sasrec = SASRec(SASRecOptions(width=32, length=10), bare)
    training = TrainingConfig(epochs=1, batch_size=16, learning_rate=1e-2, validate_on=block, precision="fp32")
    (log,) = sasrec.fit(chains, training)
    blocks = evaluate(sasrec.ranked, chains, "validation").blocks()
    assert log.ndcg == pytest.approx(blocks[block]["ndcg@10"])
    assert blocks["raw"]["ndcg@10"] != blocks["masked"]["ndcg@10"]


def test_popularity_counts_the_training_part_alone(chains: Dataset, bare: Entities) -> None:
    model = Popularity(PopularityOptions(), bare)
    model.fit(chains, TrainingConfig())
    expected = np.zeros(len(chains.items))
    for history in chains.full:
        np.add.at(expected, history[:-2], 1)
    np.testing.assert_array_equal(model.scores(Histories.of([[1], []])).numpy(), [expected, expected])
