"""Attention over sequences of many lengths without padding: groups of like length, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from oovrec.language.packed import Packed
from oovrec.models.arithmetic import Mask, compute_dtype

MASKED = torch.finfo(torch.float32).min
EVEN = 8  # widths on accelerators; their matrix products and fused kernels like it as well
HALF = (torch.bfloat16, torch.float16)
FUSED_HEADS = (16, 32, 64, 128)  # widths of a head that the kernels of `fused` take


@dataclass(frozen=True)
class Group:
    """``batch`` sequences, each of ``queries`` states that attend to ``keys`` states of its own."""

    batch: int
    queries: int
    keys: int


@dataclass(frozen=True)
class Bias:
    """What is added to the scores of a group.

    Attributes:
        keys: of each sequence.
        kind: see :func:`bias_type`.
        position: ``[1, heads, queries, room]``, room for the keys and more; None adds nothing.
        ends: ``[batch]`` how many of the keys there are, the others being filling; None: all.
    """

    keys: int
    kind: torch.dtype
    position: Tensor | None = None
    ends: Tensor | None = None

    @property
    def by_head(self) -> Tensor | None:
        """``[heads, queries, keys]`` of the position's."""
        return None if self.position is None else self.position[0, ..., : self.keys]

    @cached_property
    def whole(self) -> Tensor:
        """All of it, made once for every layer, as broadcasts to ``[batch, heads, queries, keys]``."""
        parts = [] if self.position is None else [self.position.to(self.kind)]
        if self.ends is not None:
            place = torch.arange(aligned(self.keys), device=self.ends.device)
            parts.append(torch.where(place < self.ends[:, None], 0.0, MASKED)[:, None, None].to(self.kind))
        return reduce(torch.add, parts)[..., : self.keys]


def aligned(length: int) -> int:
    """Room for ``length`` keys and more in a row of biases: a fused kernel copies rows that begin at other places."""
    return (length // EVEN + 1) * EVEN


def group_sizes(lengths: np.ndarray, cost: float) -> list[int]:
    """How many of the sequences, sorted by length, to put into each group so that little is computed in vain.

    The cheapest partition, where a group costs ``cost`` and the tokens that fill its sequences up.

    Args:
        lengths: ``[n]``, ascending.
    """
    values, counts = np.unique(lengths, return_counts=True)
    number = np.concatenate([[0], np.cumsum(counts)])
    tokens = np.concatenate([[0], np.cumsum(counts * values)])
    best, cut = np.zeros(len(values) + 1), np.zeros(len(values) + 1, np.int64)
    for end, value in enumerate(values, 1):
        filled = value * (number[end] - number[:end]) - (tokens[end] - tokens[:end])
        total = best[:end] + filled + cost
        cut[end] = total.argmin()
        best[end] = total[cut[end]]
    ends = [len(values)]
    while ends[-1]:
        ends.append(int(cut[ends[-1]]))
    return np.diff(number[ends[::-1]]).tolist()


def grouped(sequences: Packed, cost: float | None, pad: int) -> list[np.ndarray]:
    """Sequences, sorted by length, as the ``[b, length]`` groups of :func:`group_sizes`; without a cost, as one.

    That one is as wide as a multiple of :data:`EVEN`: batches then have few shapes, and each can be recorded.
    """
    if cost is None:
        return [sequences.padded(pad, EVEN)]
    sizes = group_sizes(sequences.lengths, cost)
    rows = np.split(np.arange(len(sequences)), np.cumsum(sizes)[:-1])
    return [sequences.take(some).padded(pad) for some in rows]


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    groups: list[Group],
    biases: Sequence[Bias],
    heads: int,
    rate: float,
) -> Tensor:
    """Dot-product attention with an additive bias and without scaling, as T5 has it.

    Args:
        queries: ``[Q, heads · w]``, group after group.
        keys, values: ``[K, heads · w]`` likewise.
        biases: of each group.
        rate: dropout on the weights; 0 where the model is not learning.

    Returns:
        ``[Q, heads · w]``.
    """
    if not rate and is_fused(queries, queries.shape[1] // heads):
        from oovrec.models import fused

        mixed = [
            fused.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bias.ends, bias.by_head).flatten(0, 1)
            for (q, k, v), bias in zip(_cut(groups, heads, queries, keys, values), biases, strict=True)
        ]
        return (mixed[0] if len(mixed) == 1 else torch.cat(mixed)).flatten(1)
    if _by_hand(queries):
        learnt: Tensor = _Attention.apply(queries, keys, values, groups, heads, rate, *(b.whole for b in biases))
        return learnt
    mixed = [
        scaled_dot_product_attention(q, k, v, bias.whole, dropout_p=rate, scale=1.0).transpose(1, 2).flatten(0, 1)
        for (q, k, v), bias in zip(_cut(groups, heads, queries, keys, values), biases, strict=True)
    ]
    return torch.cat(mixed).flatten(1)


