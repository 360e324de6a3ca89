"""The relations that META ID walks along, and what they cannot reach."""

from __future__ import annotations

import numpy as np

from oovrec.data.histories import Histories
from oovrec.tokens.build import Material
from oovrec.tokens.metapath import WalkConfig, relations, unseen

MATERIAL = Material(
    Histories.of([[0, 1, 2], [2, 0], []]), ["u", "v", "w"], [*"abcdefghijkl"], np.array([5]), ["red", "red"] + [""] * 10
)


def test_relations_have_the_weights_that_are_asked_for() -> None:
    """The newest ones that of all interactions; what is switched off is no relation."""
    asked = WalkConfig(newest=1, successions=3.0, words=0.5)
    found = relations(MATERIAL, asked)
    assert [relation.weight for relation in found] == [1.0, 3.0, 0.5]
    edges = [list(zip(relation.one.tolist(), relation.other.tolist(), strict=True)) for relation in found]
    assert edges == [[(0, 3 + 2), (1, 3 + 0)], [(3, 4), (4, 5), (5, 3)], [(3, 15), (4, 15)]]
    for option in ("newest", "successions", "words"):
        assert len(relations(MATERIAL, asked.model_copy(update={option: 0}))) == 2


def test_what_no_interaction_has_is_counted() -> None:
    assert unseen(MATERIAL) == {"items": 9, "users": 1}
