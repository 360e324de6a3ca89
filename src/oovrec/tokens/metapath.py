"""Where users and items lie by META ID's walks: the vectors that its schemes of tokens are made from."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from oovrec.errors import OovrecError
from oovrec.tokens.build import Material
from oovrec.tokens.skipgram import SkipGramConfig, embed
from oovrec.tokens.walks import Graph, Relation, newest, successions
from oovrec.tokens.words import wording


class WalkConfig(SkipGramConfig):
    """Options of the walks, beside those of the skip-gram.

    Attributes:
        successions: weight of a walk's steps between items that follow each other in a history, where the step to
            a user weighs 1.
        words: weight of its steps from an item to a word of its title or to an attribute, where the data has them.
        newest: how many of a user's last interactions are a relation of their own, of the weight of all of them.
            With 0 for this, ``successions`` and ``words`` walks go along all interactions alike and along nothing
            else, as in the paper.
    """

    successions: float = Field(2.0, ge=0)
    words: float = Field(1.0, ge=0)
    newest: int = Field(3, ge=0)


def vectors(material: Material, config: WalkConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``[users, d]`` and ``[items, d]`` float32 in one space; zero for those that no walk can reach.

    Words reach items that have no interaction yet.

    Raises:
        OovrecError: there are no interactions.
    """
    histories, users = material.histories, len(material.users)
    if not len(histories.items):
        raise OovrecError(
            "there are no interactions to build tokens from", remedy="give users at least three items each"
        )
    found = embed(Graph.of(histories, len(material.items), relations(material, config)), config, seed)
    return found[:users], found[users : users + len(material.items)]


def relations(material: Material, config: WalkConfig) -> list[Relation]:
    """What the walks follow beside the interactions."""
    further = [
        newest(material.histories, config.newest, 1.0) if config.newest else None,
        successions(material.histories, config.successions) if config.successions else None,
        wording(material, config.words) if config.words else None,
    ]
    return [relation for relation in further if relation is not None]


def unseen(material: Material) -> dict[str, int]:
    """How many items and users have no interaction, for ``tokens.json``."""
    met = {"items": material.popularity, "users": material.histories.lengths}
    return {side: int((counts == 0).sum()) for side, counts in met.items()}
