"""T5's encoder and decoder over packed tokens, with the weights of the stock modules.

The stock modules want a padded batch, and on real prompts most of what they compute is padding. Here the
states of all sequences stand one after another, ``[tokens, d]``: linear layers, norms and feed-forward see
no sequences at all; attention takes groups of sequences of like length. Dropout at the stock's places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerFF, T5LayerNorm, T5Stack

from oovrec.models.arithmetic import compute_dtype, dropout, rms_norm
from oovrec.models.generative.attention import MASKED, Bias, Group, aligned, attend, bias_type, is_fused
from oovrec.models.generative.lora import effective


@dataclass(frozen=True)
class Memory:
    """What the decoder attends to: encoded prompts, group after group, some with filling at their end.

    Attributes:
        states: ``[tokens, d]``.
        groups: of the prompts.
        fill: for each group what hides the filling.
    """

    states: Tensor
    groups: list[Group]
    fill: list[Bias]

    @property
    def longest(self) -> int:
        """Of the prompts, filling included."""
        return max(group.keys for group in self.groups)

    def table(self, rows: Tensor | None, states: Tensor) -> Tensor:
        """``states`` ``[tokens, n]``, which stand as the memory's, as ``[B, longest, n]``, filled up with zeros.

        Args:
            rows: ``[B]`` of the table, for each prompt; None where they stand so already, in one group.
        """
        sizes = [group.batch for group in self.groups]
        if rows is None:
            return states.view(*sizes, self.longest, -1)
        table = states.new_zeros(len(rows), self.longest, states.shape[1])
        parts = states.split([group.batch * group.keys for group in self.groups])
        for group, some, part in zip(self.groups, rows.split(sizes), parts, strict=True):
            table[some, : group.keys] = part.view(group.batch, group.keys, -1)
        return table


def encode(stack: T5Stack, states: Tensor, shapes: list[torch.Size], lengths: Tensor) -> Memory:
    """The encoder.

    Args:
        states: ``[tokens, d]`` embedded prompts, group after group.
        shapes: of each group ``(batch, length)``, its sequences filled up on the right.
        lengths: ``[sequences]`` true lengths.
    """
    groups, kind = [Group(batch, length, length) for batch, length in shapes], bias_type(states)
    place = torch.arange(aligned(max(group.keys for group in groups)), device=states.device)
    bias = position_bias(stack.block[0].layer[0].SelfAttention, place[None] - place[:, None])
    biases, fill = [], []
    for g, ends in zip(groups, lengths.split([group.batch for group in groups]), strict=True):
        biases.append(Bias(g.keys, kind, bias[..., : g.keys, : aligned(g.keys)], ends))
        fill.append(Bias(g.keys, kind, None, ends))
    stream = Stream(_drop(stack, states))
    for block in stack.block:
        own, feed = block.layer
        stream.add(own, self_attention(own.SelfAttention, stream.normed(own.layer_norm), groups, biases))
        stream.add(feed, feed_forward(feed, stream.normed(feed.layer_norm)))
    return Memory(_drop(stack, stream.normed(stack.final_layer_norm)), groups, fill)


def decode(stack: T5Stack, states: Tensor, memory: Memory) -> Tensor:
    """The decoder, learning: few tokens a prompt, the right ones given.

    Args:
        states: ``[sequences, depth, d]`` embedded inputs, in the order of the memory's prompts.

    Returns:
        ``[sequences, depth, d]``.
    """
    count, depth, width = states.shape
    step = torch.arange(depth, device=states.device)
    seen = torch.where(step[:, None] >= step, 0.0, MASKED)
    bias = position_bias(stack.block[0].layer[0].SelfAttention, step[None] - step[:, None]) + seen
    biases, group = [Bias(depth, bias_type(states), bias)], [Group(count, depth, depth)]
    attend_to = folded_cross_attention if states.device.type == "cpu" else cross_attention
    stream = Stream(_drop(stack, states.flatten(0, 1)))
    for block in stack.block:
        own, cross, feed = block.layer
        stream.add(own, self_attention(own.SelfAttention, stream.normed(own.layer_norm), group, biases))
        stream.add(cross, attend_to(cross.EncDecAttention, stream.normed(cross.layer_norm), depth, memory))
        stream.add(feed, feed_forward(feed, stream.normed(feed.layer_norm)))
    return _drop(stack, stream.normed(stack.final_layer_norm)).view(count, depth, width)


class Stream:
    """The residual stream; what a layer adds waits for the next norm, so that a card can do both at once.

    Args:
        states: ``[..., d]``, contiguous; not to be used elsewhere.
    """

    def __init__(self, states: Tensor) -> None:
        self.states = states
        self.change: Tensor | None = None

    def add(self, layer: nn.Module, change: Tensor) -> None:
        """The residual connection of ``layer``."""
        self.change = _drop(layer, change)

    def normed(self, layer: T5LayerNorm) -> Tensor:
        """The RMS norm of all that was added, in the type of the products that follow."""
        if is_fused(self.states):
            from oovrec.models import fused

            kind, change, self.change = compute_dtype(self.states), self.change, None
            return fused.add_norm_(self.states, change, layer.weight, layer.variance_epsilon, kind)
        return rms_norm(self.settled(), layer.weight, layer.variance_epsilon)

    def settled(self) -> Tensor:
        """The states with all that was added."""
        if self.change is not None:
            self.states, self.change = self.states + self.change, None
        return self.states


def position_bias(attention: T5Attention, distance: Tensor) -> Tensor:
    """``[1, heads, queries, keys]`` for each distance from query to key ``[queries, keys]``."""
    buckets, furthest = attention.relative_attention_num_buckets, attention.relative_attention_max_distance
    bucket = T5Attention._relative_position_bucket(distance, not attention.is_decoder, buckets, furthest)
    return attention.relative_attention_bias(bucket).permute(2, 0, 1)[None]


def self_attention(attention: T5Attention, states: Tensor, groups: list[Group], biases: list[Bias]) -> Tensor:
    """``[tokens, d]`` to the same; each sequence attends to itself."""
    queries, keys, values = attention.q(states), attention.k(states), attention.v(states)
    return attention.o(attend(queries, keys, values, groups, biases, attention.n_heads, _rate(attention)))


def cross_attention(attention: T5Attention, states: Tensor, depth: int, memory: Memory) -> Tensor:
    """``[sequences · depth, d]`` to the same, attending to the memory."""
    groups = [replace(group, queries=depth) for group in memory.groups]
    keys, values = attention.k(memory.states), attention.v(memory.states)
    mixed = attend(attention.q(states), keys, values, groups, memory.fill, attention.n_heads, _rate(attention))
    return attention.o(mixed)


def folded_cross_attention(attention: T5Attention, states: Tensor, depth: int, memory: Memory) -> Tensor:
    """As :func:`cross_attention`, without making keys and values of the memory.

    (W_q x)ᵀ W_k m = (W_kᵀ W_q x)ᵀ m: with few queries a prompt, a processor is faster taking the key map over to
    the queries, and the value map to the result, than sending every token of the memory through both.
    """
    heads = attention.n_heads
    asked = attention.q(states).unflatten(1, (heads, -1))
    keys, values = (effective(layer).unflatten(0, (heads, -1)) for layer in (attention.k, attention.v))  # [heads, w, d]
    queries = torch.einsum("nhw,hwd->nhd", asked, keys).flatten(0, 1)
    groups = [replace(group, queries=depth * heads) for group in memory.groups]
    states = memory.states.to(compute_dtype(memory.states))
    mixed = attend(queries, states, states, groups, memory.fill, 1, _rate(attention))
    return attention.o(torch.einsum("nhd,hwd->nhw", mixed.unflatten(0, (-1, heads)), values).flatten(1))


def feed_forward(layer: T5LayerFF, normed: Tensor) -> Tensor:
    """The two (T5 v1.1 and mT5: three) maps of a feed-forward layer."""
    dense = layer.DenseReluDense
    if hasattr(dense, "wi_0"):
        inner = dense.act(dense.wi_0(normed)) * dense.wi_1(normed)
    elif is_fused(normed) and isinstance(dense.act, nn.ReLU) and isinstance(dense.wi, nn.Linear):
        from oovrec.models import fused

        inner = fused.linear_relu(normed, dense.wi.weight)
    else:
        inner = dense.act(dense.wi(normed))
    return dense.wo(_drop(dense, inner))


def _drop(module: nn.Module, states: Tensor) -> Tensor:
    """Dropout at the rate of ``module.dropout``, a layer of the stock."""
    layer = module.dropout
    assert isinstance(layer, nn.Dropout)
    return dropout(states, layer.p, module.training)


def _rate(attention: T5Attention) -> float:
    return attention.dropout if attention.training else 0.0
