"""LLaMA and T5 recommenders against the stock transformers path, token by token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, T5ForConditionalGeneration
from transformers.utils import logging

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.decoding.beam import beam_search
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama, LlamaOptions
from oovrec.models.generative.t5 import T5
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, USERS = 13, 5


@pytest.fixture
def entities() -> Entities:
    rng = np.random.default_rng(0)
    centroids = {f"<CI{n}>": rng.normal(size=6) for n in range(4)}
    tuples = [(f"<CI{n % 4}>", f"<I{1001 + n // 4}>") for n in range(ITEMS)]
    items = TokenTable.of([f"i{n}" for n in range(ITEMS)], tuples, centroids)
    users = TokenTable.of(
        [f"u{n}" for n in range(USERS)], [(f"<CU{n % 2}>", f"<U{1001 + n // 2}>") for n in range(USERS)]
    )
    return Entities(items.ids, users.ids, None, Tokens(items, users, "meta", "train", 0))


@pytest.fixture(params=["llama-history", "llama-user", "llama-prompt", "t5"])
def model(request: pytest.FixtureRequest, entities: Entities) -> GenerativeRecommender:
    torch.manual_seed(0)
    if request.param == "t5":
        made: GenerativeRecommender = T5(T5.Config(shape="debug", alpha=0.7), entities)
    else:
        options = {"llama-prompt": {"form": "prompt"}, "llama-user": {"user": True, "unknown_users": 0}}
        made = Llama(LlamaOptions(shape="debug", alpha=0.7, **options.get(request.param, {})), entities)
    for parameter in made.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.3)
    made.module.eval()
    return made


def histories() -> Histories:
    return Histories.of([[1, 2, 3], [4], [7, 7, 1, 0, 12, 5], []], users=[0, 3, -1, 2])


def stock(model: GenerativeRecommender) -> torch.nn.Module:
    """The plain transformers model with the augmentation merged into its table."""
    state = {name: value for name, value in model.module.state_dict().items() if not name.startswith("embedding")}
    table = model.module.embedding.whole().detach()
    if isinstance(model, Llama):
        plain = LlamaForCausalLM(model.backbone_config)
        state = {name.replace("body", "model"): value for name, value in state.items()}
        state |= {"model.embed_tokens.weight": table, "lm_head.weight": table}
    else:
        plain = T5ForConditionalGeneration(model.backbone_config)
        state |= {
            name: table
            for name in plain.state_dict()
            if name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight"))
        }
    plain.load_state_dict(state)
    return plain.eval()


def stock_scores(model: GenerativeRecommender, items: np.ndarray, user: int) -> np.ndarray:
    """Log-probability of each item, one item a row through the stock model, normalised over legal tokens."""
    codes = torch.from_numpy(model.vocabulary.items)
    plain = stock(model)
    if isinstance(model, Llama):
        prompt = torch.from_numpy(model.prompt(items, user)).expand(ITEMS, -1)
        logits = plain(torch.cat([prompt, codes], dim=1)).logits[:, -3:-1]
    else:
        prompt = torch.from_numpy(model.prompt(items, user)).expand(ITEMS, -1)
        start = torch.full((ITEMS, 1), plain.config.decoder_start_token_id)
        logits = plain(input_ids=prompt, decoder_input_ids=torch.cat([start, codes[:, :1]], dim=1)).logits
    first = logits[:, 0].masked_fill(~torch.isin(torch.arange(logits.shape[2]), codes[:, 0]), -torch.inf)
    scores = first.log_softmax(1).gather(1, codes[:, :1])[:, 0]
    for item in range(ITEMS):
        siblings = codes[codes[:, 0] == codes[item, 0], 1]
        scores[item] += logits[item, 1, codes[item, 1]] - logits[item, 1, siblings].logsumexp(0)
    return scores.detach().numpy()


def test_scores_equal_the_stock_model_item_by_item(model: GenerativeRecommender) -> None:
    batch = histories()
    ours = model.scores(batch).numpy()
    for row, (items, user) in enumerate(zip(batch, batch.users, strict=True)):
        np.testing.assert_allclose(ours[row], stock_scores(model, items, int(user)), atol=2e-4)


@torch.no_grad()
def test_beam_of_catalogue_width_equals_scores(model: GenerativeRecommender) -> None:
    exact = model.scores(histories())
    items, scores = beam_search(model.read(histories()), model.trie, ITEMS)
    torch.testing.assert_close(exact.gather(1, items), scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores, exact.sort(dim=1, descending=True).values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("steps", [0, 15])
def test_recommend_is_the_best_of_all_scores(model: GenerativeRecommender, mask_seen: bool, steps: int) -> None:
    """Against the base class's way, on random weights and on weights that have learnt a little."""
    optimiser = torch.optim.AdamW(model.module.parameters(), lr=1e-2)
    for _, batch in zip(range(steps), model.epoch(dataset(), 4, np.random.default_rng(0)) * steps, strict=False):
        model.module(**batch()).backward()
        optimiser.step()
        optimiser.zero_grad()
    wanted = super(GenerativeRecommender, model)._best(histories(), 5, mask_seen)
    ours = model.recommend(histories(), 5, mask_seen=mask_seen)
    np.testing.assert_allclose(ours.scores, wanted.scores, atol=1e-4)
    assert ours.items.tolist() == wanted.items.tolist()


