"""Exact answers: p(item) = p(first token) · p(second | first) · …, for every item or for the best alone."""

from __future__ import annotations

import torch
from torch import Tensor

from oovrec.decoding import keys
from oovrec.decoding.stepper import Stepper, child_scores
from oovrec.decoding.trie import Level, Trie

# Prefixes in one step, all prompts together: what fills the device; a search expands fewer, to expand few in vain.
WHOLE = {"cpu": 512, "cuda": 32768}
SEARCH = {"cpu": 256, "cuda": 4096}
LEAVE = 1 / 8  # prompts leave the batch when this share of it is finished


def exact_scores(stepper: Stepper, trie: Trie) -> Tensor:
    """``[B, items]`` float32 log-probability of every item under the constrained model.

    At each node the distribution is over its children alone, so that the probabilities of the
    catalogue sum to one. For two-token ids the model reads each first token once, whatever the
    number of items.
    """
    hidden = stepper.root()[:, None]
    score = hidden.new_zeros(len(hidden), 1, dtype=torch.float32)
    for depth, level in enumerate(trie.levels):
        parts = []
        for nodes in torch.arange(score.shape[1], device=score.device).split(_width(WHOLE, score)):
            if depth:
                hidden = stepper.extend(trie.paths(nodes, depth)[None])
            child, step = child_scores(stepper, hidden, level, nodes[None])
            parts.append((score[:, nodes, None] + step)[:, child[0] >= 0])  # in order, the children of all nodes
        score = torch.cat(parts, dim=1)
    result = torch.empty_like(score)
    result[:, trie.items] = score
    return result


def exact_top_k(stepper: Stepper, trie: Trie, k: int, excluded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` best items of each prompt, without scoring those that cannot be among them.

    A prefix is at least as probable as anything under it. So the most probable prefixes are expanded, a few
    of each prompt at once and from the first level down, until none is left that reaches the prompt's k-th
    best item; a finished prompt leaves the batch. Ties go to the lower item.

    Args:
        k: at most the catalogue's size is returned.
        excluded: ``[B, h]`` items that score -inf, -1 where there are fewer.

    Returns:
        ``[B, k]`` int64 items and ``[B, k]`` float32 log-probabilities, best first: those of
        :func:`exact_scores` in the order of a stable sort.
    """
    search = _Search(stepper, trie, min(k, len(trie.items)), excluded)
    while search.unfinished():
        for depth in range(1, trie.depth):
            search.expand_best(depth)
    score, item = keys.unpack(search.answer)
    return item, score


class _Search:
    """Prompts in progress: of each, its best items so far and the prefixes that are not expanded yet.

    Attributes:
        answer: ``[B, k]`` keys of the best items of all prompts, once they have left.
        rows: ``[b]`` the prompts in progress.
        best: ``[b, k]`` keys of their best items so far, best first.
        open: for each depth, ``[b, n]`` keys of nodes of that many tokens.
    """

    def __init__(self, stepper: Stepper, trie: Trie, k: int, excluded: Tensor | None) -> None:
        self.stepper, self.trie = stepper, trie
        root = stepper.root()[:, None]
        self.rows = torch.arange(len(root), device=root.device)
        self.best = torch.full((len(root), k), keys.NONE, device=root.device)
        self.answer = self.best.clone()
        self.open = [self.best[:, :0]] * trie.depth
        self.leaf = None if excluded is None else trie.leaf[excluded.clamp(min=0)].long().masked_fill(excluded < 0, -1)
        self._expand(0, root, torch.zeros_like(self.rows)[:, None], root.new_zeros(len(root), 1, dtype=torch.float32))

    def unfinished(self) -> bool:
        """Whether a prefix is left that may lead to a better item; prompts without one leave."""
        going = torch.stack([keys.reaches(nodes, self.best[:, -1:]).any(dim=1) for nodes in self.open]).any(dim=0)
        stay = going.nonzero().squeeze(1)
        if len(going) - len(stay) >= LEAVE * len(going):
            self.answer[self.rows] = self.best
            self.rows, self.best, self.open = self.rows[stay], self.best[stay], [nodes[stay] for nodes in self.open]
            self.leaf = None if self.leaf is None else self.leaf[stay]
            if len(stay):
                self.stepper = self.stepper.take(stay)
        return len(stay) > 0

    def expand_best(self, depth: int) -> None:
        """Expand the most probable open nodes of one depth and forget those that lead to nothing better."""
        nodes = self.open[depth]
        reaching = keys.reaches(nodes, self.best[:, -1:])
        most = int(reaching.sum(dim=1).max()) if nodes.shape[1] else 0
        nodes = nodes.masked_fill(~reaching, keys.NONE).topk(most, dim=1).values
        chosen, self.open[depth] = nodes.tensor_split([_width(SEARCH, nodes)], dim=1)
        if most:
            score, node = keys.unpack(chosen)
            hidden = self.stepper.extend(self.trie.paths(node.clamp(min=0), depth))
            self._expand(depth, hidden, node, score)

    def _expand(self, depth: int, hidden: Tensor, node: Tensor, score: Tensor) -> None:
        """Score the children of ``node`` ``[b, W]``, itself scored ``score``: items, or prefixes to be expanded."""
        level = self.trie.levels[depth]
        child, step = child_scores(self.stepper, hidden, level, node)
        score = score[..., None] + step
        if depth + 1 < self.trie.depth:
            self.open[depth + 1] = torch.cat([self.open[depth + 1], keys.pack(score, child).flatten(1)], dim=1)
            return
        self._exclude(level, node, score)
        item = self.trie.items[child.clamp(min=0)].long().masked_fill(child < 0, -1)
        found = torch.cat([self.best, keys.pack(score, item).flatten(1)], dim=1)
        self.best = found.topk(self.best.shape[1], dim=1).values

    def _exclude(self, level: Level, node: Tensor, score: Tensor) -> None:
        """Put the excluded leaves among the children of ``node`` to -inf in ``score`` ``[b, W, widest]``."""
        if self.leaf is None:
            return
        parent = level.parent[self.leaf.clamp(min=0)].masked_fill(self.leaf < 0, -2)
        row, which, place = (parent[..., None] == node[:, None]).nonzero(as_tuple=True)
        score[row, place, self.leaf[row, which] - level.first_child[parent[row, which]]] = -torch.inf


def _width(rows: dict[str, int], batch: Tensor) -> int:
    """Prefixes of each prompt in one step."""
    return max(1, rows.get(batch.device.type, rows["cuda"]) // max(1, len(batch)))
