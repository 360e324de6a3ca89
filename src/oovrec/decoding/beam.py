"""Constrained beam search for ids of any depth, vectorised over prompts and beams."""

from __future__ import annotations

import torch
from torch import Tensor

from oovrec.decoding.stepper import Stepper, child_scores
from oovrec.decoding.trie import Trie


def beam_search(stepper: Stepper, trie: Trie, width: int) -> tuple[Tensor, Tensor]:
    """The best items that a beam of ``width`` finds.

    Only children of a node can follow it, so nothing but items comes out; the distribution at each
    node is over its children alone, as in :func:`oovrec.decoding.exact.exact_scores`. With a width
    of the whole catalogue the result is exact. The cost of a step does not depend on the catalogue's
    size, only on how many tokens there are at a level.

    Returns:
        ``[B, k]`` item indices and ``[B, k]`` log-probabilities, best first; k is ``width`` or the
        catalogue's size. Where a beam ran out of nodes the item is -1 and its score -inf.
    """
    hidden = stepper.root()[:, None]
    node = torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)
    score = torch.zeros(len(hidden), 1, device=hidden.device)
    path = node[..., None][..., :0]  # [B, W, t] token ids
    for depth, level in enumerate(trie.levels):
        if depth:
            hidden = stepper.extend(path)
        child, step = child_scores(stepper, hidden, level, node)
        total = (score[..., None] + step).flatten(1)
        score, best = total.topk(min(width, total.shape[1]), dim=1)
        node = child.flatten(1).gather(1, best)
        before = path.gather(1, (best // level.widest)[..., None].expand(-1, -1, depth))
        path = torch.cat([before, level.tokens[level.symbols(node)].long()[..., None]], dim=2)
    k = min(width, len(trie.items))
    items = trie.items[node.clamp(min=0)].long().masked_fill(node < 0, -1)
    return items[:, :k], score[:, :k]
