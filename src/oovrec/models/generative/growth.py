"""A trained language model over a larger catalogue, without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender


def grown(
    model: GenerativeRecommender, entities: Entities, folder: Path, shares: Mapping[str, Mapping[str, float]]
) -> GenerativeRecommender:
    """``model`` for ``entities``, which are its own and further items after them.

    All weights are the model's. A token that it does not know begins as a sum of some that it knows.

    Args:
        folder: of the model's run.
        shares: for each further token the known ones and their weights in that sum.
    """
    assert entities.tokens is not None
    assert model.entities.tokens is not None
    larger, state = type(model).restore(model.config, entities, folder), model.state()
    number = model.vocabulary.tokenizer.convert_tokens_to_ids
    further = entities.tokens.items.vocabulary[len(model.entities.tokens.items.vocabulary) :]
    parts = [(np.array(number([*shares[word]])), np.array([*shares[word].values()], np.float32)) for word in further]
    sizes = {name: len(array) for name, array in larger.state().items() if array.ndim}
    for name, array in state.items():
        if array.ndim and sizes[name] > len(array):  # a row a token; with LoRA a row an OOV token
            first = len(model.vocabulary) - len(array)
            state[name] = np.concatenate([array, [weights @ array[rows - first] for rows, weights in parts]])
    larger.load_state(state)
    return larger
