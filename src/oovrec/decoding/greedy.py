"""Free text, the most probable token at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from oovrec.decoding.stepper import Stepper, logits


def greedy(stepper: Stepper, tokens: Tensor, end: int, longest: int) -> list[list[int]]:
    """What follows each prompt when every token is the most probable one.

    Args:
        tokens: ``[n]`` ids to choose among, ``end`` among them.
        end: closes a text, and is left out.
        longest: tokens of a text at most.

    Returns:
        Of each prompt the ids.
    """
    hidden, rows = stepper.root(), stepper.rows(tokens)
    path = torch.empty(len(hidden), 1, 0, dtype=torch.int64, device=hidden.device)
    done = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
    for _ in range(longest):
        best = tokens[logits(hidden, rows).argmax(dim=1)]
        path = torch.cat([path, best[:, None, None]], dim=2)
        done |= best == end
        if done.all():
            break
        hidden = stepper.extend(path)[:, 0]
    written = path[:, 0].tolist()
    return [ids[: ids.index(end)] if end in ids else ids for ids in written]
