"""META ID (T): a T5 that reads prompts and writes items as out-of-vocabulary tokens (Huang et al., ICML 2025).

P5's sequential and direct tasks (Geng et al., RecSys 2022) in this project's wordings; the encoder reads
the prompt, the decoder writes the item's tokens. Differences from the paper: the loss at a token is over
the tokens legal there; the whole catalogue is scored exactly instead of by a beam.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.decoding.trie import Trie
from oovrec.models.generative.augmentation import AugmentedEmbedding
from oovrec.models.generative.base import (
    GenerativeConfig,
    GenerativeRecommender,
    Sample,
    full_precision,
    pad_right,
    restricted_loss,
)
from oovrec.training.loop import Batch

MASKED = torch.finfo(torch.float32).min


def shape(width: int, layers: int, heads: int, inner: int, head_width: int | None = None) -> dict[str, object]:
    """A named architecture: equal encoder and decoder depth, tied embeddings, as in the first T5."""
    sizes = {"d_model": width, "num_layers": layers, "num_heads": heads, "d_ff": inner}
    return {**sizes, "d_kv": head_width or width // heads, "tie_word_embeddings": True, "decoder_start_token_id": 0}


class T5Network(nn.Module):
    """T5's encoder and decoder with augmented embeddings; forward gives the loss of a batch.

    Args:
        network: a ``T5ForConditionalGeneration``.
        embedding: its token embedding, augmented.
        trie: the catalogue.
    """

    def __init__(self, network: PreTrainedModel, embedding: AugmentedEmbedding, trie: Trie) -> None:
        super().__init__()
        config = network.config
        self.embedding, self.encoder, self.decoder, self.trie = embedding, network.encoder, network.decoder, trie
        self.encoder.embed_tokens = self.decoder.embed_tokens = nn.Identity()
        tied = config.tie_word_embeddings
        self.head = None if tied else network.lm_head
        self.scale = config.d_model**-0.5 if tied else 1.0
        self.start = config.decoder_start_token_id

    def rows(self, tokens: Tensor) -> Tensor:
        """Output rows ``[n, d]`` of ``tokens`` ``[n]``."""
        rows = self.embedding(tokens) if self.head is None else self.head.weight[tokens]
        return rows * self.scale

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``[B, L]`` ids and bool mask to ``[B, L, d]``."""
        return self.encoder(inputs_embeds=self.embedding(ids), attention_mask=mask).last_hidden_state

    def forward(self, ids: Tensor, mask: Tensor, targets: Tensor, nodes: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            ids: ``[B, L]`` prompts, mask: ``[B, L]`` bool.
            targets: ``[B, depth]`` token ids of the items.
            nodes: ``[B, depth]`` their trie nodes.
        """
        begin = torch.full_like(targets[:, :1], self.start)
        inputs = torch.cat([begin, targets[:, :-1]], dim=1)
        states = self.decoder(
            inputs_embeds=self.embedding(inputs),
            encoder_hidden_states=self.encode(ids, mask),
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        self.trie = trie = self.trie.to(ids.device)
        rows = [self.rows(level.tokens) for level in trie.levels]
        return restricted_loss(states, nodes, trie, rows) / len(ids)


class T5Stepper:
    """A batch of prompts encoded once; continuations attend to the start token and to themselves.

    The stock decoder takes one sequence a row, which would repeat the encoder's states for every first
    token. Here all continuations of a prompt stand in one row, each blind to the others; positions are
    depths. Uses the stock modules' weights.

    Args:
        network: the model, in eval mode.
        ids: ``[B, L]`` prompts.
        mask: ``[B, L]`` bool.
    """

    def __init__(self, network: T5Network, ids: Tensor, mask: Tensor) -> None:
        self.network = network
        memory = network.encode(ids, mask)
        self.memory_bias = torch.where(mask, 0.0, MASKED)[:, None, None].to(memory.dtype)
        crosses = [block.layer[1].EncDecAttention for block in network.decoder.block]
        self.memory = [(_heads(cross.k(memory), cross), _heads(cross.v(memory), cross)) for cross in crosses]

    def root(self) -> Tensor:
        batch, device = len(self.memory_bias), self.memory_bias.device
        start = torch.full((batch, 1), self.network.start, device=device)
        alone = torch.ones(1, 1, dtype=torch.bool, device=device)
        return self._decode(start, torch.zeros(1, dtype=torch.long, device=device), alone)[:, 0]

    def extend(self, paths: Tensor) -> Tensor:
        batch, (width, depth) = len(self.memory_bias), paths.shape[1:]
        ids = paths.expand(batch, width, depth).reshape(batch, -1)
        start = torch.full_like(ids[:, :1], self.network.start)
        step = torch.arange(1, depth + 1, device=ids.device).repeat(width)
        path = torch.arange(width, device=ids.device).repeat_interleave(depth)
        step, path = torch.cat([step.new_zeros(1), step]), torch.cat([path.new_full((1,), -1), path])
        seen = ((path[:, None] == path) & (step[:, None] >= step)) | (path == -1)
        states = self._decode(torch.cat([start, ids], dim=1), step, seen)
        return states[:, 1:].unflatten(1, (width, depth))[:, :, -1]

    def _decode(self, ids: Tensor, step: Tensor, seen: Tensor) -> Tensor:
        """``[B, n]`` ids at depths ``step`` ``[n]``, row i attending to the columns of ``seen`` ``[n, n]``."""
        blocks, states = self.network.decoder.block, self.network.embedding(ids)
        first = blocks[0].layer[0].SelfAttention
        distance = step[None] - step[:, None]
        bucket = T5Attention._relative_position_bucket(
            distance, False, first.relative_attention_num_buckets, first.relative_attention_max_distance
        )
        bias = first.relative_attention_bias(bucket).permute(2, 0, 1)[None] + torch.where(seen, 0.0, MASKED)
        for block, (keys, values) in zip(blocks, self.memory, strict=True):
            own, cross, feed = block.layer
            normed, attention = own.layer_norm(states), own.SelfAttention
            mixed = _attend(
                attention, normed, _heads(attention.k(normed), attention), _heads(attention.v(normed), attention), bias
            )
            states = states + mixed
            states = states + _attend(cross.EncDecAttention, cross.layer_norm(states), keys, values, self.memory_bias)
            states = feed(states)
        return self.network.decoder.final_layer_norm(states)

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return full_precision(hidden, self.network.rows(tokens))


def _heads(states: Tensor, attention: T5Attention) -> Tensor:
    """``[B, n, heads · w]`` to ``[B, heads, n, w]``."""
    return states.unflatten(2, (attention.n_heads, -1)).transpose(1, 2)


def _attend(attention: T5Attention, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """T5's attention: no scaling of the scores, an additive bias."""
    asked = _heads(attention.q(queries), attention)
    mixed = nn.functional.scaled_dot_product_attention(asked, keys, values, bias.to(asked.dtype), scale=1.0)
    return attention.o(mixed.transpose(1, 2).flatten(2))


class T5(GenerativeRecommender):
    """META ID on T5; also any other token scheme, and any T5-shaped checkpoint."""

    name = "t5"
    Config = GenerativeConfig
    module: T5Network
    hf_config = T5Config
    hf_model = T5ForConditionalGeneration
    causal = False
    shapes = {
        "debug": shape(32, 2, 2, 64),
        "compact": shape(128, 2, 4, 512),
        "t5-small": shape(512, 6, 8, 2048),
    }

    def wrap(self, network: PreTrainedModel, embedding: AugmentedEmbedding) -> T5Network:
        return T5Network(network, embedding, self._trie)

    def read(self, histories: Histories) -> T5Stepper:
        pairs = zip(histories, histories.users, strict=True)
        ids, mask = self._prompts([self.prompt(items, int(user)) for items, user in pairs])
        return T5Stepper(self.module, ids.to(self.device), mask.to(self.device))

    def _prompts(self, rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        ids, lengths = pad_right(rows, self.vocabulary.pad)
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        training = dataset.histories("train")
        return [partial(self._batch, training, *batch) for batch in self.prompt_batches(training, batch_size, rng)]

    def _batch(self, training: Histories, samples: list[Sample], rng: np.random.Generator) -> dict[str, Tensor]:
        ids, mask = self._prompts([self.training_prompt(training, sample, rng) for sample in samples])
        items = torch.tensor([int(training.items[sample.where]) for sample in samples])
        targets = torch.from_numpy(self.vocabulary.items)[items]
        return {"ids": ids, "mask": mask, "targets": targets, "nodes": self._trie.nodes(items)}
