"""Semantic ids: what an item is like, as a few codes, the coarsest first (TIGER; Rajput et al., NeurIPS 2023).

A sentence encoder reads the item's text; the vector is coded level by level, and a last token tells items of equal
codes apart. TIGER reads title, brand, category and price with Sentence-T5; here the encoder is all-MiniLM-L6-v2, and
brand and category, which datasets give as attribute numbers without names, stand beside the text as a further vector.
"""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any, Literal

import numpy as np
from pydantic import Field

from oovrec.config import Options
from oovrec.errors import OovrecError
from oovrec.tokens.build import Built, Material
from oovrec.tokens.residual import Quantised, residual_kmeans, rqvae
from oovrec.tokens.table import TokenTable
from oovrec.tokens.texts import embed_attributes, embed_texts

NEAR = ("words", "interactions")  # what tells where a new item belongs, the better first (tokens.cold)


class Config(Options):
    """Options of ``semantic``.

    Attributes:
        quantiser: ``rqvae``, as in TIGER, or ``kmeans``, residual k-means.
        levels: codes an id has, beside the token for collisions.
        codes: codes of a level.
        epochs: of ``rqvae``.
        attributes: length of the vector of an item's attributes, where that of its text is 1; 0 leaves them out.
        encoder: a folder or hub name of a text encoder; by default the bundled all-MiniLM-L6-v2.
    """

    quantiser: Literal["rqvae", "kmeans"] = "rqvae"
    levels: int = Field(3, ge=1, le=8)
    codes: int = Field(256, ge=2)
    epochs: int = Field(200, ge=1)
    attributes: float = Field(1.0, ge=0, le=100)
    encoder: str | None = None


def build(material: Material, config: Config, seed: int) -> Built:
    """Semantic tokens ``<SA12><SB7><SC200><SD0>``, a letter a level; a code's token carries its vector; items only.

    Raises:
        OovrecError: the data has no texts, fewer items with one than codes, or a package is not installed.
    """
    if material.titles is None or not any(map(str.strip, material.titles)):
        remedy = "use data with item texts, or a scheme that needs none, such as 'meta' or 'collaborative'"
        raise OovrecError("semantic tokens need item texts, and this data has none", remedy=remedy)
    known, vectors = describe(material.titles, material.attributes, config, seed)
    if config.codes > len(known):
        what = f"{config.codes} codes are more than the {len(known)} items that are described"
        raise OovrecError(what, where="tokens.semantic.codes", remedy="lower it")
    if config.quantiser == "rqvae":
        found = rqvae(vectors, config.levels, config.codes, config.epochs, seed)
    else:
        found = residual_kmeans(vectors, config.levels, config.codes, seed)
    return named(material, known, found, seed)


def describe(
    titles: list[str], attributes: list[tuple[int, ...]] | None, config: Config, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``[n]`` items that have a text or attributes, and their ``[n, d]`` vectors: the text's, then the attributes'.

    An empty text is the vector 0.
    """
    has_text = np.array([bool(title.strip()) for title in titles])
    texts = embed_texts([title for title in titles if title.strip()], config.encoder)
    vectors = np.zeros((len(titles), texts.shape[1]), np.float32)
    vectors[has_text] = texts
    known = has_text
    if attributes is not None and config.attributes and any(attributes):
        vectors = np.hstack([vectors, np.float32(config.attributes) * embed_attributes(attributes, seed)])
        known = has_text | np.array([bool(numbers) for numbers in attributes])
    return np.flatnonzero(known), vectors[known]


def named(material: Material, known: np.ndarray, found: Quantised, seed: int) -> Built:
    """Tokens of all items; those of ``known`` have the codes ``found``.

    Items that nothing describes have a further code of their own at every level. Items of equal codes are numbered
    from 0, the one most popular in training first, equally popular ones in random order.
    """
    levels, count = found.codebooks.shape[:2]
    codes = np.full((len(material.items), levels), count)
    codes[known] = found.codes
    groups = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    numbers = _numbers(groups, material.popularity, np.random.default_rng(seed))
    rows = np.column_stack([codes, numbers]).tolist()
    names = [tuple(_token(level, code) for level, code in enumerate(row)) for row in rows]
    centroids = {
        _token(level, code): vector
        for level, codebook in enumerate(found.codebooks)
        for code, vector in enumerate(codebook)
    }
    return Built(TokenTable.of(material.items, names, centroids), None, _details(found, groups, known))


def _numbers(groups: np.ndarray, popularity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``[n]`` places from 0 within each group, by popularity, ties in random order."""
    order = np.lexsort((rng.permutation(len(groups)), -popularity, groups))
    sizes = np.bincount(groups)
    numbers = np.empty(len(groups), np.int64)
    numbers[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return numbers


def _token(level: int, code: int) -> str:
    return f"<S{ascii_uppercase[level]}{code}>"


def _details(found: Quantised, groups: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    sizes = np.bincount(groups)
    return {
        "undescribed": len(groups) - len(known),
        "unique_without_collision_token": float((sizes == 1).sum() / len(groups)),
        "largest_collision": int(sizes.max()),
        "perplexity": [_perplexity(level) for level in found.codes.T],
        "variance_left": found.left,
        "reconstruction_error": found.lost,
    }


def _perplexity(codes: np.ndarray) -> float:
    """The exponential of the entropy of code usage: as many codes used evenly would carry as much."""
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(shares * np.log(shares)).sum()))