def is_fused(states: Tensor, head: int = FUSED_HEADS[0]) -> bool:
    """Whether the kernels of :mod:`oovrec.models.fused` serve, those of attention with heads so wide."""
    plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or states.device.type != "cuda"
    return not plain and compute_dtype(states) in HALF and head in FUSED_HEADS and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None  # torch for a card brings it, but not on every system


def bias_type(states: Tensor) -> torch.dtype:
    """Of the biases with which ``states`` are to be attended to: made once, they serve every layer."""
    return torch.float32 if _by_hand(states) else compute_dtype(states)


def _by_hand(states: Tensor) -> bool:
    """Whether attention is made of plain products: on a processor they learn faster than a fused kernel with a bias.

    On a card torch 2.11 has no use for its fused kernels where there is one, and works in float32 instead.
    """
    return (torch.is_grad_enabled() or states.device.type == "cuda") and not torch.compiler.is_compiling()


def _cut(groups: list[Group], heads: int, *tensors: Tensor) -> list[list[Tensor]]:
    """For each group its ``[batch, heads, n, w]`` views of queries, keys, values."""
    shapes = [[(g.batch, n, heads, -1) for n in (g.queries, g.keys, g.keys)] for g in groups]
    parts = []
    for place, tensor in enumerate(tensors):
        sizes = [shape[place][0] * shape[place][1] for shape in shapes]
        pieces = zip(tensor.split(sizes), shapes, strict=True)
        parts.append([piece.view(shape[place]).transpose(1, 2) for piece, shape in pieces])
    return [list(group) for group in zip(*parts, strict=True)]


class _Attention(torch.autograd.Function):
    """With P the softmax, M the dropout, O = (P ∘ M) V: dS = P ∘ (dP − Σ P ∘ dP), dP = (dO Vᵀ) ∘ M.

    The products are in the tensors' type, the softmax and its gradient in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        groups: list[Group],
        heads: int,
        rate: float,
        *biases: Tensor,
    ) -> Tensor:
        ctx.groups, ctx.heads, ctx.masks = groups, heads, []
        ctx.shapes = [tensor.shape for tensor in (queries, keys, values)]
        result, saved = torch.empty_like(queries), []
        views = _cut(groups, heads, queries, keys, values)
        for parts, bias, (out,) in zip(views, biases, _cut(groups, heads, result), strict=True):
            q, k, v = (part.contiguous() for part in parts)  # once: each product would copy them for itself
            weight = torch.softmax(q @ k.mT + bias, -1)  # in the bias's float32
            ctx.masks.append(Mask(weight.shape, rate, weight.device) if rate else None)
            out.copy_(_masked(weight, ctx.masks[-1], v.dtype) @ v)
            saved += [q, k, v, weight]
        ctx.save_for_backward(*saved)
        ctx.biases = [
            bias.shape if needed else None for bias, needed in zip(biases, ctx.needs_input_grad[6:], strict=True)
        ]
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        kept, given = zip(*[iter(ctx.saved_tensors)] * 4, strict=True), _cut(ctx.groups, ctx.heads, grad_outputs[0])
        grads = [grad_outputs[0].new_empty(shape) for shape in ctx.shapes]
        into, grad_biases = _cut(ctx.groups, ctx.heads, *grads), []
        for (q, k, v, p), (do,), (dq, dk, dv), mask, shape in zip(
            kept, given, into, ctx.masks, ctx.biases, strict=True
        ):
            do = do.contiguous()
            dv.copy_(_masked(p, mask, v.dtype).mT @ do)
            dp = (do @ v.mT).to(p.dtype)
            if mask is not None:
                mask.apply_(dp)
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            grad_biases.append(None if shape is None else ds.sum_to_size(shape))
            ds = ds.to(q.dtype)
            dq.copy_(ds @ k)
            dk.copy_(ds.mT @ q)
        return (*grads, None, None, None, *grad_biases)


def _masked(weights: Tensor, mask: Mask | None, dtype: torch.dtype) -> Tensor:
    """A copy in ``dtype``, with dropout."""
    copy = weights.to(dtype, copy=True)
    return copy if mask is None else mask.apply_(copy)
