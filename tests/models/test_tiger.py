"""TIGER's prompts by hand; its network is T5's, which is tested beside it."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.base import configured, load
from oovrec.models.entities import Entities
from oovrec.models.generative.samples import Training
from oovrec.models.generative.tiger import Tiger
from oovrec.tokens.table import Tokens, TokenTable


@pytest.fixture(scope="module")
def model(chains: Dataset) -> Tiger:
    """Items of four codes, or of three: the last tells apart only where it has to."""
    names = [(f"<SA{n % 5}>", f"<SB{n // 5 % 4}>", f"<SC{n % 3}>", *([f"<SD{n}>"] if n % 2 else [])) for n in range(40)]
    tokens = Tokens(TokenTable.of(chains.items, names), None, "semantic", "train", 0)
    return Tiger(Tiger.Config(shape="debug", history=3, users=7), Entities.of(chains, tokens))


def test_a_prompt_is_the_user_the_codes_and_an_end(model: Tiger) -> None:
    histories = Histories.of([[1, 2, 3, 4], [], [5], [6, 7]], users=[3, 8, -1, 0])
    number = [crc32(name.encode()) % 7 for name in ("u3", "u8", "u0")]
    item = model.entities.tokens.items.text
    texts = [
        f"<H{number[0]}>{item(2)}{item(3)}{item(4)}</s>",
        f"<H{number[1]}></s>",
        f"<user>{item(5)}</s>",
        f"<H{number[2]}>{item(6)}{item(7)}</s>",
    ]
    encode = model.vocabulary.tokenizer
    wanted = [encode(text, add_special_tokens=False)["input_ids"] for text in texts]
    prompts = model.prompts(histories)
    assert prompts.lengths.tolist() == [len(ids) for ids in wanted]
    assert prompts.ids.tolist() == np.concatenate(wanted).tolist()


def test_training_prompts_end_before_their_targets(model: Tiger, chains: Dataset) -> None:
    given = Training.of(chains)
    (samples,) = model.samples(given, 10_000, np.random.default_rng(0))
    prompts, training = model.training_prompts(given, samples), given.histories
    assert len(samples) == (training.lengths - 1).clip(0).sum()  # every item with a past, no other task
    ends = np.cumsum(prompts.lengths)
    for place in (0, 17, len(samples) - 1):
        row, where = samples.rows[place], samples.where[place]
        past = training.items[training.indptr[row] : where]
        ids = prompts.ids[ends[place] - prompts.lengths[place] : ends[place]]
        assert ids.tolist() == model.prompt(past, int(samples.users[place])).tolist()


def test_users_share_few_tokens_and_keep_them_when_loaded(model: Tiger, tmp_path: Path) -> None:
    histories = Histories.of([[1, 2]] * 100, users=range(100))
    assert len(np.unique(model.prompts(histories).ids.reshape(100, -1)[:, 0])) == 7
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, Tiger)
    assert len(loaded.vocabulary) == len(model.vocabulary)
    assert loaded.prompts(histories).ids.tolist() == model.prompts(histories).ids.tolist()


def test_without_tokens_for_users_prompts_differ_by_items_alone(model: Tiger) -> None:
    nobody = Tiger(Tiger.Config(shape="debug", history=3, users=0), model.entities)
    assert len(nobody.vocabulary) == len(model.vocabulary) - 7
    prompts = nobody.prompts(Histories.of([[1, 2], [1, 2], []], users=[3, -1, 5]))
    first, second, third = np.split(prompts.ids, np.cumsum(prompts.lengths)[:-1])
    assert first.tolist() == second.tolist()
    text = f"<user>{model.entities.tokens.items.text(1)}{model.entities.tokens.items.text(2)}</s>"
    assert first.tolist() == nobody.vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(third) == 2


def test_there_are_no_words_to_set() -> None:
    with pytest.raises(OovrecError, match=r"model\.templates: input should be 'en', not 'fr'"):
        configured("tiger", {"templates": "fr"})
    with pytest.raises(OovrecError, match=r"model\.tasks: TIGER learns the sequential task alone; leave it out\."):
        configured("tiger", {"tasks": {"direct": 0.2}})


@pytest.mark.parametrize(("rate", "alike"), [(0.0, True), (0.5, False), (None, False)])
def test_dropout_is_the_option_or_the_stock_rate(
    model: Tiger, chains: Dataset, rate: float | None, alike: bool
) -> None:
    """Where nothing is dropped, two readings of a batch in training give the same loss."""
    config = Tiger.Config(shape="debug", history=3, users=7, dropout=rate)
    drops = Tiger(config, model.entities)
    (batch,) = drops.epoch(chains, 10_000, np.random.default_rng(0))
    drops.module.train()
    losses = [drops.module(**batch()).item() for _ in range(2)]
    assert (losses[0] == losses[1]) == alike
