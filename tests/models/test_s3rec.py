"""S3-Rec: what is masked, each pre-training loss against a slow loop, the two stages and their interruption."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import Interrupted
from oovrec.models.base import NeuralRecommender
from oovrec.models.entities import Entities
from oovrec.models.sequential.attributes import attribute_table
from oovrec.models.sequential.s3rec import Pretraining, S3Rec, S3RecOptions, corrupted
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch

ITEMS, WIDTH = 40, 8
HISTORIES = Histories.of([[3, 5, 8, 13, 21], [1, 2, 3], [30], [7, 9]])
OTHERS = np.arange(20, 40, dtype=np.int32)
TRAINING = TrainingConfig(epochs=2, batch_size=64, precision="fp32", validation_users=20)


@pytest.fixture
def told(chains: Dataset) -> Dataset:
    """Item n has attributes n mod 3 and, every fourth, 50; item 3 has none."""
    numbers = [(n % 3, *((50,) if n % 4 == 0 else ())) for n in range(ITEMS)]
    return replace(chains, attributes=[*numbers[:3], (), *numbers[4:]])


def stage(told: Dataset, **options: object) -> Pretraining:
    """The first stage with weights far from initialisation, so that every term counts; no dropout."""
    config = S3RecOptions(width=WIDTH, length=8, **options)  # type: ignore[arg-type]
    entities = Entities.of(told)
    torch.manual_seed(0)
    made = Pretraining(S3Rec(config, entities).module, attribute_table(entities), config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def batch() -> dict[str, Tensor]:
    return corrupted(HISTORIES, OTHERS, share=0.5, scale=4.0, seed=1)


def loss(told: Dataset, **weights: float) -> float:
    """Of the batch, with the given tasks alone."""
    off = {f"{task}_weight": 0.0 for task in ("aap", "mip", "map", "sp")}
    with torch.no_grad():
        return stage(told, **{**off, **weights})(**batch()).item() * 4.0


def state(made: Pretraining, items: list[int], hidden: list[bool], position: int) -> Tensor:
    """The encoder's state in a history of its own, by the plain formulas of two-way attention."""
    network = made.network
    vectors = [made.mask if out else network.items.weight[item] for item, out in zip(items, hidden, strict=True)]
    states = torch.stack(vectors) * WIDTH**0.5 + network.positions.weight[: len(items)].flip(0)
    for block in network.blocks:
        normed = block.attention_norm(states)
        queries, keys, values = block.query(normed), block.key(states), block.value(states)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = (queries[:, head] @ keys[:, head].T / 2).softmax(1)
            heads.append(weights @ values[:, head])
        normed = block.feed_norm(states + block.out(torch.cat(heads, 1)))
        states = normed + block.feed(normed)
    return network.norm(states)[position]


def attribute_loss(told: Dataset, made: Pretraining, vector: Tensor, item: int) -> float:
    assert told.attributes is not None
    names = sorted({number for numbers in told.attributes for number in numbers})
    total = 0.0
    for name, row in zip(names, made.attributes, strict=True):
        score = vector @ row
        total -= float(F.logsigmoid(score if name in told.attributes[item] else -score))
    return total


@torch.no_grad()
def test_items_and_attributes_are_read_from_the_encoder(told: Dataset) -> None:
    """Attributes at every position, from another map where the item is masked; items where it is."""
    made, masked = stage(told), batch()["masked"]
    shown = items = attributes = 0.0
    for row, history in enumerate(HISTORIES):
        hidden = masked[row, : len(history)].tolist()
        for position, item in enumerate(history.tolist()):
            reached = state(made, history.tolist(), hidden, position)
            if not hidden[position]:
                shown += attribute_loss(told, made, made.aap(reached), item)
                continue
            items -= float((made.network.items.weight @ made.mip(reached)).log_softmax(0)[item])
            attributes += attribute_loss(told, made, made.map(reached), item)
    assert loss(told, aap_weight=1) == pytest.approx(shown, rel=1e-4)
    assert loss(told, mip_weight=1) == pytest.approx(items, rel=1e-4)
    assert loss(told, map_weight=1) == pytest.approx(attributes, rel=1e-4)


