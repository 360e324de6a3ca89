"""A token an item and a user, as IID, that carries the entity's own vector of META ID's walks: this project's scheme.

META ID's representation augmentation adds a learnt map of a cluster's centroid to the embedding of the cluster's
token; here the map is of the entity's own vector and is added to the entity's one token. So what the walks know of an
item is in its embedding, not in a name that it shares, nothing is lost to clusters, and an item is read and written
in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oovrec.tokens.build import Built, Material
from oovrec.tokens.geometry import unit
from oovrec.tokens.metapath import WalkConfig, unseen, vectors
from oovrec.tokens.naming import one_level_names
from oovrec.tokens.table import TokenTable

NEAR = ("interactions", "words")  # what tells where a new item belongs, the better first (tokens.cold)


class Config(WalkConfig):
    """Options of ``metavec``: those of the walks."""


def build(material: Material, config: Config, seed: int) -> Built:
    """Tokens numbered at random, each with its entity's vector, of unit length; zero where no walk leads.

    Raises:
        OovrecError: there are no interactions.
    """
    walk_seed, user_seed, item_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    of_users, of_items = vectors(material, config, walk_seed)
    items, users = _table("I", material.items, of_items, item_seed), _table("U", material.users, of_users, user_seed)
    return Built(items, users, {"without_interactions": unseen(material)})


def _table(kind: str, ids: Sequence[str], vectors: np.ndarray, seed: int) -> TokenTable:
    names = one_level_names(kind, np.random.default_rng(seed).permutation(len(ids)))
    return TokenTable.of(ids, names, {name: vector for (name,), vector in zip(names, unit(vectors), strict=True)})
