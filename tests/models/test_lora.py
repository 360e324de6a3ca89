"""LoRA on small checkpoints: against the plain backbone, against hand-merged matrices, saved, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from oovrec.app.additions import with_items
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import Interrupted, OovrecError
from oovrec.files import sha256
from oovrec.language.tokenizer import own_tokenizer
from oovrec.models import base
from oovrec.models.base import configured, load
from oovrec.models.entities import Entities
from oovrec.models.generative import augmentation, lora
from oovrec.models.generative.augmentation import GrownTable
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.tokens.cold import Around, Described
from oovrec.tokens.table import TokenTable
from oovrec.training.config import TrainingConfig

TRAINING = TrainingConfig(epochs=1, max_steps=5, batch_size=64, precision="fp32", validation_users=20)
OPTIONS = {"llama": {"form": "prompt", "dropout": 0, "history": 8}, "t5": {"history": 8}}
LORA = {"rank": 3, "alpha": 6}


@pytest.fixture(scope="module", params=["llama", "llama-untied", "llama-half", "t5", "t5-untied", "t5-half"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def backbone(name: str, entities: Entities, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with OOV tokens of other data, hence fewer rows than the model will have."""
    folder = tmp_path_factory.mktemp("backbone")
    source = new(name, entities, {"shape": "debug", "augmentation": "none"})
    plain = source.module.plain()
    plain.resize_token_embeddings(540)
    if name.endswith("untied"):
        plain.config.tie_word_embeddings = False
        plain.lm_head.weight = torch.nn.Parameter(torch.randn_like(plain.lm_head.weight) * 0.3)
        if name == "t5-untied":
            plain.config.scale_decoder_outputs = False
    if name.endswith("half"):  # as most models are published
        plain.bfloat16()
    plain.save_pretrained(folder)
    own_tokenizer(source.templates.texts(), causal=source.causal).save_pretrained(folder)
    return folder


def new(name: str, entities: Entities, options: dict[str, Any]) -> GenerativeRecommender:
    system = name.partition("-")[0]
    torch.manual_seed(0)
    made = base.system(system)(configured(system, {**OPTIONS[system], **options}), entities)
    assert isinstance(made, GenerativeRecommender)
    return made


@pytest.fixture(scope="module")
def options(backbone: Path) -> dict[str, Any]:
    return {"backbone": str(backbone), "lora": LORA}


@pytest.fixture(scope="module")
def fitted(name: str, options: dict[str, Any], entities: Entities, chains: Dataset) -> GenerativeRecommender:
    model = new(name, entities, options)
    model.fit(chains, TRAINING, seed=3)
    return model


@pytest.fixture(scope="module")
def some(chains: Dataset) -> Histories:
    known = chains.histories("test").take(slice(0, 5))
    return Histories.of([*known, np.array([3, 1]), np.array([], np.int32)], [*known.users, -1, 2])


def test_before_training_the_adapters_change_nothing(
    name: str, options: dict[str, Any], entities: Entities, some: Histories
) -> None:
    full = new(name, entities, {**options, "lora": None})
    adapted = new(name, entities, options)
    adapted.module.load_state_dict(rows_of(full, adapted), strict=False)
    assert any("lora_A" in key for key in adapted.module.state_dict())
    torch.testing.assert_close(adapted.scores(some), full.scores(some), atol=1e-6, rtol=1e-6)


def rows_of(full: GenerativeRecommender, adapted: GenerativeRecommender) -> dict[str, Tensor]:
    """What begins at random in both: the new rows and the augmentation's map."""
    state = full.module.state_dict()
    taken = {key: value for key, value in state.items() if "project" in key}
    for table in ("embedding", "head"):
        if f"{table}.table.weight" in state:
            taken[f"{table}.table.grown"] = state[f"{table}.table.weight"][adapted.vocabulary.someone :]
    return taken


