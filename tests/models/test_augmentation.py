"""The augmentation kinds against their formulas, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from oovrec.errors import OovrecError
from oovrec.models.base import configured
from oovrec.models.entities import Entities
from oovrec.models.generative.augmentation import AugmentedEmbedding, unchanging
from oovrec.models.generative.base import GenerativeConfig
from oovrec.models.generative.llama import Llama, LlamaOptions
from oovrec.tokens.table import Tokens, TokenTable

SIZE, WIDTH, INNER, ALPHA = 40, 64, 8, 0.5
WITHOUT = 10  # tokens that have no centroid


def centroids() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(SIZE, INNER)).astype(np.float32)
    rows[:WITHOUT] = 0
    return rows


def table(seed: int = 0, spread: float = 0.1) -> Tensor:
    return spread * torch.randn(SIZE, WIDTH, generator=torch.Generator().manual_seed(seed))


def formula(layer: AugmentedEmbedding, known: Tensor) -> Tensor:
    """What is added to each token's row."""
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}
    if layer.kind == "linear":
        return ALPHA * known @ weights["project.weight"].T
    return ALPHA * F.gelu(known @ weights["project.0.weight"].T) @ weights["project.2.weight"].T


@pytest.mark.parametrize("augments", ["input", "output", "both"])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_map_of_the_centroid_is_added_where_it_is_asked_for(kind: str, augments: str) -> None:
    known, ids = torch.from_numpy(centroids()), torch.tensor([[3, 17], [39, 17]])
    layer = AugmentedEmbedding(table(), centroids(), kind, ALPHA, augments)
    added = formula(layer, known)
    assert (added[WITHOUT:].abs().sum(dim=1) > 0).all()
    assert (added[:WITHOUT] == 0).all()
    for side in ("input", "output"):
        rows = table() + added if augments in (side, "both") else table()
        torch.testing.assert_close(layer.whole(side).detach(), rows)
        torch.testing.assert_close(layer(ids, side).detach(), rows[ids])
    assert layer.alike == (augments == "both")


@pytest.mark.parametrize("augments", ["input", "output", "both"])
def test_an_output_layer_of_its_own_has_a_map_of_its_own(augments: str) -> None:
    known = torch.from_numpy(centroids())
    layer = AugmentedEmbedding(table(), centroids(), "linear", ALPHA, augments)
    head = layer.beside(table(1))
    for one, side, own in ((layer, "input", table()), (head, "output", table(1))):
        if augments in (side, "both"):
            torch.testing.assert_close(one.whole(side).detach(), own + formula(one, known))
        else:
            torch.testing.assert_close(one.whole(side).detach(), own)
            assert set(one.state_dict()) == {"table.weight"}
    if augments == "both":
        assert not torch.equal(layer.project.weight, head.project.weight)


@pytest.mark.parametrize("augments", ["input", "output", "both"])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_rows_that_are_kept_are_those_of_the_formula_in_float32(kind: str, augments: str) -> None:
    known, ids = torch.from_numpy(centroids()), torch.arange(SIZE - 1, 0, -2)  # half of them
    layer = AugmentedEmbedding(table(), centroids(), kind, ALPHA, augments)
    added = formula(layer, known)
    maps: list[int] = []
    layer.project.register_forward_hook(lambda _, read, __: maps.append(len(read[0])))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), unchanging():
        for _ in range(5):
            for side in ("input", "output"):
                rows = table() + added if augments in (side, "both") else table()
                torch.testing.assert_close(layer(ids, side), rows[ids], rtol=0, atol=1e-7)
    asked = 10 if augments == "both" else 5
    assert sum(maps) == 2 * SIZE  # half and half in vain, then all at once for good
    assert len(maps) == 3 < asked


def test_what_was_kept_is_forgotten_when_weights_may_change_again() -> None:
    layer = AugmentedEmbedding(table(), centroids(), "linear", ALPHA)
    ids = torch.arange(SIZE)
    for seed in (1, 2):
        layer.project.weight.data = torch.randn(WIDTH, INNER, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad(), unchanging():
            for _ in range(3):
                rows = layer(ids)
        torch.testing.assert_close(rows, table() + formula(layer, torch.from_numpy(centroids())))
    layer(ids).sum().backward()
    assert layer.project.weight.grad is not None


def test_none_is_the_plain_table() -> None:
    layer = AugmentedEmbedding(table(), centroids(), "none", augments="input")
    assert torch.equal(layer.whole(), table())
    assert layer.alike
    assert set(layer.state_dict()) == {"table.weight"}


def test_initialised_rows_keep_the_centroids_angles_and_the_tables_spread() -> None:
    torch.manual_seed(0)
    wide = torch.randn(SIZE, 4096) * 0.1 + 3.0  # many dimensions, in which a random projection keeps angles well
    layer = AugmentedEmbedding(wide.clone(), centroids(), "initialise")
    rows = layer.whole().detach()
    assert set(layer.state_dict()) == {"table.weight"}
    assert torch.equal(rows[:WITHOUT], wide[:WITHOUT])
    moved, known = rows[WITHOUT:] - wide.mean(dim=0), torch.from_numpy(centroids())[WITHOUT:]
    cosines = [F.normalize(part) @ F.normalize(part).T for part in (moved, known)]
    torch.testing.assert_close(*cosines, atol=0.08, rtol=0)
    assert moved.square().mean().sqrt() == pytest.approx(float((wide - wide.mean(dim=0)).square().mean().sqrt()))


def test_initialisation_depends_on_the_seed() -> None:
    def begun(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return AugmentedEmbedding(table(), centroids(), "initialise").whole().detach()

    assert torch.equal(begun(1), begun(1))
    assert not torch.equal(begun(1), begun(2))


def test_a_model_begins_at_the_centroids() -> None:
    """Through the whole recommender: items of like clusters have like first tokens before any training."""
    rng = np.random.default_rng(0)
    near = rng.normal(size=6)
    vectors = {"<CI0>": near, "<CI1>": near + 0.01 * rng.normal(size=6), "<CI2>": -near}
    items = TokenTable.of([f"i{n}" for n in range(6)], [(f"<CI{n % 3}>", f"<I{n}>") for n in range(6)], vectors)
    entities = Entities(items.ids, ["u0"], None, Tokens(items, None, "meta", "train", 0))
    model = Llama(LlamaOptions(shape="debug", augmentation="initialise"), entities)
    first = model.vocabulary.items[:3, 0]
    rows = model.module.embedding.whole().detach()
    rows = F.normalize(rows - rows.mean(dim=0))[first]
    assert rows[0] @ rows[1] > 0.99
    assert rows[0] @ rows[2] < -0.8


def test_zero_weight_is_refused_in_favour_of_none() -> None:
    for name in ("llama", "t5"):
        with pytest.raises(
            OovrecError, match=r"model\.alpha: is 0, which augments nothing; set model\.augmentation=none"
        ):
            configured(name, {"alpha": 0})
        assert configured(name, {"augmentation": "none"}).augmentation == "none"
    with pytest.raises(
        OovrecError, match=r"model\.augmentation: input should be 'none', 'initialise', 'linear' or 'mlp'"
    ):
        configured("t5", {"augmentation": "quadratic"})


def test_the_default_is_the_papers() -> None:
    assert (GenerativeConfig().augmentation, GenerativeConfig().alpha, GenerativeConfig().augments) == (
        "linear",
        0.1,
        "both",
    )
