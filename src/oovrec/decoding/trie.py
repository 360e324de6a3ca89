"""A trie over token tuples as flat arrays: level by level, children of a node stand together."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The nodes of one depth, sorted by path.

    Attributes:
        tokens: ``[alphabet]`` sorted token ids that occur at this depth.
        symbol: ``[nodes]`` each node's own token, as a position in ``tokens``.
        parent: ``[nodes]`` each node's parent, as a position in the level above (0 at the first level).
        first_child: ``[parents + 1]`` node ``p`` above has the children ``first_child[p]:first_child[p + 1]``.
        paths: ``[nodes, depth]`` token ids from the first level down to each node.
    """

    tokens: Tensor
    symbol: Tensor
    parent: Tensor
    first_child: Tensor
    paths: Tensor

    def to(self, device: torch.device) -> Level:
        """A copy on ``device``."""
        return Level(*(getattr(self, field.name).to(device) for field in fields(self)))

    @cached_property
    def widest(self) -> int:
        """The largest number of children of one parent."""
        return int(self.first_child.diff().max())

    @cached_property
    def legal(self) -> Tensor:
        """``[parents, alphabet]`` bool: which tokens may follow each node of the level above."""
        mask = torch.zeros(len(self.first_child) - 1, len(self.tokens), dtype=torch.bool, device=self.tokens.device)
        mask[self.parent, self.symbol] = True
        return mask


class Trie:
    """All token tuples of a catalogue.

    Args:
        codes: ``[items, depth]`` token ids, every row another tuple.

    Attributes:
        levels: one :class:`Level` a depth.
        items: ``[items]`` the item of each leaf, in the order of the last level's nodes.
        nodes: ``[items, depth]`` for each item its node at each level.
    """

    def __init__(self, codes: np.ndarray) -> None:
        order = np.lexsort(codes.T[::-1])
        ordered = codes[order]
        self.items = torch.from_numpy(order.copy())
        self.levels: list[Level] = []
        above = np.zeros(len(codes), np.int64)  # node of each sorted row at the level above
        node_of_row = []
        for depth in range(codes.shape[1]):
            path = ordered[:, : depth + 1]
            starts = np.concatenate([[True], (path[1:] != path[:-1]).any(axis=1)])
            node = np.cumsum(starts) - 1
            tokens, symbol = np.unique(ordered[starts, depth], return_inverse=True)
            parents = above[starts]
            first_child = np.searchsorted(parents, np.arange(above[-1] + 2))
            arrays = (tokens, symbol, parents, first_child, path[starts])
            self.levels.append(Level(*(torch.from_numpy(np.ascontiguousarray(a, np.int64)) for a in arrays)))
            node_of_row.append(node)
            above = node
        nodes = np.empty_like(codes, dtype=np.int64)
        nodes[order] = np.stack(node_of_row, axis=1)
        self.nodes = torch.from_numpy(nodes)

    def to(self, device: torch.device) -> Trie:
        """The same trie on ``device``: itself where it is there already, else a copy."""
        if self.items.device == device:
            return self
        moved = copy.copy(self)
        moved.items, moved.nodes = self.items.to(device), self.nodes.to(device)
        moved.levels = [level.to(device) for level in self.levels]
        return moved

    @property
    def depth(self) -> int:
        """Tokens an item."""
        return len(self.levels)
