"""P5's tasks on worded models: how they are mixed, what they answer, and that a little training learns them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.config import checked
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.tokenizer import pretrained_tokenizer
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.generative import llama, t5, tasks
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.samples import Samples, Tasks, Training
from oovrec.models.generative.t5 import T5
from oovrec.models.generative.tasks import rate, task_figures, write
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, USERS = 12, 40
ALL = {"direct": 0.5, "rating": 2.0, "explanation": 0.25, "review": 0.25}
VERDICTS = {0: "dull", 1: "fine", 2: "superb"}
SCALE = (1.0, 2.5, 4.0)
PLAIN = """
sequential: {seen: ["{user} {history}"], unseen: ["{history} {user}"]}
direct: {seen: ["{user}"], unseen: ["so {user}"]}
rating: {seen: ["rate {user} {item}"], unseen: ["{user} rates {item}"]}
explanation: {seen: ["say {user} {item}"], unseen: ["{user} says {item}"]}
"""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """An item's rating and what is written about it depend on its kind alone, of which there are three."""
    rng = np.random.default_rng(2)
    full = Histories.of([rng.permutation(ITEMS)[: rng.integers(5, 9)] for _ in range(USERS)], range(USERS))
    kind = full.items % 3
    words = np.array([VERDICTS[k] for k in kind], object)
    words[::7] = ""
    return Dataset(
        "kinds",
        [f"u{n}" for n in range(USERS)],
        [f"i{n}" for n in range(ITEMS)],
        full,
        ratings=np.array(SCALE)[kind],
        summaries=words,
        reviews=np.where(words == "", "", "it is " + words + " indeed"),
    )


@pytest.fixture(scope="module")
def entities(dataset: Dataset) -> Entities:
    items = TokenTable.of(dataset.items, [(f"<CI{n % 3}>", f"<I{1001 + n // 3}>") for n in range(ITEMS)])
    users = TokenTable.of(dataset.users, [(f"<CU{n % 5}>", f"<U{1001 + n // 5}>") for n in range(USERS)])
    return Entities.of(dataset, Tokens(items, users, "meta", "train", 0))


def made(name: str, entities: Entities, templates: str = "en", **tasks: float) -> GenerativeRecommender:
    options = {"shape": "debug", "history": 4, "words": 16, "templates": templates, "tasks": Tasks(**tasks)}
    if name == "t5":
        return T5(T5.Config(**options), entities)
    return Llama(Llama.Config(form="prompt", dropout=0.0, **options), entities)


@pytest.fixture(scope="module", params=["t5", "llama"])
def model(request: pytest.FixtureRequest, entities: Entities) -> GenerativeRecommender:
    torch.manual_seed(0)
    model = made(request.param, entities, **ALL)
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.2)
    model.module.eval()
    return model


