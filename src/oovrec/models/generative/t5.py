"""META ID (T): a T5 that reads prompts and writes items as out-of-vocabulary tokens (Huang et al., ICML 2025).

P5's tasks (Geng et al., RecSys 2022) in this project's wordings; the encoder reads the prompt, the decoder
writes the answer: an item's tokens, a rating or words. Differences from the paper: the loss at a token is over
the tokens legal there; the whole catalogue is scored exactly instead of by a beam.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import MT5ForConditionalGeneration, PreTrainedModel, T5ForConditionalGeneration

from oovrec.data.dataset import Dataset
from oovrec.decoding.trie import Trie
from oovrec.language.packed import Packed
from oovrec.models.generative.attention import MASKED, Bias, grouped, is_fused
from oovrec.models.generative.augmentation import AugmentedEmbedding
from oovrec.models.generative.base import GenerativeConfig, GenerativeRecommender
from oovrec.models.generative.lora import merged
from oovrec.models.generative.network import ItemNetwork, Loss, stock
from oovrec.models.generative.samples import Samples, Training
from oovrec.models.generative.t5_layers import Memory, Stream, decode, encode, feed_forward, position_bias
from oovrec.training.loop import Batch

Pair = tuple[Tensor, Tensor]
SCALED = "scale_decoder_outputs"  # in a config: whether states are scaled before a table that is the input's too
GROUP_COST = {"cpu": 4}  # of a group's attention, in tokens of all else; accelerators take one group


class T5Options(GenerativeConfig):
    """Options of T5.

    Attributes:
        dropout: everywhere that T5 has it, in training; None takes the backbone's own, .1 in a shape.
    """

    dropout: float | None = Field(None, ge=0, lt=1)


def shape(width: int, layers: int, heads: int, inner: int, head_width: int | None = None) -> dict[str, object]:
    """A named architecture: equal encoder and decoder depth, tied embeddings, as in the first T5."""
    sizes = {"d_model": width, "num_layers": layers, "num_heads": heads, "d_ff": inner}
    return {**sizes, "d_kv": head_width or width // heads, "tie_word_embeddings": True, "decoder_start_token_id": 0}


class T5Network(ItemNetwork):
    """T5's encoder and decoder with augmented embeddings; forward gives the loss of a batch.

    Args:
        network: a ``T5ForConditionalGeneration``, or mT5's.
        embedding: its token embedding, augmented.
        trie: the catalogue.
        loss, ratings: as in :class:`ItemNetwork`.
    """

    replayable = True

    def __init__(
        self,
        network: PreTrainedModel,
        embedding: AugmentedEmbedding,
        trie: Trie,
        loss: Loss,
        ratings: Trie | None = None,
    ) -> None:
        config = network.config
        tied = getattr(config, SCALED, False)  # T5's tables are one, and T5 v1.1's and mT5's two
        head, scale = (None, config.d_model**-0.5) if tied else (_head(network), 1.0)
        super().__init__(embedding, head, trie, loss, scale, ratings)
        self.encoder, self.decoder = network.encoder, network.decoder
        self.encoder.embed_tokens = self.decoder.embed_tokens = nn.Identity()
        self.start, self.config = config.decoder_start_token_id, config
        self.kind: type[PreTrainedModel] = type(network)

    def encode(self, lengths: Tensor, prompts: list[Tensor]) -> Memory:
        """The encoded prompts, which are as :meth:`forward` takes them."""
        read = self.embedding(torch.cat([group.flatten() for group in prompts]))
        return encode(self.encoder, read, [group.shape for group in prompts], lengths)

    def plain(self) -> PreTrainedModel:
        inputs, outputs = self.tables()
        config = copy.deepcopy(self.config)
        if hasattr(config, SCALED):  # which mT5 has not
            setattr(config, SCALED, self.tied)  # else the scale is part of the output layer
        weights = {f"encoder.{name}": weight for name, weight in merged(self.encoder).items()}
        weights |= {f"decoder.{name}": weight for name, weight in merged(self.decoder).items()}
        weights |= {f"{table}.weight": inputs for table in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")}
        weights["lm_head.weight"] = outputs if self.tied else outputs * self.scale
        return stock(self.kind, config, weights, tied=self.tied)

    def forward(self, lengths: Tensor, prompts: list[Tensor], **answer: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            lengths: ``[B]`` of the prompts, ascending.
            prompts: their ids, in groups of like length ``[b, L]``, filled up on the right.
            answer: ``nodes``, ``ratings`` or ``words``, as :meth:`answers` takes them.
        """
        answers = self.answers(**answer)
        count, depth = answers.tokens.shape
        begin = torch.full_like(answers.tokens[:, :1], self.start)
        inputs = torch.cat([begin, answers.inputs[:, :-1]], dim=1)
        read = torch.cat([group.flatten() for group in prompts])
        embedded, rows = self.look_up(torch.cat([read, inputs.flatten()]), answers)
        prompt, written = embedded.split([len(read), count * depth])
        memory = encode(self.encoder, prompt, [group.shape for group in prompts], lengths)
        states = decode(self.decoder, written.view(count, depth, -1), memory)
        return self.answer_loss(states, answers, rows) / answers.count


