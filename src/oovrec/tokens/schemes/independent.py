"""IID: a new token for every item, and for every user (Hua et al., "How to Index Item IDs", SIGIR-AP 2023)."""

from __future__ import annotations

import numpy as np

from oovrec.config import Options
from oovrec.tokens.build import Built, Material
from oovrec.tokens.naming import one_level_names
from oovrec.tokens.table import TokenTable


class Config(Options):
    """There are no options."""


def build(material: Material, config: Config, seed: int) -> Built:
    """Tokens numbered at random: all that an item's token means is what the model learns of it."""
    item_rng, user_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    items = TokenTable.of(material.items, one_level_names("I", item_rng.permutation(len(material.items))))
    users = TokenTable.of(material.users, one_level_names("U", user_rng.permutation(len(material.users))))
    return Built(items, users)
