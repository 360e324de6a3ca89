"""Loss and gradients of every weight against the stock transformers models on one padded batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.entities import Entities
from oovrec.models.generative import attention, llama, t5, t5_layers
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.t5 import T5
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, USERS, IGNORED = 23, 30, -100


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(5)
    full = Histories.of([rng.integers(ITEMS, size=rng.integers(3, 12)) for _ in range(USERS)], range(USERS))
    return Dataset("small", [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)], full)


@pytest.fixture(scope="module")
def entities(dataset: Dataset) -> Entities:
    """Ids of one, two and three tokens, clusters of different sizes, centroids."""
    names = [(f"<CI{n % 5}>", f"<I{1001 + n // 5}>", *([f"<D{n % 2}>"] if n % 3 else [])) for n in range(ITEMS)]
    centroids = {f"<CI{n}>": np.random.default_rng(n).normal(size=6) for n in range(5)}
    items = TokenTable.of(dataset.items, names, centroids)
    users = TokenTable.of(dataset.users, [(f"<CU{n % 2}>", f"<U{1001 + n // 2}>") for n in range(USERS)])
    return Entities.of(dataset, Tokens(items, users, "meta", "train", 0))


@dataclass
class Case:
    """A system, its options, and changes of its backbone's architecture."""

    system: type[GenerativeRecommender]
    options: dict[str, Any]
    architecture: dict[str, Any]

    def __str__(self) -> str:
        options = {**self.options, **self.architecture}
        return "-".join([self.system.name, *(f"{key}={value}" for key, value in options.items())])


def cases() -> Iterator[Case]:
    for loss in ("full", "restricted"):
        for tied in (True, False):
            for augments in ("", "input", "output", "both"):
                kind = {"augmentation": "linear", "augments": augments} if augments else {"augmentation": "none"}
                options, architecture = {"loss": loss, "alpha": 0.7, **kind}, {"tie_word_embeddings": tied}
                yield Case(T5, options, architecture)
                for form in ("prompt", "history"):
                    yield Case(Llama, {**options, "form": form}, architecture)
    yield Case(T5, {"loss": "full"}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_kv": 24})


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_loss_and_gradients_equal_the_stock_model(
    case: Case, dataset: Dataset, entities: Entities, monkeypatch: pytest.MonkeyPatch
) -> None:
    for system in (llama, t5):
        monkeypatch.setitem(system.GROUP_COST, "cpu", 6)  # several groups, with filling in some
    monkeypatch.setitem(case.system.shapes, "debug", {**case.system.shapes["debug"], **case.architecture})
    torch.manual_seed(0)
    model = case.system(case.system.Config(shape="debug", **case.options), entities)
    for parameter in model.module.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.module.eval()  # no dropout
    batch = model.epoch(dataset, 24, np.random.default_rng(1))[0]()
    groups = batch["prompts" if case.system is T5 else "groups"]
    if case.options.get("form") != "history":
        assert len(groups) > 2
        assert any((ids == model.vocabulary.pad).any() for ids in groups)

    model.module(**batch).backward()
    plain = stock(model)
    loss = (t5_loss if isinstance(model, T5) else llama_loss)(model, plain, batch)
    loss.backward()
    ours = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    for name, gradient in expected_gradients(model, plain).items():
        scale = gradient.abs().max().clamp_min(1e-3)
        assert (ours.pop(name) - gradient).abs().max() < 1e-5 * scale, name
    assert not ours
    torch.testing.assert_close(model.module(**batch), loss, rtol=1e-5, atol=0)


def stock(model: GenerativeRecommender) -> nn.Module:
    """The plain model with the same weights, the augmentation in its tables."""
    plain = (T5ForConditionalGeneration if isinstance(model, T5) else LlamaForCausalLM)(model.backbone_config)
    state = {name.replace("body", "model"): tensor for name, tensor in model.module.state_dict().items()}
    output = "head" if model.module.head is not None else "embedding"
    if output == "head" or not both_sides(model):  # the stock T5 ties its tables unless a checkpoint has both
        plain.lm_head.weight = nn.Parameter(augmented(model, output, "output"))
    tables = ("embedding.", "head.")
    missing = plain.load_state_dict({k: v for k, v in state.items() if not k.startswith(tables)}, strict=False)
    assert not missing.unexpected_keys
    plain.get_input_embeddings().weight.data.copy_(augmented(model, "embedding", "input"))
    return plain.eval()


def sides(model: GenerativeRecommender) -> tuple[str, ...]:
    """Where the augmentation is."""
    config = model.config
    both = ("input", "output") if config.augments == "both" else (config.augments,)
    return () if config.augmentation == "none" else both


def both_sides(model: GenerativeRecommender) -> bool:
    return len(sides(model)) != 1


def augmented(model: GenerativeRecommender, table: str, side: str) -> Tensor:
    """``[size, d]`` rows of a table, the formula by hand."""
    state = model.module.state_dict()
    rows = state[f"{table}.table.weight"].clone()
    if side in sides(model):
        rows += model.config.alpha * torch.from_numpy(model.vocabulary.centroids) @ state[f"{table}.project.weight"].T
    return rows


def expected_gradients(model: GenerativeRecommender, plain: nn.Module) -> dict[str, Tensor]:
    """The stock gradients under our names; a table's goes to table and augmentation by the chain rule."""
    tables = {"input": plain.get_input_embeddings().weight, "output": plain.get_output_embeddings().weight}
    if tables["input"] is tables["output"]:
        del tables["output"]
    named: dict[str, Tensor] = {}
    for side, weight in tables.items():
        ours = "head" if side == "output" and model.module.head is not None else "embedding"
        found = {f"{ours}.table.weight": weight.grad}
        if side in sides(model):
            centroids = torch.from_numpy(model.vocabulary.centroids)
            found[f"{ours}.project.weight"] = model.config.alpha * weight.grad.T @ centroids
        for name, gradient in found.items():  # of one table on both sides: the sum
            named[name] = named.get(name, torch.zeros(())) + gradient
    for name, parameter in plain.named_parameters():
        if not any(parameter is weight for weight in tables.values()):
            named[name.replace("model.", "body.")] = parameter.grad
    return named


def rows_of(groups: list[Tensor], lengths: list[int]) -> list[Tensor]:
    """The sequences of groups, without filling."""
    filled = [row for ids in groups for row in ids]
    return [row[:length] for row, length in zip(filled, lengths, strict=True)]


def t5_loss(model: GenerativeRecommender, plain: nn.Module, batch: dict[str, Any]) -> Tensor:
    prompts = rows_of(batch["prompts"], batch["lengths"].tolist())
    ids = nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=model.vocabulary.pad)
    mask = torch.arange(ids.shape[1]) < batch["lengths"][:, None]
    targets = model.trie.paths(batch["nodes"][:, -1], model.trie.depth)
    output = plain(input_ids=ids, attention_mask=mask, labels=targets)
    if model.config.loss == "full":
        return output.loss * targets.shape[1]  # ours is a mean over items, the stock's over tokens
    return legal_loss(model, output.logits, targets) / len(targets)