def _head(network: PreTrainedModel) -> nn.Linear:
    """The output layer of its own that T5 v1.1 has; a stock model made from a configuration ties it all the same."""
    head: nn.Linear = network.lm_head
    if head.weight is network.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
    return head


@dataclass(frozen=True)
class Asked:
    """Which of ``[B, W]`` sequences are asked for, to compute these N alone where the batch may be packed.

    Attributes:
        shape: ``(B, W)``.
        where: ``[N]`` the sequences, flattened; None takes all as they stand.
    """

    shape: torch.Size
    where: Tensor | None

    @classmethod
    def of(cls, paths: Tensor, *, packed: bool) -> Self:
        """The sequences ``[B, W, t]`` that are not -1."""
        asked = paths[..., 0] >= 0
        return cls(asked.shape, asked.flatten().nonzero().squeeze(1) if packed and not asked.all() else None)

    def pack(self, grid: Tensor) -> Tensor:
        """``[B, W, ...]`` to ``[N, 1, ...]``."""
        return grid if self.where is None else grid.flatten(0, 1)[self.where][:, None]

    def spread(self, packed: Tensor) -> Tensor:
        """``[N, 1, ...]`` to ``[B, W, ...]``, zeros where nothing was asked."""
        if self.where is None:
            return packed
        grid = packed.new_zeros(self.shape.numel(), *packed.shape[2:])
        return grid.index_copy_(0, self.where, packed[:, 0]).unflatten(0, self.shape)

    def of_prompts(self, each: Tensor) -> Tensor:
        """``[B, 1, ...]``, a prompt's, to ``[N, 1, ...]``."""
        return each if self.where is None else each[self.where // self.shape[1]]


class T5Stepper:
    """A batch of prompts encoded once; continuations attend to the start token and to themselves.

    The stock decoder takes one sequence a row, which would repeat the encoder's states for every first
    token. Here all continuations of a prompt stand in one row, each blind to the others, and positions are
    depths; the start token is read once. Uses the stock modules' weights.

    Args:
        network: the model, in eval mode.
        rows: ``[B]`` where in the batch each of the prompts stands; None where they stand so already, in one group.
        lengths, prompts: as :meth:`T5Network.forward` takes them.
    """

    def __init__(self, network: T5Network, rows: Tensor | None, lengths: Tensor, prompts: list[Tensor]) -> None:
        self.network = network
        memory = network.encode(lengths, prompts)
        self.fused = is_fused(memory.states, network.config.d_kv)
        crosses = [block.layer[1].EncDecAttention for block in network.decoder.block]
        table = partial(memory.table, rows)
        self.memory = [
            (self._heads(table(cross.k(memory.states))), self._heads(table(cross.v(memory.states))))
            for cross in crosses
        ]
        self.at: Tensor | None = None  # rows of the memory, one a prompt; None: as they stand
        ends = lengths if rows is None else torch.empty_like(lengths).index_copy_(0, rows, lengths)
        self.fill = Bias(memory.longest, torch.float32, None, ends)
        start = torch.full_like(lengths, network.start)[:, None, None]
        self.start: list[Pair] = []  # of no token yet
        states, self.start = self._decode(start, Asked.of(start, packed=False))
        self.first = states[:, 0, 0]

    def root(self) -> Tensor:
        return self.first

    def extend(self, paths: Tensor) -> Tensor:
        paths = paths.expand(len(self.first), -1, -1)
        asked = Asked.of(paths, packed=not self.fused)
        states, _ = self._decode(asked.pack(paths.clamp(min=0)), asked)
        return asked.spread(states[:, :, -1])

    def take(self, rows: Tensor) -> Self:
        if self.fused:  # the memory stays as it is
            self.at = rows if self.at is None else self.at[rows]
        else:
            self.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
            assert self.fill.ends is not None
            self.fill = replace(self.fill, ends=self.fill.ends[rows])
        self.start = [(keys[rows], values[rows]) for keys, values in self.start]
        self.first = self.first[rows]
        return self

    def _decode(self, ids: Tensor, asked: Asked) -> tuple[Tensor, list[Pair]]:
        """``[B, W, t]`` ids of W sequences a prompt, each of which sees itself and the start token, once that is read.

        Args:
            asked: by which they are packed, so that they may be ``[N, 1, t]``.

        Returns:
            ``[B, W, t, d]`` last states, and of each layer the keys and values ``[B, W, t, heads, w]``, packed as well.
        """
        decoder, stream = self.network.decoder, Stream(self.network.embedding(ids))
        depth = 1 if self.start else 0
        key = torch.arange(depth + ids.shape[2], device=ids.device)
        query = key[depth:, None]
        bias = position_bias(decoder.block[0].layer[0].SelfAttention, key - query)[0]
        bias, known = bias + torch.where(key <= query, 0.0, MASKED), []
        before: list[Pair | None] = [*self.start] or [None] * len(decoder.block)
        for block, first, memory in zip(decoder.block, before, self.memory, strict=True):
            own, cross, feed = block.layer
            normed, attention = stream.normed(own.layer_norm), own.SelfAttention
            queries, *new = (
                layer(normed).unflatten(3, (attention.n_heads, -1)) for layer in (attention.q, attention.k, attention.v)
            )
            known.append((new[0], new[1]))
            begun = first and (asked.of_prompts(first[0]), asked.of_prompts(first[1]))
            stream.add(own, attention.o(self._attend_to_paths(queries, begun, known[-1], bias).flatten(3)))
            queries = asked.spread(cross.EncDecAttention.q(stream.normed(cross.layer_norm)))
            mixed = self._attend(queries.flatten(1, 2).unflatten(2, (attention.n_heads, -1)), *memory)
            stream.add(cross, cross.EncDecAttention.o(asked.pack(mixed.flatten(2).view_as(queries))))
            stream.add(feed, feed_forward(feed, stream.normed(feed.layer_norm)))
        return decoder.final_layer_norm(stream.settled()), known  # in float32

    def _heads(self, states: Tensor) -> Tensor:
        """``[B, n, heads · w]`` to ``[B, n, heads, w]``; for plain products each head's numbers together."""
        parts = states.unflatten(2, (self.network.config.num_heads, -1))
        return parts if self.fused else parts.transpose(1, 2).contiguous().transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """T5's attention to the memory, ``[B, n, heads, w]``: no scaling of the scores, an additive bias.

        By plain products: with few queries a processor's fused kernel takes five times as long.
        """
        if self.fused:
            from oovrec.models import fused

            return fused.attend(queries, keys, values, self.fill.ends, rows=self.at)
        queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))
        weights = torch.softmax(queries.contiguous() @ keys.mT + self.fill.whole, dim=-1)  # in the bias's float32
        return (weights.to(values.dtype) @ values).transpose(1, 2)

    def _attend_to_paths(self, queries: Tensor, first: Pair | None, own: Pair, bias: Tensor) -> Tensor:
        """T5's attention of W short sequences a prompt, each to itself and to the start token.

        Number by number, not by matrix products, which for one to three keys would be as many as there are sequences.

        Args:
            queries: ``[B, W, t, heads, w]``.
            first: keys and values of the start token, ``[B, 1, 1, heads, w]`` each; None before there is one.
            own: the sequences', ``[B, W, t, heads, w]`` each.
            bias: ``[heads, t, keys]``.
        """
        if self.fused:
            from oovrec.models import fused

            return fused.attend_to_paths(queries, *own, first, bias)
        keys, values = (x.unbind(2) for x in own)  # [B, W, heads, w] each
        if first is not None:
            keys, values = (first[0][:, :, 0], *keys), (first[1][:, :, 0], *values)
        scores = torch.stack([(queries * key[:, :, None]).sum(-1, dtype=torch.float32) for key in keys], dim=-1)
        weights = torch.softmax(scores + bias.transpose(0, 1), dim=-1).to(queries.dtype)
        mixed = [weights[..., place, None] * value[:, :, None] for place, value in enumerate(values)]
        return reduce(torch.add, mixed)

    def rows(self, tokens: Tensor) -> Tensor:
        return self.network.rows(tokens)


