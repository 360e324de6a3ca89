"""The whole catalogue, scored exactly: p(item) = p(first token) · p(second | first) · …, every item."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from oovrec.decoding.stepper import Stepper
from oovrec.decoding.trie import Level, Trie


def exact_scores(stepper: Stepper, trie: Trie) -> Tensor:
    """``[B, items]`` float32 log-probability of every item under the constrained model.

    At each node the distribution is over its children alone, so that the probabilities of the
    catalogue sum to one. One batched step a level: for two-token ids the model reads each first
    token once, whatever the number of items.
    """
    hidden = stepper.root()[:, None]
    score = child_scores(stepper, hidden, trie.levels[0])
    for depth, (above, level) in enumerate(pairwise(trie.levels), start=1):
        every = torch.arange(len(above.symbol), device=score.device)
        hidden = stepper.extend(trie.paths(every, depth)[None])
        score = score[:, level.parent] + child_scores(stepper, hidden, level)
    result = torch.empty_like(score)
    result[:, trie.items] = score
    return result


def child_scores(stepper: Stepper, hidden: Tensor, level: Level) -> Tensor:
    """``[B, nodes]`` log-probability of each node of ``level`` given its parent's ``hidden`` ``[B, parents, d]``."""
    logits = stepper.logits(hidden, level.tokens)  # [B, parents, alphabet]
    legal = level.mask(torch.arange(logits.shape[1], device=logits.device))
    total = logits.masked_fill(~legal, -torch.inf).logsumexp(dim=2)  # [B, parents]
    return logits[:, level.parent, level.symbol] - total[:, level.parent]
