"""Constrained beam search for ids of any depth, vectorised over prompts and beams."""

from __future__ import annotations

import torch
from torch import Tensor

from oovrec.decoding.stepper import Stepper
from oovrec.decoding.trie import Trie


def beam_search(stepper: Stepper, trie: Trie, width: int) -> tuple[Tensor, Tensor]:
    """The best items that a beam of ``width`` finds.

    Only children of a node can follow it, so nothing but items comes out; the distribution at each
    node is over its children alone, as in :func:`oovrec.decoding.exact.exact_scores`. With a width
    of the whole catalogue the result is exact.

    Returns:
        ``[B, k]`` item indices and ``[B, k]`` log-probabilities, best first; k is ``width`` or the
        catalogue's size. Where a beam ran out of nodes the item is -1 and its score -inf.
    """
    hidden = stepper.root()[:, None]
    batch = len(hidden)
    path = torch.zeros(batch, 1, 0, dtype=torch.long, device=hidden.device)  # [B, W, t] token ids
    node = torch.zeros(batch, 1, dtype=torch.long, device=hidden.device)
    score = torch.zeros(batch, 1, device=hidden.device)
    for depth, level in enumerate(trie.levels):
        if depth:
            hidden = stepper.extend(path)
        child, inside = level.children(node)  # [B, W, widest]; a lost beam is node -1
        symbol = level.symbol[child].long()
        logits = stepper.logits(hidden, level.tokens).gather(2, symbol)
        logits = logits.masked_fill(~inside, -torch.inf)
        step = (logits - logits.logsumexp(dim=2, keepdim=True)).masked_fill(~inside, -torch.inf)
        total = (score[..., None] + step).flatten(1)
        score, best = total.topk(min(width, total.shape[1]), dim=1)
        node = child.flatten(1).gather(1, best).masked_fill(score == -torch.inf, -1)
        token = level.tokens[symbol.flatten(1).gather(1, best)].long()
        path = torch.cat([path.gather(1, (best // level.widest)[..., None].expand(-1, -1, depth)), token[..., None]], 2)
    k = min(width, len(trie.items))
    items = trie.items[node.clamp(min=0)].long().masked_fill(node < 0, -1)
    return items[:, :k], score[:, :k]
