"""Checkpoints of other kinds, with broken files, not whole, or NaN: refused in a sentence; whole ones are taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from oovrec.errors import OovrecError
from oovrec.language.tokenizer import own_tokenizer
from oovrec.models.base import configured, load
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.t5 import T5

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LAYER = "model.layers.1."
Weights = dict[str, Tensor]


def saved(network: PreTrainedModel, folder: Path, *, causal: bool) -> Path:
    network.save_pretrained(folder)
    own_tokenizer(["a text"], causal=causal).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input and output rows are apart, as in large ones."""
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(vocab_size=300, tie_word_embeddings=False, **SIZES))
    return saved(network, tmp_path_factory.mktemp("llama"), causal=True)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64}
    network = T5ForConditionalGeneration(T5Config(vocab_size=300, decoder_start_token_id=0, **sizes))
    return saved(network, tmp_path_factory.mktemp("t5"), causal=False)


def edited(folder: Path, to: Path, weights: Callable[[Weights], Weights] | None = None, **config: Any) -> Path:
    """A copy with other weights and other values in ``config.json``; None takes one out."""
    shutil.copytree(folder, to)
    values = json.loads((to / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    if weights is not None:
        changed = {name: tensor.clone() for name, tensor in weights(load_file(folder / "model.safetensors")).items()}
        save_file(changed, to / "model.safetensors", metadata={"format": "pt"})
    return to


def new(folder: Path, entities: Entities, system: type[GenerativeRecommender] = Llama) -> GenerativeRecommender:
    options = {"form": "prompt"} if system is Llama else {}
    config = configured(system.name, {"backbone": str(folder), "augmentation": "none", **options})
    return system(config, entities)  # type: ignore[arg-type]


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda held: {name: tensor for name, tensor in held.items() if not any(part in name for part in parts)}


def filled(name: str, value: float) -> Callable[[Weights], Weights]:
    def change(held: Weights) -> Weights:
        tensor = held[name].clone()
        tensor.view(-1)[7] = value
        return held | {name: tensor}

    return change


@pytest.mark.parametrize(
    "weights",
    [
        None,
        lambda held: held | {f"{LAYER}self_attn.rotary_emb.inv_freq": torch.ones(8)},  # as older versions saved it
        lambda held: {name.removeprefix("model."): tensor for name, tensor in held.items()},  # as of a bare LlamaModel
    ],
)
def test_a_whole_llama_is_taken(
    weights: Callable[[Weights], Weights] | None, llama: Path, entities: Entities, tmp_path: Path
) -> None:
    model = new(edited(llama, tmp_path / "it", weights), entities)
    held = load_file(llama / "model.safetensors")
    assert torch.equal(model.module.body.layers[1].mlp.up_proj.weight, held[f"{LAYER}mlp.up_proj.weight"])
    assert torch.equal(model.module.embedding.table.weight[:300], held["model.embed_tokens.weight"])
    assert model.module.head is not None
    assert torch.equal(model.module.head.table.weight[:300], held["lm_head.weight"])


def test_a_llama_that_ties_its_tables_needs_no_output_rows(llama: Path, entities: Entities, tmp_path: Path) -> None:
    folder = edited(llama, tmp_path / "tied", without("lm_head"), tie_word_embeddings=True)
    assert new(folder, entities).module.head is None


def test_a_checkpoint_in_several_files_is_taken(llama: Path, entities: Entities, tmp_path: Path) -> None:
    network = LlamaForCausalLM.from_pretrained(llama)
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    own_tokenizer(["a text"], causal=True).save_pretrained(tmp_path)
    *_, last = files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 1
    held = load_file(llama / "model.safetensors")
    model = new(tmp_path, entities)
    assert torch.equal(model.module.body.layers[1].mlp.up_proj.weight, held[f"{LAYER}mlp.up_proj.weight"])
    del model, network  # which are mapped from the files
    last.write_bytes(last.read_bytes()[:-4])
    with pytest.raises(OovrecError, match=rf"{last.name}: is not a whole safetensors file; fetch or save the"):
        new(tmp_path, entities)


@pytest.mark.parametrize(
    "weights",
    [
        None,
        lambda held: {name.replace("shared", "encoder.embed_tokens"): tensor for name, tensor in held.items()},
        lambda held: (
            held | {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(32, 2)}
        ),
    ],
)
def test_a_whole_t5_is_taken(
    weights: Callable[[Weights], Weights] | None, t5: Path, entities: Entities, tmp_path: Path
) -> None:
    """Its table has three names of which one is saved, and the first T5s have a bias that is never read."""
    model = new(edited(t5, tmp_path / "it", weights), entities, T5)
    held = load_file(t5 / "model.safetensors")
    assert torch.equal(model.module.embedding.table.weight[:300], held["shared.weight"])
    name = "decoder.block.1.layer.2.DenseReluDense.wi.weight"
    assert torch.equal(model.module.get_parameter(name), held[name])


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing may be loaded")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"model_type": "t5"},
            r"it: is a model of type 't5', and this system needs one of the types llama, .*; give such a",
        ),
        (
            {"model_type": "gemma2"},
            r"it: is a model of type 'gemma2', and this system needs one of the types llama, gemma",
        ),
        ({"model_type": None}, r"it/config\.json: names no model_type; fetch or save the checkpoint again"),
        ({"num_hidden_layers": "two"}, r"it/config\.json: describes no model \(.*; fetch or save the checkpoint"),
        ({"hidden_act": "none such"}, r"it/config\.json: describes no model \('none such'\)"),
        ({"num_key_value_heads": 0}, r"it/config\.json: describes no model"),
        (
            {"intermediate_size": 128},
            r"it: .*mlp\..* is \[.*64.*\] in the weights and \[.*128.*\] by config\.json; give",
        ),
        (
            {"hidden_size": 2**20, "intermediate_size": 2**30},
            r"it: .* is \[.*32.*\] in the weights and \[.*1048576.*\]",
        ),
    ],
)
def test_what_config_json_tells_is_checked_without_loading(
    config: dict[str, Any],
    sentence: str,
    llama: Path,
    entities: Entities,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", refuse)
    with pytest.raises(OovrecError, match=sentence) as error:
        new(edited(llama, tmp_path / "it", **config), entities)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("system", [Llama, T5])
def test_a_backbone_of_the_other_kind_is_refused(
    system: type[GenerativeRecommender],
    llama: Path,
    t5: Path,
    entities: Entities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, found = (t5, "t5") if system is Llama else (llama, "llama")
    monkeypatch.setattr(system.kinds[0], "from_pretrained", refuse)
    with pytest.raises(OovrecError, match=rf"is a model of type '{found}', and this system needs one of the types "):
        new(other, entities, system)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"config\.json: no such file; give a folder with config\.json, model\.safetensors and a tokenizer"),
        ("{oops", r"config\.json, line 1: is not valid JSON"),
        ("[1]", r"config\.json: names no model_type"),
    ],
)
def test_without_a_readable_config_json_nothing_is_made(
    content: str | None, sentence: str, llama: Path, entities: Entities, tmp_path: Path
) -> None:
    path = edited(llama, tmp_path / "it") / "config.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(OovrecError, match=sentence):
        new(path.parent, entities)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (
            without(LAYER),
            rf"it: lacks weights: {LAYER}self_attn\.q_proj\.weight and 8 more; fetch or save the checkpoi",
        ),
        (without("lm_head"), r"it: lacks weights: lm_head\.weight; fetch or save the checkpoint again\.$"),
        (without("embed_tokens"), r"it: lacks weights: model\.embed_tokens\.weight; "),
        (
            lambda held: held | {f"{LAYER}self_attn.{name}_proj.bias": torch.ones(32) for name in "qk"},
            rf"it: has weights that its config\.json leaves no place for: {LAYER}self_attn\.k_proj\.bias and 1 more;",
        ),
        (filled("model.norm.weight", torch.nan), r"it: model\.norm\.weight holds NaN; give a checkpoint of finite"),
        (filled("lm_head.weight", torch.inf), r"it: lm_head\.weight holds infinite numbers; give a checkpoint of fin"),
    ],
)
def test_weights_that_are_not_all_of_the_model_are_refused(
    weights: Callable[[Weights], Weights], sentence: str, llama: Path, entities: Entities, tmp_path: Path
) -> None:
    with pytest.raises(OovrecError, match=sentence):
        new(edited(llama, tmp_path / "it", weights), entities)