class T5(GenerativeRecommender):
    """META ID on T5; also any other token scheme, and any T5-shaped checkpoint."""

    name = "t5"
    Config = T5Options
    config: T5Options
    module: T5Network
    kinds = (T5ForConditionalGeneration, MT5ForConditionalGeneration)
    causal = False
    shapes = {
        "debug": shape(32, 2, 2, 64),
        "compact": shape(128, 2, 4, 512),
        "t5-small": shape(512, 6, 8, 2048),
    }

    @property
    def changes(self) -> dict[str, object]:
        return {} if self.config.dropout is None else {"dropout_rate": self.config.dropout}

    def wrap(self, network: PreTrainedModel, embedding: AugmentedEmbedding) -> T5Network:
        return T5Network(network, embedding, self._trie, self.config.loss, self.ratings)

    def stepper(self, prompts: Packed) -> T5Stepper:
        order, lengths, groups = self._by_length(prompts)
        lengths, *groups = (part.to(self.device) for part in (lengths, *groups))
        as_they_are = len(groups) == 1 and bool((np.diff(order) == 1).all())
        rows = None if as_they_are else torch.from_numpy(order).to(self.device)
        return T5Stepper(self.module, rows, lengths, groups)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        training = Training.of(dataset)
        return [partial(self._batch, training, samples) for samples in self.samples(training, batch_size, rng)]

    def _batch(self, training: Training, samples: Samples) -> dict[str, Tensor | list[Tensor]]:
        order, lengths, prompts = self._by_length(self.training_prompts(training, samples))
        _, answer = self.answer(training, samples.take(order))
        return {**answer, "lengths": lengths, "prompts": prompts}

    def _by_length(self, prompts: Packed) -> tuple[np.ndarray, Tensor, list[Tensor]]:
        """The order of prompts by length, and in that order their lengths and their groups of like length."""
        order = np.argsort(prompts.lengths, kind="stable")
        prompts = prompts.take(order)
        groups = grouped(prompts, GROUP_COST.get(self.device.type), self.vocabulary.pad)
        return order, torch.from_numpy(prompts.lengths), [torch.from_numpy(ids) for ids in groups]
