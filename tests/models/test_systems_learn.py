"""Every language-model system of the table on MovieLens-100K: it learns, it resumes, it names real items only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from oovrec.app.recipe import read_recipe
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.decoding.hf import CatalogueLogitsProcessor
from oovrec.errors import Interrupted, OovrecError
from oovrec.models.base import configured, system
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.tokens.build import build_tokens
from oovrec.tokens.schemes import semantic
from oovrec.training.config import TrainingConfig

RECIPES = ("metaid-t5", "metaid-llama", "metavec-llama", "rid", "sid", "cid", "iid", "tiger", "cove")
QUICK = {"meta": {"walks": 1, "epochs": 1}, "semantic": {"quantiser": "kmeans", "codes": 48, "attributes": 0}}
STEPS = 8  # an epoch
BATCH = {"llama": 512, "cove": 512}  # targets; a prompt has one, a history as many as it has items


@pytest.fixture(scope="module")
def films() -> Dataset:
    try:
        return load_dataset("ml-100k")
    except OovrecError as error:
        if "pip cannot download" in str(error):
            pytest.skip("no package index to fetch the recbole wheel from")
        raise


def letters(texts: list[str], encoder: str | None) -> np.ndarray:
    """Counts of letter pairs, in place of a text encoder."""
    vectors = np.zeros((len(texts), 1024), np.float32)
    for row, text in enumerate(texts):
        pairs = np.frombuffer(text.lower().encode(), np.uint8).astype(int)
        np.add.at(vectors[row], (pairs[:-1] * 31 + pairs[1:]) % 1024, 1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


@pytest.fixture(scope="module", params=RECIPES)
def make(request: pytest.FixtureRequest, films: Dataset) -> Callable[[], GenerativeRecommender]:
    """New models by a recipe, in its shape for tests and with tokens that are quick to build."""
    recipe = read_recipe(request.param, ["model.shape=debug"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "embed_texts", letters)
        method = recipe.tokens.method
        tokens = build_tokens(films, method, options={**recipe.tokens.options, **QUICK.get(method, {})})
    entities = Entities.of(films, tokens)
    return lambda: system(recipe.system)(configured(recipe.system, recipe.model), entities)  # type: ignore[return-value]


def training(model: GenerativeRecommender) -> TrainingConfig:
    size = BATCH.get(model.name, 64)
    return TrainingConfig(epochs=2, batch_size=size, learning_rate=5e-3, precision="fp32", validation_users=20)


@torch.no_grad()
def loss(model: GenerativeRecommender, films: Dataset) -> float:
    """Of three batches, always the same, without dropout."""
    model.module.eval()
    batches = model.epoch(films, training(model).batch_size, np.random.default_rng(5))[:3]
    return sum(float(model.module(**batch())) for batch in batches)  # type: ignore[arg-type]


def shortened(model: GenerativeRecommender) -> GenerativeRecommender:
    """Its epochs have a few steps."""
    original = model.epoch
    model.epoch = lambda *given: original(*given)[:STEPS]  # type: ignore[method-assign]
    return model


def test_it_learns_resumes_and_names_real_items_only(
    make: Callable[[], GenerativeRecommender],
    films: Dataset,
    tmp_path: Path,
    stopped_at: Callable[[GenerativeRecommender, int], None],
) -> None:
    model = shortened(make())
    model.begin(seed=1)
    before = loss(model, films)
    model.fit(films, training(model), seed=1)
    assert loss(model, films) < before

    interrupted = shortened(make())
    stopped_at(interrupted, STEPS + 4)  # in the second epoch
    with pytest.raises(Interrupted):
        interrupted.fit(films, training(model), seed=1, folder=tmp_path)
    resumed = shortened(make())
    resumed.fit(films, training(model), seed=1, folder=tmp_path, resume=True)
    for name, tensor in resumed.module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name]), name

    names_real_items_only(model, films.histories("test").take(slice(0, 24)))


@torch.no_grad()
def names_real_items_only(model: GenerativeRecommender, histories: Histories) -> None:
    """All probability is on the catalogue; whole ids sampled token by token, hot, through the processor are items."""
    every = model.answered(model.prompts(histories), model.trie)  # also where a recipe scores the best alone
    np.testing.assert_allclose(every.double().exp().sum(1).numpy(), 1, atol=1e-4)
    best = model.recommend(histories, 10)
    for items, history in zip(best.items, histories, strict=True):
        assert len(set(items.tolist()) - set(history.tolist())) == 10
        assert 0 <= items.min() <= items.max() < len(model.entities.items)

    vocabulary, end = model.vocabulary, model.vocabulary.tokenizer.eos_token_id
    processor, reader = CatalogueLogitsProcessor(model.trie, end, prompt=0), model.read(histories)
    path = torch.empty(len(histories), 0, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    for depth in range(model.trie.depth):
        hidden = reader.extend(path[:, None])[:, 0] if depth else reader.root()
        logits = processor(path, hidden @ reader.rows(torch.arange(len(vocabulary))).T)
        token = torch.multinomial((logits / 3).softmax(1), 1, generator=generator)
        path = torch.cat([path, token], dim=1)
    assert {tuple(row) for row in path.tolist()} <= {tuple(row) for row in vocabulary.items.tolist()}
