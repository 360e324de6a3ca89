"""CoVE's prompts against the text they stand for, and what its loss is made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.tokenizer import SOMETHING, own_tokenizer
from oovrec.models.base import configured
from oovrec.models.entities import Entities
from oovrec.models.generative import llama
from oovrec.models.generative.cove import Cove
from oovrec.tokens.build import build_tokens
from oovrec.tokens.table import Tokens

TITLES = ["Kolya  (1996)", "", "L.A. Confidential", "Déjà vu: 2", "ab  " * 25]
HISTORIES = Histories.of([[1, 2, 3, 4, 5], [], [0], [9, 8]], users=[3, 8, -1, 0])


@pytest.fixture(scope="module")
def titled(chains: Dataset) -> Dataset:
    return dataclasses.replace(chains, titles=[TITLES[n % 5] + f" {n}" * (n % 4 > 0) for n in range(40)])


@pytest.fixture(scope="module", params=["independent", "random"])
def tokens(request: pytest.FixtureRequest, titled: Dataset) -> Tokens:
    """One token an item, as in the paper, and two."""
    return build_tokens(titled, request.param)


@pytest.fixture
def model(titled: Dataset, tokens: Tokens) -> Cove:
    torch.manual_seed(0)
    made = Cove(Cove.Config(shape="debug", history=4, title=30), Entities.of(titled, tokens))
    for parameter in made.module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.module.eval()
    return made


def written(model: Cove, items: np.ndarray) -> str:
    """The opening, then each item's token and title."""
    name, titles, length = model.entities.tokens.items.text, model.entities.titles, model.config.title
    told = "".join(f"{name(n)}: {' '.join(titles[n].split())[:length]}\n" for n in items.tolist())
    return model.config.opening + told


def check_prompts(model: Cove) -> None:
    wanted = model.vocabulary.tokenizer([written(model, items[-4:]) for items in HISTORIES])["input_ids"]
    prompts = model.prompts(HISTORIES)
    assert prompts.lengths.tolist() == [len(ids) for ids in wanted]
    assert prompts.ids.tolist() == np.concatenate(wanted).tolist()


def test_prompts_are_the_encoded_text(model: Cove) -> None:
    check_prompts(model)


@pytest.mark.parametrize("options", [{"opening": "Films, oldest first:\n"}, {"opening": ""}, {"title": 0}])
def test_the_opening_and_the_length_of_titles_can_be_set(
    titled: Dataset, tokens: Tokens, options: dict[str, Any]
) -> None:
    check_prompts(Cove(Cove.Config(shape="debug", history=4, **options), Entities.of(titled, tokens)))


def test_a_title_is_words_whatever_it_looks_like(titled: Dataset, tokens: Tokens) -> None:
    """Such as the end of a text, what fills a batch up, or another item."""
    name = tokens.items.text(3)
    titles = [f"One </s> <pad> {name} <item> x<y", *titled.titles[1:]]
    entities = Entities.of(dataclasses.replace(titled, titles=titles), tokens)
    model = Cove(Cove.Config(shape="debug", history=4, title=90), entities)
    ids = model.prompts(Histories.of([[0]])).ids
    words = model.vocabulary.tokenizer
    body = ids[len(words(model.config.opening)["input_ids"]) :]
    assert body[: tokens.items.depth].tolist() == model.vocabulary.items[0].tolist()
    told = body[tokens.items.depth :]
    assert not {*words.all_special_ids, *model.vocabulary.items.ravel().tolist()} & set(told.tolist())
    assert words.decode(told).strip() == f": One < /s> < pad> < {name[1:]} < item> x<y".replace("><", ">< ")


def test_an_opening_may_have_the_word_for_an_item(titled: Dataset, tokens: Tokens) -> None:
    options = {"shape": "debug", "history": 4, "opening": f"Each {SOMETHING} was chosen:\n"}
    check_prompts(Cove(Cove.Config(**options), Entities.of(titled, tokens)))


def test_what_predicts_the_first_item_where_a_text_begins_with_nothing(
    titled: Dataset, tokens: Tokens, tmp_path: Path
) -> None:
    """No opening, and a tokenizer that writes nothing before a text, as Qwen's: a position of its own."""
    words = own_tokenizer(["text"], causal=True)
    words.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    words.save_pretrained(tmp_path)
    model = Cove(Cove.Config(shape="debug", opening="", vocabulary=str(tmp_path)), Entities.of(titled, tokens))
    (batch,) = model.epoch(titled, 10_000, np.random.default_rng(3))
    where = batch()["where"]
    assert where.min() >= 0
    assert where.unique().numel() == where.numel()
    prompts = model.prompts(HISTORIES)
    first = np.cumsum(prompts.lengths) - prompts.lengths
    assert set(prompts.ids[first].tolist()) == {model.vocabulary.start}


