"""Text and integers must say the same: a prompt spliced from integers is the tokenizer's own encoding of its text."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.packed import Packed
from oovrec.language.prompts import Prompter
from oovrec.language.tokenizer import Vocabulary, extend, own_tokenizer, pretrained_tokenizer
from oovrec.language.wordings import GROUPS, RANKING, TASKS, Templates, read_templates
from oovrec.tokens.table import Tokens, TokenTable

TEMPLATES = read_templates()
RATINGS = ["1", "2", "3.5", "10"]


@pytest.fixture(scope="module", params=["en", "de"])
def templates(request: pytest.FixtureRequest) -> Templates:
    return read_templates(request.param)


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


def test_integer_path_equals_text_path(vocabulary: Vocabulary, tokens: Tokens, templates: Templates) -> None:
    """Every wording of every task, with each rating where one is shown."""
    prompter = Prompter(vocabulary, templates, 5, RATINGS)
    rng = np.random.default_rng(0)
    for task, group in itertools.product(TASKS, GROUPS):
        for template, rating in itertools.product(range(len(templates.of(task, group))), range(len(RATINGS))):
            user, item = int(rng.integers(4)), int(rng.integers(12))
            items = rng.integers(12, size=int(rng.integers(1, 9)))
            rating = rating if task == "review" else 0
            words = {"item": tokens.items.text(item), "rating": RATINGS[rating]}
            names = [tokens.items.text(item) for item in items]
            choice = {"task": task, "template": template, "group": group}
            text = prompter.text(tokens.users.text(user), names, **choice, **words)
            ids = prompter.ids(user, items, **choice, item=item, rating=rating)
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


def test_ten_seen_and_one_unseen_wordings_all_distinct(templates: Templates) -> None:
    for task in TASKS:
        wordings = templates.of(task, "seen") + templates.of(task, "unseen")
        assert (len(templates.seen[task]), len(templates.unseen[task])) == (10, 1)
        assert len({re.sub(r"\W+", " ", text.lower()) for text in wordings}) == 11


def test_languages_share_no_wording() -> None:
    english, german = ({*read_templates(name).texts()} - {", "} for name in ("en", "de"))
    assert not english & german


def test_own_vocabulary_encodes_any_text_without_loss() -> None:
    tokenizer = own_tokenizer(TEMPLATES.texts(), causal=True)
    text = "Ōoku, the 9½-inch «film» – 映画 🎬"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


BOTH = "\n".join(
    f"{task}: {{seen: ['{fields}'], unseen: ['so {fields}']}}"
    for task, fields in (("sequential", "{user} {history}"), ("direct", "{user}"))
)


def test_a_file_may_lack_the_tasks_that_are_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(BOTH)
    assert read_templates(str(path), RANKING).unseen["direct"] == ["so {user}"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "sequential: {seen: ['{user} {history}'], unseen: ['{user} {history}']}",
            "no seen wordings for the task 'direct'",
        ),
        ("sequential: {seen: ['{user} and'], unseen: ['x']}", "needs {history} exactly once"),
        ("sequential: {seen: ['{user} {histroy}'], unseen: ['x']}", "unknown field 'histroy'; did you mean 'history'"),
        (f"{BOTH}\nratings: {{}}", "unknown task 'ratings'; did you mean 'rating'"),
        (BOTH, "no seen wordings for the task 'rating'; add some, or set model.tasks.rating to 0"),
        (f"{BOTH}\nrating: {{seen: ['{{user}} {{item}} {{item}}'], unseen: [x]}}", "needs {item} exactly once"),
        (
            f"{BOTH}\nrating: {{seen: ['{{user}} {{item}} {{history}} {{history}}'], unseen: [x]}}",
            "has {history} twice; keep one",
        ),
        (
            "sequential:\n  seen:\n  - After {history}: what takes {user}?",
            "a seen wording of the task 'sequential' is no text but {'After {history}': 'what takes {user}?'}; put",
        ),
        (f"separator:\n{BOTH}", "the separator is no text but None; put it in quotes"),
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


def test_blanks_within_its_braces_are_no_part_of_a_field(vocabulary: Vocabulary) -> None:
    user, names = vocabulary.tokenizer.convert_ids_to_tokens([vocabulary.someone])[0], ["<a>", "<b>"]
    written = ("After {history}: {user}?", "After { history }: {user }?")
    asked = [{"sequential": {"seen": [text], "unseen": [text]}} for text in written]
    forms = [read_templates(form, ["sequential"]) for form in asked]
    texts = [Prompter(vocabulary, form, 5).text(user, names, task="sequential", template=0) for form in forms]
    assert texts == [f"After <a>, <b>: {user}?"] * 2


def test_unknown_template_set_names_the_nearest() -> None:
    with pytest.raises(OovrecError, match=r"^model.templates: .* did you mean 'en', or give a YAML file of your own"):
        read_templates("e")


def test_a_home_folder_of_nobody_is_no_folder() -> None:
    with pytest.raises(OovrecError, match=r"^~nobody-of-this-name/mine.yaml: no such file"):
        read_templates("~nobody-of-this-name/mine.yaml")


def test_user_and_item_tokens_of_one_name_are_refused(tokens: Tokens) -> None:
    clash = Tokens(tokens.items, tokens.items, "meta", "train", 0)
    with pytest.raises(OovrecError, match="stands for a user and for an item"):
        extend(own_tokenizer(TEMPLATES.texts(), causal=True), clash)


@pytest.mark.parametrize("word", ["</s>", "<pad>", "<item>"])
def test_a_token_that_means_something_else_in_prompts_is_refused(word: str) -> None:
    items = TokenTable.of(["a", "b"], [("<I1>",), (word,)])
    with pytest.raises(OovrecError, match=f"the token {word} has another meaning in prompts, and names 'b';"):
        extend(own_tokenizer(TEMPLATES.texts(), causal=True), Tokens(items, None, "mine", "train", 0))


def test_sequences_are_taken_and_filled_up_by_hand() -> None:
    packed = Packed(np.arange(1, 11), np.array([3, 0, 5, 2]))
    table = [[1, 2, 3, -1, -1], [-1] * 5, [4, 5, 6, 7, 8], [9, 10, -1, -1, -1]]
    for padded in (packed.padded(-1), packed.padded(-1, 5)):
        assert (padded.tolist(), padded.dtype) == (table, np.int64)
    assert packed.padded(-1, 4).tolist() == [[*row, -1, -1, -1] for row in table]
    taken = packed.take(np.array([3, 1, 2, 3]))
    assert (taken.lengths.tolist(), len(taken)) == ([2, 0, 5, 2], 4)
    assert taken.padded(-1).tolist() == [table[row] for row in (3, 1, 2, 3)]


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
