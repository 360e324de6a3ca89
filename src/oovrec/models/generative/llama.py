"""META ID (L): a LLaMA that reads and writes items as out-of-vocabulary tokens (Huang et al., ICML 2025).

Two forms. ``history``: the input is ``<s>``, the user's tokens if wanted, and the history's, nothing else; every
position of a history is learnt in one pass, as in a sequential recommender. ``prompt``: the paper's form, a worded
prompt and one target; the way to use a pretrained checkpoint. Differences from the paper: the loss at a
token is over the tokens legal there; the whole catalogue is scored exactly instead of by a beam.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    Gemma3ForCausalLM,
    GemmaForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Olmo2ForCausalLM,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
    SmolLM3ForCausalLM,
)

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError
from oovrec.language.packed import Packed
from oovrec.language.wordings import Group, Task
from oovrec.models.arithmetic import dropout
from oovrec.models.generative.attention import grouped
from oovrec.models.generative.augmentation import AugmentedEmbedding
from oovrec.models.generative.base import GenerativeConfig, GenerativeRecommender
from oovrec.models.generative.lora import merged
from oovrec.models.generative.network import ItemNetwork, Loss, stock
from oovrec.models.generative.pretrained import window_of
from oovrec.models.generative.samples import Samples, Training
from oovrec.training.loop import Batch
from oovrec.training.windows import windows

# Alike in what the network here needs of them: a body of layers with a self_attn and an mlp each, and a head.
KINDS = (
    *(LlamaForCausalLM, GemmaForCausalLM, Gemma3ForCausalLM, MistralForCausalLM, Olmo2ForCausalLM),
    *(Phi3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, SmolLM3ForCausalLM),
)
GROUP_COST = {"cpu": 128}  # of a pass through the body, in tokens; accelerators take one group


class LlamaOptions(GenerativeConfig):
    """Options of the LLaMA recommender.

    Attributes:
        form: ``history`` or ``prompt``, see the module's text.
        user: whether the form ``history`` names the user before the items; a prompt in words does anyway.
        history: as in :class:`GenerativeConfig`.
        dropout: on the input embeddings, in training.
        residual_dropout: on what attention and feed-forward parts add to the states, in training.
    """

    form: Literal["history", "prompt"] = "history"
    user: bool = False
    history: int = Field(100, ge=1)
    alpha: float = Field(1.0, ge=0)
    dropout: float = Field(0.3, ge=0, lt=1)
    residual_dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _names_users_once(self) -> Self:
        if self.user and self.form == "prompt":
            raise OovrecError("is for form=history", where="model.user", remedy="leave it out: prompts name the user")
        return self


def shape(width: int, layers: int, heads: int, inner: int, **other: object) -> dict[str, object]:
    """A named architecture; embeddings are tied, as in small LLaMAs."""
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    return {**sizes, "max_position_embeddings": 2048, "tie_word_embeddings": True, **other}


class LlamaNetwork(ItemNetwork):
    """LLaMA's body with augmented embeddings; forward gives the loss of a batch.

    Args:
        network: one of :data:`KINDS`.
        embedding: its token embedding, augmented.
        trie: the catalogue.
        loss, ratings: as in :class:`ItemNetwork`.
        dropout: on the input embeddings.
        residual: dropout on what the body's parts add to the states.
        replayable: whether batches come in few shapes, so that steps may be recorded.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        embedding: AugmentedEmbedding,
        trie: Trie,
        loss: Loss,
        dropout: float,
        residual: float,
        ratings: Trie | None = None,
        *,
        replayable: bool = False,
    ) -> None:
        head = None if network.config.tie_word_embeddings else network.lm_head
        super().__init__(embedding, head, trie, loss, ratings=ratings)
        self.kind: type[PreTrainedModel] = type(network)
        self.window = window_of(network.config)
        self.enlarged = float(getattr(network.get_input_embeddings(), "embed_scale", 1.0))  # rows as Gemma reads them
        self.body, self.dropout, self.replayable = network.model, dropout, replayable
        self.body.embed_tokens = nn.Identity()
        for layer in self.body.layers if residual else []:
            for part in (layer.self_attn, layer.mlp):  # whole: an adapter of their last map is behind its hooks
                part.register_forward_hook(partial(_dropped, residual))

    def run(self, inputs_embeds: Tensor, **options: object) -> Tensor:
        """The body's last states, by the attention that is fastest there.

        On a processor the fused kernel's bf16 backward took a third of a training step; plain products did not.
        """
        plain = inputs_embeds.device.type == "cpu" and torch.is_grad_enabled()
        self.body.config._attn_implementation = "eager" if plain else "sdpa"
        read = inputs_embeds if self.enlarged == 1.0 else inputs_embeds * self.enlarged
        return self.body(inputs_embeds=read, **options).last_hidden_state

    def check_reach(self, length: int) -> None:
        """Raise where layers that look back through a window would not see all of ``length`` tokens."""
        if self.window is not None and length > self.window:
            what = (
                f"a prompt and its answer take {length:,} tokens, and the pretrained model looks back {self.window:,}"
            )
            raise OovrecError(what, where="model.history", remedy="lower it")

    def plain(self) -> PreTrainedModel:
        inputs, outputs = self.tables()
        weights = {f"model.{name}": weight for name, weight in merged(self.body).items()}
        weights |= {"model.embed_tokens.weight": inputs, "lm_head.weight": outputs}
        return stock(self.kind, self.body.config, weights, tied=self.tied)

    def forward(self, where: Tensor, groups: list[Tensor], scale: Tensor, **answer: Tensor) -> Tensor:
        """Loss of the answers in a batch.

        Args:
            where: ``[n, depth]`` positions in the flattened groups that predict each answer's tokens.
            groups: inputs ``[b, L]``, sequences of like length together, filled up on the right: attention is
                causal, so the filling reaches no real position.
            scale: what the sum is divided by: the mean number of targets a batch.
            answer: ``nodes``, ``ratings`` or ``words``, as :meth:`answers` takes them.
        """
        self.check_reach(max(ids.shape[1] for ids in groups))
        answers = self.answers(**answer)
        embedded, rows = self.look_up(torch.cat([ids.flatten() for ids in groups]), answers)
        parts = dropout(embedded, self.dropout, self.training).split([ids.numel() for ids in groups])
        pairs = zip(parts, groups, strict=True)
        states = [self.run(part.view(*ids.shape, -1), use_cache=False).flatten(0, 1) for part, ids in pairs]
        return self.answer_loss(torch.cat(states)[where], answers, rows) / scale