@pytest.fixture(scope="module")
def pretrained(titled: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose tokenizer, as Llama 2's, writes a space before the first word of a text and of no other."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False)
    words.train_from_iterator(["What a user chose, oldest first: \n", *titled.titles], trainer)
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder = tmp_path_factory.mktemp("pretrained")
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    LlamaForCausalLM(LlamaConfig(vocab_size=words.get_vocab_size(), **sizes)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("option", ["vocabulary", "backbone"])
def test_prompts_are_in_the_words_of_a_given_vocabulary(
    titled: Dataset, tokens: Tokens, pretrained: Path, option: str
) -> None:
    options = {"shape": "debug", "history": 4, "title": 30, option: str(pretrained)}
    model = Cove(Cove.Config(**options), Entities.of(titled, tokens))
    given = PreTrainedTokenizerFast.from_pretrained(pretrained)
    assert model.vocabulary.tokenizer.tokenize("Kolya") == given.tokenize("Kolya")
    check_prompts(model)


def test_its_own_vocabulary_has_the_words_of_titles_and_opening(titled: Dataset, tokens: Tokens) -> None:
    """All but the first of each, which is read behind a space, and learnt without one."""
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list("abcdefghij"), 8)) for _ in range(5)) for _ in range(41)]
    opening, *titles = texts
    entities = Entities.of(dataclasses.replace(titled, titles=titles), tokens)
    model = Cove(Cove.Config(shape="debug", opening=f"{opening} \n"), entities)
    words = [f" {word}" for text in texts for word in text.split()[1:]]
    assert [len(model.vocabulary.tokenizer.tokenize(word)) for word in words] == [1] * len(words)


@pytest.mark.parametrize("options", [{"user": True}, {"form": "prompt"}, {"templates": "words.yaml"}])
def test_options_of_other_prompts_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OovrecError, match=next(iter(options))):
        configured("cove", options)


def test_a_window_is_read_up_to_its_newest_items_token(
    model: Cove, titled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read in vain: no token behind it, and windows of like length are in a group."""
    monkeypatch.setitem(llama.GROUP_COST, "cpu", 6)
    model.config = model.config.model_copy(update={"history": 20})  # no window is cut
    (batch,) = model.epoch(titled, 10_000, np.random.default_rng(3))
    pad, groups = model.vocabulary.pad, batch()["groups"]
    read = [[token for token in row if token != pad] for ids in groups for row in ids.tolist()]
    name = model.entities.tokens.items.text
    texts = [written(model, items[:-1]) + name(int(items[-1])) for items in titled.histories("train")]
    assert sorted(read) == sorted(ids[:-1] for ids in model.vocabulary.tokenizer(texts)["input_ids"])
    assert len(groups) > 1
    assert [len(row) for row in read] == sorted(map(len, read))


def test_the_loss_is_that_of_each_item_after_those_before_it(
    model: Cove, titled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every position of a window at once, against the whole catalogue's scores history by history."""
    monkeypatch.setitem(llama.GROUP_COST, "cpu", 6)  # several groups
    some = dataclasses.replace(titled, full=titled.full.take(slice(0, 12)), users=titled.users[:12])
    model.config = model.config.model_copy(update={"history": 20})  # no window is cut
    batches = model.epoch(some, 25, np.random.default_rng(3))
    assert len(batches) > 1
    with torch.no_grad():
        total = sum(float(model.module(**batch())) for batch in batches)
    training = some.histories("train")
    pasts = [history[:place] for history in training for place in range(len(history))]
    scores = model.scores(Histories.of(pasts))
    expected = -float(scores[torch.arange(len(pasts)), torch.from_numpy(training.items).long()].sum())
    assert total * len(pasts) / len(batches) == pytest.approx(expected, rel=1e-4)


def test_data_without_titles_is_refused(titled: Dataset, tokens: Tokens) -> None:
    for titles in (None, [" "] * 40):
        untitled = Entities.of(dataclasses.replace(titled, titles=titles), tokens)
        with pytest.raises(OovrecError, match=r"'cove' reads item titles, and this data has none; use data with"):
            Cove(Cove.Config(shape="debug"), untitled)
