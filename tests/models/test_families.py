"""Pretrained models that are built like LLaMA or like T5: each against its own stock model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
)

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.tokenizer import own_tokenizer
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.generative.llama import Llama, LlamaOptions
from oovrec.models.generative.t5 import T5
from oovrec.training.config import TrainingConfig

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
WINDOW = 100  # more than the prompts here take
OTHERS: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW, "partial_rotary_factor": 0.5},  # which Phi-4 mini has
    "qwen2": {"sliding_window": 4, "use_sliding_window": False},
    "smollm3": {"no_rope_layers": [1, 0]},  # the second layer knows no positions
    "qwen3": {"head_dim": 8},  # heads that together are narrower than the states
}


@pytest.fixture(scope="module", params=Llama.kinds[1:], ids=lambda kind: kind.config_class.model_type)
def kind(request: pytest.FixtureRequest) -> type[PreTrainedModel]:
    return request.param


@pytest.fixture(scope="module")
def backbone(kind: type[PreTrainedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with weights far from how they begin, so that every term counts."""
    name, folder = kind.config_class.model_type, tmp_path_factory.mktemp("backbone")
    tied = name in ("qwen2", "smollm3")
    sizes = {"intermediate_size": 64, "vocab_size": 540, "tie_word_embeddings": tied, **SIZES, **ENDS}
    torch.manual_seed(0)
    network = kind(kind.config_class(**sizes, **OTHERS.get(name, {})))
    scatter(network)
    network.save_pretrained(folder)
    own_tokenizer(["what follows these items?"], causal=True).save_pretrained(folder)
    return folder


def scatter(network: torch.nn.Module) -> None:
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def edited(backbone: Path, to: Path, changes: dict[str, Any]) -> Path:
    """A copy with other values in ``config.json``."""
    shutil.copytree(backbone, to)
    values = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(values | changes))
    return to


def new(backbone: Path, entities: Entities, **options: Any) -> Llama:
    torch.manual_seed(1)
    return Llama(LlamaOptions(backbone=str(backbone), alpha=0.7, history=6, **options), entities)


@pytest.fixture(scope="module")
def some(chains: Dataset) -> Histories:
    known = chains.histories("test").take(slice(0, 3))
    return Histories.of([*known, np.array([3, 1]), np.array([], np.int32)], [*known.users, -1, 2])


@torch.no_grad()
def stock_scores(plain: PreTrainedModel, model: Llama, items: np.ndarray, user: int) -> Tensor:
    """``[items]`` log-probability of each item, one a row through the stock model, among what is legal."""
    codes, prompt = torch.from_numpy(model.vocabulary.items), torch.from_numpy(model.prompt(items, user))
    return among_legal(plain(torch.cat([prompt.expand(len(codes), -1), codes], dim=1)).logits[:, -3:-1], codes)


def among_legal(logits: Tensor, codes: Tensor) -> Tensor:
    """``[items]`` log-probability of each of ``codes`` ``[items, 2]`` by its own ``[2, vocabulary]`` logits."""
    first = logits[0, 0, codes[:, 0].unique()].logsumexp(0)
    scores = [
        logits[item, 0, one] - first + logits[item, 1, two] - logits[item, 1, codes[codes[:, 0] == one, 1]].logsumexp(0)
        for item, (one, two) in enumerate(codes)
    ]
    return torch.stack(scores)


def same_scores(plain: PreTrainedModel, model: Llama, some: Histories) -> None:
    ours = model.scores(some)
    for row, (items, user) in enumerate(zip(some, some.users, strict=True)):
        torch.testing.assert_close(ours[row], stock_scores(plain, model, items, int(user)), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["history", "prompt"])
def test_scores_equal_the_stock_model_item_by_item(
    form: str, kind: type[PreTrainedModel], backbone: Path, entities: Entities, some: Histories
) -> None:
    model = new(backbone, entities, form=form)
    network = model.module
    plain = kind(kind.config_class.from_pretrained(backbone, vocab_size=len(model.vocabulary))).eval()
    state = {name.replace("body", "model"): value for name, value in network.state_dict().items() if "body" in name}
    state["model.embed_tokens.weight"] = network.embedding.whole()
    state["lm_head.weight"] = network.output.whole()
    plain.load_state_dict(state)
    assert plain.get_input_embeddings().weight.shape[0] == len(model.vocabulary)
    same_scores(plain, model, some)


def test_the_pretrained_weights_are_those_of_the_checkpoint(
    kind: type[PreTrainedModel], backbone: Path, entities: Entities
) -> None:
    held, model = kind.from_pretrained(backbone), new(backbone, entities)
    ours = model.module.body.state_dict()
    assert ours.keys() == held.model.state_dict().keys() - {"embed_tokens.weight"}
    assert all(torch.equal(value, held.model.state_dict()[name]) for name, value in ours.items())


