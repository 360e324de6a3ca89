"""Keys: integers in the order of score, then index."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oovrec.decoding import keys


@given(
    scores=st.lists(st.floats(max_value=0, width=32, allow_nan=False), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_keys_order_as_scores_then_lower_indices_and_come_back(scores: list[float], seed: int) -> None:
    score = torch.tensor(scores, dtype=torch.float32)
    index = torch.from_numpy(np.random.default_rng(seed).choice(2**31 - 1, len(scores), replace=False))
    key = keys.pack(score, index)
    expected = sorted(range(len(scores)), key=lambda place: (-score[place].item(), index[place].item()))
    assert key.argsort(descending=True).tolist() == expected
    back = keys.unpack(key)
    torch.testing.assert_close(back, (score, index))
    assert (key > keys.NONE).all()
    assert keys.reaches(key[:, None], key).tolist() == (score[:, None] >= score).tolist()
    none = keys.pack(score, torch.full_like(index, -1))
    assert [*map(Tensor.tolist, keys.unpack(none))] == [[-np.inf] * len(scores), [-1] * len(scores)]
    assert not keys.reaches(none, none).any()