@torch.no_grad()
def test_a_segment_is_told_from_a_foreign_one(told: Dataset) -> None:
    made, made_batch, expected = stage(told), batch(), 0.0
    for row, history in enumerate(HISTORIES):
        inside = made_batch["segment"][row, : len(history)].tolist()
        if not any(inside):
            continue
        foreign, outside = made_batch["foreign"][row, : len(history)].tolist(), [not within for within in inside]
        parts = (history.tolist(), inside), (history.tolist(), outside), (foreign, outside)
        context, own, other = (state(made, items, hidden, -1) for items, hidden in parts)
        expected -= float(F.logsigmoid(made.sp(context) @ own - made.sp(context) @ other))
    assert expected > 0
    assert loss(told, sp_weight=1) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_the_weighted_sum(told: Dataset) -> None:
    """0.2, 1.0, 1.0 and 0.5, as in the paper."""
    parts = [loss(told, **{f"{task}_weight": 1.0}) for task in ("aap", "mip", "map", "sp")]
    with torch.no_grad():
        total = stage(told)(**batch()).item() * 4.0
    assert total == pytest.approx(np.dot(parts, [0.2, 1.0, 1.0, 0.5]), rel=1e-4)


def test_pairwise_loss_has_one_other_item(told: Dataset) -> None:
    """With two items the other one is certain."""
    torch.manual_seed(0)
    network = S3Rec(S3RecOptions(width=4, loss="bpr"), Entities(["a", "b"], [])).module
    torch.nn.init.normal_(network.items.weight)
    states, targets = torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
    rows = network.items.weight.detach()
    pairs = zip(states, targets, strict=True)
    expected = -sum(float(F.logsigmoid(one @ rows[target] - one @ rows[1 - target])) for one, target in pairs)
    assert network.item_loss(states, targets).item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_no_state_depends_on_a_masked_item(told: Dataset) -> None:
    """Other items under the mask, and padding, change nothing; other items beside it do."""
    made, made_batch = stage(told), batch()
    items, masked = made_batch["items"], made_batch["masked"]
    real = torch.arange(5) < made_batch["lengths"][:, None]
    before = made.encode(items, masked, real)
    under = made.encode(torch.where(masked | ~real, 17, items), masked, real)
    assert torch.equal(under[real], before[real])
    beside = made.encode(torch.where(masked, items, 17), masked, real)
    changed = (beside != before).any(2)
    assert changed[0, masked[0]].all()


def test_what_is_masked() -> None:
    """The share asked for, the last always; a segment is one stretch of at most half, the foreign one as long."""
    many = Histories.of([np.arange(length) for length in (1, 2, 3, 10, 20)] * 400)
    made = {name: tensor.numpy() for name, tensor in corrupted(many, OTHERS, 0.2, 1.0, seed=0).items()}
    real = np.arange(20) < many.lengths[:, None]
    last = np.arange(20) == many.lengths[:, None] - 1
    assert made["masked"][last].all()
    assert not made["masked"][~real].any()
    assert made["masked"][real & ~last].mean() == pytest.approx(0.2, abs=0.015)
    sizes = made["segment"].sum(1)
    for length, longest in ((1, 0), (2, 1), (3, 1), (10, 5), (20, 10)):
        assert set(sizes[many.lengths == length]) == set(range(min(longest, 1), longest + 1))
    edges = np.diff(made["segment"].astype(int), axis=1, prepend=0, append=0)
    assert ((edges == 1).sum(1) == (sizes > 0)).all()  # each has one beginning
    assert made["segment"][many.lengths == 10].any(0)[:10].all()  # every place is reached
    assert not (made["segment"] & ~real).any()
    inside = made["segment"]
    assert (made["foreign"][~inside] == made["items"][~inside]).all()
    both = inside[:, 1:] & inside[:, :-1]
    assert (np.diff(made["foreign"], axis=1)[both] == 1).all()  # a stretch of OTHERS, which ascend by one
    assert set(made["foreign"][inside]) == set(OTHERS)


def test_the_first_stage_covers_every_training_item_anew_each_epoch(told: Dataset) -> None:
    model = S3Rec(S3RecOptions(length=5), Entities.of(told))
    epochs = [[make() for make in model.corrupted_epoch(told, 32, np.random.default_rng([3, e]))] for e in (1, 1, 2)]
    for made in epochs:
        seen = torch.cat([one["items"][torch.arange(one["items"].shape[1]) < one["lengths"][:, None]] for one in made])
        assert sorted(seen.tolist()) == sorted(told.histories("train").items.tolist())
    first, again, second = ([one["masked"].sum().item() for one in made] for made in epochs)
    assert first == again
    assert first != second


