"""What a language model must offer so that the decoders here can score items with it, and one step of theirs."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from oovrec.decoding.trie import Level

TURN = {"cpu": 5e5, "cuda": 1e8}  # multiplications that asking for one parent's children costs the time of
TILE = 128  # states of one parent in a product of an accelerator's
ROOM = 2**28  # numbers of output rows at once there


class Stepper(Protocol):
    """A language model that has read a batch of prompts and can be asked what follows.

    Notation: B prompts, W continuations a prompt, t tokens a continuation, d hidden size.
    """

    def root(self) -> Tensor:
        """``[B, d]`` hidden state that predicts the first token of an item."""

    def extend(self, paths: Tensor) -> Tensor:
        """Hidden states that predict the token after each path, every path on its own.

        Args:
            paths: ``[B, W, t]`` token ids; ``[1, W, t]`` means the same paths for every prompt; -1 throughout is none.

        Returns:
            ``[B, W, d]``, any state for no path.
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

    States of one parent are put side by side: each parent's children are one product, or on an accelerator, where
    products in turn would be too short, a batch of tiles.
    """
    ordered, order = parents.expand(hidden.shape[:2]).flatten().sort()
    none = int((ordered < 0).sum())
    order, (nodes, counts) = order[none:], ordered[none:].unique_consecutive(return_counts=True)
    states = hidden.flatten(0, 1)[order].float()
    product = _in_turn if hidden.device.type == "cpu" else _in_tiles
    with torch.autocast(hidden.device.type, enabled=False):  # in float32, as :func:`logits`
        found = product(stepper, states, level, nodes, counts)
    return found.new_empty(len(ordered), level.widest).index_copy_(0, order, found).view(*hidden.shape[:2], -1)


def _in_turn(stepper: Stepper, states: Tensor, level: Level, nodes: Tensor, counts: Tensor) -> Tensor:
    """``[n, widest]`` logits of the children of ``nodes``, each asked by as many of ``states`` as ``counts`` says."""
    begins, ends = level.first_child[nodes].long(), level.first_child[nodes + 1].long()
    sizes = ends - begins
    children = torch.arange(int(sizes.sum()), device=nodes.device)
    children += (ends - sizes.cumsum(dim=0)).repeat_interleave(sizes)
    rows = stepper.rows(level.tokens[level.symbol[children].long()]).float().split(sizes.tolist())
    found, askers = states.new_zeros(len(states), level.widest), counts.tolist()
    for some, part, own in zip(states.split(askers), rows, found.split(askers), strict=True):
        own[:, : len(part)] = some @ part.T
    return found


def _in_tiles(stepper: Stepper, states: Tensor, level: Level, nodes: Tensor, counts: Tensor) -> Tensor:
    """As :func:`_in_turn`, the states of each node in tiles of :data:`TILE`, the last filled up."""
    tiles = (counts + TILE - 1) // TILE
    room = (tiles.cumsum(dim=0) - tiles) * TILE - (counts.cumsum(dim=0) - counts)  # filling before each node's states
    place = torch.arange(len(states), device=states.device) + room.repeat_interleave(counts, output_size=len(states))
    of_tile = nodes.repeat_interleave(tiles)
    table = states.new_zeros(len(of_tile) * TILE, states.shape[1]).index_copy_(0, place, states)
    size, found = max(1, ROOM // (level.widest * states.shape[1])), []
    for part, parents in zip(table.view(len(of_tile), TILE, -1).split(size), of_tile.split(size), strict=True):
        some, which = parents.unique_consecutive(return_inverse=True)
        symbols = level.symbols(level.children(some))
        rows = stepper.rows(level.tokens[symbols.flatten()]).float().view(*symbols.shape, -1)
        found.append(torch.bmm(part, rows[which].mT))
    return torch.cat(found).flatten(0, 1)[place]
