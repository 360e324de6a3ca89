"""Scored indices as single integers, so that one ``topk`` orders by score and, within a tie, by index.

The upper 32 bits of a key are the score's, in an order-preserving form; the lower ones count down with the index.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONE = torch.iinfo(torch.int64).min  # the key of nothing: below that of any index, even at a score of -inf
LOW = 2**31 - 1


def pack(score: Tensor, index: Tensor) -> Tensor:
    """int64 keys of float32 scores (no NaN) and indices from 0 to 2³¹ − 1; index -1 gives :data:`NONE`."""
    upper = _swap((score + 0.0).view(torch.int32)).long() << 32  # + 0.0: -0.0 is 0.0
    return (upper + (LOW - index)).masked_fill(index < 0, NONE)


def unpack(key: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and indices of keys; of :data:`NONE`: -inf and -1."""
    none = key == NONE
    score = _swap((key >> 32).int()).view(torch.float32).masked_fill(none, -torch.inf)
    return score, (LOW - (key & LOW)).masked_fill(none, -1)


def reaches(key: Tensor, bar: Tensor) -> Tensor:
    """Whether the score of each key is at least that of ``bar``, whatever the indices; never for :data:`NONE`."""
    return (key != NONE) & (key >> 32 >= bar >> 32)


def _swap(bits: Tensor) -> Tensor:
    """A float32's bits to an int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & LOW)