def test_stages_follow_one_another(told: Dataset, tmp_path: Path) -> None:
    """The first one moves the weights that the second begins with; 0 epochs leave it out; both logs are kept apart."""
    entities = Entities.of(told)
    started: dict[int, Tensor] = {}
    for epochs in (0, 2):
        model = S3Rec(S3RecOptions(width=16, length=8, pretrain_epochs=epochs), entities)
        original = model.epoch

        def watched(*arguments: object, model: S3Rec = model, epochs: int = epochs, original=original) -> list[Batch]:
            started.setdefault(epochs, model.module.items.weight.detach().clone())
            return original(*arguments)

        model.epoch = watched  # type: ignore[method-assign]
        logs = model.fit(told, TRAINING, seed=3, folder=tmp_path / str(epochs))
        assert [log.epoch for log in logs] == [1, 2]
        assert len((tmp_path / str(epochs) / "log.jsonl").read_text().splitlines()) == 2
    fresh = S3Rec(S3RecOptions(width=16, length=8), entities)
    fresh.begin(3)
    assert torch.equal(started[0], fresh.module.items.weight)
    assert (started[2] - started[0]).abs().max() > 1e-3


def test_an_interrupted_first_stage_goes_on_to_the_same_scores(told: Dataset, tmp_path: Path) -> None:
    entities, some = Entities.of(told), Histories.of([[1, 2, 3], [4]])
    options = S3RecOptions(width=16, length=8, pretrain_epochs=2)
    whole = S3Rec(options, entities)
    whole.fit(told, TRAINING, seed=3)
    stopped, made = S3Rec(options, entities), [0]
    original = stopped.corrupted_epoch

    def interrupted(dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        batches = original(dataset, batch_size, rng)
        made[0] += 1
        if made[0] == 2:  # in the second epoch
            first = batches[1]
            batches[1] = lambda: signal.raise_signal(signal.SIGINT) or first()
        return batches

    stopped.corrupted_epoch = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        stopped.fit(told, TRAINING, seed=3, folder=tmp_path)
    assert (tmp_path / "checkpoint" / "state.safetensors").exists()  # which the command line looks for
    resumed = S3Rec(options, entities)
    resumed.fit(told, TRAINING, seed=3, folder=tmp_path, resume=True)
    assert torch.equal(resumed.scores(some), whole.scores(some))


def test_a_fresh_start_forgets_both_stages(told: Dataset, tmp_path: Path) -> None:
    entities = Entities.of(told)
    S3Rec(S3RecOptions(width=16, length=8, pretrain_epochs=1), entities).fit(told, TRAINING, seed=1, folder=tmp_path)
    other = S3Rec(S3RecOptions(width=16, length=8, pretrain_epochs=1), entities)
    other.fit(told, TRAINING, seed=2, folder=tmp_path)
    alone = S3Rec(other.config, entities)
    alone.fit(told, TRAINING, seed=2)
    some = Histories.of([[1, 2, 3]])
    assert torch.equal(other.scores(some), alone.scores(some))


def test_data_without_attributes_is_learnt_too(chains: Dataset) -> None:
    assert chains.attributes is None
    model = S3Rec(S3RecOptions(width=16, length=8, pretrain_epochs=1), Entities.of(chains))
    assert np.isfinite(model.fit(chains, TRAINING)[-1].loss)


def test_short_histories_have_no_segments(told: Dataset) -> None:
    made = stage(told)
    value = made(**corrupted(Histories.of([[1], [2]]), OTHERS, 0.2, 1.0, seed=0))
    value.backward()
    assert torch.isfinite(value)
    assert all(parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in made.parameters())


def test_an_interrupted_second_stage_goes_on_where_it_was(
    told: Dataset,
    tmp_path: Path,
    stopped_at: Callable[[NeuralRecommender, int], None],
) -> None:
    """The first one, validated at its end alone, is done; of the second's two epochs a batch of the last one is."""
    options = S3RecOptions(width=16, length=8, pretrain_epochs=2)
    whole, stopped, resumed = (S3Rec(options, Entities.of(told)) for _ in range(3))
    whole.fit(told, TRAINING, seed=3)
    count = len(stopped.epoch(told, 64, np.random.default_rng(0)))
    stopped_at(stopped, count + 1)
    with pytest.raises(Interrupted):
        stopped.fit(told, TRAINING, seed=3, folder=tmp_path)
    logs = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [log["ndcg"] is None for log in logs] == [True, False]
    epoch, made = resumed.epoch, []
    resumed.epoch = lambda *a: [lambda b=b: made.append(1) or b() for b in epoch(*a)]  # type: ignore[method-assign]
    resumed.fit(told, TRAINING, seed=3, folder=tmp_path, resume=True)
    assert len(made) == count - 1
    some = Histories.of([[1, 2, 3], [4]])
    assert torch.equal(resumed.scores(some), whole.scores(some))


def test_each_batch_of_the_first_stage_draws_its_own(told: Dataset) -> None:
    batches = S3Rec(S3RecOptions(length=5), Entities.of(told)).corrupted_epoch(told, 32, np.random.default_rng(0))
    assert len({batch.keywords["seed"] for batch in batches}) == len(batches)  # type: ignore[attr-defined]
