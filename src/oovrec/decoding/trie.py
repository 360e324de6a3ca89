"""A trie over token tuples as flat arrays: level by level, children of a node stand together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from oovrec.errors import OovrecError
from oovrec.files import write_tensors

ARRAYS = ("tokens", "symbol", "parent", "first_child")
FORMAT = "oovrec.trie.1"


@dataclass(frozen=True)
class Level:
    """The nodes of one depth, sorted by path. All arrays are int32: a node costs 12 bytes.

    Attributes:
        tokens: ``[alphabet]`` sorted token ids that occur at this depth.
        symbol: ``[nodes]`` each node's own token, as a position in ``tokens``.
        parent: ``[nodes]`` each node's parent, as a position in the level above (0 at the first level).
        first_child: ``[parents + 1]`` node ``p`` above has the children ``first_child[p]:first_child[p + 1]``.
        widest: the largest number of children of one parent.
    """

    tokens: Tensor
    symbol: Tensor
    parent: Tensor
    first_child: Tensor
    widest: int

    @classmethod
    def of(cls, arrays: Iterable[Tensor], widest: int) -> Level:
        """The level of ``arrays``, in the order of :data:`ARRAYS`."""
        tokens, symbol, parent, first_child = arrays
        return cls(tokens, symbol, parent, first_child, widest)

    def to(self, device: torch.device) -> Level:
        """A copy on ``device``."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ARRAYS})

    def children(self, parents: Tensor) -> Tensor:
        """``[...]`` nodes of the level above (-1: none) to ``[..., widest]`` their children, then -1."""
        absent = parents < 0
        start = self.first_child[parents.clamp(min=0)].long()
        stop = self.first_child[parents + 1].masked_fill(absent, 0)
        child = start[..., None] + torch.arange(self.widest, device=parents.device)
        return child.masked_fill_(child >= stop[..., None], -1)

    @cached_property
    def forks(self) -> Tensor:
        """``[n]`` int64 nodes of the level above that have several children, where the model has to choose."""
        return (self.first_child.diff() > 1).nonzero().squeeze(1)

    def only_child(self, parents: Tensor) -> Tensor:
        """``[...]`` nodes of the level above (-1: none) to their child where it is the only one, else -1."""
        start = self.first_child[parents.clamp(min=0)].long()
        alone = (self.first_child[parents + 1] - start == 1) & (parents >= 0)
        return start.masked_fill(~alone, -1)

    def symbols(self, nodes: Tensor) -> Tensor:
        """``[...]`` nodes to int64 positions in ``tokens``; any for -1."""
        return self.symbol[nodes.clamp(min=0)].long()

    def mask(self, parents: Tensor) -> Tensor:
        """``[...]`` node indices of the level above to ``[..., alphabet]`` bool: which tokens may follow."""
        shape = (*parents.shape, len(self.tokens))
        if len(self.first_child) == 2:  # every token of the first level follows the root
            return (parents >= 0)[..., None].expand(shape)
        child = self.children(parents)
        symbol = self.symbols(child).masked_fill_(child < 0, shape[-1])  # one place more, for what is no child
        wide = torch.zeros((*parents.shape, shape[-1] + 1), dtype=torch.bool, device=parents.device)
        return wide.scatter_(-1, symbol, True)[..., :-1]


