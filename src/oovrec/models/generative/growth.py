"""A trained language model over a larger catalogue, without training."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from oovrec.models.base import Entities
from oovrec.models.generative.base import GenerativeRecommender


def grown(model: GenerativeRecommender, entities: Entities, folder: Path) -> GenerativeRecommender:
    """``model`` for ``entities``, which are its own and further items after them.

    All weights are the model's. A token that it does not know is a number above the highest it knows, and begins as
    the copy of that: the rarest item of a cluster.

    Args:
        folder: of the model's run.
    """
    assert entities.tokens is not None
    assert model.entities.tokens is not None
    larger, state = type(model).restore(model.config, entities, folder), model.state()
    if further := entities.tokens.items.vocabulary[len(model.entities.tokens.items.vocabulary) :]:
        highest = re.sub(r"\d+", lambda number: str(int(number.group()) - 1), further[0])
        row = model.vocabulary.tokenizer.convert_tokens_to_ids(highest)
        sizes = {name: len(array) for name, array in larger.state().items() if array.ndim}
        for name, array in state.items():
            if array.ndim and (count := sizes[name] - len(array)):
                state[name] = np.concatenate([array, np.repeat(array[row : row + 1], count, axis=0)])
    larger.load_state(state)
    return larger
