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
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.naming import Numbers, cluster_token, two_level_names
from oovrec.tokens.skipgram import SkipGramConfig, embed
from oovrec.tokens.table import TokenTable
from oovrec.tokens.walks import Graph, Relation, newest, successions
from oovrec.tokens.words import wording

NEAR = ("interactions", "words")  # what tells where a new item belongs, the better first (tokens.cold)


class Config(SkipGramConfig):
    """Options of ``meta``, beside those of the skip-gram.

    Attributes:
        clusters: how many clusters of items, and of users; by default the square root of their number.
        successions: weight of a walk's steps between items that follow each other in a history, where the step to
            a user weighs 1.
        words: weight of its steps from an item to a word of its title or to an attribute, where the data has them.
        newest: how many of a user's last interactions are a relation of their own, of the weight of all of them.
            With 0 for this, ``successions`` and ``words`` walks go along all interactions alike and along nothing
            else, as in the paper.
        numbers: ``shared``, as in the paper: the third of every cluster has the same second token, which so says no
            more than a rank. ``own``: an entity's second token is its own and learnt from its interactions alone; the
            vocabulary has a token an entity more.
    """

    clusters: int | None = Field(None, ge=1)
    successions: float = Field(2.0, ge=0)
    words: float = Field(1.0, ge=0)
    newest: int = Field(3, ge=0)
    numbers: Numbers = "shared"


def build(material: Material, config: Config, seed: int) -> Built:
    """META ID tokens. A cluster's token carries its centroid, of unit length.

    Users and items that the walks cannot reach have no embedding. They form one further cluster, the last, whose
    centroid is zero, so that their names reveal nothing. (Words reach items that have no interaction yet.)

    Raises:
        OovrecError: there are no interactions, or more clusters are asked for than entities have any.
    """
    histories, users, items = material.histories, material.users, material.items
    if not len(histories.items):
        raise OovrecError("has no interactions to build tokens from", remedy="give users at least three items each")
    graph = Graph.of(histories, len(items), relations(material, config))
    walk_seed, user_seed, item_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    vectors = embed(graph, config, walk_seed)
    of_users, of_items = slice(len(users)), slice(len(users), len(users) + len(items))
    item_table = _table("I", items, vectors[of_items], material.popularity, config, item_seed)
    user_table = _table("U", users, vectors[of_users], histories.lengths, config, user_seed)
    unseen = {"items": int((material.popularity == 0).sum()), "users": int((histories.lengths == 0).sum())}
    return Built(item_table, user_table, {"without_interactions": unseen})


def relations(material: Material, config: Config) -> list[Relation]:
    """What the walks follow beside the interactions."""
    further = [
        newest(material.histories, config.newest, 1.0) if config.newest else None,
        successions(material.histories, config.successions) if config.successions else None,
        wording(material, config.words) if config.words else None,
    ]
    return [relation for relation in further if relation is not None]


def _table(
    kind: str, ids: Sequence[str], vectors: np.ndarray, popularity: np.ndarray, config: Config, seed: int
) -> TokenTable:
    """Cluster those of ``ids`` that have a vector, then name them all."""
    seen, rng = np.flatnonzero(vectors.any(axis=1)), np.random.default_rng(seed)
    count = config.clusters or min(round(len(ids) ** 0.5), len(seen))
    if count > len(seen):
        what = f"{count} is more than the {len(seen)} {'items' if kind == 'I' else 'users'} with interactions"
        raise OovrecError(what, where="tokens.meta.clusters", remedy="lower it")
    labels = np.full(len(ids), count)
    labels[seen], centroids = cosine_kmeans(vectors[seen], count, int(rng.integers(2**63)))
    names = two_level_names(kind, labels, popularity, rng, config.numbers)
    return TokenTable.of(ids, names, {cluster_token(kind, cluster): row for cluster, row in enumerate(centroids)})
