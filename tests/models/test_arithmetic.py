"""Dropout, RMS norm and attention against torch's own, and groups against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5LayerNorm

from oovrec.models.arithmetic import dropout, rms_norm
from oovrec.models.generative import attention
from oovrec.models.generative.attention import Bias, Group, attend, group_sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_keeps_the_mean_and_its_gradient_follows_the_mask(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 500, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.1, True)
    share = (y == 0).double().mean()
    assert abs(float(share) - 0.1) < 5 * (0.1 * 0.9 / x.numel()) ** 0.5  # five standard errors
    assert y.detach().unique().tolist() == pytest.approx([0, 1 / 0.9], rel=4e-3 if dtype == torch.bfloat16 else 1e-4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)
    assert dropout(x, 0.1, False) is x
    rows, columns = (y == 0).double().mean(1), (y == 0).double().mean(0)
    for shares, size in ((rows, 500), (columns, 1000)):  # neither rows nor columns share their fate
        assert float(shares.std()) == pytest.approx((0.09 / size) ** 0.5, rel=0.15)


def test_dropout_is_drawn_from_the_seeded_generator() -> None:
    x = torch.randn(64, 32)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(x, 0.3, True))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_norm_and_its_gradients_equal_the_stock_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 300, 24, requires_grad=True)  # more rows than a block
    stock = T5LayerNorm(24)
    torch.nn.init.normal_(stock.weight)
    given = torch.randn(2, 300, 24)
    ours, theirs = rms_norm(x, stock.weight, 1e-6), stock(x)
    torch.testing.assert_close(ours, theirs)
    wanted = (x, stock.weight)
    for mine, reference in zip(
        torch.autograd.grad(ours, wanted, given), torch.autograd.grad(theirs, wanted, given), strict=True
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)


def test_norm_is_in_float32_and_its_result_in_the_type_of_the_products() -> None:
    x, weight = torch.randn(8, 16) * 100, torch.ones(16)
    with torch.autocast("cpu", torch.bfloat16):
        half = rms_norm(x, weight, 1e-6)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, rms_norm(x, weight, 1e-6).bfloat16())


def test_attention_equals_torchs_for_each_sequence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    heads, width, groups = 2, 4, [Group(3, 2, 5), Group(1, 4, 7)]
    queries = torch.randn(10, heads * width, dtype=torch.float64, requires_grad=True)
    keys, values = (torch.randn(22, heads * width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    biases = [torch.randn(1, heads, g.queries, g.keys, dtype=torch.float64, requires_grad=True) for g in groups]
    added = [Bias(g.keys, bias.dtype, bias) for bias, g in zip(biases, groups, strict=True)]
    learnt = attend(queries, keys, values, groups, added, heads, 0.0)
    with torch.no_grad():
        torch.testing.assert_close(attend(queries, keys, values, groups, added, heads, 0.0), learnt)
        monkeypatch.setattr(attention, "_by_hand", lambda _: True)  # as a card without Triton reads prompts
        torch.testing.assert_close(attend(queries, keys, values, groups, added, heads, 0.0), learnt)

    parts, q_begin, k_begin = [], 0, 0
    for group, bias in zip(groups, biases, strict=True):
        for _ in range(group.batch):
            q = queries[q_begin : q_begin + group.queries].unflatten(1, (heads, width)).transpose(0, 1)
            k, v = (
                t[k_begin : k_begin + group.keys].unflatten(1, (heads, width)).transpose(0, 1) for t in (keys, values)
            )
            weights = (torch.einsum("hqw,hkw->hqk", q, k) + bias[0]).softmax(-1)
            parts.append(torch.einsum("hqk,hkw->qhw", weights, v).flatten(1))
            q_begin, k_begin = q_begin + group.queries, k_begin + group.keys
    expected = torch.cat(parts)
    torch.testing.assert_close(learnt, expected, rtol=1e-6, atol=1e-6)  # the softmax is in float32
    given, wanted = torch.randn_like(expected), (queries, keys, values, *biases)
    mine, reference = (torch.autograd.grad(t, wanted, given) for t in (learnt, expected))
    for ours, theirs in zip(mine, reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_dropped_weights_carry_neither_value_nor_gradient() -> None:
    """With one key a query's weight is 1: a dropped one gives zero, a kept one the scaled value, gradients alike."""
    torch.manual_seed(0)
    group, rate = [Group(400, 1, 1)], 0.25
    q, k, v = (torch.ones(400, 8, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, group, [Bias(1, torch.float32, torch.zeros(1, 1, 1, 1))], 1, rate)
    assert out.detach().unique().tolist() == pytest.approx([0, 4 / 3])
    (gradient,) = torch.autograd.grad(out.sum(), v)
    torch.testing.assert_close(gradient, out)
    assert 60 < int((out[:, 0] == 0).sum()) < 140


@pytest.mark.parametrize("cost", [0, 3, 20, 1000])
def test_groups_are_the_cheapest_of_all_partitions(cost: float) -> None:
    lengths = np.sort(np.random.default_rng(int(cost)).integers(1, 12, size=9))

    def price(ends: tuple[int, ...]) -> float:
        edges = [0, *ends, len(lengths)]
        parts = [lengths[a:b] for a, b in itertools.pairwise(edges)]
        return sum(cost + float((part[-1] - part).sum()) for part in parts)

    every = [ends for n in range(len(lengths)) for ends in itertools.combinations(range(1, len(lengths)), n)]
    sizes = group_sizes(lengths, cost)
    assert sum(sizes) == len(lengths)
    assert price(tuple(np.cumsum(sizes)[:-1].tolist())) == min(map(price, every))
