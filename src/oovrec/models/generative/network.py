"""What the trained networks share: one look-up a step for inputs and output rows, and the loss of items."""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from oovrec.decoding.trie import Level, Trie
from oovrec.models.generative.augmentation import AugmentedEmbedding
from oovrec.models.losses import softmax_cross_entropy

Loss = Literal["restricted", "full"]


class ItemNetwork(nn.Module):
    """A network that reads tokens and is to name items.

    Args:
        embedding: of its tokens, augmented; also its output rows where ``head`` is None.
        head: an output layer of its own, which is augmented likewise.
        trie: the catalogue.
        loss: over the tokens legal at each place, or over the whole vocabulary as in the stock models.
        scale: of the output rows.
    """

    def __init__(
        self, embedding: AugmentedEmbedding, head: nn.Linear | None, trie: Trie, loss: Loss, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.embedding, self.trie, self.loss, self.scale = embedding, trie, loss, scale
        self.head = None if head is None else embedding.beside(head.weight.data)

    @property
    def output(self) -> AugmentedEmbedding:
        """The table of the output rows."""
        return self.embedding if self.head is None else self.head

    @property
    def tied(self) -> bool:
        """Whether a token is read and written by the same row."""
        return self.head is None and self.embedding.alike

    def rows(self, tokens: Tensor) -> Tensor:
        """Output rows ``[n, d]`` of ``tokens`` ``[n]``."""
        return self.output(tokens, "output") * self.scale

    def tables(self) -> tuple[Tensor, Tensor]:
        """``[size, d]`` the rows of all tokens as inputs and as outputs, without ``scale``; one tensor where tied."""
        inputs = self.embedding.whole()
        return inputs, inputs if self.tied else self.output.whole("output")

    def plain(self) -> PreTrainedModel:
        """A stock model with the same logits, on the processor; what augments the tables is part of them."""
        raise NotImplementedError

    def look_up(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Input embeddings ``[n, d]`` of ``ids`` ``[n]``, and the output rows that :meth:`item_loss` needs.

        Together where they are tied, so that the augmentation and the table's gradient are made once a step.
        """
        self.trie = self.trie.to(ids.device)
        if self.loss == "full":
            inputs, outputs = self.tables()
            return F.embedding(ids, inputs), [outputs * self.scale]
        alphabets = [level.tokens.long() for level in self.trie.levels]
        if not self.tied:
            return self.embedding(ids), [self.rows(tokens) for tokens in alphabets]
        inputs, *rows = self.embedding(torch.cat([ids, *alphabets])).split([len(ids), *map(len, alphabets)])
        return inputs, [part * self.scale for part in rows]

    def item_loss(self, hidden: Tensor, nodes: Tensor, rows: list[Tensor]) -> Tensor:
        """Sum of the items' negative log-probabilities.

        Args:
            hidden: ``[n, depth, d]`` the states that predict each token of the targets.
            nodes: ``[n, depth]`` the targets' trie nodes.
            rows: from :meth:`look_up`.
        """
        if self.loss == "full":
            tokens = self.trie.paths(nodes[:, -1], self.trie.depth)
            return softmax_cross_entropy(hidden.flatten(0, 1), rows[0], tokens.flatten())
        return restricted_loss(hidden, nodes, self.trie, rows)


def restricted_loss(hidden: Tensor, nodes: Tensor, trie: Trie, rows: list[Tensor]) -> Tensor:
    """Sum of the items' negative log-probabilities, each token against its legal alternatives alone.

    Args:
        hidden: ``[n, depth, d]`` the states that predict each token of the targets.
        nodes: ``[n, depth]`` the targets' trie nodes.
        rows: for each level the output rows ``[alphabet, d]`` of its tokens.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    for depth, (level, weight) in enumerate(zip(trie.levels, rows, strict=True)):
        symbols = level.symbol[nodes[:, depth]].long()
        legal = partial(_legal, level, nodes[:, depth - 1]) if depth else None  # every first token is legal
        total = total + softmax_cross_entropy(hidden[:, depth], weight, symbols, legal)
    return total


def _legal(level: Level, above: Tensor, chunk: slice) -> Tensor:
    return level.mask(above[chunk])


def stock(
    model: type[PreTrainedModel], config: PretrainedConfig, weights: dict[str, Tensor], *, tied: bool
) -> PreTrainedModel:
    """A stock model with these weights, every one of them; not ``tied``, it has an output layer of its own."""
    with torch.random.fork_rng(devices=[]):  # its weights begin at random
        made = model(copy.deepcopy(config))
    if not tied:
        made.get_output_embeddings().weight = nn.Parameter(torch.empty_like(weights["lm_head.weight"], device="cpu"))
        made.config.tie_word_embeddings = False
    made.load_state_dict(weights)
    return made.eval()


def full_precision(hidden: Tensor, rows: Tensor) -> Tensor:
    """``[..., n]`` float32 logits of output rows ``[n, d]``, under autocast too: coarser ones would tie."""
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden.float() @ rows.float().T
