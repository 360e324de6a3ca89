"""RID: random ids, the control that carries no information (Hua et al., "How to Index Item IDs", SIGIR-AP 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from oovrec.config import Options
from oovrec.tokens.build import Built, Material
from oovrec.tokens.naming import one_level_names, two_level_names
from oovrec.tokens.table import TokenTable


class Config(Options):
    """Options of ``random``.

    Attributes:
        depth: tokens an id: 2 as in META ID, a cluster and a number in it, or 1, a number as in P5.
        clusters: at depth 2, how many clusters of items, and of users; by default the square root of their number.
    """

    depth: Literal[1, 2] = 2
    clusters: int | None = Field(None, ge=1)


def build(material: Material, config: Config, seed: int) -> Built:
    """Number users and items at random, or deal them into clusters of equal size, to within one."""
    item_rng, user_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    return Built(_table("I", material.items, config, item_rng), _table("U", material.users, config, user_rng))


def _table(kind: str, ids: Sequence[str], config: Config, rng: np.random.Generator) -> TokenTable:
    if config.depth == 1:
        return TokenTable.of(ids, one_level_names(kind, rng.permutation(len(ids))))
    count = config.clusters or round(len(ids) ** 0.5)
    labels = rng.permutation(np.arange(len(ids)) % count)
    return TokenTable.of(ids, two_level_names(kind, labels, np.zeros(len(ids)), rng))
