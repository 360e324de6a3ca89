"""The parts of T5's reading and searching that a card is slow at as torch has them, each as one kernel (Triton).

With a bias that differs from place to place torch 2.11 has no fused attention for a card, and passes short
sequences through memory a dozen times: heads put in order, scores, their bias, the softmax, its cast. Here a
block of queries takes the keys in turns and keeps a running softmax (Milakov & Gimelshein, 2018; Dao et al.,
"FlashAttention", 2022); products are in the tensors' type, everything else in float32. Without gradients.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton import language as tl

SEQUENCES = 16  # of one prompt, in one program of `attend_to_paths`


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    ends: Tensor | None = None,
    position: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """T5's attention: no scaling of the scores, an additive bias.

    Args:
        queries: ``[B, n, heads, w]``, any strides but the last.
        keys, values: ``[M, m, heads, w]`` likewise.
        ends: ``[M]`` int64, how many of the m there are, at least one; the others are not seen. None: all.
        position: ``[heads, n, m]`` float32 to be added to the scores.
        rows: ``[B]`` int64, which of the M each row of queries attends to; None where it is the one of its place.

    Returns:
        ``[B, n, heads, w]``.
    """
    batch, asked, heads, width = queries.shape
    result = torch.empty(queries.shape, dtype=queries.dtype, device=queries.device)
    block = min(64, max(16, triton.next_power_of_2(asked)))
    turn = min(64, max(16, triton.next_power_of_2(keys.shape[1])))
    _attend[(batch * heads, triton.cdiv(asked, block))](
        queries, keys, values, ends, position, rows, result, asked, keys.shape[1], heads,
        *queries.stride()[:3], *keys.stride()[:3], *values.stride()[:3],
        *((0, 0, 0) if position is None else position.stride()), *result.stride()[:3],
        ended=ends is not None, placed=position is not None, chosen=rows is not None,
        width=width, block=block, turn=turn, num_warps=2 if block == 16 else 4,
    )  # fmt: skip
    return result


@triton.jit
def _attend(
    queries, keys, values, ends, position, rows, result, asked, known, heads,
    qb, qn, qh, kb, kn, kh, vb, vn, vh, ph, pn, pm, rb, rn, rh,
    ended: tl.constexpr, placed: tl.constexpr, chosen: tl.constexpr,
    width: tl.constexpr, block: tl.constexpr, turn: tl.constexpr,
):  # fmt: skip
    row, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    query, number = (tl.program_id(1) * block + tl.arange(0, block))[:, None], tl.arange(0, width)[None, :]
    there = query < asked
    q = tl.load(queries + row * qb + head * qh + query * qn + number, mask=there, other=0.0)
    memory = tl.load(rows + row).to(tl.int64) if chosen else row
    end = tl.load(ends + memory).to(tl.int32) if ended else known
    highest = tl.full([block], float("-inf"), tl.float32)
    total = tl.zeros([block], tl.float32)
    mixed = tl.zeros([block, width], tl.float32)
    for start in range(0, end, turn):
        down, across = (start + tl.arange(0, turn))[:, None], (start + tl.arange(0, turn))[None, :]
        k = tl.load(keys + memory * kb + head * kh + down * kn + number, mask=down < end, other=0.0)
        v = tl.load(values + memory * vb + head * vh + down * vn + number, mask=down < end, other=0.0)
        score = tl.dot(q, tl.trans(k))
        if placed:
            score += tl.load(position + head * ph + query * pn + across * pm, mask=there & (across < end), other=0.0)
        score = tl.where(across < end, score, float("-inf"))
        above = tl.maximum(highest, tl.max(score, 1))
        weight, shrink = tl.exp(score - above[:, None]), tl.exp(highest - above)
        total = total * shrink + tl.sum(weight, 1)
        mixed = mixed * shrink[:, None] + tl.dot(weight.to(v.dtype), v)
        highest = above
    mixed = (mixed / total[:, None]).to(q.dtype)
    tl.store(result + row * rb + head * rh + query * rn + number, mixed, mask=there)


def attend_to_paths(
    queries: Tensor, keys: Tensor, values: Tensor, start: tuple[Tensor, Tensor] | None, bias: Tensor
) -> Tensor:
    """T5's attention of W short sequences a prompt, each to itself and to one token that all of a prompt share.

    Args:
        queries, keys, values: ``[B, W, t, heads, w]``, contiguous.
        start: keys and values of the shared token, ``[B, 1, 1, heads, w]`` each, contiguous; None where there is none.
        bias: ``[heads, t, keys]`` float32, the shared token's first; what a query does not see is masked.

    Returns:
        ``[B, W, t, heads, w]``.
    """
    batch, count, depth, heads, width = queries.shape
    result, bias = torch.empty_like(queries), bias.contiguous()
    before = start or (keys, values)
    _attend_to_paths[(batch * heads, triton.cdiv(count, SEQUENCES))](
        queries, keys, values, *before, bias, result, count, heads,
        shared=start is not None, depth=depth, width=width, block=SEQUENCES, num_warps=1,
    )  # fmt: skip
    return result


@triton.jit
def _attend_to_paths(
    queries, keys, values, start_keys, start_values, bias, result, count, heads,
    shared: tl.constexpr, depth: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    sequence, number = (tl.program_id(1) * block + tl.arange(0, block))[:, None], tl.arange(0, width)[None, :]
    there = sequence < count
    at = ((row * count + sequence) * depth * heads + head) * width + number
    first: tl.constexpr = 1 if shared else 0
    for place in tl.static_range(depth):
        q = tl.load(queries + at + place * heads * width, mask=there, other=0.0).to(tl.float32)
        biases = bias + (head * depth + place) * (depth + first)
        highest = tl.full([block], float("-inf"), tl.float32)
        total = tl.zeros([block], tl.float32)
        mixed = tl.zeros([block, width], tl.float32)
        for key in tl.static_range(first + place + 1):
            if shared and key == 0:
                shared_at = (row * heads + head) * width + number
                k = tl.load(start_keys + shared_at).to(tl.float32)
                v = tl.load(start_values + shared_at).to(tl.float32)
            else:
                k = tl.load(keys + at + (key - first) * heads * width, mask=there, other=0.0).to(tl.float32)
                v = tl.load(values + at + (key - first) * heads * width, mask=there, other=0.0).to(tl.float32)
            score = tl.sum(q * k, 1) + tl.load(biases + key)
            above = tl.maximum(highest, score)
            weight, shrink = tl.exp(score - above), tl.exp(highest - above)
            total = total * shrink + weight
            mixed = mixed * shrink[:, None] + weight[:, None] * v
            highest = above
        mixed = (mixed / total[:, None]).to(result.dtype.element_ty)
        tl.store(result + at + place * heads * width, mixed, mask=there)


def add_norm_(states: Tensor, change: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Add ``change`` to ``states`` in place; their RMS norm (Zhang & Sennrich, 2019), in ``dtype``.

    Args:
        states: ``[..., d]`` float32, contiguous.
        change: of the same shape, contiguous; None where there is none.
        weight: ``[d]``.
    """
    normed = torch.empty(states.shape, dtype=dtype, device=states.device)
    width = states.shape[-1]
    block = triton.next_power_of_2(width)
    _add_norm[(states.numel() // width,)](
        states, states if change is None else change, weight, normed, width, eps,
        changed=change is not None, block=block, num_warps=max(1, min(8, block // 512)),
    )  # fmt: skip
    return normed


@triton.jit
def _add_norm(states, change, weight, normed, width, eps, changed: tl.constexpr, block: tl.constexpr):
    number = tl.arange(0, block)
    there = number < width
    at = tl.program_id(0).to(tl.int64) * width + number
    state = tl.load(states + at, mask=there, other=0.0).to(tl.float32)
    if changed:
        state += tl.load(change + at, mask=there, other=0.0).to(tl.float32)
        tl.store(states + at, state, mask=there)
    inverse = 1 / tl.sqrt(tl.sum(state * state, 0) / width + eps)
    scale = tl.load(weight + number, mask=there, other=0.0).to(tl.float32)
    tl.store(normed + at, (state * inverse * scale).to(normed.dtype.element_ty), mask=there)


def linear_relu(x: Tensor, weight: Tensor) -> Tensor:
    """``relu(x @ weight.T)``, ``[..., n]``, the activation as part of the product."""
    rows = x.flatten(0, -2)
    nothing = rows.new_zeros(len(weight))
    return torch._addmm_activation(nothing, rows, weight.to(x.dtype).T).view(*x.shape[:-1], -1)
