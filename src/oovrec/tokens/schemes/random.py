"""RID: random two-token ids of META ID's shape, the control that carries no information (Hua et al., SIGIR-AP 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from oovrec.config import Options
from oovrec.data.histories import Histories
from oovrec.tokens.build import Built
from oovrec.tokens.naming import two_level_names
from oovrec.tokens.table import TokenTable


class Config(Options):
    """Options of ``random``.

    Attributes:
        clusters: how many clusters of items, and of users; by default the square root of their number.
    """

    clusters: int | None = Field(None, ge=1)


def build(histories: Histories, users: Sequence[str], items: Sequence[str], config: Config, seed: int) -> Built:
    """Deal users and items into clusters of equal size, to within one; ``histories`` are not read."""
    item_rng, user_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    return Built(_table("I", items, config.clusters, item_rng), _table("U", users, config.clusters, user_rng))


def _table(kind: str, ids: Sequence[str], clusters: int | None, rng: np.random.Generator) -> TokenTable:
    count = clusters or round(len(ids) ** 0.5)
    labels = rng.permutation(np.arange(len(ids)) % count)
    return TokenTable.of(ids, two_level_names(kind, labels, np.zeros(len(ids)), rng))
