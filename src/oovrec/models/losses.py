"""Losses that several systems share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oovrec.errors import OovrecError

CHUNK = {"cpu": 1 << 21, "cuda": 1 << 26}  # logits at once: on a processor they stay in its cache
KEPT = {"cpu": 1 << 24, "cuda": 1 << 26}  # probabilities that one product makes the rows' gradient of
APART = 1 << 23  # multiplications that products of a group's own have to save: beginning each takes time too
# A smaller probability is counted as this one, in the loss but not in the gradient.
TINY = torch.finfo(torch.float32).tiny

Legal = Callable[[slice], Tensor]  # ``[chunk, items]`` bool: which items a chunk of positions chooses among


@torch.compiler.disable  # a loop over chunks, whose count would be compiled into every graph
def softmax_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, legal: Legal | None = None) -> Tensor:
    """Sum over ``n`` positions of the cross-entropy of a softmax over the whole catalogue, or what is legal of it.

    Equals ``F.cross_entropy(hidden @ weight.T, targets, reduction="sum")``, but the logits exist only a chunk
    of positions at a time, and the gradient is made in the same pass: three matrix products and one softmax
    a chunk. Under autocast the products are in its type; loss and gradients add up in float32.

    Args:
        hidden: ``[n, d]`` states.
        weight: ``[items, d]`` output rows.
        targets: ``[n]`` item indices.
        legal: gives the legal items of a chunk of positions; None where all are.

    Raises:
        OovrecError: states and rows differ in width.
    """
    if hidden.shape[1:] != weight.shape[1:]:
        what = f"states of shape {tuple(hidden.shape)} do not fit output rows of shape {tuple(weight.shape)}"
        raise OovrecError(what, where="the system's network", remedy="make the states as wide as the rows")
    loss: Tensor = _SoftmaxCrossEntropy.apply(hidden, weight, targets, legal)
    return loss


class _SummedLoss(torch.autograd.Function):
    """A loss of states and output rows, the first two inputs, whose gradients the forward pass has made and saved."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        kinds = ctx.dtypes
        made = [(gradient * grad_outputs[0]).to(kind) for gradient, kind in zip(ctx.saved_tensors, kinds, strict=True)]
        return (*made, *[None] * (len(ctx.needs_input_grad) - len(made)))


class _SoftmaxCrossEntropy(_SummedLoss):
    """With p the softmax less 1 at the target, d loss / d hidden = p · weight; d loss / d weight mirrors it."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, legal: Legal | None) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        states, rows = hidden.to(dtype), weight.to(dtype)
        learning = any(ctx.needs_input_grad)
        grad_hidden = torch.empty_like(states) if learning else None
        grad_columns = weight.new_zeros(weight.shape[::-1], dtype=torch.float32) if learning else None
        size, kept = (max(1, room.get(kind, room["cuda"]) // len(weight)) for room in (CHUNK, KEPT))
        kept = max(size, kept // size * size) if learning else size
        probabilities = states.new_empty(min(kept, len(states)), len(weight))
        loss = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(states), size):
                part = states[start : start + size]
                p = probabilities[start % kept : start % kept + len(part)]
                torch.mm(part, rows.T, out=p)
                if legal is not None:
                    p.masked_fill_(~legal(slice(start, start + size)), -torch.inf)
                torch.softmax(p, 1, out=p)
                loss -= _without_target(p, targets[start : start + size]).sum()
                end, first = start + len(part), start - start % kept
                if grad_hidden is not None and grad_columns is not None:
                    torch.mm(p, rows, out=grad_hidden[start:end])
                    if end - first == kept or end == len(states):  # a product is added at the price of reading all rows
                        # as columns: the large factor is read as it lies
                        grad_columns += states[first:end].T.contiguous() @ probabilities[: end - first]
            if grad_hidden is not None and grad_columns is not None:
                ctx.save_for_backward(grad_hidden, grad_columns.T.contiguous())
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss


def _without_target(p: Tensor, targets: Tensor) -> Tensor:
    """Take 1 from the targets' probabilities, in place; returns ``[n]`` their logarithms, float32.

    What is left of them is what the others have: a probability near 1 is too coarse in bf16 to take it from 1.

    Args:
        p: ``[n, items]`` probabilities.
        targets: ``[n]``.
    """
    where = torch.arange(len(p), device=p.device), targets
    own = p[where].float()
    p.index_put_(where, p.new_zeros(()))
    others = p.sum(dim=1)
    p.index_put_(where, -others)
    return torch.where(others < 0.5, torch.log1p(-others.float()), own.clamp_min(TINY).log())


def grouping_pays(hidden: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether :func:`grouped_cross_entropy` is faster than a softmax over ``weight``, of which little is legal."""
    return hidden.device.type == "cpu" and len(hidden) * weight.numel() > APART * min(len(hidden), groups)


def grouped_cross_entropy(
    hidden: Tensor, weight: Tensor, places: Tensor, groups: Tensor, bounds: Tensor, members: Tensor
) -> Tensor:
    """Sum over ``n`` positions of the cross-entropy of softmaxes, each over the few items of its position's group.

    What :func:`softmax_cross_entropy` gives where just these are legal, at a cost that grows with the groups' sizes and
    not with that of ``weight``. In float32, as the products are small.

    Args:
        hidden: ``[n, d]`` states.
        weight: ``[items, d]`` output rows.
        places: ``[n]`` where in its group each target is.
        groups: ``[n]`` the group that each position chooses from.
        bounds: ``[groups + 1]`` int32, between which of the ``members`` are a group's.
        members: ``[total]`` int32, positions in ``weight``.
    """
    loss: Tensor = _GroupedCrossEntropy.apply(hidden, weight, places, groups, bounds, members)
    return loss


class _GroupedCrossEntropy(_SummedLoss):
    """The gradients of :class:`_SoftmaxCrossEntropy`, a group at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, places: Tensor, groups: Tensor, bounds: Tensor, members: Tensor
    ) -> Tensor:
        order = groups.argsort(stable=True)
        present, counts = groups[order].unique_consecutive(return_counts=True)
        states, targets = hidden.float()[order], places[order, None]
        grad_states, grad_weight = torch.empty_like(states), torch.zeros_like(weight, dtype=torch.float32)
        loss, starts = hidden.new_zeros((), dtype=torch.float32), bounds[present].tolist()
        parts = zip(states.split(sizes := counts.tolist()), targets.split(sizes), grad_states.split(sizes), strict=True)
        with torch.autocast(hidden.device.type, enabled=False):
            for (part, wanted, grad), start, end in zip(parts, starts, bounds[present + 1].tolist(), strict=True):
                own = members[start:end]
                rows = weight.index_select(0, own).float()
                p = torch.softmax(part @ rows.T, 1)
                loss -= p.gather(1, wanted).clamp_min(TINY).log().sum()
                p.scatter_add_(1, wanted, p.new_full((len(p), 1), -1.0))
                torch.mm(p, rows, out=grad)
                grad_weight.index_add_(0, own, p.T @ part)
        grad_hidden = torch.empty_like(grad_states)
        grad_hidden[order] = grad_states
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss


def other_items(targets: Tensor, items: int, count: int = 1) -> Tensor:
    """``[n, count]`` random items, of ``items`` in all, other than the target ``[n]`` of each row.

    Raises:
        OovrecError: there is no other.
    """
    if items < 2:
        raise OovrecError("there is no other item to compare one with", where="model.loss", remedy="set it to softmax")
    drawn = torch.randint(items - 1, (len(targets), count), device=targets.device)
    return drawn + (drawn >= targets[:, None])