@pytest.mark.parametrize("scored", [1, 4, 50])
def test_scores_of_the_best_alone_give_the_same_lists(model: GenerativeRecommender, scored: int) -> None:
    """With the seen items and without; whatever is in neither list is at -inf."""
    whole = model.scores(histories())
    model.config = model.config.model_copy(update={"scored": scored})
    ours = model.scores(histories())
    masked = whole.clone()
    for row, items in enumerate(histories()):
        masked[row, items] = -torch.inf
    lists = [table.topk(min(scored, ITEMS), dim=1) for table in (whole, masked)]
    wanted = torch.zeros_like(whole, dtype=torch.bool)
    for best in lists[::-1]:
        wanted.scatter_(1, best.indices, best.values > -torch.inf)
    torch.testing.assert_close(ours, whole.masked_fill(~wanted, -torch.inf), atol=1e-4, rtol=1e-4)


def dataset() -> Dataset:
    full = Histories.of(
        [[1, 2, 3, 4], [5, 6, 7], [0, 8, 9, 10, 11, 12, 1, 2], [3, 4, 5], [6, 1, 2, 0]], users=range(USERS)
    )
    return Dataset("small", [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)], full)


def test_training_loss_is_the_mean_of_the_scores_it_trains(model: GenerativeRecommender) -> None:
    """The loss of a batch, recomputed target by target with :meth:`scores` from what precedes each target."""
    model.module.embedding.table.weight.data[model.vocabulary.someone] *= 0  # prompts differ by user drop-out only
    batches = model.epoch(dataset(), 4, np.random.default_rng(3))
    with torch.no_grad():
        losses = [model.module(**batch()) for batch in batches]
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses)
    if isinstance(model, Llama) and model.config.form == "history":
        training = dataset().histories("train")
        expected = 0.0
        for history, user in zip(training, training.users, strict=True):
            for position, item in enumerate(history):
                expected -= float(model.scores(Histories.of([history[:position]], users=[user]))[0, item])
        mean = len(training.items) / len(batches)
        assert sum(map(float, losses)) * mean == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_what_follows_a_whole_history_is_learnt_as_it_is_asked(entities: Entities, length: int) -> None:
    """The longest prompt of training has as many items before its target as a prompt of a long history."""
    model = Llama(LlamaOptions(shape="debug", history=length), entities)
    asked = model.prompts(Histories.of([range(ITEMS)])).lengths[0]
    batches = [make() for seed in range(10) for make in model.epoch(dataset(), 40, np.random.default_rng(seed))]
    read = max(int((batch["where"][:, 0] % batch["groups"][0].shape[1]).max()) for batch in batches)
    assert read + 1 == asked == 1 + 2 * length


