"""A trained language model over a larger catalogue, without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oovrec.models.base import Entities
from oovrec.models.generative.base import GenerativeRecommender


def grown(model: GenerativeRecommender, entities: Entities, folder: Path) -> GenerativeRecommender:
    """``model`` for ``entities``, which are its own and further items after them.

    All weights are the model's. A token that it does not know begins as the copy of its twin: that of
    ``tokens.details["twins"]``, which :func:`oovrec.tokens.cold.extended` gives.

    Args:
        folder: of the model's run.
    """
    assert entities.tokens is not None
    assert model.entities.tokens is not None
    larger, state = type(model).restore(model.config, entities, folder), model.state()
    further = entities.tokens.items.vocabulary[len(model.entities.tokens.items.vocabulary) :]
    twins = [entities.tokens.details["twins"][word] for word in further]
    rows = np.array(model.vocabulary.tokenizer.convert_tokens_to_ids(twins), int)
    sizes = {name: len(array) for name, array in larger.state().items() if array.ndim}
    for name, array in state.items():
        if array.ndim and sizes[name] > len(array):  # a row a token
            state[name] = np.concatenate([array, array[rows]])
    larger.load_state(state)
    return larger
