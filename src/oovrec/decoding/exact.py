"""Exact answers: p(item) = p(first token) · p(second | first) · …, for every item or for the best alone."""

from __future__ import annotations

import torch
from torch import Tensor

from oovrec.decoding import keys
from oovrec.decoding.stepper import Stepper, child_scores
from oovrec.decoding.trie import Trie

# Prefixes in one step, all prompts together: of the whole catalogue, and of a search, whose prompts are more.
WHOLE = {"cpu": 512, "cuda": 32768}
SEARCH = {"cpu": 2048, "cuda": 65536}
LEAVE = 1 / 8  # prompts leave the batch when this share of it is finished


def exact_scores(stepper: Stepper, trie: Trie) -> Tensor:
    """``[B, items]`` float32 log-probability of every item under the constrained model.

    At each node the distribution is over its children alone, so that the probabilities of the
    catalogue sum to one. The model reads a prefix once, whatever the number of items under it, and only
    where it has a choice: an only child is certain.
    """
    hidden = stepper.root()[:, None]
    score = hidden.new_zeros(len(hidden), 1, dtype=torch.float32)
    for depth, level in enumerate(trie.levels):
        step = score.new_zeros(len(score), len(level.symbol))
        for nodes in level.forks.split(_width(WHOLE, score)) if len(level.forks) else ():
            if depth:
                hidden = stepper.extend(trie.paths(nodes, depth)[None])
            (child,), chance = child_scores(stepper, hidden, level, nodes[None])
            step[:, child[child >= 0]] = chance[:, child >= 0]
        score = score[:, level.parent] + step
    result = torch.empty_like(score)
    result[:, trie.items] = score
    return result


def exact_top_k(stepper: Stepper, trie: Trie, k: int, excluded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` best items of each prompt, without scoring those that cannot be among them.

    A prefix is at least as probable as anything under it. So the most probable prefixes are expanded, a few
    of each prompt at once and from the first level down, until none is left that reaches the prompt's k-th
    best item; a finished prompt leaves the batch. An only child follows its prefix unasked. Ties go to the
    lower item.

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
        ways: ``[b, h, depth]`` the nodes that lead to each excluded item; -2 where there is none.
    """

    def __init__(self, stepper: Stepper, trie: Trie, k: int, excluded: Tensor | None) -> None:
        self.stepper, self.trie = stepper, trie
        root = stepper.root()[:, None]
        self.rows = torch.arange(len(root), device=root.device)
        self.best = torch.full((len(root), k), keys.NONE, device=root.device)
        self.answer = self.best.clone()
        self.open = [self.best[:, :0]] * trie.depth
        self.ways = None
        if excluded is not None:
            self.ways = trie.nodes(excluded.clamp(min=0)).masked_fill(excluded[..., None] < 0, -2)
        self._expand(0, root, torch.zeros_like(self.rows)[:, None], root.new_zeros(len(root), 1, dtype=torch.float32))

    def unfinished(self) -> bool:
        """Whether a prefix is left that may lead to a better item; prompts without one leave."""
        going = torch.stack([keys.reaches(nodes, self.best[:, -1:]).any(dim=1) for nodes in self.open]).any(dim=0)
        stay = going.nonzero().squeeze(1)
        if len(going) - len(stay) >= LEAVE * len(going):
            self.answer[self.rows] = self.best
            self.rows, self.best, self.open = self.rows[stay], self.best[stay], [nodes[stay] for nodes in self.open]
            self.ways = None if self.ways is None else self.ways[stay]
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
            paths = self.trie.paths(node.clamp(min=0), depth).masked_fill_(node[..., None] < 0, -1)
            hidden = self.stepper.extend(paths)
            self._expand(depth, hidden, node, score)

    def _expand(self, depth: int, hidden: Tensor, node: Tensor, score: Tensor) -> None:
        """Score the children of ``node`` ``[b, W]``, itself scored ``score``, and take them in."""
        child, step = child_scores(self.stepper, hidden, self.trie.levels[depth], node)
        score = score[..., None] + step
        own = self._without_excluded(depth, node, score)
        self._take_in(depth + 1, child.flatten(1), score.flatten(1), own.flatten(1))

    def _take_in(self, depth: int, node: Tensor, score: Tensor, own: Tensor) -> None:
        """Nodes ``[b, n]`` of ``depth`` tokens: prefixes to be expanded, only children to be followed, or items.

        Args:
            score: what no item under a node exceeds.
            own: the score of the item, where a node leads to one alone.
        """
        if depth == self.trie.depth:
            item = self.trie.items[node.clamp(min=0)].long().masked_fill(node < 0, -1)
            found = torch.cat([self.best, keys.pack(own, item)], dim=1)
            self.best = found.topk(self.best.shape[1], dim=1).values
            return
        level = self.trie.levels[depth]
        only = level.only_child(node)
        opened = keys.pack(score, node.masked_fill(only >= 0, -1))
        self.open[depth] = torch.cat([self.open[depth], opened], dim=1)
        if len(level.forks) + 1 < len(level.first_child):
            self._take_in(depth + 1, only, score, own)

    def _without_excluded(self, depth: int, node: Tensor, score: Tensor) -> Tensor:
        """``score`` ``[b, W, widest]`` of the children of ``node``, -inf where one leads to an excluded item."""
        if self.ways is None:
            return score
        child, score = self.ways[..., depth], score.clone()
        parent = self.ways[..., depth - 1] if depth else child.clamp(max=0)
        row, which, place = (parent[..., None] == node[:, None]).nonzero(as_tuple=True)
        first = self.trie.levels[depth].first_child[parent[row, which]]
        score[row, place, child[row, which] - first] = -torch.inf
        return score


def _width(rows: dict[str, int], batch: Tensor) -> int:
    """Prefixes of each prompt in one step."""
    return max(1, rows.get(batch.device.type, rows["cuda"]) // max(1, len(batch)))