def test_only_adapters_and_new_rows_are_trained(
    name: str, options: dict[str, Any], entities: Entities, fitted: GenerativeRecommender, backbone: Path
) -> None:
    """Against a model that was never trained, and against the checkpoint's own file."""
    fresh = new(name, entities, options)
    fresh.begin(3)
    before, after = fresh.module.state_dict(), fitted.module.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    stays = {key for key in before if not key.endswith(("grown", "project.weight")) and ".lora_" not in key}
    assert not moved & stays
    assert all(key in moved for key in before if key.endswith("grown") or ".lora_B" in key)
    kept = load_file(backbone / "model.safetensors")
    table = fitted.module.embedding.table
    assert isinstance(table, GrownTable)
    shared = kept["shared.weight" if name.startswith("t5") else "model.embed_tokens.weight"]
    assert torch.equal(table.known, shared[: fitted.vocabulary.someone].to(table.known.dtype))
    assert len(table.known) + len(table.grown) == len(fitted.vocabulary) > len(shared)
    assert (fitted.module.head is not None) == name.endswith("untied")


def test_the_merged_model_has_the_same_logits(fitted: GenerativeRecommender, some: Histories, name: str) -> None:
    """The stock model, adapters multiplied out into its matrices, item by item."""
    plain = fitted.module.plain()
    assert not any("lora" in key for key in plain.state_dict())
    codes = torch.from_numpy(fitted.vocabulary.items)
    for items, user in zip(some, some.users, strict=True):
        prompt = torch.from_numpy(fitted.prompt(items, int(user)))[None]
        stepper = fitted.read(Histories.of([items], [int(user)]))
        paths = codes[:4, :1]
        if name.startswith("t5"):
            start = torch.full((4, 1), plain.config.decoder_start_token_id)
            logits = plain(input_ids=prompt.expand(4, -1), decoder_input_ids=torch.cat([start, paths], 1)).logits
        else:
            logits = plain(torch.cat([prompt.expand(4, -1), paths], dim=1)).logits[:, -2:]
        every = torch.arange(len(fitted.vocabulary))
        with torch.no_grad():
            rows = stepper.rows(every)
            first, second = (stepper.root() @ rows.T)[0], (stepper.extend(paths[None]) @ rows.T)[0]
        torch.testing.assert_close(first, logits[0, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(second, logits[:, 1], atol=1e-5, rtol=0)


def test_merging_is_b_times_a_by_hand(fitted: GenerativeRecommender) -> None:
    state = fitted.module.state_dict()
    weights = lora.merged(fitted.module)
    adapted = [key.removesuffix(".lora_A.default.weight") for key in state if key.endswith(".lora_A.default.weight")]
    for layer in adapted:
        a, b = (state[f"{layer}.lora_{part}.default.weight"] for part in "AB")
        assert a.shape[0] == b.shape[1] == LORA["rank"]
        expected = state[f"{layer}.base_layer.weight"] + LORA["alpha"] / LORA["rank"] * (b @ a)
        torch.testing.assert_close(weights[f"{layer}.weight"], expected)
    assert len(adapted) >= 14  # seven in each of LLaMA's two layers


def test_training_and_scoring_see_the_same_adapters(
    fitted: GenerativeRecommender, name: str, chains: Dataset, entities: Entities, options: dict[str, Any]
) -> None:
    """The loss of a batch with adapters is that of the merged model: T5's folded attention leaves none out."""
    batch = fitted.epoch(chains, 64, np.random.default_rng(0))[0]()
    full = new(name, entities, {**options, "lora": None})
    weights = lora.merged(fitted.module)
    for table in ("embedding", "head"):
        parts = [weights.pop(f"{table}.table.{part}", None) for part in ("known", "grown")]
        if parts[0] is not None:
            weights[f"{table}.table.weight"] = torch.cat(parts)
    full.module.load_state_dict(weights)
    full.module.eval()
    fitted.module.eval()
    with torch.no_grad():
        torch.testing.assert_close(fitted.module(**batch), full.module(**batch), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def saved(fitted: GenerativeRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fitted.save(folder)
    return folder


def test_a_run_holds_what_was_learnt_and_scores_the_same(
    saved: Path, fitted: GenerativeRecommender, some: Histories, backbone: Path
) -> None:
    held = load_file(saved / "model.safetensors")
    assert all(key.endswith(("grown", "project.weight", "centroids")) or ".lora_" in key for key in held)
    about = json.loads((saved / "backbone" / "base.json").read_text())
    assert about == {"name": str(backbone), "base": sha256(backbone / "model.safetensors")}
    assert torch.equal(load(saved).scores(some), fitted.scores(some))


def test_words_that_the_backbone_has_no_rows_for_are_learnt_and_kept(
    backbone: Path, name: str, entities: Entities, some: Histories, tmp_path: Path
) -> None:
    source = new(name, entities, {"backbone": str(backbone)})
    plain = source.module.plain()
    plain.resize_token_embeddings(40)
    plain.save_pretrained(tmp_path / "short")
    source.vocabulary.tokenizer.save_pretrained(tmp_path / "short")
    model = new(name, entities, {"backbone": str(tmp_path / "short"), "lora": LORA})
    assert len(model.module.embedding.table.known) == 40
    assert len(model.module.embedding.table.weight) == len(model.vocabulary)
    model.save(tmp_path / "run")
    torch.manual_seed(1)  # rows that are drawn would be others
    assert torch.equal(load(tmp_path / "run").scores(some), model.scores(some))


def test_an_interrupted_training_resumes_to_the_same_scores(
    name: str,
    fitted: GenerativeRecommender,
    some: Histories,
    chains: Dataset,
    entities: Entities,
    options: dict[str, Any],
    tmp_path: Path,
    stopped_at: Callable[[GenerativeRecommender, int], None],
) -> None:
    model = new(name, entities, options)
    stopped_at(model, 3)
    with pytest.raises(Interrupted):
        model.fit(chains, TRAINING, seed=3, folder=tmp_path)
    held = load_file(tmp_path / "checkpoint" / "state.safetensors")
    assert not any("base_layer" in key or key.endswith("known") for key in held)
    resumed = new(name, entities, options)
    logs = resumed.fit(chains, TRAINING, seed=3, folder=tmp_path, resume=True)
    assert torch.equal(resumed.scores(some), fitted.scores(some))
    assert len(logs) == 1


def test_a_new_item_is_a_twin_of_the_one_whose_number_it_copies(
    saved: Path, fitted: GenerativeRecommender, some: Histories, tmp_path: Path
) -> None:
    """Cluster 3 has every number there is, so that its new item gets one that begins as its last, item 39's."""
    near = Around("words", np.array([3]), np.ones(1), np.ones(len(fitted.entities.items)))
    larger = with_items(fitted, saved, Described(["new"]), [near])[0]
    scores = larger.scores(some)
    assert scores.shape[1] == len(fitted.entities.items) + 1
    torch.testing.assert_close(scores[:, -1], scores[:, 39], atol=1e-5, rtol=0)
    kept = [item for item in range(len(fitted.entities.items)) if item % 6 != 3]
    torch.testing.assert_close(scores[:, kept], fitted.scores(some)[:, kept], atol=1e-5, rtol=0)
    larger.save(tmp_path / "larger")
    assert torch.equal(load(tmp_path / "larger").scores(some), scores)


def test_another_backbone_than_it_was_trained_on_is_refused(
    name: str, saved: Path, backbone: Path, some: Histories, fitted: GenerativeRecommender, tmp_path: Path
) -> None:
    weights, aside = backbone / "model.safetensors", tmp_path / "genuine"
    weights.rename(aside)  # not written over: the fitted model's weights are mapped from it
    try:
        with pytest.raises(OovrecError, match=r"pretrained model '.*' is missing \(has no safetensors\); put it back"):
            load(saved)
        genuine = aside.read_bytes()
        weights.write_bytes(genuine[:-1] + bytes([genuine[-1] ^ 1]))
        with pytest.raises(OovrecError, match=r"was trained on another '.*' than .* holds now; put the one"):
            load(saved)
        copy = saved / "backbone" / "base"
        copy.mkdir()
        for file in backbone.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / "model.safetensors").write_bytes(genuine)
        assert torch.equal(load(saved).scores(some), fitted.scores(some))
    finally:
        aside.replace(weights)


def test_resuming_on_another_backbone_is_refused(
    name: str, options: dict[str, Any], chains: Dataset, entities: Entities, backbone: Path, tmp_path: Path
) -> None:
    model = new(name, entities, options)
    model.fit(chains, TRAINING, seed=3, folder=tmp_path)
    model = new(name, entities, options)
    model.marks = {"base": "0" * 64}
    with pytest.raises(OovrecError, match=r"the interrupted training had model\.base = [0-9a-f]{64}, not 0{64}"):
        model.fit(chains, TRAINING, seed=3, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lora": {}}, r"model\.lora: adapts a pretrained model, and there is none; give model\.backbone"),
        ({"lora": {"rnak": 3}}, r"model\.lora: unknown key 'rnak'; did you mean 'rank'"),
        ({"lora": {"rank": 0}}, r"model\.lora\.rank: input should be greater than or equal to 1, not 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OovrecError, match=sentence):
        configured("llama", options)


def test_a_target_that_is_no_layer_names_its_neighbour(name: str, options: dict[str, Any], entities: Entities) -> None:
    wrong = "q_prj" if name.startswith("llama") else "wii"
    with pytest.raises(
        OovrecError, match=rf"model\.lora\.targets: unknown layer '{wrong}'; did you mean '(q_proj|wi)'"
    ):
        new(name, entities, {**options, "lora": {"targets": [wrong]}})


def test_without_peft_the_extra_is_named(
    name: str, options: dict[str, Any], entities: Entities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OovrecError, match=r"model\.lora: the package 'peft' is missing; pip install 'oovrec\[lora\]'"):
        new(name, entities, options)


def test_residual_dropout_reaches_the_adapters(backbone: Path, name: str, entities: Entities) -> None:
    """What an adapter adds is left out like the rest of what its part adds to the states."""
    if not name.startswith("llama"):
        pytest.skip("T5 has no such option")
    options = {"backbone": str(backbone), "lora": LORA, "residual_dropout": 0.5}
    part = new(name, entities, options).module.train().body.layers[0].mlp
    with torch.no_grad():
        part.down_proj.lora_B["default"].weight.normal_()
        part.down_proj.base_layer.weight.zero_()
        added = part(torch.randn(4, 25, part.gate_proj.in_features))
    assert 0.4 < (added == 0).float().mean().item() < 0.6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_stays_takes_half_the_memory_and_changes_no_result(
    precision: Any,
    name: str,
    options: dict[str, Any],
    entities: Entities,
    chains: Dataset,
    some: Histories,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the checkpoint is of bfloat16 numbers; a training with its weights in float32 gives the very same."""
    training = TRAINING.model_copy(update={"precision": precision})
    models = [new(name, entities, options)]
    with monkeypatch.context() as patch:
        patch.setattr(lora, "lossless", lambda weight: weight)
        patch.setattr(augmentation, "lossless", lambda weight: weight)
        models.append(new(name, entities, options))
    kept, whole = (frozen(model) for model in models)
    halved = {key for key, weight in kept.items() if weight.dtype is torch.bfloat16}
    matrices = {key for key, weight in whole.items() if weight.ndim == 2 and "relative" not in key}
    unhalved = {key for key in matrices if "wo." in key}
    assert halved == (matrices - unhalved if name.endswith("half") else set())
    for model in models:
        model.fit(chains, training, seed=3)
    with models[0].arithmetic(training):
        scores = [model.scores(some) for model in models]
    assert torch.equal(*scores)
    learnt = [{key: weight for key, weight in m.module.named_parameters() if weight.requires_grad} for m in models]
    assert all(torch.equal(weight, learnt[1][key]) for key, weight in learnt[0].items())


def frozen(model: GenerativeRecommender) -> dict[str, Tensor]:
    return {key: weight for key, weight in model.module.named_parameters() if not weight.requires_grad}


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_what_adapters_read_is_dropped_at_their_rate_in_training(
    rate: float, name: str, backbone: Path, entities: Entities, chains: Dataset
) -> None:
    options = {"backbone": str(backbone), "lora": {**LORA, "dropout": rate}, "dropout": 0}
    model = new(name, entities, options)
    for key, weight in model.module.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.3)
    batch = model.epoch(chains, 16, np.random.default_rng(0))[0]()
    with torch.no_grad():
        model.module.train()
        assert (model.module(**batch).item() == model.module(**batch).item()) == (rate == 0)


def test_the_map_of_centroids_is_learnt_beside_the_adapters(name: str, backbone: Path, entities: Entities) -> None:
    assert entities.tokens is not None
    items = entities.tokens.items
    names = [tuple(items.words(row)) for row in range(len(items))]
    placed = TokenTable.of(items.ids, names, {cluster: np.ones(3) for cluster, _ in names})
    described = replace(entities, tokens=replace(entities.tokens, items=placed))
    model = new(name, described, {"backbone": str(backbone), "lora": LORA})
    maps = [table.project for table in {model.module.embedding, model.module.output}]
    assert len(maps) == 1 + name.endswith("untied")
    assert all(weight.requires_grad for one in maps for weight in one.parameters())