def _dropped(rate: float, part: nn.Module, _: object, output: Any) -> Any:
    """A hook: dropout on the output of a part of the body, of attention on the first of its outputs."""
    if isinstance(output, tuple):
        return dropout(output[0], rate, part.training), *output[1:]
    return dropout(output, rate, part.training)


class LlamaStepper:
    """A batch of prompts read once; continuations attend to their prompt and to themselves (tree attention).

    Args:
        network: the model, in eval mode.
        ids: ``[B, L]`` right-padded prompts.
        lengths: ``[B]`` their true lengths.
    """

    def __init__(self, network: LlamaNetwork, ids: Tensor, lengths: Tensor) -> None:
        self.network, self.lengths = network, lengths
        network.check_reach(ids.shape[1])
        self.cache = DynamicCache()  # of all that was read in each layer, whatever it looks back
        states = network.run(network.embedding(ids), past_key_values=self.cache, use_cache=True)
        self.last = states[torch.arange(len(ids), device=ids.device), lengths - 1]
        self.prompt = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # [B, L]

    def root(self) -> Tensor:
        return self.last

    def extend(self, paths: Tensor) -> Tensor:
        batch = len(self.prompt)
        width, depth = paths.shape[1:]
        self.network.check_reach(self.prompt.shape[1] + depth)
        ids = paths.clamp(min=0).expand(batch, width, depth).reshape(batch, -1)
        step = torch.arange(depth, device=ids.device).repeat(width)
        path = torch.arange(width, device=ids.device).repeat_interleave(depth)
        own = (path[:, None] == path) & (step[:, None] >= step)  # [W·t, W·t]
        prompt = self.prompt[:, None].expand(-1, len(step), -1)
        mask = torch.cat([prompt, own.expand(batch, -1, -1)], dim=2)[:, None]
        embedded = self.network.embedding(ids)
        states = self.network.run(
            embedded,
            attention_mask=torch.where(mask, 0.0, torch.finfo(embedded.dtype).min),
            position_ids=self.lengths[:, None] + step,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache.crop(-ids.shape[1])
        return states.view(batch, width, depth, -1)[:, :, -1]

    def take(self, rows: Tensor) -> Self:
        self.cache.batch_select_indices(rows)
        self.lengths, self.prompt, self.last = self.lengths[rows], self.prompt[rows], self.last[rows]
        return self

    def rows(self, tokens: Tensor) -> Tensor:
        return self.network.rows(tokens)


class Llama(GenerativeRecommender):
    """META ID on LLaMA; also any other token scheme, and any LLaMA-shaped checkpoint."""

    name = "llama"
    Config = LlamaOptions
    config: LlamaOptions
    module: LlamaNetwork
    kinds = KINDS
    causal = True
    shapes = {
        "debug": shape(32, 2, 2, 64),
        "compact": shape(128, 3, 4, 512),
        "medium": shape(256, 4, 4, 1024),
        "smollm2-135m": shape(576, 30, 9, 1536, num_key_value_heads=3),
    }

    @property
    def worded(self) -> bool:
        return self.config.form == "prompt"

    @property
    def reads_users(self) -> bool:
        return self.worded or self.config.user

    def wrap(self, network: PreTrainedModel, embedding: AugmentedEmbedding) -> LlamaNetwork:
        options, ratings = self.config, self.ratings
        dropouts = options.dropout, options.residual_dropout
        return LlamaNetwork(network, embedding, self._trie, options.loss, *dropouts, ratings, replayable=self.worded)

    def stepper(self, prompts: Packed) -> LlamaStepper:
        ids, lengths = torch.from_numpy(prompts.padded(self.vocabulary.pad)), torch.from_numpy(prompts.lengths)
        return LlamaStepper(self.module, ids.to(self.device), lengths.to(self.device))

    def prompts(self, histories: Histories, task: Task = "sequential", group: Group = "seen") -> Packed:
        if self.worded:
            return super().prompts(histories, task, group)
        return self._begun(histories.last(self.config.history))

    def _begun(self, histories: Histories) -> Packed:
        """What opens a history, and the items' tokens."""
        depth = self.vocabulary.items.shape[1]
        tokens, opening = self.vocabulary.items[histories.items].ravel(), self._opened(histories.users)
        ids = np.insert(tokens, np.repeat(histories.indptr[:-1] * depth, opening.lengths), opening.ids)
        return Packed(ids, opening.lengths + histories.lengths * depth)

    def _opened(self, users: np.ndarray) -> Packed:
        """``<s>``, and the user's tokens where they are read."""
        start = self.vocabulary.start
        if not self.config.user:
            return Packed(np.full(len(users), start), np.ones(len(users), np.int64))
        named = self.prompter.named(users)
        return Packed(np.insert(named.ids, np.cumsum(named.lengths) - named.lengths, start), 1 + named.lengths)

    def epoch(self, dataset: Dataset, batch_size: int, rng: np.random.Generator) -> list[Batch]:
        if self.worded:
            training = Training.of(dataset)
            return [partial(self._prompted, training, part) for part in self.samples(training, batch_size, rng)]
        histories = dataset.histories("train")
        if self.config.user:
            unknown = rng.random(len(histories)) < self.config.unknown_users
            histories = replace(histories, users=np.where(unknown, -1, histories.users))
        plan = windows(histories, self.config.history + 1, batch_size, rng)
        return [partial(self._windows, batch, plan.mean_targets) for batch in plan.batches]

    def _windows(self, batch: Histories, scale: float) -> dict[str, Tensor | list[Tensor]]:
        """Each window and what opens it, without the longest's last token: each token predicts the next."""
        begun, depth = self._begun(batch), self.vocabulary.items.shape[1]
        ids = begun.padded(self.vocabulary.pad)[:, :-1]
        column = np.arange(len(batch.items)) - np.repeat(batch.indptr[:-1], batch.lengths)
        opened = begun.lengths - batch.lengths * depth
        first = batch.rows * ids.shape[1] + opened[batch.rows] - 1 + column * depth
        nodes = self._trie.nodes(torch.from_numpy(batch.items))
        return batch_of([ids], first, {"nodes": nodes}, scale)

    def _prompted(self, training: Training, samples: Samples) -> dict[str, Tensor | list[Tensor]]:
        """Prompt and answer, all but the answer's last token."""
        prompts = self.training_prompts(training, samples)
        order = np.argsort(prompts.lengths, kind="stable")
        samples, ordered = samples.take(order), prompts.take(order)
        codes, answer = self.answer(training, samples)
        count = np.count_nonzero(codes >= 0) if "words" in answer else len(codes)
        codes = np.maximum(codes[:, :-1], 0)  # behind a text's end anything: no other position sees it
        groups, begins = self._continued(ordered, codes)
        return batch_of(groups, begins + ordered.lengths - 1, answer, float(count))

    def _continued(self, prompts: Packed, codes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Prompts, sorted by length, each with its ``codes`` ``[n, t]`` behind it, in groups of like length.

        Returns:
            The groups, and ``[n]`` where each sequence begins in them, flattened one after another.
        """
        ends = np.repeat(np.cumsum(prompts.lengths), codes.shape[1])
        inputs = Packed(np.insert(prompts.ids, ends, codes.ravel()), prompts.lengths + codes.shape[1])
        groups = grouped(inputs, GROUP_COST.get(self.device.type), self.vocabulary.pad)
        widths = np.repeat([ids.shape[1] for ids in groups], [len(ids) for ids in groups])
        return groups, np.cumsum(widths) - widths


def batch_of(
    groups: list[np.ndarray], first: np.ndarray, answer: dict[str, Tensor], scale: float
) -> dict[str, Tensor | list[Tensor]]:
    """Tensors for :meth:`LlamaNetwork.forward`; ``first`` ``[n]`` are the positions that predict the answers' begin."""
    (tokens,) = answer.values()
    return {
        **answer,
        "where": torch.from_numpy(first[:, None] + np.arange(tokens.shape[1])),
        "groups": [torch.from_numpy(ids) for ids in groups],
        "scale": torch.tensor(scale),
    }
