"""What a language model must offer so that the decoders here can score items with it, and one step of theirs."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from oovrec.decoding.trie import Level

TURN = {"cpu": 5e5, "cuda": 4e8}  # multiplications that a turn of a loop over parents costs the time of


class Stepper(Protocol):
    """A language model that has read a batch of prompts and can be asked what follows.

    Notation: B prompts, W continuations a prompt, t tokens a continuation, d hidden size.
    """

    def root(self) -> Tensor:
        """``[B, d]`` hidden state that predicts the first token of an item."""

    def extend(self, paths: Tensor) -> Tensor:
        """Hidden states that predict the token after each path, every path on its own.

        Args:
            paths: ``[B, W, t]`` token ids; ``[1, W, t]`` means the same paths for every prompt.

        Returns:
            ``[B, W, d]``.
        """

    def rows(self, tokens: Tensor) -> Tensor:
        """``[n, d]`` output rows of token ids ``[n]``: a state's products with them are the tokens' logits."""

    def take(self, rows: Tensor) -> Self:
        """The same for the prompts ``rows`` ``[b]`` alone; the whole may not be used any more."""


def logits(hidden: Tensor, rows: Tensor) -> Tensor:
    """``[..., n]`` float32 logits of output rows ``[n, d]``, under autocast too: coarser ones would tie."""
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden.float() @ rows.float().T


def child_scores(stepper: Stepper, hidden: Tensor, level: Level, parents: Tensor) -> tuple[Tensor, Tensor]:
    """The constrained model's step from nodes to their children.

    Args:
        hidden: ``[B, W, d]`` states that predict the token after each parent.
        level: the children's.
        parents: ``[B, W]`` or ``[1, W]`` nodes of the level above; -1 is none.

    Returns:
        ``[B or 1, W, widest]`` nodes, -1 where there is none, and ``[B, W, widest]`` float32 log-probabilities
        among the children of one parent: never above 0; -inf where there is none.
    """
    child = level.children(parents)
    if _apart(hidden, level, parents):
        found = _logits_by_parent(stepper, hidden, level, parents)
    else:
        every = logits(hidden, stepper.rows(level.tokens))
        found = every.gather(2, level.symbols(child).expand(*every.shape[:2], -1))
    found.masked_fill_(child < 0, -torch.inf)
    total = found.logsumexp(dim=2, keepdim=True).masked_fill_(parents[..., None] < 0, 0)
    return child, (found - total).clamp_(max=0)  # rounding must not lift a child above its parent


def _apart(hidden: Tensor, level: Level, parents: Tensor) -> bool:
    """Whether it is cheaper to ask for each parent's children by themselves than for all tokens of their level.

    It is where each item has a token of its own, so that a level has far more tokens than any parent has children.
    """
    most = min(parents.numel(), len(level.first_child) - 1)
    spared = hidden.numel() * (len(level.tokens) - level.widest)
    return spared > TURN.get(hidden.device.type, TURN["cuda"]) * most


def _logits_by_parent(stepper: Stepper, hidden: Tensor, level: Level, parents: Tensor) -> Tensor:
    """``[B, W, widest]`` float32 logits of the children; any where there is none.

    States of one parent are put side by side, so that each parent's children are one product.
    """
    ordered, order = parents.expand(hidden.shape[:2]).flatten().sort()
    states = hidden.flatten(0, 1)[order].float()
    found = states.new_zeros(len(order), level.widest)
    nodes, counts = ordered[ordered >= 0].unique_consecutive(return_counts=True)
    begins, ends = level.first_child[nodes].long(), level.first_child[nodes + 1].long()
    sizes = ends - begins
    children = torch.arange(int(sizes.sum()), device=nodes.device)
    children += (ends - sizes.cumsum(dim=0)).repeat_interleave(sizes)
    rows = stepper.rows(level.tokens[level.symbol[children].long()]).float().split(sizes.tolist())
    at = len(order) - int(counts.sum())  # behind those of no parent
    with torch.autocast(hidden.device.type, enabled=False):  # in float32, as :func:`logits`
        for count, part in zip(counts.tolist(), rows, strict=True):
            found[at : at + count, : len(part)] = states[at : at + count] @ part.T
            at += count
    return torch.empty_like(found).index_copy_(0, order, found).view(*hidden.shape[:2], -1)
