"""Models under torch.compile: the same loss and gradients, and no graph a shape."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from oovrec.data.dataset import Dataset
from oovrec.models.base import NeuralRecommender, configured, system
from oovrec.models.entities import Entities
from oovrec.models.generative import t5
from oovrec.models.generative.attention import Bias, Group
from oovrec.models.generative.t5_layers import Memory, cross_attention, folded_cross_attention


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t5", {"shape": "debug"}),
        ("llama", {"shape": "debug"}),
        ("sasrec", {"width": 16}),
        ("bsarec", {"width": 16}),
    ],
)
def test_the_compiled_model_learns_the_same_from_batches_of_any_shape(
    name: str,
    options: dict[str, object],
    chains: Dataset,
    entities: Entities,
    bare: Entities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(t5.GROUP_COST, "cpu")  # a batch is one group, as on a card
    torch.manual_seed(0)
    kind = system(name)
    model = kind(configured(name, options), entities if kind.token_use == "needed" else bare)
    assert isinstance(model, NeuralRecommender)
    module = model.module.eval()  # no dropout
    compiled, graphs, shapes = torch.compile(module, dynamic=True, backend="aot_eager"), [], set()
    for make in model.epoch(chains, 60, np.random.default_rng(0))[:6]:
        batch = make()
        shapes.add(str([part.shape if isinstance(part, Tensor) else part[0].shape for part in batch.values()]))
        torch.manual_seed(1)
        expected = module(**batch)
        gradients = torch.autograd.grad(expected, list(module.parameters()), allow_unused=True)
        torch.manual_seed(1)
        loss = compiled(**batch)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
        again = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        for wanted, got in zip(gradients, again, strict=True):
            assert (wanted is None) == (got is None)
            if wanted is not None and got is not None:
                assert (wanted - got).abs().max() <= 1e-5 * wanted.abs().max().clamp_min(1e-3)
        graphs.append(counters["stats"]["unique_graphs"])
    assert len(shapes) > 3
    assert graphs[0] >= 1
    assert graphs[-1] <= graphs[0] + 2  # two sizes that are alike, or 1, may be special


def test_cross_attention_is_the_same_folded() -> None:
    """Values, and gradients of every weight and of the memory."""
    torch.manual_seed(0)
    attention = T5Attention(T5Config(d_model=24, d_kv=4, num_heads=3), layer_idx=0).eval()
    groups, depth = [Group(2, 5, 5), Group(3, 7, 7)], 2
    fill = [Bias(5, torch.float32, None, torch.tensor([5, 5])), Bias(7, torch.float32, None, torch.tensor([4, 7, 7]))]
    states = torch.randn(5 * depth, 24, requires_grad=True)
    memory = torch.randn(2 * 5 + 3 * 7, 24, requires_grad=True)
    found = []
    for attend in (cross_attention, folded_cross_attention):
        out = attend(attention, states, depth, Memory(memory, groups, fill))
        leaves = [states, memory, *(attention.get_submodule(part).weight for part in "qkvo")]
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for plain, folded in zip(*found, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
