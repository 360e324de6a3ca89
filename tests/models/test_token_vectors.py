"""Sequential recommenders whose items carry what their tokens stand for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import Interrupted, OovrecError
from oovrec.models.base import NeuralRecommender, configured, load, system, systems
from oovrec.models.entities import Entities
from oovrec.models.sequential.vectors import augment
from oovrec.tokens.build import build_tokens
from oovrec.tokens.table import Tokens, TokenTable
from oovrec.training.config import TrainingConfig

SMALL = {"s3rec": {"pretrain_epochs": 2}}
TRAINING = TrainingConfig(epochs=2, batch_size=128, precision="fp32", validation_users=20)
TAKERS = [name for name in sorted(systems()) if system(name).token_use == "possible"]
VECTORS = np.random.default_rng(8).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def described(chains: Dataset) -> Entities:
    """Items of two tokens each, a cluster's and a number's, both of which stand for something."""
    names = [(f"<CI{n % 6}>", f"<I{n // 6}>") for n in range(len(chains.items))]
    words = dict.fromkeys(word for name in names for word in name)
    table = TokenTable.of(chains.items, names, dict(zip(words, VECTORS[: len(words)], strict=True)))
    return Entities.of(chains, Tokens(table, None, "semantic", "train", 0))


def new(name: str, entities: Entities) -> NeuralRecommender:
    torch.manual_seed(0)
    made = system(name)(configured(name, {"width": 16, **SMALL.get(name, {})}), entities)
    assert isinstance(made, NeuralRecommender)
    return made


def test_an_items_vector_is_the_mean_of_its_tokens(described: Entities) -> None:
    assert described.tokens is not None
    table = described.tokens.items
    assert table.centroids is not None
    for item in (0, 7, 39):
        expected = sum(table.centroids[table.vocabulary.index(word)] for word in table.words(item)) / 2
        np.testing.assert_allclose(table.vectors[item], expected, rtol=1e-6)
    assert replace(table, centroids=None).vectors is None


def test_what_fills_a_shorter_name_up_counts_as_zero() -> None:
    table = TokenTable.of(["a", "b"], [("<A>",), ("<A>", "<B>")], {"<A>": VECTORS[0], "<B>": VECTORS[1]})
    np.testing.assert_allclose(table.vectors, [VECTORS[0] / 2, (VECTORS[0] + VECTORS[1]) / 2], rtol=1e-6)


@pytest.mark.parametrize("name", TAKERS)
def test_scores_are_those_of_a_plain_model_whose_table_is_the_whole(
    name: str, described: Entities, chains: Dataset
) -> None:
    model = new(name, described)
    model.fit(chains, TRAINING, seed=3)
    assert described.tokens is not None
    state, vectors = dict(model.state()), described.tokens.items.vectors
    own, change = (state.pop(f"items.parametrizations.weight.{part}") for part in ("original", "0.map.weight"))
    added = np.zeros_like(own)
    added[: len(vectors)] = vectors @ change.T
    assert np.abs(added).max() > 0.1
    plain = new(name, replace(described, tokens=None))
    plain.load_state({**state, "items.weight": own + added})
    some = chains.histories("test")
    torch.testing.assert_close(model.scores(some), plain.scores(some), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TAKERS)
def test_a_saved_one_scores_the_same(name: str, described: Entities, chains: Dataset, tmp_path: Path) -> None:
    model = new(name, described)
    model.fit(chains, TRAINING, seed=3)
    model.save(tmp_path)
    some = chains.histories("test")
    assert torch.equal(load(tmp_path).scores(some), model.scores(some))


def test_an_interrupted_training_goes_on_to_the_same_model(
    described: Entities, chains: Dataset, tmp_path: Path, stopped_at: Callable[[NeuralRecommender, int], None]
) -> None:
    whole = new("sasrec", described)
    whole.fit(chains, TRAINING, seed=3)
    broken = new("sasrec", described)
    stopped_at(broken, 2)
    with pytest.raises(Interrupted):
        broken.fit(chains, TRAINING, seed=3, folder=tmp_path)
    again = new("sasrec", described)
    again.fit(chains, TRAINING, seed=3, folder=tmp_path, resume=True)
    some = chains.histories("test")
    assert torch.equal(again.scores(some), whole.scores(some))


def test_the_map_learns_and_the_vectors_stay(described: Entities, chains: Dataset) -> None:
    model = new("sasrec", described)
    before = {name: value.copy() for name, value in model.state().items()}
    kept = dict(model.module.named_buffers())["items.parametrizations.weight.0.vectors"].clone()
    model.fit(chains, TRAINING, seed=0)
    after = model.state()
    key = "items.parametrizations.weight.0.map.weight"
    assert np.abs(after[key] - before[key]).max() > 1e-3
    assert torch.equal(dict(model.module.named_buffers())["items.parametrizations.weight.0.vectors"], kept)
    assert not any(name.endswith("vectors") for name in after)  # the tokens' folder has them


def test_the_compiled_model_gives_the_same_loss_and_gradients(described: Entities, chains: Dataset) -> None:
    model = new("sasrec", described)
    module = model.module.eval()  # no dropout
    compiled = torch.compile(module, dynamic=True, backend="aot_eager")
    for make in model.epoch(chains, 60, np.random.default_rng(0))[:2]:
        losses = [some(**make()) for some in (module, compiled)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
        expected, found = (torch.autograd.grad(loss, list(module.parameters())) for loss in losses)
        for wanted, got in zip(expected, found, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()


def test_tokens_without_vectors_are_refused(entities: Entities) -> None:
    assert entities.tokens is not None
    with pytest.raises(OovrecError, match="'meta' tokens carry no vectors"):
        augment(torch.nn.Embedding(40, 4), entities.tokens)


def test_a_folder_with_other_tokens_is_refused(described: Entities, chains: Dataset, tmp_path: Path) -> None:
    model = new("sasrec", described)
    model.save(tmp_path)
    file = tmp_path / "tokens" / "item_tokens.tsv"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    with pytest.raises(OovrecError, match=r"item_tokens.tsv: names other items than the run's"):
        load(tmp_path)
    shutil.rmtree(tmp_path / "tokens")
    with pytest.raises(OovrecError, match="was trained with 'semantic' tokens, and the folder has no tokens"):
        load(tmp_path)


def test_missing_centroids_are_told_with_the_folder(described: Entities, tmp_path: Path) -> None:
    new("sasrec", described).save(tmp_path)
    (tmp_path / "tokens" / "centroids.safetensors").unlink()
    with pytest.raises(OovrecError, match="carry no vectors") as refused:
        load(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("method", ["metavec", "meta", "semantic"])
def test_the_schemes_that_are_proposed_have_vectors(method: str, chains: Dataset) -> None:
    options = {"meta": {"clusters": 4}, "semantic": {"quantiser": "kmeans", "codes": 4, "levels": 2}}
    tokens = build_tokens(chains, method, options=options.get(method, {}))
    assert tokens.items.vectors is not None
    assert np.abs(tokens.items.vectors).sum() > 0


def test_the_whole_table_is_not_rounded_under_autocast(described: Entities) -> None:
    """In bf16 a catalogue's scores would tie: the map of the vectors is a product, too."""
    model, some = new("sasrec", described), Histories.of([[1, 2]])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.ranked(some)
    assert torch.equal(rounded.rows, model.ranked(some).rows)
