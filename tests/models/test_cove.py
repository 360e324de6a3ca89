"""CoVE's prompts against the text they stand for, and what its loss is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.models.entities import Entities
from oovrec.models.generative import llama
from oovrec.models.generative.cove import Cove
from oovrec.tokens.build import build_tokens
from oovrec.tokens.table import Tokens

TITLES = ["Kolya  (1996)", "", "L.A. Confidential", "Déjà vu: 2", "a" * 90]


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


def test_prompts_are_the_encoded_text(model: Cove, titled: Dataset) -> None:
    histories = Histories.of([[1, 2, 3, 4, 5], [], [0], [9, 8]], users=[3, 8, -1, 0])
    name = model.entities.tokens.items.text
    texts = [
        model.config.opening
        + "".join(f"{name(n)}: {' '.join(titled.titles[n].split())[:30]}\n" for n in items[-4:].tolist())
        for items in histories
    ]
    wanted = model.vocabulary.tokenizer(texts)["input_ids"]
    prompts = model.prompts(histories)
    assert prompts.lengths.tolist() == [len(ids) for ids in wanted]
    assert prompts.ids.tolist() == np.concatenate(wanted).tolist()


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
