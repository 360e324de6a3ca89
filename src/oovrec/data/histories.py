"""Ragged item sequences: the one form in which histories travel between the rooms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Histories:
    """``n`` item sequences, oldest item first, in CSR form.

    Attributes:
        indptr: ``[n + 1]`` int64; sequence ``i`` is ``items[indptr[i]:indptr[i + 1]]``.
        items: ``[total]`` int32 item indices.
        users: ``[n]`` int64 user indices; -1 where the user is not known.
    """

    indptr: np.ndarray
    items: np.ndarray
    users: np.ndarray

    @classmethod
    def of(
        cls, sequences: Sequence[Sequence[int] | np.ndarray], users: Sequence[int] | np.ndarray | None = None
    ) -> Histories:
        """Histories from a list of index lists; without ``users`` every user is unknown."""
        lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        items = np.concatenate([np.asarray(s, np.int32) for s in sequences]) if lengths.sum() else np.empty(0, np.int32)
        known = np.full(len(sequences), -1) if users is None else np.asarray(users)
        return cls(indptr, items.astype(np.int32), known.astype(np.int64))

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.items[self.indptr[row] : self.indptr[row + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """``[n]`` int64 sequence lengths."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> np.ndarray:
        """``[total]`` the sequence to which each entry of ``items`` belongs."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def where(self, kept: np.ndarray) -> Histories:
        """The same sequences without the items for which ``kept`` ``[total]`` is false."""
        counts = np.bincount(self.rows[kept], minlength=len(self))
        return Histories(np.concatenate([[0], np.cumsum(counts)]), self.items[kept], self.users)

    def take(self, rows: np.ndarray | slice) -> Histories:
        """The given sequences, in the given order."""
        wanted = np.arange(len(self))[rows]
        starts, lengths = self.indptr[wanted], self.lengths[wanted]
        return self.cut(starts, lengths, self.users[wanted])

    def last(self, length: int) -> Histories:
        """Each sequence cut to its newest ``length`` items."""
        kept = np.minimum(self.lengths, length)
        return self.cut(self.indptr[1:] - kept, kept, self.users)

    def newest(self) -> np.ndarray:
        """``[n]`` int64: the last item of each sequence, none of which is empty."""
        return self.items[self.indptr[1:] - 1].astype(np.int64)

    def cut(self, starts: np.ndarray, lengths: np.ndarray, users: np.ndarray) -> Histories:
        """``[m]`` stretches of ``items``, by first position and length, as sequences of ``users``."""
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        where = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return Histories(indptr, self.items[where], users)

    def batches(self, size: int) -> Iterator[tuple[slice, Histories]]:
        """Consecutive batches of at most ``size`` sequences, with the rows they are."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self.take(rows)

    def padded(self, pad: int) -> np.ndarray:
        """``[n, longest]`` int64, filled up with ``pad`` on the right."""
        width = int(self.lengths.max(initial=0))
        table = np.full((len(self), width), pad, np.int64)
        column = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], self.lengths)
        table[self.rows, column] = self.items
        return table