def test_a_t5_without_its_table_or_its_decoder_is_refused(t5: Path, entities: Entities, tmp_path: Path) -> None:
    """Its table counts once, though it has three names."""
    with pytest.raises(OovrecError, match=r"lacks weights: shared\.weight; fetch or save"):
        new(edited(t5, tmp_path / "table", without("shared")), entities, T5)
    with pytest.raises(OovrecError, match=r"lacks weights: decoder\.block\.0\..* and \d+ more; fetch or save"):
        new(edited(t5, tmp_path / "encoder", without("decoder")), entities, T5)


def test_files_that_are_cut_or_missing_are_named(llama: Path, entities: Entities, tmp_path: Path) -> None:
    weights = edited(llama, tmp_path / "it") / "model.safetensors"
    content = weights.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"<html>not found</html>"):
        weights.write_bytes(broken)
        with pytest.raises(OovrecError, match=r"it/model\.safetensors: is not a whole safetensors file; fetch or save"):
            new(weights.parent, entities)
    weights.unlink()
    with pytest.raises(
        OovrecError, match=r"it: no checkpoint can be loaded from here \(.*model\.safetensors.*\); give"
    ):
        new(weights.parent, entities)


def test_want_of_memory_is_told_as_such(llama: Path, entities: Entities, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", fails)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        new(llama, entities)


def test_a_long_reason_is_cut(llama: Path, entities: Entities, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError(f"one\n  tw{'o' * 5000}.")

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", fails)
    with pytest.raises(OovrecError, match=r"no checkpoint can be loaded from here \(one two{50,200}…\); give a folder"):
        new(llama, entities)


@pytest.fixture(scope="module")
def run(entities: Entities, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    Llama(Llama.Config(shape="debug", history=4), entities).save(folder)
    return folder


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"num_hidden_layers": "two"}, r"backbone/config\.json: describes no model \(.*; restore the file"),
        ({"hidden_act": "none such"}, r"backbone/config\.json: describes no model \('none such'\); restore the file"),
        ({"model_type": "t5"}, r"backbone/config\.json: is a model of type 't5', and .* llama, .*; restore the file"),
        ({"model_type": None}, r"backbone/config\.json: names no model_type; restore the file"),
        ({"num_hidden_layers": 3}, r"model\.safetensors: does not fit its own config; restore the file"),
    ],
)
def test_a_run_whose_config_json_was_edited_is_refused(
    config: dict[str, Any], sentence: str, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "backbone")
    edited(run / "backbone", folder / "backbone", **config)
    with pytest.raises(OovrecError, match=sentence):
        load(folder)
    (folder / "backbone" / "config.json").unlink()
    with pytest.raises(OovrecError, match=r"backbone/config\.json: no such file; restore the file"):
        load(folder)


def test_a_run_without_its_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        folder = shutil.copytree(run, tmp_path / name)
        (folder / "backbone" / name).unlink()
        with pytest.raises(OovrecError, match=rf"backbone/{name}: no such file; restore the file\.$"):
            load(folder)


def test_a_checkpoint_in_bfloat16_is_learnt_in_float32(llama: Path, entities: Entities, tmp_path: Path) -> None:
    folder = edited(llama, tmp_path / "it", lambda held: {n: w.bfloat16() for n, w in held.items()}, dtype="bfloat16")
    model = new(folder, entities)
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
    held = load_file(folder / "model.safetensors")[f"{LAYER}mlp.up_proj.weight"]
    assert torch.equal(model.module.body.layers[1].mlp.up_proj.weight, held.float())
