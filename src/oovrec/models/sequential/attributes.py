"""Items' attributes as a table of indices, for models that read them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from oovrec.models.entities import Entities


def attribute_table(entities: Entities) -> Tensor:
    """``[items, most]`` int64: each item's attributes, numbered from 1 in ascending order; 0 fills the rows up.

    Items without attributes have a row of zeros; where no item has any, the table is one column of them.
    """
    sets = [sorted(set(numbers)) for numbers in entities.attributes or [()] * len(entities.items)]
    lengths = np.array([len(numbers) for numbers in sets])
    table = np.zeros((len(sets), max(1, lengths.max(initial=0))), np.int64)
    _, codes = np.unique([number for numbers in sets for number in numbers], return_inverse=True)
    table[np.arange(table.shape[1]) < lengths[:, None]] = codes + 1
    return torch.from_numpy(table)
