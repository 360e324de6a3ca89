"""One contract for every recommender: whatever ``systems()`` finds has to pass all of this."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import Interrupted, OovrecError
from oovrec.models.base import NeuralRecommender, Recommender, configured, load, system, systems
from oovrec.models.entities import Entities
from oovrec.training.config import TrainingConfig

# Small options by system; one that is not listed is tested with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "sasrec": {"width": 16, "length": 8},
    "gru4rec": {"width": 16, "length": 8, "units": 24},
    "caser": {"width": 16, "horizontal": 2, "vertical": 2},
    "hgn": {"width": 16},
    "bert4rec": {"width": 16, "length": 8},
    "esasrec": {"width": 16, "length": 8},
    "cl4srec": {"width": 16, "length": 8},
    "bsarec": {"width": 16, "length": 8},
    "fdsa": {"width": 16, "length": 8},
    "s3rec": {"width": 16, "length": 8, "pretrain_epochs": 2},
    "llama": {"shape": "debug", "history": 8},
    "t5": {"shape": "debug", "history": 8},
    "tiger": {"shape": "debug", "history": 8, "users": 50},
    "cove": {"shape": "debug", "history": 8},
}
TRAINING = TrainingConfig(epochs=2, batch_size=128, precision="fp32", validation_users=20)


def new(name: str, entities: Entities) -> Recommender:
    kind = system(name)
    return kind(configured(name, SMALL.get(name, {})), entities if kind.token_use == "needed" else without(entities))


def without(entities: Entities) -> Entities:
    return replace(entities, tokens=None)


@pytest.fixture(scope="module", params=sorted(systems()))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def fitted(name: str, chains: Dataset, entities: Entities) -> Recommender:
    model = new(name, entities)
    model.fit(chains, TRAINING, seed=3)
    return model


@pytest.fixture(scope="module")
def some(chains: Dataset) -> Histories:
    """Known users, an unknown one, an empty history and one longer than any model's memory."""
    known = chains.histories("test").take(slice(0, 5))
    sequences = [*known, np.array([3, 1]), np.array([], np.int32), np.arange(300) % len(chains.items)]
    return Histories.of(sequences, [*known.users, -1, -1, 2])