@dataclass(frozen=True)
class Trie:
    """All token tuples of a catalogue.

    Attributes:
        levels: one :class:`Level` a depth.
        items: ``[items]`` int32, the item of each leaf, in the order of the last level's nodes.
        leaf: ``[items]`` int32, the leaf of each item.
    """

    levels: list[Level]
    items: Tensor
    leaf: Tensor

    @classmethod
    def of(cls, codes: np.ndarray) -> Trie:
        """The trie of ``codes``: ``[items, depth]`` token ids.

        Raises:
            OovrecError: two items have the same tokens.
        """
        columns = np.ascontiguousarray(codes.T, np.int32)
        order = np.lexsort(columns[::-1]).astype(np.int32)
        begins = np.arange(len(order)) == 0  # where another path begins, among the sorted rows
        above = np.zeros(len(order), np.int32)  # node of each sorted row at the level above
        levels = []
        for column in columns:
            column = column[order]
            begins[1:] |= column[1:] != column[:-1]
            levels.append(_level(column[begins], above[begins]))
            above = np.cumsum(begins, dtype=np.int32) - 1
        if not begins.all():
            first, second = order[np.flatnonzero(~begins)[0] - 1 :][:2]
            raise OovrecError(f"items {first} and {second} have the same tokens", remedy="build the tokens again")
        leaf = np.empty_like(order)
        leaf[order] = np.arange(len(order), dtype=np.int32)
        return cls(levels, torch.from_numpy(order), torch.from_numpy(leaf))

    @property
    def depth(self) -> int:
        """Tokens an item."""
        return len(self.levels)

    def to(self, device: torch.device) -> Trie:
        """The same trie on ``device``: itself where it is there already, else a copy."""
        if self.items.device == device:
            return self
        return Trie([level.to(device) for level in self.levels], self.items.to(device), self.leaf.to(device))

    def nodes(self, items: Tensor) -> Tensor:
        """``[...]`` items to ``[..., depth]`` int64: each one's node at every level, on the device of ``items``."""
        node = self.leaf[items.to(self.leaf.device)].long()
        return self.way(node, self.depth).to(items.device)

    def way(self, node: Tensor, depth: int) -> Tensor:
        """``[..., depth]`` int64: the nodes from the first level down to each node ``[...]`` of level ``depth - 1``."""
        nodes = [node]
        for level in self.levels[depth - 1 : 0 : -1]:
            nodes.append(level.parent[nodes[-1]].long())
        return torch.stack(nodes[::-1], dim=-1)

    def paths(self, node: Tensor, depth: int) -> Tensor:
        """``[..., depth]`` int64: the token ids from the first level down to each node of level ``depth - 1``."""
        nodes = self.way(node, depth).unbind(-1)
        steps = zip(self.levels, nodes, strict=False)
        return torch.stack([level.tokens[level.symbol[at]].long() for level, at in steps], dim=-1)

    def save(self, path: Path) -> None:
        """Write the arrays as one safetensors file."""
        arrays = {f"{depth}.{name}": getattr(level, name) for depth, level in enumerate(self.levels) for name in ARRAYS}
        arrays |= {"items": self.items, "leaf": self.leaf}
        widest = " ".join(str(level.widest) for level in self.levels)
        write_tensors(path, {k: v.cpu().numpy() for k, v in arrays.items()}, {"format": FORMAT, "widest": widest})

    @classmethod
    def open(cls, path: Path) -> Trie:
        """Read what :meth:`save` wrote; arrays are mapped, so that only what is used is ever read.

        Everything is checked but the numbers inside the arrays; ``files.read_tensors`` checks these too
        (and reads all).

        Raises:
            OovrecError: missing, truncated or not a trie.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header.get("format") != FORMAT:
                raise ValueError("another format")
            widest = [int(number) for number in header["widest"].split()]
            levels = [
                Level.of((arrays[f"{depth}.{name}"] for name in ARRAYS), width) for depth, width in enumerate(widest)
            ]
            trie = cls(levels, arrays["items"], arrays["leaf"])
            _check(trie)
        except FileNotFoundError as error:
            raise OovrecError("no such file", where=path, remedy="save the trie first or check the path") from error
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            remedy = "restore the file from a copy or save the trie again"
            raise OovrecError(
                "is not a whole trie (truncated, altered or another file)", where=path, remedy=remedy
            ) from error
        return trie


def _level(tokens: np.ndarray, parents: np.ndarray) -> Level:
    """The level whose nodes have these token ids and these (sorted) parents."""
    occurs = np.zeros(tokens.max() + 1, bool)
    occurs[tokens] = True
    symbol = (np.cumsum(occurs, dtype=np.int32) - 1)[tokens]
    children = np.bincount(parents)
    first_child = np.concatenate([[0], np.cumsum(children)]).astype(np.int32)
    alphabet = np.flatnonzero(occurs).astype(np.int32)
    arrays = map(torch.from_numpy, (alphabet, symbol, parents, first_child))
    return Level.of(arrays, int(children.max()))


def _check(trie: Trie) -> None:
    """Raises ValueError where arrays do not fit each other."""
    above = 1
    for level in trie.levels:
        nodes = len(level.symbol)
        fits = len(level.parent) == nodes and len(level.first_child) == above + 1 and level.first_child[-1] == nodes
        if not fits or not 0 < level.widest <= len(level.tokens):
            raise ValueError("a level does not fit the one above")
        above = nodes
    arrays = [trie.items, trie.leaf, *(getattr(level, name) for level in trie.levels for name in ARRAYS)]
    if not len(trie.items) == len(trie.leaf) == above or any(a.dtype != torch.int32 or a.ndim != 1 for a in arrays):
        raise ValueError("the items do not fit the last level")
