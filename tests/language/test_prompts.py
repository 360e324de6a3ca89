"""Text and integers must say the same: a prompt spliced from integers is the tokenizer's own encoding of its text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from transformers import AutoTokenizer

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.prompts import Prompter, read_templates
from oovrec.language.tokenizer import Vocabulary, extend, own_tokenizer, pretrained_tokenizer
from oovrec.tokens.table import Tokens, TokenTable

TEMPLATES = read_templates()


@pytest.fixture
def tokens() -> Tokens:
    items = TokenTable.of(
        [f"i{n}" for n in range(12)],
        [(f"<CI{n % 3}>", f"<I{1001 + n // 3}>") for n in range(12)],
        {f"<CI{n}>": np.full(4, n + 1, np.float32) for n in range(3)},
    )
    users = TokenTable.of([f"u{n}" for n in range(4)], [(f"<CU{n % 2}>", f"<U{1001 + n // 2}>") for n in range(4)])
    return Tokens(items, users, "meta", "train", 0)


@pytest.fixture(params=["own-causal", "own-t5", "genuine-t5"])
def vocabulary(request: pytest.FixtureRequest, tokens: Tokens) -> Vocabulary:
    if request.param == "genuine-t5":
        return extend(pretrained_tokenizer(request.getfixturevalue("shared") / "t5-tokenizer"), tokens)
    return extend(own_tokenizer(TEMPLATES.texts(), causal=request.param == "own-causal"), tokens)


def test_each_oov_token_is_one_id_and_reads_back(vocabulary: Vocabulary, tokens: Tokens) -> None:
    for index in range(len(tokens.items)):
        ids = vocabulary.tokenizer(tokens.items.text(index), add_special_tokens=False)["input_ids"]
        assert ids == vocabulary.items[index].tolist()
        assert vocabulary.tokenizer.decode(ids).replace(" ", "") == tokens.items.text(index)


def test_extended_tokenizer_survives_save_and_load(vocabulary: Vocabulary, tokens: Tokens, tmp_path: object) -> None:
    vocabulary.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = f"After {tokens.items.text(3)}, {tokens.items.text(5)}, what does {tokens.users.text(1)} (né Åse) want?"
    assert again(text)["input_ids"] == vocabulary.tokenizer(text)["input_ids"]
    assert len(again) == len(vocabulary)


def test_integer_path_equals_text_path(vocabulary: Vocabulary, tokens: Tokens) -> None:
    prompter = Prompter(vocabulary, TEMPLATES, history=5)
    rng = np.random.default_rng(0)
    for group, wordings in (("seen", TEMPLATES.seen), ("unseen", TEMPLATES.unseen)):
        for task in ("sequential", "direct"):
            for template in range(len(wordings[task])):
                user, items = int(rng.integers(4)), rng.integers(12, size=int(rng.integers(1, 9)))
                names = [tokens.items.text(item) for item in items]
                text = prompter.text(tokens.users.text(user), names, task=task, template=template, group=group)
                ids = prompter.ids(user, items, task=task, template=template, group=group)
                assert ids.tolist() == vocabulary.tokenizer(text)["input_ids"], text


def test_unknown_user_is_spelled_user(vocabulary: Vocabulary) -> None:
    prompter = Prompter(vocabulary, TEMPLATES, history=5)
    ids = prompter.ids(-1, np.array([2]), task="sequential")
    assert (ids == vocabulary.someone).sum() == 1


def test_centroids_stand_in_the_rows_of_their_tokens(vocabulary: Vocabulary) -> None:
    assert vocabulary.centroids is not None
    for item in range(12):
        cluster, number = vocabulary.items[item]
        assert (vocabulary.centroids[cluster] == item % 3 + 1).all()
        assert (vocabulary.centroids[number] == 0).all()


def test_ten_seen_and_one_unseen_wordings_all_distinct() -> None:
    for task in ("sequential", "direct"):
        wordings = TEMPLATES.seen[task] + TEMPLATES.unseen[task]
        assert (len(TEMPLATES.seen[task]), len(TEMPLATES.unseen[task])) == (10, 1)
        assert len({re.sub(r"\W+", " ", text.lower()) for text in wordings}) == 11


def test_own_vocabulary_encodes_any_text_without_loss() -> None:
    tokenizer = own_tokenizer(TEMPLATES.texts(), causal=True)
    text = "Ōoku, the 9½-inch «film» – 映画 🎬"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "sequential: {seen: ['{user} {history}'], unseen: ['{user} {history}']}",
            "no seen wordings for the task 'direct'",
        ),
        ("sequential: {seen: ['{user} and'], unseen: ['x']}", "needs {history} exactly once"),
        ("[1, 2", "is not valid YAML"),
        ("", "is empty"),
    ],
)
def test_bad_template_files_are_named(tmp_path: object, body: str, message: str) -> None:
    path = tmp_path / "mine.yaml"  # type: ignore[operator]
    path.write_text(body)
    with pytest.raises(OovrecError, match=re.escape(message)) as caught:
        read_templates(str(path))
    assert "mine.yaml" in str(caught.value)


def test_unknown_template_set_names_the_nearest() -> None:
    with pytest.raises(OovrecError, match="did you mean 'en'"):
        read_templates("e")


def test_user_and_item_tokens_of_one_name_are_refused(tokens: Tokens) -> None:
    clash = Tokens(tokens.items, tokens.items, "meta", "train", 0)
    with pytest.raises(OovrecError, match="stands for a user and for an item"):
        extend(own_tokenizer(TEMPLATES.texts(), causal=True), clash)


def test_a_batch_of_prompts_is_the_prompts_one_by_one(vocabulary: Vocabulary, tokens: Tokens) -> None:
    prompter, rng = Prompter(vocabulary, TEMPLATES, history=3), np.random.default_rng(1)
    forms = [(task, group, n) for task in ("sequential", "direct") for group, n in (("seen", 4), ("unseen", 0))]
    sequences = [rng.integers(12, size=n) for n in (0, 2, 7, 3, 1, 0)]
    users = [2, -1, 0, 3, -1, 1]
    chosen = [forms[n % len(forms)] for n in range(len(users))]
    numbers = np.array([prompter.wording(task, n, group) for task, group, n in chosen])
    packed = prompter.packed(Histories.of(sequences, users), numbers)
    padded = packed.padded(vocabulary.pad)
    starts = np.cumsum(packed.lengths) - packed.lengths
    for row, (items, user, (task, group, n)) in enumerate(zip(sequences, users, chosen, strict=True)):
        name = "<user>" if user < 0 else tokens.users.text(user)
        text = prompter.text(name, [tokens.items.text(i) for i in items], task=task, template=n, group=group)
        expected = vocabulary.tokenizer(text)["input_ids"]
        assert packed.ids[starts[row] :][: packed.lengths[row]].tolist() == expected, text
        assert padded[row].tolist() == expected + [vocabulary.pad] * (padded.shape[1] - len(expected))
    order = np.array([5, 0, 2])
    assert (
        packed.take(order).ids.tolist()
        == np.concatenate([packed.ids[starts[r] :][: packed.lengths[r]] for r in order]).tolist()
    )
