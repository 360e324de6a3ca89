"""Token sequences of many lengths in one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packed:
    """Id sequences one after another.

    Attributes:
        ids: ``[total]`` int64.
        lengths: ``[n]``.
    """

    ids: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: np.ndarray) -> Packed:
        """The given sequences, in the given order."""
        starts = np.cumsum(self.lengths) - self.lengths
        return Packed(spliced(self.ids, starts[rows], self.lengths[rows]), self.lengths[rows])

    def padded(self, pad: int, multiple: int = 1) -> np.ndarray:
        """``[n, longest]``, filled up with ``pad`` on the right; the width is a multiple of ``multiple``."""
        width = -(-int(self.lengths.max()) // multiple) * multiple
        table = np.full((len(self), width), pad, np.int64)
        table[np.arange(table.shape[1]) < self.lengths[:, None]] = self.ids
        return table


def spliced(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``[sum of lengths]``: stretches of ``ids`` one after another; ``starts`` and ``lengths`` are of one shape."""
    starts, lengths = starts.ravel(), lengths.ravel()
    begins = np.cumsum(lengths) - lengths
    return ids[np.repeat(starts - begins, lengths) + np.arange(lengths.sum())]
