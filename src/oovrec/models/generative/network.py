"""What the trained networks share: one look-up a step for inputs and output rows, and the loss of their answers."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from oovrec.decoding.trie import Level, Trie
from oovrec.models.generative.augmentation import AugmentedEmbedding, unchanging
from oovrec.models.losses import grouped_cross_entropy, grouping_pays, softmax_cross_entropy

Loss = Literal["restricted", "full"]
IGNORED = -100  # in place of words, after a text's end


@dataclass(frozen=True)
class Answers:
    """What the prompts of a batch are answered by: items, ratings or texts.

    Attributes:
        tokens: ``[n, depth]`` ids, or IGNORED.
        trie: of everything that might be answered, items or ratings; None for texts.
        nodes: ``[n, depth]`` the answers' nodes there.
    """

    tokens: Tensor
    trie: Trie | None = None
    nodes: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """``[n, depth]`` ids to be read: any in place of IGNORED."""
        return self.tokens if self.trie is not None else self.tokens.clamp(min=0)

    @property
    def count(self) -> Tensor | int:
        """What a batch's summed loss is divided by: its items or ratings, the words of its texts."""
        return len(self.tokens) if self.trie is not None else self.tokens.ne(IGNORED).sum()


class ItemNetwork(nn.Module):
    """A network that reads tokens and is to name items, and perhaps ratings, or to write.

    ``torch.compile`` takes what is between the look-up and the loss: a trie is nothing to trace.

    Args:
        embedding: of its tokens, augmented; also its output rows where ``head`` is None.
        head: an output layer of its own, which is augmented likewise.
        trie: the catalogue.
        loss: over the tokens legal at each place, or over the whole vocabulary as in the stock models.
        scale: of the output rows.
        ratings: the ratings that may be answered; None where none are.
    """

    def __init__(
        self,
        embedding: AugmentedEmbedding,
        head: nn.Linear | None,
        trie: Trie,
        loss: Loss,
        scale: float = 1.0,
        ratings: Trie | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.trie, self.loss, self.scale, self.ratings = embedding, trie, loss, scale, ratings
        self.head = None if head is None else embedding.beside(head.weight.data)

    @property
    def output(self) -> AugmentedEmbedding:
        """The table of the output rows."""
        return self.embedding if self.head is None else self.head

    @property
    def tied(self) -> bool:
        """Whether a token is read and written by the same row."""
        return self.head is None and self.embedding.alike

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Within, it answers and does not learn: what is added to its tables is added up once."""
        self.eval()
        with unchanging():
            yield

    def rows(self, tokens: Tensor) -> Tensor:
        """Output rows ``[n, d]`` of ``tokens`` ``[n]``."""
        return self.output(tokens, "output") * self.scale

    def tables(self) -> tuple[Tensor, Tensor]:
        """``[size, d]`` the rows of all tokens as inputs and as outputs, without ``scale``; one tensor where tied."""
        inputs = self.embedding.whole()
        return inputs, inputs if self.tied else self.output.whole("output")

    @abstractmethod
    def plain(self) -> PreTrainedModel:
        """A stock model with the same logits, on the processor; what augments the tables is part of them."""

    @torch.compiler.disable
    def answers(
        self, nodes: Tensor | None = None, ratings: Tensor | None = None, words: Tensor | None = None
    ) -> Answers:
        """The answers of a batch, which gives one of the three.

        Args:
            nodes: ``[n, depth]`` items, as nodes of the catalogue's trie.
            ratings: ``[n, depth]`` the like of the trie of ratings.
            words: ``[n, longest]`` ids of texts, then IGNORED.
        """
        if nodes is not None:
            self.trie = trie = self.trie.to(nodes.device)
        elif ratings is not None:
            assert self.ratings is not None
            nodes, self.ratings = ratings, self.ratings.to(ratings.device)
            trie = self.ratings
        else:
            assert words is not None
            return Answers(words)
        return Answers(trie.paths(nodes[:, -1], nodes.shape[1]), trie, nodes)

    @torch.compiler.disable
    def look_up(self, ids: Tensor, answers: Answers) -> tuple[Tensor, list[Tensor]]:
        """Input embeddings ``[n, d]`` of ``ids`` ``[n]``, and the output rows that :meth:`answer_loss` needs.

        Together where they are tied, so that the augmentation and the table's gradient are made once a step.
        """
        if self.loss == "full" or answers.trie is None:
            inputs, outputs = self.tables()
            return F.embedding(ids, inputs), [outputs * self.scale]
        alphabets = [level.tokens.long() for level in answers.trie.levels]
        if not self.tied:
            return self.embedding(ids), [self.rows(tokens) for tokens in alphabets]
        inputs, *rows = self.embedding(torch.cat([ids, *alphabets])).split([len(ids), *map(len, alphabets)])
        return inputs, [part * self.scale for part in rows]

    @torch.compiler.disable
    def answer_loss(self, hidden: Tensor, answers: Answers, rows: list[Tensor]) -> Tensor:
        """Sum of the answers' negative log-probabilities.

        Args:
            hidden: ``[n, depth, d]`` the states that predict each token of the answers.
            rows: from :meth:`look_up`.
        """
        if answers.trie is None:
            written = answers.tokens.ne(IGNORED)
            return softmax_cross_entropy(hidden[written], rows[0], answers.tokens[written])
        if self.loss == "full":
            return softmax_cross_entropy(hidden.flatten(0, 1), rows[0], answers.tokens.flatten())
        assert answers.nodes is not None
        return restricted_loss(hidden, answers.nodes, answers.trie, rows)


def restricted_loss(hidden: Tensor, nodes: Tensor, trie: Trie, rows: list[Tensor]) -> Tensor:
    """Sum of the items' negative log-probabilities, each token against its legal alternatives alone.

    Args:
        hidden: ``[n, depth, d]`` the states that predict each token of the targets.
        nodes: ``[n, depth]`` the targets' trie nodes.
        rows: for each level the output rows ``[alphabet, d]`` of its tokens.
    """
    total = hidden.new_zeros((), dtype=torch.float32)
    for depth, (level, weight) in enumerate(zip(trie.levels, rows, strict=True)):
        states, node, above = hidden[:, depth], nodes[:, depth], nodes[:, depth - 1]
        if depth and grouping_pays(states, weight, len(level.first_child) - 1):
            places = node - level.first_child[above]
            total = total + grouped_cross_entropy(states, weight, places, above, level.first_child, level.symbol)
        else:
            legal = partial(_legal, level, above) if depth else None  # every first token is legal
            total = total + softmax_cross_entropy(states, weight, level.symbol[node].long(), legal)
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
