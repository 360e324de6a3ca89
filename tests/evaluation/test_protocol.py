"""The protocol on a log small enough to rank by hand, and against masking the scores themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.evaluation.protocol import compare, compare_by_days, evaluate, validation_score
from oovrec.evaluation.ranks import MISSED, Products

# items:            0  1  2 | validation | test
SEQUENCES = [
    [0, 1, 2, 3],  # train 0 1
    [0, 1, 4, 2],  # train 0 1
    [0, 5, 1, 0],  # train 0 5; the test target 0 is a repeat
    [2, 3],  # too short for a target
]
ITEMS = 12


def dataset(sequences: list[list[int]] = SEQUENCES, items: int = ITEMS, times: np.ndarray | None = None) -> Dataset:
    names = [f"u{user}" for user in range(len(sequences))]
    full = Histories.of(sequences, np.arange(len(sequences)))
    return Dataset("toy", names, [f"i{item}" for item in range(items)], full, times)


def popularity(data: Dataset) -> Tensor:
    return torch.bincount(torch.from_numpy(data.histories("train").items).long(), minlength=len(data.items)).float()


def test_popularity_by_hand() -> None:
    data = dataset()
    counts = popularity(data)
    assert counts.tolist() == [3, 2, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0]
    found = evaluate(lambda histories: counts.expand(len(histories), -1), data)
    # ties against the model: target 3 (count 1) behind 0, 1, 2 and 5; target 2 behind 0, 1, 3 and 5
    assert found.raw.tolist() == [5, 5, 1]
    # user 0 has seen 0 1 2: target 3 behind 5; user 1 has seen 0 1 4: target 2 behind 3 and 5; user 2: a repeat
    assert found.masked.tolist() == [2, 3, MISSED]
    assert (found.users.tolist(), found.targets.tolist(), found.repeat_targets) == ([0, 1, 2], [3, 2, 0], 1)
    blocks = found.blocks()
    assert list(blocks) == ["raw", "masked"]
    assert blocks["raw"]["hit@5"] == 1
    assert blocks["raw"]["users"] == 3
    np.testing.assert_allclose(blocks["raw"]["mrr"], (1 / 5 + 1 / 5 + 1) / 3)
    np.testing.assert_allclose(blocks["masked"]["ndcg@10"], (1 / np.log2(3) + 1 / np.log2(4)) / 3)


def test_figures_by_days_are_of_weeks_that_double() -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.standard_normal((40, 30)).astype(np.float32))
    data = dataset([[int(item) for item in rng.permutation(30)[:4]] for _ in range(40)], 30)
    plain = evaluate(lambda histories: scores[histories.users], data)
    after = np.array([0, 6, 7, 13, 14, 27, 56, 111] * 5)
    found = replace(plain, days=after)
    periods = {"0-6": (0, 6), "7-13": (7, 13), "14-27": (14, 27), "56-111": (56, 111)}  # nobody's is 28 to 55 days
    assert list(found.by_days) == ["masked", "raw"]
    for name, rows in found.by_days.items():
        assert list(rows) == list(periods)
        for days, (first, last) in periods.items():
            ranks = getattr(plain, name)[(first <= after) & (after <= last)]
            assert rows[days]["users"] == len(ranks) == 10
            assert rows[days]["hit@10"] == pytest.approx(np.mean(ranks <= 10))
            gains = [1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in ranks]
            assert rows[days]["ndcg@10"] == pytest.approx(np.mean(gains))
    all_new = replace(plain, days=np.zeros(40, np.int64)).by_days["masked"]["0-6"]
    masked = plain.blocks()["masked"]
    assert all_new["ci"] == {metric: masked["ci"][metric] for metric in ("ndcg@10", "hit@10")}
    assert plain.by_days == {}
    assert compare_by_days(plain, plain) == {}


def test_test_histories_hold_the_validation_item_and_no_target() -> None:
    seen: list[list[int]] = []

    def scores(histories: Histories) -> Tensor:
        seen.extend(history.tolist() for history in histories)
        return torch.zeros(len(histories), ITEMS)

    evaluate(scores, dataset(), batch_size=2)
    assert seen == [[0, 1, 2], [0, 1, 4], [0, 5, 1]]
    seen.clear()
    validation_score(scores, dataset())
    assert seen == [[0, 1], [0, 1], [0, 5]]


@pytest.fixture(scope="module")
def many() -> Dataset:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 40, rng.integers(3, 12)).tolist() for _ in range(300)]
    times = np.arange(sum(map(len, sequences))) * (DAY // 3)  # two of three targets share the day before
    return dataset(sequences, 40, times)


def noise(data: Dataset, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(data.users), len(data.items), generator=generator)


def test_ranks_and_lists_equal_a_sort_of_masked_scores(many: Dataset) -> None:
    table = noise(many, 0)
    found = evaluate(lambda histories: table[histories.users], many, batch_size=64)
    for row, (user, target, history) in enumerate(zip(found.users, found.targets, many.histories("test"), strict=True)):
        raw = torch.argsort(table[user], descending=True).numpy()
        masked = raw[~np.isin(raw, history)]
        assert found.raw[row] == np.flatnonzero(raw == target)[0] + 1
        assert found.top_raw[row].tolist() == raw[:10].tolist()
        assert found.top_masked[row].tolist() == masked[:10].tolist()
        if target not in history:
            assert found.masked[row] == np.flatnonzero(masked == target)[0] + 1
    repeats = sum(target in history for target, history in zip(found.targets, many.histories("test"), strict=True))
    assert found.repeat_targets == repeats > 0


def test_batch_size_does_not_matter(many: Dataset) -> None:
    table = noise(many, 0)
    one, all_at_once = (evaluate(lambda h: table[h.users], many, batch_size=size) for size in (1, 1000))
    assert one.blocks() == all_at_once.blocks()


def test_later_day_counts_only_its_users(many: Dataset) -> None:
    many = replace(many, items=[f"i{item}" for item in range(4000)])
    table = noise(many, 1)
    found = evaluate(lambda histories: table[histories.users], many)
    later = found.later_day
    assert later is not None
    assert 0 < later.sum() < len(later)
    block = found.blocks()["later_day_masked"]
    assert block["users"] == later.sum()
    np.testing.assert_allclose(block["hit@10"], (found.masked[later] <= 10).mean())
    np.testing.assert_allclose(block["coverage@10"], len(np.unique(found.top_masked[later])) / found.items)
    assert block["coverage@10"] < found.blocks()["masked"]["coverage@10"] < 1  # few lists do not name all items


def test_blocks_are_json_with_figures_inside_their_intervals(many: Dataset) -> None:
    table = noise(many, 1)
    blocks = json.loads(json.dumps(evaluate(lambda histories: table[histories.users], many).blocks()))
    assert list(blocks) == ["raw", "masked", "later_day_raw", "later_day_masked"]
    for block in blocks.values():
        for metric, (low, high) in block["ci"].items():
            assert low <= block[metric] <= high
            assert low < high or metric == "coverage@10"


def test_short_catalogues_give_short_lists() -> None:
    data = dataset([[0, 1, 2], [2, 1, 0]], items=4)
    found = evaluate(lambda histories: torch.arange(4.0).expand(len(histories), -1), data)
    assert found.top_raw.tolist() == [[3, 2, 1, 0]] * 2
    assert found.top_masked.tolist() == [[3, 2, -1, -1], [3, 0, -1, -1]]


def test_validation_sample_is_fixed_and_its_whole_is_the_mean(many: Dataset) -> None:
    table = noise(many, 2)

    def scores(histories: Histories) -> Tensor:
        return table[histories.users]

    everyone = evaluate(scores, many, "validation")
    np.testing.assert_allclose(validation_score(scores, many), everyone.blocks()["masked"]["ndcg@10"])
    np.testing.assert_allclose(validation_score(scores, many, "raw"), everyone.blocks()["raw"]["ndcg@10"])
    sample = validation_score(scores, many.sampled(50))
    assert sample == validation_score(scores, many.sampled(50), batch_size=7)
    assert sample != validation_score(scores, many)
    assert validation_score(scores, many.sampled(10_000)) == validation_score(scores, many)


def test_a_sample_of_the_users_has_the_figures_that_they_have_among_all(many: Dataset) -> None:
    table = noise(many, 2)
    everyone, some = (evaluate(lambda h: table[h.users], data) for data in (many, many.sampled(50)))
    assert len(set(some.users.tolist())) == 50
    rows = np.searchsorted(everyone.users, some.users)
    for name in ("users", "targets", "raw", "masked", "top_raw", "top_masked"):
        np.testing.assert_array_equal(getattr(some, name), getattr(everyone, name)[rows])
    assert evaluate(lambda h: table[h.users], many.sampled(50)).users.tolist() == some.users.tolist()
    assert many.sampled(len(everyone.users)) is many.sampled(0) is many


def test_compare_finds_the_better_one(many: Dataset) -> None:
    table = noise(many, 3)
    helped = table.clone()
    helped[torch.arange(len(many.users)), torch.from_numpy(many.targets("test"))] += 2
    poor, good = (evaluate(lambda h, t=t: t[h.users], many) for t in (table, helped))
    found = compare(good, poor)
    assert list(found) == ["masked", "raw", "later_day_masked", "later_day_raw"]
    for block in found.values():
        for difference in block.values():
            assert difference["interval"][0] > 0
            assert difference["p"] < 0.01
    expected = {block: good.blocks()[block]["hit@10"] - poor.blocks()[block]["hit@10"] for block in found}
    assert expected["raw"] != expected["masked"]
    for block, difference in expected.items():
        np.testing.assert_allclose(found[block]["hit@10"]["mean"], difference)


def test_seeds_are_averaged_user_by_user_before_users_are_resampled(many: Dataset) -> None:
    """Against differences made by hand, later days by themselves."""
    tables = [[noise(many, n) for n in side] for side in ((1, 2, 3), (4, 5))]
    seeds = [[evaluate(lambda h, t=table: t[h.users], many) for table in side] for side in tables]
    later = np.arange(len(seeds[0][0].users)) % 3 == 0
    seeds = [[replace(one, later_day=later) for one in side] for side in seeds]
    found = compare(*seeds)
    assert set(found) == set(seeds[0][0].blocks())
    for block, kept in (("raw", slice(None)), ("masked", slice(None)), ("later_day_masked", later)):
        ranks = [[getattr(one, block.removeprefix("later_day_"))[kept] for one in side] for side in seeds]
        hits = [np.mean([rank <= 10 for rank in side], axis=0) for side in ranks]
        difference, rng = hits[0] - hits[1], np.random.default_rng(5)
        drawn = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(4000)]
        np.testing.assert_allclose(found[block]["hit@10"]["mean"], difference.mean())
        np.testing.assert_allclose(found[block]["hit@10"]["interval"], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_compare_refuses_other_users(many: Dataset) -> None:
    def zeros(histories: Histories) -> Tensor:
        return torch.zeros(len(histories), 40)

    with pytest.raises(ValueError, match="same users"):
        compare(evaluate(zeros, many, "test"), evaluate(zeros, many, "validation"))


def test_without_targets_there_is_one_sentence() -> None:
    with pytest.raises(OovrecError, match="nothing is held out for test"):
        evaluate(lambda histories: torch.zeros(0, 5), dataset([[0, 1], [2, 3]], 5))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(3, 12, dtype=torch.float16), "are of the type torch.float16"),
        (torch.zeros(3, 12, dtype=torch.bfloat16), "are of the type torch.bfloat16"),
        (np.zeros((3, 12), np.float32), "are no tensor but ndarray"),
    ],
)
def test_scores_are_what_can_be_ranked(given: Any, said: str) -> None:
    for ask in (evaluate, validation_score):
        with pytest.raises(OovrecError) as refused:
            ask(lambda _: given, dataset())
        assert str(refused.value) == f"the system's scores: {said}; give a tensor of the type torch.float32."


@pytest.mark.parametrize(("rows", "columns"), [(0, -3), (-1, 0), (0, 1)])
def test_every_item_of_every_history_has_a_score(rows: int, columns: int) -> None:
    shape = 3 + rows, ITEMS + columns
    said = f"the system's scores: have the shape {shape} for 3 histories and 12 items; "
    for given in (torch.zeros(shape), Products(torch.zeros(shape[0], 2), torch.zeros(shape[1], 2))):
        for ask in (evaluate, validation_score):
            with pytest.raises(OovrecError) as refused:
                ask(lambda _, given=given: given, dataset())
            assert str(refused.value) == said + "give a row for each history, a column for each item."


def some(users: int = 60) -> Dataset:
    rng = np.random.default_rng(0)
    full = Histories.of([rng.integers(0, 40, 5) for _ in range(users)], range(users))
    names = [f"u{user}" for user in range(users)], [f"i{item}" for item in range(40)]
    times = np.arange(5) * DAY * (np.arange(users)[:, None] % 3 > 0)  # a third have all on one day
    return Dataset("some", *names, full, times.reshape(-1))


def scores(seed: int):
    rng = np.random.default_rng(seed)
    return lambda histories: torch.from_numpy(rng.random((len(histories), 40), dtype=np.float32))


def test_the_seed_is_that_of_the_intervals_and_of_nothing_else() -> None:
    one, again, other = (evaluate(scores(1), some(), seed=seed) for seed in (3, 3, 4))
    assert one.raw.tolist() == other.raw.tolist()
    blocks = one.blocks()
    assert blocks == again.blocks()
    assert list(blocks) == list(other.blocks()) == ["raw", "masked", "later_day_raw", "later_day_masked"]
    for name, block in blocks.items():
        assert block["mrr"] == other.blocks()[name]["mrr"]
        assert block["ci"]["mrr"] != other.blocks()[name]["ci"]["mrr"]
    a, b = evaluate(scores(1), some()), evaluate(scores(2), some())
    assert compare(a, b, seed=1) == compare(a, b, seed=1) != compare(a, b, seed=2)


@pytest.mark.parametrize("step", [0, DAY])
def test_where_no_target_or_every_one_is_of_a_later_day_there_are_no_such_blocks(step: int) -> None:
    data = some()
    data = replace(data, times=np.arange(len(data.times)) * step)
    found = evaluate(scores(1), data)
    assert list(found.blocks()) == ["raw", "masked"]
    assert list(compare(found, found)) == ["masked", "raw"]