def test_residual_dropout_is_on_what_the_parts_of_the_body_add_and_in_training_alone(entities: Entities) -> None:
    model = Llama(LlamaOptions(shape="debug", dropout=0, residual_dropout=0.25), entities)
    (batch, *_) = [make() for make in model.epoch(dataset(), 40, np.random.default_rng(0))]
    added: list[torch.Tensor] = []
    for layer in model.module.body.layers:
        for part in (layer.self_attn, layer.mlp):
            part.register_forward_hook(lambda *call: added.append(first_of(call[2]).detach()))
    with torch.no_grad():
        model.module.eval()(**batch)
        plain = added.copy()
        added.clear()
        model.module.train()(**batch)
    assert len(plain) == len(added) == 2 * len(model.module.body.layers)
    assert all((one != 0).all() for one in plain)
    dropped = torch.cat([(one == 0).flatten() for one in added]).float().mean()
    assert dropped == pytest.approx(0.25, abs=0.03)
    first, kept = plain[0], added[0] != 0  # what later parts add depends on what was dropped before them
    torch.testing.assert_close(added[0][kept], (first / 0.75)[kept])


def first_of(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What a part adds to the states; attention has more outputs."""
    return output[0] if isinstance(output, tuple) else output


def test_the_history_form_names_users_where_wanted(entities: Entities) -> None:
    """Told token by token: ``<s>``, who it is, the items; in training some are nobody in particular."""
    model = Llama(LlamaOptions(shape="debug", user=True, unknown_users=0.5), entities)
    assert entities.tokens is not None
    assert entities.tokens.users is not None
    expected = [
        ["<s>", *(entities.tokens.users.words(user) if user >= 0 else ["<user>"])]
        + [token for item in items for token in entities.tokens.items.words(item)]
        for items, user in zip(histories(), [0, 3, -1, 2], strict=True)
    ]
    prompts = model.prompts(histories())
    parts = np.split(prompts.ids, np.cumsum(prompts.lengths)[:-1])
    assert [model.vocabulary.tokenizer.convert_ids_to_tokens(ids) for ids in parts] == expected
    batches = [batch() for batch in model.epoch(dataset(), 4, np.random.default_rng(3))]
    rows = torch.cat([ids[:, 1] for batch in batches for ids in batch["groups"]])
    assert 0 < (rows == model.vocabulary.someone).sum() < len(rows)


def test_where_no_prompt_names_a_user_the_vocabulary_has_no_tokens_for_them(model: GenerativeRecommender) -> None:
    known = set(model.vocabulary.tokenizer.get_vocab())
    named = model.prompt(np.array([1]), 0).tolist() != model.prompt(np.array([1]), -1).tolist()
    assert ({"<CU0>", "<CU1>"} <= known) == named
    assert not named or "<U1003>" in known


def test_a_saved_checkpoint_serves_as_backbone(entities: Entities, tmp_path: object) -> None:
    """The real loading code of ``model.backbone``, on a small checkpoint: its weights arrive."""
    for system, options in ((Llama, {"form": "prompt"}), (T5, {})):
        torch.manual_seed(1)
        folder = tmp_path / system.name  # type: ignore[operator]
        source = system(system.Config(shape="debug", augmentation="none", **options), entities)
        plain = stock(source)
        plain.save_pretrained(folder)
        source.vocabulary.tokenizer.save_pretrained(folder)
        loaded = system(system.Config(backbone=str(folder), augmentation="none", **options), entities)
        torch.testing.assert_close(loaded.scores(histories()), source.scores(histories()), atol=1e-4, rtol=1e-4)


def test_of_how_new_rows_begin_nobody_is_told(
    entities: Entities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Llama(Llama.Config(shape="debug", augmentation="none", form="prompt"), entities)
    stock(source).save_pretrained(tmp_path)
    source.vocabulary.tokenizer.save_pretrained(tmp_path)
    before, own, seen = logging.get_verbosity(), LlamaForCausalLM.resize_token_embeddings, []

    def resize(network: LlamaForCausalLM, *sizes: int) -> object:
        seen.append(logging.get_verbosity())
        return own(network, *sizes)

    monkeypatch.setattr(LlamaForCausalLM, "resize_token_embeddings", resize)
    Llama(Llama.Config(backbone=str(tmp_path), augmentation="none", form="prompt"), entities)
    assert (seen, logging.get_verbosity()) == ([logging.ERROR], before)


def test_an_untied_t5_checkpoint_keeps_its_output_layer(entities: Entities, tmp_path: Path) -> None:
    """As T5 v1.1 and Flan-T5 come: tables of their own for input and output, and no scaling between."""
    torch.manual_seed(1)
    source = T5(T5.Config(shape="debug", augmentation="none"), entities)
    plain = stock(source)
    plain.lm_head.weight = torch.nn.Parameter(torch.randn_like(plain.shared.weight))
    plain.save_pretrained(tmp_path / "backbone")
    config = json.loads((tmp_path / "backbone/config.json").read_text())
    del config["scale_decoder_outputs"]
    (tmp_path / "backbone/config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    source.vocabulary.tokenizer.save_pretrained(tmp_path / "backbone")
    model = T5(T5.Config(backbone=str(tmp_path / "backbone"), augmentation="none"), entities)
    assert torch.equal(model.module.head.table.weight, plain.lm_head.weight)
    plain.config.scale_decoder_outputs = False
    ids = torch.from_numpy(model.prompt(np.array([1, 2]), 0))[None]
    logits = plain(input_ids=ids, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
    clusters = torch.unique(torch.from_numpy(model.vocabulary.items[:, 0]))
    stepper = model.read(Histories.of([[1, 2]], users=[0]))
    torch.testing.assert_close((stepper.root() @ stepper.rows(clusters).T)[0], logits[clusters], atol=1e-4, rtol=1e-4)
    model.save(tmp_path / "run")
    loaded = load(tmp_path / "run")
    assert torch.equal(loaded.scores(histories()), model.scores(histories()))


def test_answers_are_given_without_dropout_whatever_the_module_was_doing(model: GenerativeRecommender) -> None:
    scores, lists = model.scores(histories()), model.recommend(histories(), 5)
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.5
    model.module.train()
    torch.testing.assert_close(model.scores(histories()), scores)
    model.module.train()
    np.testing.assert_allclose(model.recommend(histories(), 5).scores, lists.scores, rtol=1e-5)


@torch.no_grad()
def test_some_of_the_prompts_go_on_as_if_they_had_been_read_alone(model: GenerativeRecommender) -> None:
    paths = torch.from_numpy(model.vocabulary.items[None, :5])
    for rows in (np.array([2, 0, 3, 1]), np.array([3, 0])):
        part, alone = model.read(histories()).take(torch.from_numpy(rows)), model.read(histories().take(rows))
        torch.testing.assert_close(part.root(), alone.root(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(part.extend(paths), alone.extend(paths), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2])
def test_paths_that_are_none_leave_the_others_as_they_are(model: GenerativeRecommender, depth: int) -> None:
    """Each prompt asks about paths of its own, some about fewer, one about none; a prompt alone asks about them all."""
    codes = torch.from_numpy(model.vocabulary.items[:, :depth])
    paths = codes[torch.tensor([[0, 5, 9], [3, 1, 1], [7, 2, 4], [8, 6, 0]])]
    asked = torch.tensor([[True, True, False], [False, False, True], [False] * 3, [True] * 3])
    stepper = model.read(histories())
    found = stepper.extend(paths.masked_fill(~asked[..., None], -1))
    for row, some in enumerate(asked):
        alone = model.read(histories().take([row])).extend(paths[row][None])
        torch.testing.assert_close(found[row][some], alone[0][some], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stepper.extend(paths)[asked], found[asked], atol=1e-4, rtol=1e-4)
