"""The chunked softmax against torch's own cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError
from oovrec.models import losses
from oovrec.models.generative.network import restricted_loss
from oovrec.models.losses import grouped_cross_entropy, other_items, softmax_cross_entropy

N, WIDTH, ITEMS = 37, 16, 101


def inputs(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, WIDTH, generator=made) * scale
    targets = torch.randint(ITEMS, (N,), generator=made)
    targets[:5] = 7  # a target more than once in a chunk
    return hidden.requires_grad_(), torch.randn(ITEMS, WIDTH, generator=made).requires_grad_(), targets


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss * 0.3, of))


@pytest.mark.parametrize("scale", [1.0, 30.0])  # at 30 some probabilities are smaller than float32 can say
@pytest.mark.parametrize(("rows", "kept"), [(1, 1), (8, 8), (8, 20), (8, 90), (37, 37), (100, 400)])
def test_loss_and_gradients_equal_torch(rows: int, kept: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", rows * ITEMS)
    monkeypatch.setitem(losses.KEPT, "cpu", kept * ITEMS)
    hidden, weight, targets = inputs(scale)
    ours = softmax_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    if scale == 1.0:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, reference in zip(gradients(ours, hidden, weight), gradients(theirs, hidden, weight), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5 * scale)


def test_autocast_multiplies_in_bf16_and_adds_in_fp32() -> None:
    hidden, weight, targets = inputs()
    exact = softmax_cross_entropy(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        ours = softmax_cross_entropy(hidden, weight, targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, exact, rtol=5e-3, atol=0)
    assert ours != exact  # it did multiply in bf16
    for mine, reference in zip(gradients(ours, hidden, weight), gradients(exact, hidden, weight), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("sure", [0, 3, 6, 10])  # at 6 and 10 the targets' mean probability is .998 and .99995
def test_bf16_keeps_what_a_sure_model_still_has_to_learn(sure: int) -> None:
    """Against the softmax in float64 of the logits that bf16 products give."""
    hidden, weight, targets = inputs()
    weight = (3 * F.normalize(weight)).detach().requires_grad_()
    hidden = (sure / 3 * weight[targets] + 0.01 * hidden).detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours = softmax_cross_entropy(hidden, weight, targets)
    logits = (hidden.bfloat16() @ weight.bfloat16().T).double().detach().requires_grad_()
    theirs = F.cross_entropy(logits, targets, reduction="sum")
    (away,) = torch.autograd.grad(theirs, logits)
    references = away @ weight.double(), away.T @ hidden.double()
    assert abs(ours - theirs) < 0.01 * theirs
    for mine, reference in zip(torch.autograd.grad(ours, (hidden, weight)), references, strict=True):
        assert (mine - reference).norm() < 0.01 * reference.norm()


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        loss = softmax_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets, reduction="sum"))


def test_a_nan_stays_one() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        hidden[3, 0] = torch.nan
    assert softmax_cross_entropy(hidden, weight, targets).isnan()


@pytest.mark.parametrize("rows", [1, 8, 100])
def test_only_legal_items_compete(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.CHUNK, "cpu", rows * ITEMS)
    hidden, weight, targets = inputs()
    legal = torch.rand(N, ITEMS, generator=torch.Generator().manual_seed(1)) < 0.3
    legal[torch.arange(N), targets] = True
    ours = softmax_cross_entropy(hidden, weight, targets, lambda chunk: legal[chunk])
    theirs = F.cross_entropy((hidden @ weight.T).masked_fill(~legal, -torch.inf), targets, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, reference in zip(gradients(ours, hidden, weight), gradients(theirs, hidden, weight), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


def test_other_items_are_all_but_the_target_and_all_alike() -> None:
    targets = torch.arange(5).repeat(4000)
    others = other_items(targets, 5, 2)
    counts = torch.zeros(5, 5, dtype=torch.long)
    counts.index_put_((targets.repeat_interleave(2), others.flatten()), torch.ones(40_000, dtype=torch.long), True)
    assert (counts.diagonal() == 0).all()
    away = counts[~torch.eye(5, dtype=torch.bool)]
    assert stats.chisquare(away.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_choose_among_their_own(scale: float, dtype: torch.dtype) -> None:
    """Groups of 1 to 40 items, which may share some; one that nobody chooses from."""
    made = torch.Generator().manual_seed(2)
    sizes = torch.tensor([1, 40, 7, 0, 12, 1, 25])
    bounds = torch.cat([torch.zeros(1), sizes.cumsum(0)]).int()
    members = torch.cat([torch.randperm(ITEMS, generator=made)[:size] for size in sizes]).int()
    groups = torch.tensor([0, 1, 2, 4, 5, 6])[torch.randint(6, (N,), generator=made)]
    places = (torch.rand(N, generator=made) * sizes[groups]).long()
    hidden, weight, _ = inputs(scale)
    states = hidden.to(dtype)
    ours = grouped_cross_entropy(states, weight, places, groups, bounds, members)
    legal = torch.zeros(N, ITEMS, dtype=torch.bool)
    for row, group in enumerate(groups):
        legal[row, members[bounds[group] : bounds[group + 1]].long()] = True
    targets = members[bounds[groups] + places].long()
    logits = (states.float() @ weight.T).masked_fill(~legal, -torch.inf)
    theirs = F.cross_entropy(logits, targets, reduction="sum")
    if scale == 1.0:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    loose = 1.0 if dtype == torch.float32 else 1e3  # of what the states' type leaves of a gradient
    for mine, reference in zip(gradients(ours, hidden, weight), gradients(theirs, hidden, weight), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5 * loose, atol=1e-5 * scale * loose)


def test_grouping_changes_no_loss_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of three tokens: many firsts and seconds, numbers of their own."""
    made = torch.Generator().manual_seed(3)
    codes = torch.stack([torch.arange(90) // 10, 100 + torch.arange(90) % 30, 200 + torch.randperm(90)], dim=1)
    trie = Trie.of(codes.numpy())
    rows = [torch.randn(len(level.tokens), WIDTH, generator=made).requires_grad_() for level in trie.levels]
    hidden = torch.randn(N, 3, WIDTH, generator=made).requires_grad_()
    nodes, found = trie.nodes(torch.randint(90, (N,), generator=made)), []
    for apart in (0, 1 << 60):
        monkeypatch.setattr(losses, "APART", apart)
        loss = restricted_loss(hidden, nodes, trie, rows)
        found.append([loss, *gradients(loss, hidden, *rows)])
    for grouped, whole in zip(*found, strict=True):
        torch.testing.assert_close(grouped, whole, rtol=1e-5, atol=1e-5)


def test_one_item_has_no_other() -> None:
    with pytest.raises(OovrecError, match=r"model\.loss: there is no other item .*; set it to softmax"):
        other_items(torch.zeros(3, dtype=torch.long), 1)


@pytest.mark.parametrize("shape", [(N, WIDTH - 3), (N,)])
def test_states_are_as_wide_as_the_rows(shape: tuple[int, ...]) -> None:
    _, weight, targets = inputs()
    with pytest.raises(OovrecError) as refused:
        softmax_cross_entropy(torch.zeros(shape), weight, targets)
    said = f"states of shape {shape} do not fit output rows of shape (101, 16); make the states as wide as the rows."
    assert str(refused.value) == f"the system's network: {said}"


def test_a_target_too_improbable_for_float32_costs_a_finite_loss_and_has_its_gradient() -> None:
    """e^-400 is 0 there: an infinite loss would end the training."""
    for grouped in (False, True):
        hidden = torch.tensor([[200.0]], requires_grad=True)
        weight, target = torch.tensor([[1.0], [-1.0]]), torch.tensor([1])
        if grouped:
            bounds, members = torch.tensor([0, 2], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32)
            loss = grouped_cross_entropy(hidden, weight, target, torch.tensor([0]), bounds, members)
        else:
            loss = softmax_cross_entropy(hidden, weight, target)
        loss.backward()
        assert 87 < float(loss.detach()) < math.inf
        assert hidden.grad is not None
        assert hidden.grad.tolist() == [[2.0]]