def test_tasks_are_mixed_in_proportion(model: GenerativeRecommender, dataset: Dataset) -> None:
    training = Training.of(dataset)
    batches = model.samples(training, 10, np.random.default_rng(0))
    counts = dict.fromkeys(ALL, 0) | {"sequential": 0}
    first = {task: model.prompter.wording(task) for task in counts}
    for batch in batches:
        for wording in batch.wordings:
            task = max((task for task in first if first[task] <= wording), key=first.__getitem__)
            counts[task] += 1
            assert task == batch.task or (task, batch.task) == ("direct", "sequential")
        known = training.histories.users[batch.rows]
        assert ((batch.users == known) | (batch.users == -1)).all()
    with_past = len(training.histories.items) - len(training.histories)
    assert counts == {"sequential": with_past} | {task: int(share * with_past) for task, share in ALL.items()}
    assert len({batch.task for batch in batches[: len(batches) // 2]}) > 2  # kinds of batches take turns


def test_prompts_of_like_length_share_a_batch(model: GenerativeRecommender, dataset: Dataset) -> None:
    """Sorted by length the batches of a kind do not overlap; their order is random."""
    training = Training.of(dataset)
    batches = [part for part in model.samples(training, 10, np.random.default_rng(0)) if part.task == "sequential"]
    lengths = [model.training_prompts(training, batch).lengths for batch in batches]
    ranges = [(part.min(), part.max()) for part in lengths]
    assert len(set(ranges)) > 5
    assert ranges != sorted(ranges)
    edges = np.array(sorted(ranges)).ravel()
    assert (np.diff(edges) >= 0).all()


def test_weights_are_relative_to_the_sequential_task(entities: Entities, dataset: Dataset) -> None:
    training, sizes = Training.of(dataset), []
    for scale in (1.0, 4.0):
        model = made("t5", entities, sequential=scale, direct=scale * 0.5)
        sizes.append(sum(map(len, model.samples(training, 16, np.random.default_rng(0)))))
    assert sizes[0] == sizes[1] == int(1.5 * (len(training.histories.items) - len(training.histories)))


def test_prompts_and_answers_say_what_happened(model: GenerativeRecommender, dataset: Dataset) -> None:
    """As text: the rating, headline or review of the very interaction, about its item, after what came before."""
    training, tokenizer = Training.of(dataset), model.vocabulary.tokenizer
    known, tokens, seen = dataset.positions("train"), model.entities.tokens, set()
    for batch in model.samples(training, 8, np.random.default_rng(1)):
        prompts = model.training_prompts(training, batch)
        ids, _ = model.answer(training, batch)
        starts = np.cumsum(prompts.lengths) - prompts.lengths
        for row, where in enumerate(batch.where):
            text = tokenizer.decode(prompts.ids[starts[row] :][: prompts.lengths[row]])
            answer = tokenizer.decode(ids[row][(ids[row] >= 0) & (ids[row] != model.vocabulary.end)])
            at, item = known[where], tokens.items.text(training.histories.items[where])
            answer = answer.replace(tokenizer.eos_token, "").strip()
            expected = {
                "sequential": item,
                "rating": f"{dataset.ratings[at]:g}",
                "explanation": dataset.summaries[at],
                "review": dataset.reviews[at][: len(answer)],
            }[batch.task]
            assert answer == expected
            assert batch.task == "sequential" or item in text
            assert batch.task != "review" or f"{dataset.ratings[at]:g}" in text.replace(item, "")
            seen.add(batch.task)
    assert seen == {"sequential", "rating", "explanation", "review"}


@pytest.mark.parametrize("task", ["rating", "explanation", "review"])
def test_the_loss_of_an_answer_is_the_stock_models(
    model: GenerativeRecommender, dataset: Dataset, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One prompt after another: ratings against the ratings there are, words against the whole vocabulary."""
    for system in (llama, t5):
        monkeypatch.setitem(system.GROUP_COST, "cpu", 6)  # several groups, with filling in some
    training = Training.of(dataset)
    samples = next(part for part in model.samples(training, 9, np.random.default_rng(3)) if part.task == task)
    monkeypatch.setattr(model, "samples", lambda *_: [samples])
    (batch,) = model.epoch(dataset, 9, np.random.default_rng(0))
    prompts, (answers, _) = model.training_prompts(training, samples), model.answer(training, samples)
    starts, losses = np.cumsum(prompts.lengths) - prompts.lengths, []
    known = [tuple(codes) for codes in model.rating_codes.tolist()]
    for row, codes in enumerate(answers):
        answer = codes[codes >= 0].tolist()
        logits = stock_logits(model, prompts.ids[starts[row] :][: prompts.lengths[row]], answer).detach()
        if task == "rating":
            for depth in range(len(answer)):
                others = {code[depth] for code in known if code[:depth] == tuple(answer[:depth])}
                logits[depth, [other for other in range(logits.shape[1]) if other not in others]] = -torch.inf
        losses.append(F.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    count = len(answers) if task == "rating" else sum(map(len, losses))
    assert len({len(loss) for loss in losses}) > 1 or task == "rating"
    torch.testing.assert_close(model.module(**batch()).detach(), torch.cat(losses).sum() / count, rtol=1e-4, atol=0)


def stock_logits(model: GenerativeRecommender, prompt: np.ndarray, answer: list[int]) -> torch.Tensor:
    """``[answer, vocabulary]`` of the stock model, one prompt."""
    plain, ids = model.module.plain(), torch.from_numpy(prompt)[None]
    if isinstance(model, T5):
        begin = torch.tensor([[plain.config.decoder_start_token_id, *answer[:-1]]])
        return plain(input_ids=ids, decoder_input_ids=begin).logits[0]
    tail = torch.tensor([answer[:-1]], dtype=torch.int64)
    return plain(torch.cat([ids, tail], dim=1)).logits[0, len(prompt) - 1 :]


@torch.no_grad()
def test_a_rating_is_the_mean_of_the_scale_under_the_stock_model(model: GenerativeRecommender) -> None:
    histories, items = Histories.of([[1, 2, 3], [4, 5]], users=[0, -1]), np.array([6, 7])
    end = model.vocabulary.end
    words = [model.vocabulary.tokenizer(w, add_special_tokens=False)["input_ids"] for w in ("1", "2.5", "4")]
    paths = [word + [end] * (max(map(len, words)) - len(word)) for word in words]
    for group in ("seen", "unseen"):
        got = rate(model, histories, items, group)
        for row, (history, user) in enumerate(zip(histories, histories.users, strict=True)):
            prompt = model.prompter.ids(user, history, task="rating", group=group, item=items[row])
            shares = []
            for path in paths:
                logits, share = stock_logits(model, prompt, path), 1.0
                for depth, token in enumerate(path):
                    legal = sorted({other[depth] for other in paths if other[:depth] == path[:depth]})
                    share *= float(F.softmax(logits[depth, legal], 0)[legal.index(token)])
                shares.append(share)
            assert sum(shares) == pytest.approx(1)
            assert got[row] == pytest.approx(np.dot(shares, SCALE), rel=1e-4)


@torch.no_grad()
def test_texts_are_written_as_the_stock_model_would(model: GenerativeRecommender) -> None:
    histories, items, ratings = Histories.of([[1, 2, 3], [4, 5]], users=[0, -1]), np.array([6, 7]), np.array([0, 2])
    texts = write(model, "review", histories, items, ratings)
    tokenizer, words = model.vocabulary.tokenizer, model.vocabulary.someone
    for row, (history, user) in enumerate(zip(histories, histories.users, strict=True)):
        prompt = model.prompter.ids(user, history, task="review", item=items[row], rating=ratings[row])
        ids: list[int] = []
        while len(ids) < 16 and tokenizer.eos_token_id not in ids:
            ids.append(int(stock_logits(model, prompt, [*ids, 0])[-1, :words].argmax()))
        assert texts[row] == tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_a_little_training_learns_ratings_and_words(
    name: str, dataset: Dataset, entities: Entities, tmp_path: Path
) -> None:
    """Each kind's rating and verdict, for users and items that stand in no training interaction together."""
    (tmp_path / "plain.yaml").write_text(PLAIN)
    model = made(name, entities, templates=str(tmp_path / "plain.yaml"), direct=0, rating=2.0, explanation=2.0)
    torch.manual_seed(0)
    model.begin(0)
    optimiser, rng = torch.optim.AdamW(model.module.parameters(), lr=3e-3), np.random.default_rng(0)
    for make in [batch for _ in range(16) for batch in model.epoch(dataset, 32, rng)]:
        model.module(**make()).backward()
        optimiser.step()
        optimiser.zero_grad()
    histories, items = dataset.histories("test"), dataset.targets("test")
    assert np.abs(rate(model, histories, items) - np.array(SCALE)[items % 3]).mean() < 0.15
    written = write(model, "explanation", histories, items)
    assert np.mean([text == VERDICTS[kind] for text, kind in zip(written, items % 3, strict=True)]) > 0.8

    figures = task_figures(model, dataset, "test")
    assert set(figures) == {"sequential", "rating", "explanation"}
    assert set(figures["sequential"]) == {"unseen_raw", "unseen_masked"}
    assert set(figures["rating"]) == {"seen", "unseen", "mean", "biases"}
    assert figures["rating"]["seen"]["rmse"] < figures["rating"]["mean"]["rmse"] / 2
    assert figures["explanation"]["seen"]["rouge1"] > 0.8
    assert figures["explanation"]["seen"]["users"] < figures["rating"]["seen"]["users"]  # some wrote nothing
    model.save(tmp_path)
    (tmp_path / "plain.yaml").unlink()  # a run keeps its wordings
    again = load(tmp_path)
    assert isinstance(again, GenerativeRecommender)
    np.testing.assert_allclose(rate(again, histories, items), rate(model, histories, items), rtol=1e-5)


def test_the_genuine_vocabulary_spells_ratings(shared: Path, entities: Entities) -> None:
    model = T5(T5.Config(shape="debug", vocabulary=str(shared / "t5-tokenizer"), tasks=Tasks(rating=1)), entities)
    genuine = pretrained_tokenizer(shared / "t5-tokenizer")
    for codes, word in zip(model.rating_codes, ("1", "2.5", "4"), strict=True):
        assert genuine.decode(codes[codes != model.vocabulary.end]) == word


def test_what_cannot_be_trained_is_refused(dataset: Dataset, entities: Entities) -> None:
    unrated = replace(entities, scale=None)
    with pytest.raises(OovrecError, match=r"model\.tasks\.rating: the data has no ratings"):
        made("t5", unrated, rating=1.0)
    with pytest.raises(OovrecError, match=r"model\.tasks\.review: the data has no ratings"):
        made("t5", unrated, review=1.0)
    with pytest.raises(OovrecError, match=r"model\.tasks\.rating: .*learns to recommend and nothing else"):
        Llama(Llama.Config(shape="debug", tasks=Tasks(rating=1.0)), entities)
    silent = replace(dataset, reviews=None)
    with pytest.raises(OovrecError, match=r"model\.tasks\.review: the data has no texts"):
        made("t5", entities, review=1.0).epoch(silent, 8, np.random.default_rng(0))
    with pytest.raises(OovrecError, match="not trained for the task 'rating'"):
        rate(made("t5", entities), dataset.histories("test"), dataset.targets("test"))
    with pytest.raises(OovrecError, match=r"model\.tasks: unknown key 'ratng'; did you mean 'rating'"):
        checked(T5.Config, {"tasks": {"ratng": 1}}, where="model")
    with pytest.raises(OovrecError, match=r"model\.tasks\.direct: .*not -1"):
        checked(T5.Config, {"tasks": {"direct": -1}}, where="model")


def test_ratings_that_are_no_scale(dataset: Dataset) -> None:
    assert dataset.scale is not None
    assert dataset.scale.tolist() == list(SCALE)
    many = replace(dataset, ratings=np.linspace(0, 1, len(dataset.full.items)))
    assert many.scale is None
    assert Entities.of(many).scale is None


def test_a_text_to_be_learnt_is_cut_to_its_room_and_always_ends(model: GenerativeRecommender, dataset: Dataset) -> None:
    texts = np.array(["fine", "superb " * 40, ""], object)
    told = replace(Training.of(dataset), texts={"review": texts})
    ids, _ = model.answer(told, Samples("review", *[np.arange(3)] * 4))
    tokenizer = model.vocabulary.tokenizer
    pieces = [tokenizer(text, add_special_tokens=False)["input_ids"][:15] for text in texts]
    assert ids.shape == (3, 16)  # the room
    for row, piece in zip(ids.tolist(), pieces, strict=True):
        assert row == [*piece, tokenizer.eos_token_id] + [-100] * (15 - len(piece))


def test_nothing_that_people_wrote_is_read_as_a_token(model: GenerativeRecommender, dataset: Dataset) -> None:
    told = replace(Training.of(dataset), texts={"review": np.array(["so </s> so", "<item> <I3>"], object)})
    ids, _ = model.answer(told, Samples("review", *[np.arange(2)] * 4))
    tokenizer = model.vocabulary.tokenizer
    for row, text in zip(ids, ["so < /s> so", "< item> < I3>"], strict=True):
        *piece, end = row[row != -100]
        assert tokenizer.decode(piece).strip() == text
        assert end == tokenizer.eos_token_id
        assert max(piece) < model.vocabulary.someone
        assert end not in piece


def test_a_prompt_is_of_the_group_that_is_asked_for_and_without_items_the_direct_tasks(
    model: GenerativeRecommender,
) -> None:
    some = Histories.of([[], [1, 2, 3]], users=[4, 0])
    for group in ("seen", "unseen"):
        wanted = [
            model.prompter.ids(user, history, task=task, group=group)
            for user, history, task in zip(some.users, some, ("direct", "sequential"), strict=True)
        ]
        assert model.prompts(some, group=group).ids.tolist() == np.concatenate(wanted).tolist()


def test_the_best_alone_are_scored_by_the_task_and_the_wording_that_are_asked_for(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = dataset.histories("test").take(slice(0, 5))
    asked = [("direct", "seen"), ("sequential", "unseen")]
    wanted = [model.scores(some, task, group) for task, group in asked]
    monkeypatch.setattr(model, "config", model.config.model_copy(update={"scored": ITEMS}))
    for scores, (task, group) in zip(wanted, asked, strict=True):
        torch.testing.assert_close(model.scores(some, task, group), scores, rtol=1e-4, atol=1e-4)


def test_figures_of_tasks_are_of_their_own_wordings(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks_alone = model.config.model_copy(update={"tasks": Tasks(direct=0.5, rating=2.0)})
    monkeypatch.setattr(model, "config", tasks_alone)
    found, known, items = task_figures(model, dataset, "test"), dataset.histories("test"), dataset.targets("test")
    for group in ("seen", "unseen"):
        scores = model.scores(known, "direct", group)
        ranks = (scores >= scores[torch.arange(USERS), torch.from_numpy(items), None]).sum(dim=1)
        assert found["direct"][f"{group}_raw"]["mrr"] == pytest.approx(float((1 / ranks).mean()))
        apart = rate(model, known, items, group) - dataset.ratings[dataset.target_positions("test")]
        assert found["rating"][group]["rmse"] == pytest.approx(np.sqrt((apart**2).mean()))


def test_reviews_go_with_the_ratings_that_were_given_and_are_compared_with_what_was_said(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a writer who knows from the rating what was written, where something was."""

    def knowing(model, task, histories, items, ratings, group) -> list[str]:
        return [f"it is {VERDICTS[place]} indeed" for place in ratings]

    monkeypatch.setattr(tasks, "write", knowing)
    found = tasks._writing(model, dataset, "test", "review", "seen")["seen"]
    assert (found["rouge1"], found["users"]) == (1, (dataset.reviews[dataset.target_positions("test")] != "").sum())


def test_a_share_of_the_prompts_of_training_names_nobody(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share in (0.0, 0.3, 1.0):
        monkeypatch.setattr(model, "config", model.config.model_copy(update={"unknown_users": share}))
        batches = model.samples(Training.of(dataset), 16, np.random.default_rng(0))
        for task in ("sequential", "rating"):
            users = np.concatenate([batch.users for batch in batches if batch.task == task])
            assert len(users) > 150
            assert (users == -1).mean() == pytest.approx(share, abs=0.1)


def test_texts_are_written_without_dropout_whatever_the_module_was_doing(model: GenerativeRecommender) -> None:
    asked = "explanation", Histories.of([[1, 2, 3], [4, 5]], users=[0, -1]), np.array([6, 7])
    written = write(model, *asked)
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.5
    model.module.train()
    assert write(model, *asked) == written


def test_the_loss_of_a_batch_does_not_depend_on_the_order_of_its_prompts(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    every, losses = model.samples(Training.of(dataset), 60, np.random.default_rng(0)), []
    samples = next(part for part in every if part.task == "sequential")
    for order in (np.arange(len(samples)), np.random.default_rng(1).permutation(len(samples))):
        part = samples.take(order)
        monkeypatch.setattr(model, "samples", lambda *_, part=part: [part])
        (batch,) = model.epoch(dataset, 60, np.random.default_rng(0))
        losses.append(model.module.eval()(**batch()).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_prompts_of_training_show_what_came_before_their_targets_and_no_more(
    model: GenerativeRecommender, dataset: Dataset
) -> None:
    training = Training.of(dataset)
    for batch in model.samples(training, 8, np.random.default_rng(1))[:12]:
        begins = training.histories.indptr[batch.rows]
        pasts = [training.histories.items[begin:end] for begin, end in zip(begins, batch.where, strict=True)]
        targets = training.histories.items[batch.where]
        wanted = model.prompter.packed(Histories.of(pasts, batch.users), batch.wordings, targets)
        assert model.training_prompts(training, batch).ids.tolist() == wanted.ids.tolist()


def test_what_is_to_be_written_was_written_and_all_wordings_are_drawn(
    model: GenerativeRecommender, dataset: Dataset
) -> None:
    training, drawn = Training.of(dataset), set()
    for batch in model.samples(training, 16, np.random.default_rng(0)):
        drawn |= set(batch.wordings.tolist())
        assert batch.task not in training.texts or (training.texts[batch.task][batch.where] != "").all()
    for task in ("sequential", "direct", "rating"):
        count = len(model.templates.seen[task])
        assert {model.prompter.wording(task, number) for number in range(count)} <= drawn


def test_without_tokens_for_users_there_are_no_figures_of_the_direct_task(entities: Entities, dataset: Dataset) -> None:
    assert entities.tokens is not None
    model = made("t5", replace(entities, tokens=replace(entities.tokens, users=None)), direct=0.5)
    assert set(task_figures(model, dataset, "test")) == {"sequential"}


def test_of_many_texts_a_sample_is_written_and_always_the_same(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its users once, about the held-out item, after the user's own history."""
    asked: list[tuple[list[int], list[int], list[list[int]]]] = []

    def noting(model, task, histories, items, ratings, group) -> list[str]:
        asked.append((histories.users.tolist(), items.tolist(), [history.tolist() for history in histories]))
        return [""] * len(items)

    monkeypatch.setattr(tasks, "write", noting)
    monkeypatch.setattr(tasks, "MOST_WRITTEN", 20)
    figures = [tasks._writing(model, dataset, "test", "explanation", "seen")["seen"] for _ in range(2)]
    assert [block["users"] for block in figures] == [20, 20]
    assert asked[0] == asked[1]
    users, items, histories = asked[0]
    told = np.flatnonzero(dataset.summaries[dataset.target_positions("test")] != "")
    assert len(set(users)) == 20
    assert set(users) <= set(told.tolist())
    assert users != told[:20].tolist()
    assert items == [dataset.full[user][-1] for user in users]
    assert histories == [dataset.full[user][:-1].tolist() for user in users]


def test_targets_that_are_drawn_are_others_in_each_epoch(model: GenerativeRecommender, dataset: Dataset) -> None:
    training, rng = Training.of(dataset), np.random.default_rng(0)
    for task in ("rating", "explanation"):
        epochs = [[part for part in model.samples(training, 16, rng) if part.task == task] for _ in range(2)]
        drawn = [sorted(np.concatenate([part.where for part in parts]).tolist()) for parts in epochs]
        assert len(drawn[0]) == len(drawn[1])
        assert drawn[0] != drawn[1]


def test_a_user_alone_is_answered_by_any_item_and_what_has_a_past_by_those_behind_the_first(
    model: GenerativeRecommender, dataset: Dataset
) -> None:
    training, without_past = Training.of(dataset), set()
    direct = [model.prompter.wording("direct", number) for number in range(len(model.templates.seen["direct"]))]
    for batch in model.samples(training, 16, np.random.default_rng(0)):
        first = batch.where == training.histories.indptr[batch.rows]
        without_past |= set(batch.wordings[first].tolist())
    assert without_past
    assert without_past <= set(direct)


def test_a_batch_is_of_many_users_though_few_are_sorted_together(
    model: GenerativeRecommender, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where data is larger by far than what is sorted together."""
    monkeypatch.setattr("oovrec.models.generative.samples.POOL", 1)
    training = Training.of(dataset)
    for batch in model.samples(training, 16, np.random.default_rng(0)):
        assert len(set(batch.rows.tolist())) > len(batch) / 2