def llama_loss(model: GenerativeRecommender, plain: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The stock's own shifted labels: every target's tokens, in one padded batch."""
    depth, pad = model.trie.depth, model.vocabulary.pad
    targets = model.trie.paths(batch["nodes"][:, -1], depth)
    sizes = [ids.numel() for ids in batch["groups"]]
    flat = [torch.full((size,), IGNORED) for size in sizes]
    labels = torch.cat(flat)
    labels[batch["where"]] = targets  # what is to be predicted at each place
    rows, wanted = [], []
    for ids, label in zip(batch["groups"], labels.split(sizes), strict=True):
        for row, predicted in zip(ids, label.view(ids.shape), strict=True):
            last = int(predicted.ne(IGNORED).nonzero().max())
            rows.append(torch.cat([row[: last + 1], predicted[last:][:1]]))
            wanted.append(torch.cat([torch.tensor([IGNORED]), predicted[: last + 1]]))
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    labels = nn.utils.rnn.pad_sequence(wanted, batch_first=True, padding_value=IGNORED)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
    output = plain(input_ids=ids, attention_mask=mask, labels=labels)
    count = int(labels.ne(IGNORED).sum())
    assert count == targets.numel()
    if model.config.loss == "full":
        return output.loss * count / batch["scale"]
    places = labels[:, 1:].ne(IGNORED)
    tokens = labels[:, 1:][places].view(-1, depth)
    return legal_loss(model, output.logits[:, :-1][places].view(len(tokens), depth, -1), tokens) / batch["scale"]


def legal_loss(model: GenerativeRecommender, logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-probabilities with every token masked that no item has after the same beginning."""
    known = [tuple(codes) for codes in model.vocabulary.items.tolist()]
    total = logits.new_zeros(())
    for row, path in zip(logits, targets.tolist(), strict=True):
        for depth, token in enumerate(path):
            allowed = sorted({codes[depth] for codes in known if codes[:depth] == tuple(path[:depth])})
            total = total + F.cross_entropy(row[depth, allowed], torch.tensor(allowed.index(token)))
    return total


def less(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In place of dropout: all numbers by as much smaller as it would drop of them."""
    return x * (1 - p) if training else x


class Less:
    """The like in place of a mask."""

    def __init__(self, shape: torch.Size, rate: float, device: torch.device) -> None:
        self.rate = rate

    def apply_(self, x: Tensor) -> Tensor:
        return x.mul_(1 - self.rate)


@pytest.mark.parametrize("system", [T5, Llama])
def test_training_drops_what_the_stock_t5_drops_and_of_llama_the_inputs(
    system: type[GenerativeRecommender], dataset: Dataset, entities: Entities, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, other in ((F, "dropout", less), (t5_layers, "dropout", less), (llama, "dropout", less)):
        monkeypatch.setattr(module, name, other)
    monkeypatch.setattr(attention, "Mask", Less)
    torch.manual_seed(0)
    options = {"shape": "debug", "augmentation": "none", "loss": "full", "dropout": 0.3}
    model = system(system.Config(**options), entities)
    for parameter in model.module.parameters():
        nn.init.normal_(parameter, std=0.2)
    batch, plain = model.epoch(dataset, 24, np.random.default_rng(1))[0](), stock(model).train()
    plain.set_attn_implementation("eager")  # whose dropout is that of F
    if system is Llama:  # whose stock has no dropout
        plain.get_input_embeddings().register_forward_hook(lambda *call: less(call[2], 0.3))
    ours = model.module.train()(**batch)
    loss = (t5_loss if system is T5 else llama_loss)(model, plain, batch)
    torch.testing.assert_close(ours, loss, rtol=1e-5, atol=0)
    ours.backward()
    loss.backward()
    for name, gradient in expected_gradients(model, plain).items():
        torch.testing.assert_close(model.module.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-5)


def test_position_biases_are_those_of_the_stock_attention(entities: Entities) -> None:
    """At any distance, in the encoder both ways."""
    place, network = torch.arange(200), T5(T5.Config(shape="debug"), entities).module
    for stack in (network.encoder, network.decoder):
        bias = stack.block[0].layer[0].SelfAttention
        nn.init.normal_(bias.relative_attention_bias.weight)
        ours = t5_layers.position_bias(bias, place[None] - place[:, None])
        assert torch.equal(ours, bias.compute_bias(200, 200))
