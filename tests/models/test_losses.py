"""The chunked softmax against torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from oovrec.models import losses
from oovrec.models.losses import other_items, softmax_cross_entropy

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
