"""META ID (Huang et al., "Improving LLMs for Recommendation with Out-Of-Vocabulary Tokens", ICML 2025).

Meta-path walks over the user–item graph, skip-gram, and clusters of the embeddings by cosine; an entity is named by
its cluster and its number in it. Users and items share the walks and the embedding space and are clustered apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from oovrec.errors import OovrecError
from oovrec.tokens.build import Built, Material
from oovrec.tokens.clusters import grouped
from oovrec.tokens.metapath import WalkConfig, unseen, vectors
from oovrec.tokens.naming import Numbers, cluster_token, two_level_names
from oovrec.tokens.table import TokenTable

NEAR = ("interactions", "words")  # what tells where a new item belongs, the better first (tokens.cold)


class Config(WalkConfig):
    """Options of ``meta``, beside those of the walks.

    Attributes:
        clusters: how many clusters of items, and of users; by default the square root of their number.
        numbers: ``shared``, as in the paper: the third of every cluster has the same second token, which so says no
            more than a rank. ``own``: an entity's second token is its own and learnt from its interactions alone; the
            vocabulary has a token an entity more.
    """

    clusters: int | None = Field(None, ge=1)
    numbers: Numbers = "shared"


def build(material: Material, config: Config, seed: int) -> Built:
    """META ID tokens. A cluster's token carries its centroid, of unit length.

    Users and items that the walks cannot reach have no embedding. They form one further cluster, the last, whose
    centroid is zero, so that their names reveal nothing.

    Raises:
        OovrecError: there are no interactions, or more clusters are asked for than entities have any.
    """
    walk_seed, user_seed, item_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    of_users, of_items = vectors(material, config, walk_seed)
    item_table = _table("I", material.items, of_items, material.popularity, config, item_seed)
    user_table = _table("U", material.users, of_users, material.histories.lengths, config, user_seed)
    return Built(item_table, user_table, {"without_interactions": unseen(material)})


def _table(
    kind: str, ids: Sequence[str], vectors: np.ndarray, popularity: np.ndarray, config: Config, seed: int
) -> TokenTable:
    """Cluster those of ``ids`` that have a vector, then name them all."""
    rng, seen = np.random.default_rng(seed), int(vectors.any(axis=1).sum())
    if config.clusters and config.clusters > seen:
        what = f"{config.clusters} is more than the {seen} {'items' if kind == 'I' else 'users'} with interactions"
        raise OovrecError(what, where="tokens.meta.clusters", remedy="lower it")
    labels, centroids = grouped(vectors, int(rng.integers(2**63)), config.clusters)
    names = two_level_names(kind, labels, popularity, rng, config.numbers)
    return TokenTable.of(ids, names, {cluster_token(kind, cluster): row for cluster, row in enumerate(centroids)})
