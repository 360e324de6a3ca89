"""Metrics against ranx, intervals against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate
from scipy import stats

from oovrec.evaluation import resampling
from oovrec.evaluation.metrics import (
    coverage,
    hit,
    ndcg,
    paired_bootstrap,
    per_user,
    percentile_intervals,
)
from oovrec.evaluation.resampling import resampled_means

USERS, ITEMS = 40, 30


@pytest.fixture(scope="module")
def ranks() -> np.ndarray:
    return np.random.default_rng(3).integers(1, ITEMS + 1, USERS)


@pytest.mark.filterwarnings("ignore")
def test_values_equal_ranx(ranks: np.ndarray) -> None:
    names = {"hit@5": "hit_rate@5", "ndcg@5": "ndcg@5", "hit@10": "hit_rate@10", "ndcg@10": "ndcg@10", "mrr": "mrr"}
    qrels = Qrels({f"u{user:02}": {f"i{rank}": 1} for user, rank in enumerate(ranks)})
    run = Run(
        {f"u{user:02}": {f"i{item}": float(ITEMS - item) for item in range(1, ITEMS + 1)} for user in range(USERS)}
    )
    theirs = ranx_evaluate(qrels, run, list(names.values()), return_mean=False)
    ours = per_user(ranks)
    assert ours.keys() == names.keys()
    for name, other in names.items():
        np.testing.assert_allclose(ours[name], theirs[other], err_msg=name)


def test_cutoffs_by_hand() -> None:
    ranks = np.array([1, 2, 5, 6, 10, 11])
    assert hit(ranks, 5).tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(ndcg(ranks, 10), [1, 1 / np.log2(3), 1 / np.log2(6), 1 / np.log2(7), 1 / np.log2(11), 0])


def test_intervals_equal_scipys_bootstrap() -> None:
    values = per_user(np.random.default_rng(0).geometric(0.05, 500))
    table = np.stack(list(values.values()), axis=1)
    ours = percentile_intervals(resampled_means(table, seed=1, resamples=4000))
    for name, column, interval in zip(values, table.T, ours, strict=True):
        options = {"method": "percentile", "n_resamples": 4000, "rng": 2}
        theirs = stats.bootstrap((column,), np.mean, **options).confidence_interval
        width = theirs.high - theirs.low
        np.testing.assert_allclose(interval, theirs, atol=0.06 * width, err_msg=name)


def test_interval_of_a_rate_has_the_binomial_width() -> None:
    n, p = 20_000, 0.1
    values = np.zeros((n, 1))
    values[: int(n * p)] = 1
    (low, high), *_ = percentile_intervals(resampled_means(values, seed=0))
    half = 1.96 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose([low, high], [p - half, p + half], atol=0.1 * half)


def test_resamples_are_seeded() -> None:
    values = np.random.default_rng(0).random((50, 2))
    first = resampled_means(values, seed=5)
    np.testing.assert_array_equal(first, resampled_means(values, seed=5))
    assert not np.array_equal(first, resampled_means(values, seed=6))


def test_a_resample_draws_as_many_rows_as_there_are_for_all_columns_at_once() -> None:
    drawn = 6 * resampled_means(np.eye(6), seed=0)  # how often each row was
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-9)
    np.testing.assert_allclose(drawn.sum(axis=1), 6)
    share = np.bincount(drawn.round().astype(int).ravel(), minlength=7) / drawn.size
    np.testing.assert_allclose(share, stats.binom.pmf(np.arange(7), 6, 1 / 6), atol=0.015)


def test_a_resample_is_the_same_whatever_is_made_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((50, 2))
    wanted = resampled_means(values, seed=5, resamples=200)
    np.testing.assert_array_equal(resampled_means(values, seed=5, resamples=123), wanted[:123])
    monkeypatch.setattr(resampling, "TASK", 7)
    np.testing.assert_array_equal(resampled_means(values, seed=5, resamples=200), wanted)


def test_resamples_are_summed_in_double_precision() -> None:
    large = 2.0**24 + 1  # which a float32 cannot be
    np.testing.assert_array_equal(resampled_means(np.full((7, 1), large), seed=0), large)


def test_coverage_by_hand() -> None:
    lists = np.array([[0, 1, 2], [2, 1, -1], [4, -1, -1]])
    share, (low, high) = coverage(lists, 10)
    assert share == 0.4  # items 0, 1, 2 and 4
    # user 0 alone has item 0, user 2 item 4, user 1 nothing alone: the jackknife from its definition
    without = np.array([len({1, 2, 4}), len({0, 1, 2, 4}), len({0, 1, 2})]) / 10
    half = 1.959964 * np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    np.testing.assert_allclose([low, high], [max(0, 0.4 - half), 0.4 + half], rtol=1e-6)


def test_coverage_of_one_list_for_all_is_certain() -> None:
    assert coverage(np.tile(np.arange(10), (100, 1)), 50) == (0.2, (0.2, 0.2))


class TestPairedBootstrap:
    def test_no_difference(self) -> None:
        a = np.random.default_rng(0).random(100)
        found = paired_bootstrap(a, a)
        assert (found.mean, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)

    def test_p_is_near_the_t_tests(self) -> None:
        rng = np.random.default_rng(4)
        a = rng.random(400)
        b = a - 0.02 + 0.2 * rng.standard_normal(400)
        found, test = paired_bootstrap(a, b, resamples=20_000), stats.ttest_rel(a, b)
        assert 0.005 < test.pvalue < 0.5, "the example should be neither sure nor void"
        np.testing.assert_allclose(found.p, test.pvalue, rtol=0.25)
        np.testing.assert_allclose(found.interval, test.confidence_interval(), rtol=0.1, atol=2e-3)

    def test_pairs_see_what_means_do_not(self) -> None:
        users = np.random.default_rng(1).random(300)
        assert paired_bootstrap(users + 0.01 * (np.arange(300) % 3 > 0), users).p < 0.01

    def test_swapping_turns_the_sign(self) -> None:
        rng = np.random.default_rng(2)
        a, b = rng.random(80), rng.random(80)
        there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
        assert there.mean == -back.mean
        np.testing.assert_allclose(there.interval, (-back.interval[1], -back.interval[0]), atol=0.01)

    def test_unequal_users_are_refused(self) -> None:
        with pytest.raises(ValueError, match="unequal"):
            paired_bootstrap(np.zeros(3), np.zeros(4))


def test_p_of_what_no_resample_contradicts_is_not_zero() -> None:
    found = paired_bootstrap(np.ones(50), np.zeros(50), resamples=999)
    assert found.p == pytest.approx(2 / 1000)


def test_coverages_interval_is_of_shares() -> None:
    # two users, one alone with three of four items: the jackknife's 1 + 1.96 · 0.375 is no share
    share, interval = coverage(np.array([[0, 1, 2, 3], [3, -1, -1, -1]]), 4)
    assert (share, interval) == (1.0, (pytest.approx(1 - 1.959964 * 0.375), 1.0))
    # three users, one of whom has all there is: 1/9 - 1.96 · 2/3 · 1/9 is none either
    share, interval = coverage(np.array([[0], [-1], [-1]]), 9)
    assert (share, interval) == (pytest.approx(1 / 9), (0.0, pytest.approx((1 + 1.959964 * 2 / 3) / 9)))