@pytest.mark.parametrize("lora", [None, {"rank": 3, "alpha": 6}])
def test_what_was_trained_is_kept_and_exported(
    lora: dict[str, int] | None,
    kind: type[PreTrainedModel],
    backbone: Path,
    entities: Entities,
    chains: Dataset,
    some: Histories,
    tmp_path: Path,
) -> None:
    model = new(backbone, entities, form="prompt", lora=lora)
    training = TrainingConfig(epochs=1, max_steps=3, learning_rate=0.01, batch_size=32, validation_users=5)
    before = model.scores(some)
    model.fit(chains, training)
    assert not torch.allclose(before, model.scores(some), atol=1e-2)
    model.save(tmp_path / "run")
    torch.testing.assert_close(load(tmp_path / "run").scores(some), model.scores(some))
    model.module.plain().save_pretrained(tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert type(plain) is kind
    same_scores(plain.eval(), model, some)


def test_prompts_longer_than_the_window_of_some_layers_are_refused(
    kind: type[PreTrainedModel], backbone: Path, entities: Entities, chains: Dataset, tmp_path: Path
) -> None:
    """They would be learnt and asked in two ways; read, or with the answer behind them."""
    if kind.config_class.model_type not in ("gemma3_text", "mistral", "phi3"):  # the others have none
        assert new(backbone, entities).module.window is None
        return
    model = new(edited(backbone, tmp_path / "it", {"sliding_window": 8}), entities)
    same_scores(model.module.plain(), model, Histories.of([[1, 2, 3]], [0]))  # <s>, six tokens, one of the answer's two
    told = r"model\.history: a prompt and its answer take \d+ tokens, and the pretrained model looks back 8; lower it"
    for items in ([1, 2, 3, 4], [1, 2, 3, 4, 5, 6]):
        with pytest.raises(OovrecError, match=told):
            model.scores(Histories.of([items]))
    with pytest.raises(OovrecError, match=told):
        model.fit(chains, TrainingConfig(epochs=1, max_steps=1, batch_size=32))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),  # as EmbeddingGemma's
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_what_no_system_here_has_is_refused(
    change: dict[str, Any], told: str, backbone: Path, entities: Entities, tmp_path: Path
) -> None:
    folder = edited(backbone, tmp_path / "it", change)
    with pytest.raises(OovrecError, match=rf"config\.json: describes a model with {told}, which .*; give a checkpoint"):
        new(folder, entities)


@pytest.mark.parametrize("lora", [None, {"rank": 3, "alpha": 6}])
def test_mt5_reads_and_writes_as_its_stock_model(
    lora: dict[str, int] | None, entities: Entities, chains: Dataset, some: Histories, tmp_path: Path
) -> None:
    """Its tables are two and unscaled, whatever its config says of tying them."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64, "feed_forward_proj": "gated-gelu"}
    network = MT5ForConditionalGeneration(MT5Config(vocab_size=540, decoder_start_token_id=0, **sizes))
    network.lm_head.weight = torch.nn.Parameter(torch.empty_like(network.shared.weight))
    scatter(network)
    network.save_pretrained(tmp_path / "backbone")
    own_tokenizer(["what follows these items?"], causal=False).save_pretrained(tmp_path / "backbone")
    model = T5(T5.Config(backbone=str(tmp_path / "backbone"), alpha=0.7, history=6, lora=lora), entities)
    assert torch.equal(
        model.module.output.whole()[: model.vocabulary.someone], network.lm_head.weight[: model.vocabulary.someone]
    )
    for trained in (False, True):
        if trained:
            model.fit(
                chains, TrainingConfig(epochs=1, max_steps=3, learning_rate=0.01, batch_size=32, validation_users=5)
            )
        model.save(tmp_path / f"run-{trained}")
        torch.testing.assert_close(load(tmp_path / f"run-{trained}").scores(some), model.scores(some))
        model.module.plain().save_pretrained(tmp_path / f"plain-{trained}")
        plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / f"plain-{trained}").eval()
        assert isinstance(plain, MT5ForConditionalGeneration)
        ours = model.scores(some)
        for row, (items, user) in enumerate(zip(some, some.users, strict=True)):
            wanted = written_scores(plain, model, items, int(user))
            torch.testing.assert_close(ours[row], wanted, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def written_scores(plain: PreTrainedModel, model: T5, items: np.ndarray, user: int) -> Tensor:
    """As :func:`stock_scores`, of a model that reads by its encoder and writes by its decoder."""
    codes, prompt = torch.from_numpy(model.vocabulary.items), torch.from_numpy(model.prompt(items, user))
    begun = torch.cat([torch.zeros(len(codes), 1, dtype=torch.long), codes[:, :1]], dim=1)
    return among_legal(plain(input_ids=prompt.expand(len(codes), -1), decoder_input_ids=begun).logits, codes)


def test_answers_that_the_window_of_some_layers_does_not_hold_are_refused(
    kind: type[PreTrainedModel], backbone: Path, entities: Entities, tmp_path: Path
) -> None:
    """Of a prompt that it holds: seven tokens, and one of the answer's two to be read."""
    if kind.config_class.model_type in ("gemma3_text", "mistral", "phi3"):  # the others have none
        model = new(edited(backbone, tmp_path / "it", {"sliding_window": 7}), entities)
        model.scores(Histories.of([[1, 2]], [0]))
        with pytest.raises(OovrecError, match=r"take 8 tokens, and the pretrained model looks back 7; lower it"):
            model.scores(Histories.of([[1, 2, 3]], [0]))
