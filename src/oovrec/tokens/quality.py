"""What tokens know (lift of user × item clusters, clusters that repeat, the paper's scores) and how they use words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oovrec.data.dataset import Dataset, Split
from oovrec.data.histories import Histories
from oovrec.tokens.clusters import grouped
from oovrec.tokens.geometry import diversity, memorisation, ratings_matrix
from oovrec.tokens.table import Tokens, TokenTable

SMOOTHING = 0.5  # interactions added to each pair of clusters
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True)
class Quality:
    """How good tokens are. Held-out splits that nobody has are left out.

    Attributes:
        lift: by split, the mean log-lift of (user cluster, item cluster); see :func:`cluster_lift`.
            None for tokens without users, or where nothing is alike.
        repeats: by held-out split, the share of targets whose cluster is already in the history; none of either
            where nothing is alike.
        repeats_by_chance: the same if the targets were dealt to the users at random.
        memorisation: of items and users, where tokens have centroids; 1 at best.
        diversity: of items and users, where tokens have centroids; higher is more diverse.
        perplexity: of items and users, by level: :func:`perplexity`.
        collisions: of items and users, by level but the last: :func:`collisions`.
    """

    lift: dict[str, float] | None
    repeats: dict[str, float]
    repeats_by_chance: dict[str, float]
    memorisation: dict[str, float] | None
    diversity: dict[str, float] | None
    perplexity: dict[str, list[float]]
    collisions: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def score(tokens: Tokens, dataset: Dataset, seed: int = 0) -> Quality:
    """Score tokens against ``dataset``; ``seed`` draws the samples of the pairwise scores.

    Clusters are those of :func:`clusters_of`. Memorisation compares with the training part only.

    Raises:
        OovrecError: a user or item of the dataset has no tokens.
    """
    items = tokens.items.reindexed(dataset.items)
    users = None if tokens.users is None else tokens.users.reindexed(dataset.users)
    clusters = clusters_of(items)
    splits = [split for split in SPLITS if len(dataset.evaluated_users(split))] if alike(items) else []
    repeats = {split: repeated_clusters(clusters, dataset.histories(split), dataset.targets(split)) for split in splits}
    sides = {side: table for side, table in (("items", items), ("users", users)) if table is not None}
    vectors = {side: found for side, table in sides.items() if (found := table.vectors) is not None and len(table) > 1}
    ratings = ratings_matrix(dataset)
    rows = {"items": ratings.T, "users": ratings}
    return Quality(
        lift=cluster_lift(clusters_of(users), clusters, dataset)
        if users is not None and alike(users) and alike(items)
        else None,
        repeats={split: found for split, (found, _) in repeats.items()},
        repeats_by_chance={split: chance for split, (_, chance) in repeats.items()},
        memorisation={side: memorisation(table, rows[side], seed) for side, table in vectors.items()} or None,
        diversity={side: diversity(table, seed) for side, table in vectors.items()} or None,
        perplexity={side: perplexity(table) for side, table in sides.items()},
        collisions={side: collisions(table) for side, table in sides.items()},
    )


def clusters_of(table: TokenTable) -> np.ndarray:
    """``[n]`` the first token of each id, numbered from 0; where no two share it, groups of like vectors, if any."""
    if table.stands_alone and (vectors := table.vectors) is not None:
        return grouped(vectors, 0)[0]
    return np.unique(table.codes[:, 0], return_inverse=True)[1].reshape(-1)


def clustered(table: TokenTable) -> bool:
    """Whether any two entities share their first token."""
    return len(table.levels[0]) < len(table)


def alike(table: TokenTable) -> bool:
    """Whether tokens say which entities are alike: by tokens that they share, or by vectors."""
    return clustered(table) or table.stands_alone


def perplexity(table: TokenTable) -> list[float]:
    """``[depth]`` how many tokens a level would have if it used all equally: exp of the entropy of their use."""
    shares = [np.unique(level, return_counts=True)[1] / len(table) for level in table.codes.T]
    return [float(np.exp(-(share * np.log(share)).sum())) for share in shares]


def collisions(table: TokenTable) -> list[float]:
    """``[depth - 1]`` the share of entities whose first 1, 2, … tokens are another's too."""
    shares = []
    for depth in range(1, table.depth):
        group, sizes = np.unique(table.codes[:, :depth], axis=0, return_inverse=True, return_counts=True)[1:]
        shares.append(float((sizes[group.reshape(-1)] > 1).mean()))
    return shares


def cluster_lift(user_clusters: np.ndarray, item_clusters: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """Mean over a split's interactions of log p(cu, ci) / (p(cu) p(ci)), ``cu`` and ``ci`` their clusters.

    The probabilities are those of the training part, with half an interaction added to each pair of clusters,
    and p(cu) and p(ci) are the margins of p(cu, ci). Tokens that know as much of held-out interactions as
    of training ones have seen them.
    """
    training = dataset.histories("train")
    shape = (int(user_clusters.max()) + 1, int(item_clusters.max()) + 1)
    lift = log_lift(user_clusters[training.rows], item_clusters[training.items], shape)
    means = {"train": float(lift[user_clusters[training.rows], item_clusters[training.items]].mean())}
    for split in SPLITS:
        if len(users := dataset.evaluated_users(split)):
            means[split] = float(lift[user_clusters[users], item_clusters[dataset.targets(split)]].mean())
    return means


def log_lift(one: np.ndarray, other: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``shape``: log p(a, b) / (p(a) p(b)) of pairs of clusters, by how often ``one`` and ``other`` ``[n]`` meet."""
    counts = np.full(shape, SMOOTHING)
    np.add.at(counts, (one, other), 1)
    return np.log(counts * counts.sum() / np.outer(counts.sum(axis=1), counts.sum(axis=0)))


def repeated_clusters(clusters: np.ndarray, histories: Histories, targets: np.ndarray) -> tuple[float, float]:
    """The share of ``targets`` whose cluster is in the history, and that share expected of shuffled targets.

    By chance a history meets its target with the probability, among all targets, of the clusters it holds.
    """
    wanted = clusters[targets]
    present = np.zeros((len(histories), int(clusters.max()) + 1), bool)
    present[histories.rows, clusters[histories.items]] = True
    shares = np.bincount(wanted, minlength=present.shape[1]) / len(wanted)
    return float(present[np.arange(len(wanted)), wanted].mean()), float((present @ shares).mean())
