"""Metrics of one target a user, and how sure they are.

A user's value of every metric is a function of the target's rank alone, so that ``[users]`` ranks
are all that is kept; the mean over users is the figure that tables show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oovrec.evaluation.resampling import RESAMPLES, resampled_means

CUTOFFS = (5, 10)
TOP = 10  # the length of the lists that coverage looks at
LEVEL = 0.95  # of every confidence interval
NORMAL = 1.959963984540054  # the standard normal's quantile at (1 + LEVEL) / 2

Interval = tuple[float, float]


def hit(ranks: np.ndarray, k: int) -> np.ndarray:
    """``[users]`` 1 where the target is among the first ``k``; with one target also its recall."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """``[users]`` normalised discounted cumulative gain: 1 / log2(rank + 1) within the first ``k``, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def reciprocal_rank(ranks: np.ndarray) -> np.ndarray:
    """``[users]`` 1 / rank, over the whole catalogue."""
    return 1.0 / ranks


def per_user(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Every rank metric by name, ``[users]`` each."""
    values = {}
    for k in CUTOFFS:
        values[f"hit@{k}"], values[f"ndcg@{k}"] = hit(ranks, k), ndcg(ranks, k)
    return {**values, "mrr": reciprocal_rank(ranks)}


def percentile_intervals(means: np.ndarray) -> list[Interval]:
    """The percentile interval (Efron and Tibshirani 1993, ch. 13) of each column of resampled means."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def coverage(lists: np.ndarray, items: int) -> tuple[float, Interval]:
    """The share of the catalogue that stands in anybody's list, and its interval.

    A resample of users always misses some, so that the bootstrap of a union lies below the figure
    itself. The interval is therefore the jackknife's: without a user, the union loses what stands
    in that user's list alone (variance as Heltshe and Forrester 1983 give it for species richness).

    Args:
        lists: ``[users, k]`` item indices, -1 where a list is shorter.
        items: the catalogue's size.
    """
    users = len(lists)
    lists = np.sort(lists, axis=1)
    first = np.diff(lists, axis=1, prepend=-1) > 0  # an item once a list, and no -1
    holders = np.bincount(lists[first], minlength=items)
    share = float(np.count_nonzero(holders) / items)
    alone = ((holders[lists] == 1) & first).sum(axis=1) / items
    half = NORMAL * float(np.sqrt((users - 1) * alone.var()))
    return share, (max(0.0, share - half), min(1.0, share + half))


@dataclass(frozen=True)
class Difference:
    """What one system has over another on the same users.

    Attributes:
        mean: mean of a − b over users.
        interval: its 95% bootstrap interval.
        p: two-sided bootstrap p of no difference.
    """

    mean: float
    interval: Interval
    p: float


def paired_bootstrap(a: np.ndarray, b: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """The difference of two systems' per-user values, by resampling users (Sakai 2006).

    Args:
        a, b: ``[users]`` values of one metric; entry i of both is the same user.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values of unequal shape: {a.shape} and {b.shape}")
    means = resampled_means((a - b)[:, None], seed=seed, resamples=resamples)
    tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(1.0, 2 * (tail + 1) / (resamples + 1))  # + 1: no finite number of resamples shows p = 0
    return Difference(float((a - b).mean()), percentile_intervals(means)[0], p)
