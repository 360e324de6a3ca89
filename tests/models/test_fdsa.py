"""FDSA: the attention over an item's attributes and the join of the two sequences, against plain formulas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.sequential.attributes import attribute_table
from oovrec.models.sequential.fdsa import FDSA, FDSAOptions, FeatureAttention, binary_cross_entropy
from oovrec.training.config import TrainingConfig

ITEMS = 40


def with_attributes(chains: Dataset, kinds: int = 5) -> Dataset:
    """Item n has attributes 10 · (n mod kinds) and, if odd, 7; item 0 has none."""
    numbers = [(10 * (n % kinds), *((7,) if n % 2 else ())) for n in range(ITEMS)]
    return replace(chains, attributes=[(), *numbers[1:]])


@pytest.fixture
def model(chains: Dataset) -> FDSA:
    torch.manual_seed(0)
    made = FDSA(FDSAOptions(width=8, length=6), Entities.of(with_attributes(chains)))
    for parameter in made.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.5)
    made.module.eval()
    return made


def test_table_numbers_the_attributes_from_one() -> None:
    entities = Entities(["a", "b", "c"], [], attributes=[(30, 4), (), (9, 4, 30, 9)])
    assert attribute_table(entities).tolist() == [[1, 3, 0], [0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize("attributes", [None, [(), ()]])
def test_table_without_attributes_is_a_column_of_zeros(attributes: list[tuple[int, ...]] | None) -> None:
    assert attribute_table(Entities(["a", "b"], [], attributes=attributes)).tolist() == [[0], [0]]


def test_attention_weighs_the_attributes_an_item_has() -> None:
    """By hand: scores ln 3 and 0 give weights 3/4 and 1/4; one attribute alone has weight 1; none gives zeros."""
    attention = FeatureAttention(torch.tensor([[1, 2], [2, 0], [0, 0]]), 2)
    attention.attributes.weight.data = torch.tensor([[50.0, 60.0], [float(np.log(3)), 4.0], [0.0, -8.0]])
    attention.importance.weight.data = torch.tensor([[1.0, 0.0]])
    expected = torch.tensor([[0.75 * float(np.log(3)), 0.75 * 4 - 0.25 * 8], [0.0, -8.0], [0.0, 0.0]])
    torch.testing.assert_close(attention(torch.tensor([[0, 1, 2]]))[0], expected)


def test_states_join_items_and_attributes(model: FDSA) -> None:
    """Each sequence through its own blocks, then W [O_items; O_features] + b."""
    network, history = model.module, torch.tensor([[3, 0, 7]])
    vectors = network.items.weight[history], network.features(history)
    encoders = network.item_encoder, network.feature_encoder
    outputs = []
    for part, encoder in zip(vectors, encoders, strict=True):
        states = part * 8**0.5 + encoder.positions.weight[:3].flip(0)
        outputs.append(encoder.norm(encoder.blocks[1](encoder.blocks[0](states))))
    joined = network.join.weight[:, :8] @ outputs[0][0, 2] + network.join.weight[:, 8:] @ outputs[1][0, 2]
    expected = network.items.weight @ (joined + network.join.bias)
    torch.testing.assert_close(model.scores(Histories.of([[3, 0, 7]]))[0], expected)


def test_scores_see_attributes_and_only_those_of_the_history(model: FDSA) -> None:
    """Items 11 and 21 are alike in attributes, 12 is not; a change elsewhere in the table changes nothing."""
    before = model.scores(Histories.of([[1, 2], [4, 6]]))
    model.module.features.table[2] = model.module.features.table[3]
    after = model.scores(Histories.of([[1, 2], [4, 6]]))
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_binary_loss_has_one_other_item_for_each_state() -> None:
    """With two items the other one is certain; over many draws from four, never the target and all else alike."""
    torch.manual_seed(2)
    states, weight, targets = torch.randn(6, 3), torch.randn(2, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    pairs = zip(states, targets, strict=True)
    expected = sum(-float(F.logsigmoid(s @ weight[t]) + F.logsigmoid(-s @ weight[1 - t])) for s, t in pairs)
    assert float(binary_cross_entropy(states, weight, targets)) == pytest.approx(expected, rel=1e-5)
    weight = torch.eye(4).requires_grad_()
    binary_cross_entropy(torch.ones(3000, 4), weight, torch.full((3000,), 2)).backward()
    drawn = weight.grad[:, 0] / torch.sigmoid(torch.tensor(1.0))  # each draw adds σ(1) to its row
    assert drawn[[0, 1, 3]].sum() == pytest.approx(3000, rel=1e-4)
    assert (drawn[[0, 1, 3]] - 1000).abs().max() < 120  # 4.6 standard deviations
    assert drawn[2] < 0


def test_binary_loss_is_trained_where_asked_for(chains: Dataset) -> None:
    entities = Entities.of(with_attributes(chains))
    torch.manual_seed(1)
    model = FDSA(FDSAOptions(width=8, length=20, dropout=0, loss="bce"), entities)
    batch = model.epoch(chains, 32, np.random.default_rng(0))[0]()
    torch.manual_seed(5)
    loss = model.module(**batch).item()
    torch.manual_seed(5)
    states = model.module.hidden(batch["items"]).flatten(0, 1)[batch["where"]]
    expected = binary_cross_entropy(states, model.module.items.weight, batch["targets"]) / batch["scale"]
    assert loss == pytest.approx(expected.item())
    assert loss == pytest.approx(2 * np.log(2) * len(batch["targets"]) / float(batch["scale"]), rel=0.01)


def test_attributes_say_what_items_alone_do_not() -> None:
    """Each item is any of its group, groups follow one another: too few pairs of items, but all pairs of groups."""
    groups, each, users = 12, 12, 60
    rng = np.random.default_rng(0)
    first = rng.integers(groups, size=users)
    sequences = [[int((start + t) % groups * each + rng.integers(each)) for t in range(9)] for start in first]
    items = [f"i{n}" for n in range(groups * each)]
    alone = Dataset("groups", [f"u{n}" for n in range(users)], items, Histories.of(sequences, range(users)))
    told = replace(alone, attributes=[(n // each,) for n in range(len(items))])
    training = TrainingConfig(epochs=10, batch_size=32, learning_rate=3e-3, validate_every=10, precision="fp32")
    options = FDSAOptions(width=32, length=8, dropout=0.2)
    ndcg = [FDSA(options, Entities.of(data)).fit(data, training)[-1].ndcg or 0.0 for data in (alone, told)]
    assert ndcg[0] < 0.3
    assert ndcg[1] > 0.35  # the most there is to know: sum of 1 / log2(rank + 1) over ten of twelve equal items, .38


def test_attributes_go_with_a_saved_model(chains: Dataset, model: FDSA, tmp_path: Path) -> None:
    histories = Histories.of([[1, 2, 3], [0]])
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.scores(histories), model.scores(histories))
    assert loaded.entities.attributes == with_attributes(chains).attributes
    assert json.loads((tmp_path / "item_attributes.json").read_text())["i3"] == [30, 7]


@pytest.mark.parametrize("content", ["[1]", '{"i0": []}', '{"i0": 4}', "{"])
def test_broken_attributes_are_refused(model: FDSA, tmp_path: Path, content: str) -> None:
    model.save(tmp_path)
    (tmp_path / "item_attributes.json").write_text(content)
    with pytest.raises(OovrecError, match=r"item_attributes\.json.*(list of numbers|not valid JSON)"):
        load(tmp_path)


def test_other_attributes_do_not_fit(model: FDSA, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "item_attributes.json").unlink()
    with pytest.raises(OovrecError, match="does not fit its own config"):
        load(tmp_path)
