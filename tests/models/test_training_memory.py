"""What a training step allocates does not grow with the catalogue, but for the tables of its tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models import losses
from oovrec.models.base import system
from oovrec.models.entities import Entities
from oovrec.tokens.table import Tokens, TokenTable

WIDTH = 32  # of the shape "debug"


class Sizes(TorchDispatchMode):
    """Bytes of every tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, torch.Size]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.made.append((value.numel() * value.element_size(), value.shape))
        return result


def largest(name: str, items: int, depth: int, loss: str) -> int:
    """Bytes of the largest tensor of a step; tables of tokens and their gradients are left out."""
    histories = Histories.of([[n % items, (n * 7) % items, (n * 5) % items, 1, 2] for n in range(40)], range(40))
    data = Dataset("any", [f"u{n}" for n in range(40)], [f"i{n}" for n in range(items)], histories)
    side = int(np.ceil(items**0.5))
    words = [(f"<CI{n // side}>", f"<I{n % side}>")[-depth:] if depth == 2 else (f"<I{n}>",) for n in range(items)]
    tokens = Tokens(TokenTable.of(data.items, words), None, "any", "train", 0)
    kind = system(name)
    options = {"form": "prompt"} if name == "llama" else {}
    model = kind(kind.Config(shape="debug", loss=loss, **options), Entities.of(data, tokens))
    batches = [make() for make in model.epoch(data, 64, np.random.default_rng(0))]  # type: ignore[attr-defined]
    batch = max(batches, key=lambda batch: len(batch["nodes"]))
    alphabets = {len(level.tokens) for level in model.trie.levels}  # type: ignore[attr-defined]
    with Sizes() as sizes:
        model.module(**batch).backward()  # type: ignore[attr-defined]
    inputs = sum(ids.numel() for ids in batch.get("prompts", batch.get("groups")))
    looked_up = inputs + sum(alphabets) + (0 if name == "llama" else 64 * depth)  # the one look-up of a step
    tables = {*alphabets, len(model.vocabulary), looked_up}  # type: ignore[attr-defined]
    return max(size for size, shape in sizes.made if WIDTH not in shape or not tables & set(shape))


@pytest.mark.parametrize("loss", ["restricted", "full"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", ["t5", "llama"])
def test_nothing_but_tables_grows_with_the_catalogue(
    name: str, depth: int, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (losses.CHUNK, losses.KEPT):
        monkeypatch.setitem(room, "cpu", 1 << 14)
    few, many = largest(name, 400, depth, loss), largest(name, 10_000, depth, loss)
    chunk = 4 * (1 << 14)  # bytes of a chunk's logits, or of the probabilities that are kept
    assert many <= max(1.25 * few, chunk)  # prompts differ a little