@pytest.fixture(scope="module")
def saved(fitted: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fitted.save(folder)
    return folder


def copied(folder: Path, to: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            target = to / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to


def test_scores_are_finite_float32_for_each_history_and_item(
    fitted: Recommender, some: Histories, chains: Dataset
) -> None:
    scores = fitted.scores(some)
    assert scores.shape == (len(some), len(chains.items))
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert not scores.requires_grad


def test_of_no_histories_there_are_no_scores_and_no_lists(fitted: Recommender, chains: Dataset) -> None:
    nobody = Histories.of([])
    assert fitted.scores(nobody).shape == (0, len(chains.items))
    assert fitted.recommend(nobody, k=3).items.shape == (0, 3)


def test_scores_depend_on_the_history_alone_not_on_its_batch(fitted: Recommender, some: Histories) -> None:
    together = fitted.scores(some)
    alone = torch.cat([fitted.scores(some.take(np.array([row]))) for row in range(len(some))])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_scoring_twice_gives_the_same(fitted: Recommender, some: Histories) -> None:
    assert torch.equal(fitted.scores(some), fitted.scores(some))


def test_scores_are_without_dropout_whatever_the_module_was_doing(fitted: Recommender, some: Histories) -> None:
    if not isinstance(fitted, NeuralRecommender):
        pytest.skip("it has no module")
    expected = fitted.scores(some)
    fitted.module.train()
    found = fitted.scores(some)
    fitted.module.eval()
    assert torch.equal(found, expected)


def test_every_dropout_of_a_network_has_a_part_in_training(name: str, chains: Dataset, entities: Entities) -> None:
    model = new(name, entities)
    if not isinstance(model, NeuralRecommender):
        pytest.skip("it has no module")
    if name in ("t5", "tiger"):
        pytest.skip("the stock layers' weights are used without them: see test_training_is_stock")
    there = {part for part in model.module.modules() if isinstance(part, torch.nn.Dropout)}
    used = set[torch.nn.Module]()
    for part in there:
        part.register_forward_hook(lambda part, *_: used.add(part))
    model.module.train()
    for batch in model.epoch(chains, 128, np.random.default_rng(0)):
        model.module(**batch())
    assert used == there


ATTENTION = ("sasrec", "bert4rec", "bsarec", "cl4srec", "esasrec", "fdsa", "s3rec")


@pytest.mark.parametrize("name", ATTENTION)
def test_weights_of_attention_are_dropped_in_training_alone(
    name: str, chains: Dataset, bare: Entities, some: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend, rates = torch.nn.functional.scaled_dot_product_attention, []

    def attending(*words: torch.Tensor, dropout_p: float = 0.0, **more: Any) -> torch.Tensor:
        rates.append(dropout_p)
        return attend(*words, dropout_p=dropout_p, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attending)
    model = system(name)(configured(name, {**SMALL[name], "dropout": 0.3}), bare)
    assert isinstance(model, NeuralRecommender)
    model.module.train()
    model.module(**model.epoch(chains, 128, np.random.default_rng(0))[0]())
    assert set(rates) == {0.3}
    rates.clear()
    model.scores(some)
    assert set(rates) == {0.0}


def test_fit_begins_anew_and_depends_on_the_seed_alone(
    name: str, fitted: Recommender, some: Histories, chains: Dataset, entities: Entities
) -> None:
    before = fitted.scores(some)
    other = new(name, entities)
    torch.manual_seed(12345)  # the state of torch's global generator must not matter
    for _ in range(2):
        other.fit(chains, TRAINING, seed=3)
        assert torch.equal(other.scores(some), before)
    if isinstance(other, NeuralRecommender):
        other.fit(chains, TRAINING, seed=4)
        assert not torch.equal(other.scores(some), before)


def test_thinned_histories_change_what_is_learnt_and_a_seed_fixes_it(
    name: str, chains: Dataset, entities: Entities, some: Histories
) -> None:
    if not issubclass(system(name), NeuralRecommender):
        pytest.skip("it has no epochs")
    scores = []
    for skipped in (0.0, 0.3, 0.3):
        model = new(name, entities)
        model.fit(chains, TRAINING.model_copy(update={"epochs": 1, "skipped": skipped}), seed=3)
        scores.append(model.scores(some))
    assert torch.isfinite(scores[1]).all()
    assert torch.equal(scores[1], scores[2])
    assert not torch.equal(scores[0], scores[1])


def test_fit_resumes_to_the_same_scores(
    name: str,
    fitted: Recommender,
    some: Histories,
    chains: Dataset,
    entities: Entities,
    tmp_path: Path,
    stopped_at: Callable[[NeuralRecommender, int], None],
) -> None:
    model = new(name, entities)
    if not isinstance(model, NeuralRecommender):
        pytest.skip("has no epochs")
    stopped_at(model, 2)
    with pytest.raises(Interrupted):
        model.fit(chains, TRAINING, seed=3, folder=tmp_path)
    resumed = new(name, entities)
    resumed.fit(chains, TRAINING, seed=3, folder=tmp_path, resume=True)
    assert torch.equal(resumed.scores(some), fitted.scores(some))


def test_save_and_load_change_no_score(fitted: Recommender, saved: Path, some: Histories) -> None:
    loaded = load(saved)
    assert type(loaded) is type(fitted)
    assert loaded.config == fitted.config
    assert torch.equal(loaded.scores(some), fitted.scores(some))


def test_recommends_the_best_items_that_were_not_seen(fitted: Recommender, some: Histories) -> None:
    seen_too = fitted.recommend(some, k=5, mask_seen=False)
    scores = fitted.scores(some)
    # a search for the best alone puts its products together otherwise, so they may differ in the last bits
    best_of_all = scores.sort(dim=1, descending=True).values[:, :5].numpy()
    np.testing.assert_allclose(seen_too.scores, best_of_all, rtol=1e-6, atol=1e-6)
    short = some.take(slice(0, 7))
    best = fitted.recommend(short, k=10)
    for history, items, values, all_scores in zip(short, best.items, best.scores, scores.numpy(), strict=False):
        assert len(set(items)) == 10
        assert not set(items) & set(history)
        unseen = np.setdiff1d(np.arange(len(all_scores)), history)
        np.testing.assert_allclose(values, np.sort(all_scores[unseen])[::-1][:10], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_item_is_refused(fitted: Recommender, some: Histories, k: int) -> None:
    with pytest.raises(OovrecError, match=f"k: {k} is below 1; ask for at least one item"):
        fitted.recommend(some, k)


def test_no_options_are_the_defaults_and_survive_json(name: str) -> None:
    defaults = system(name).Config()
    assert configured(name, {}) == defaults
    small = configured(name, SMALL.get(name, {}))
    for config in (defaults, small):
        assert configured(name, json.loads(config.model_dump_json())) == config


def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(OovrecError, match="model: unknown key 'depht'"):
        configured(name, {"depht": 3})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_no_score(fitted: Recommender, saved: Path, some: Histories) -> None:
    if not isinstance(fitted, NeuralRecommender):
        pytest.skip("has no module")
    loaded = load(saved)
    assert isinstance(loaded, NeuralRecommender)
    here = fitted.module.to("cpu") and fitted.scores(some)
    loaded.module.to("cuda")
    there = loaded.scores(some)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)


def test_weights_of_other_items_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path)
    listed = (folder / "items.tsv").read_text().replace("i7\t", "other\t")
    (folder / "items.tsv").write_text(listed)
    with pytest.raises(OovrecError, match=r"other items than items\.tsv lists; take both from one run"):
        load(folder)


def test_weights_that_do_not_fit_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path)
    path = folder / "model.safetensors"
    header = load_header(path)
    save_file({name: array.ravel()[:1] for name, array in load_file(path).items()}, path, metadata=header)
    with pytest.raises(OovrecError, match="does not fit its own config"):
        load(folder)


def load_header(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    return {key: value for key, value in metadata.items() if key != "sha256"}


def test_truncated_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    path = copied(saved, tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(OovrecError, match=r"model\.safetensors: is not a whole safetensors file"):
        load(tmp_path)


def test_altered_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    path = copied(saved, tmp_path) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)
    with pytest.raises(OovrecError, match="was altered after it was written"):
        load(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=r"model\.safetensors: no such file"):
        load(tmp_path)


def test_an_unknown_system_names_its_neighbour() -> None:
    with pytest.raises(OovrecError, match="unknown system 'sasrek'; did you mean 'sasrec'"):
        system("sasrek")
