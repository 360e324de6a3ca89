"""Verdicts against likelihoods worked by hand, and the rules that join them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from oovrec.tokens.findings import CERTAIN, DECISIVE, FAINT, METHOD, Finding, Verdict, compare, deciding, overall


def flat(probe: float, held_out: float) -> np.ndarray:
    """``[targets, users]`` of a table whose users all have the same excess."""
    return np.array([[probe] * 4, [held_out] * 4])


# Of a unit at the probes, clean references have .3 and leaky ones 1.1 at held-out targets.
REFERENCES = {
    "clean": [flat(0.5, 0.1), flat(0.5, 0.2)],
    "leaky": [flat(0.5, 0.5), flat(0.5, 0.6)],
    "texts": [],
}
CLEAN, LEAKY = 0.3 * 0.4, 1.1 * 0.4  # for a table with .4 at the probes
NOISE = 0.005 * (1 + 1 / 2)  # variance of .1 and .2, or of .5 and .6, and of their mean
DEVIATION = math.sqrt(NOISE + (METHOD * (LEAKY - CLEAN)) ** 2)


@pytest.mark.parametrize("excess", [-0.2, 0.05, 0.12, 0.26, 0.28, 0.3, 0.44, 0.7])
def test_a_table_is_judged_by_its_likelihood_as_clean_and_as_leaky(excess: float) -> None:
    found = compare(flat(0.4, excess), REFERENCES, 1)
    assert (found.probe, found.excess) == pytest.approx((0.4, excess))
    assert (found.if_clean, found.if_leaky, found.deviation) == pytest.approx((CLEAN, LEAKY, DEVIATION))
    ratio = norm.logpdf(excess, LEAKY, DEVIATION) - norm.logpdf(excess, CLEAN, DEVIATION)
    assert found.log10_ratio == pytest.approx(ratio / math.log(10))
    assert found.p_clean == pytest.approx(norm.sf(excess, CLEAN, DEVIATION))
    faint = min(FAINT * 0.55 + 2 * NOISE**0.5, 0.55 / 2 - 2 * NOISE**0.5)
    assert found.faint == pytest.approx(faint)
    expected = "leaky" if ratio > math.log(20) else "clean" if ratio < -math.log(20) or excess < faint else "undecided"
    assert found.verdict == expected


def test_where_nothing_differs_nothing_is_decided() -> None:
    """As with a single item, which everybody has."""
    same = {kind: [flat(0.0, 0.0)] * 2 for kind in ("clean", "leaky", "texts")}
    found = compare(flat(0.0, 0.0), same, 1)
    assert (found.verdict, found.log10_ratio, found.p_clean) == ("undecided", 0.0, 0.5)


@pytest.mark.parametrize(
    ("excess", "verdict"), [(0.3, "undecided"), (0.54, "undecided"), (0.56, "leaky"), (3.0, "leaky")]
)
def test_what_knows_more_than_leaky_references_is_a_leak_even_if_it_knows_no_probes(
    excess: float, verdict: Verdict
) -> None:
    """The ratio of likelihoods cannot tell: knowing no probes, leaky tokens are expected to know nothing either."""
    found = compare(flat(0.0, excess), REFERENCES, 1)
    assert (found.if_clean, found.if_leaky) == pytest.approx((0, 0))
    assert found.log10_ratio == pytest.approx(0, abs=1e-3)
    assert found.p_clean == pytest.approx(norm.sf(excess / NOISE**0.5))
    assert found.verdict == verdict


def test_leaky_tokens_are_never_expected_to_know_less_than_clean_ones() -> None:
    """Though either expectation is drawn to its own references, and these may know the probes unlike each other."""
    unlike = {"clean": [flat(0.5, 0.1), flat(0.5, 0.2)], "leaky": [flat(0.1, 0.05), flat(0.1, 0.06)], "texts": []}
    unsure = np.array([[-9.0, 9.0, 9.0, -9.0], [0.1] * 4])
    found = compare(unsure, unlike, 1)
    assert found.if_clean == pytest.approx(0.3 * 0.5)
    assert found.if_leaky == found.if_clean
    assert found.log10_ratio == 0


def test_verdicts_change_where_they_should() -> None:
    verdicts = [compare(flat(0.4, excess), REFERENCES, 1).verdict for excess in np.arange(0, 0.6, 0.01)]
    changes = [verdict for index, verdict in enumerate(verdicts) if index == 0 or verdicts[index - 1] != verdict]
    assert changes == ["clean", "undecided", "leaky"]
    # the ratio is 20 where the excess is this far from the middle
    far = math.log(DECISIVE) * DEVIATION**2 / (LEAKY - CLEAN)
    middle = (CLEAN + LEAKY) / 2
    assert verdicts.index("leaky") == math.ceil((middle + far) * 100)
    assert verdicts.index("undecided") == math.ceil((middle - far) * 100)


def test_what_texts_tell_is_not_held_against_tokens() -> None:
    told = REFERENCES | {"texts": [flat(0.1, 0.2)]}
    without, with_texts = (compare(flat(0.4, 0.42), references, 1) for references in (REFERENCES, told))
    assert (without.verdict, with_texts.verdict) == ("leaky", "undecided")
    assert with_texts.deviation == pytest.approx(math.hypot(DEVIATION, 0.1))
    below = REFERENCES | {"texts": [flat(0.1, -0.2)]}
    assert compare(flat(0.4, 0.42), below, 1) == without


def test_tokens_that_know_next_to_nothing_are_clean() -> None:
    weak = flat(0.02, 0.01)
    found = compare(weak, REFERENCES, 1)
    assert abs(found.log10_ratio) < 0.1
    assert found.verdict == "clean"


def test_probes_within_chance_of_the_references_count_as_theirs() -> None:
    steps = np.array([1.0, -1, 1, -1])  # the difference of two tables has variance 4/3, a mean over users 1/6
    near, far = (np.stack([0.5 + distance + steps, np.full(4, 0.3)]) for distance in (-0.1, 2.0))
    assert compare(near, REFERENCES, 1).if_clean == pytest.approx(0.3 * 0.5)
    kept = 1 - (1 / 6) / 2.0**2
    assert compare(far, REFERENCES, 1).if_clean == pytest.approx(0.3 * (0.5 + kept * 2.0))
    below = np.stack([-3 + steps, np.full(4, 0.3)])
    assert compare(below, REFERENCES, 1).if_clean == 0


def test_chance_between_users_widens_the_deviation() -> None:
    spread = np.stack([np.full(4, 0.4), 0.4 + np.array([1.0, -1, 1, -1])])
    found = compare(spread, REFERENCES, 1)
    noise = (1 / 6) * (1 + 1 / 2)  # more than NOISE
    assert found.deviation == pytest.approx(math.sqrt(noise + (METHOD * (LEAKY - CLEAN)) ** 2))
    assert found.verdict == "undecided"


def test_each_split_has_its_own_column() -> None:
    references = {
        kind: [
            np.vstack([run, run[:1] * (2 if kind == "leaky" else 0) + 0.1 * number]) for number, run in enumerate(runs)
        ]
        for kind, runs in REFERENCES.items()
    }
    own = np.vstack([flat(0.4, 0.1), np.full(4, 0.8)])
    assert (compare(own, references, 1).verdict, compare(own, references, 2).verdict) == ("clean", "leaky")
    assert compare(own, references, 2).if_leaky == pytest.approx(0.4 * 2.1)


FINDING = compare(flat(0.4, 0.28), REFERENCES, 1)


def finding(verdict: Verdict, log10_ratio: float) -> Finding:
    return replace(FINDING, verdict=verdict, log10_ratio=log10_ratio)


@pytest.mark.parametrize(
    ("findings", "decides"),
    [
        ([("undecided", 0.2), ("undecided", -0.9)], 1),
        ([("clean", -0.1), ("undecided", 1.2)], 0),
        ([("clean", -9), ("leaky", 1.4)], 1),
        ([("leaky", 1.5), ("leaky", 3), ("clean", -9)], 1),
    ],
)
def test_any_leak_decides_else_what_says_most(findings: list[tuple[Verdict, float]], decides: int) -> None:
    made = [finding(*values) for values in findings]
    assert deciding(made) is made[decides]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ([("clean", -3), ("clean", -0.1)], "clean"),
        ([("clean", -3), ("leaky", 1.4)], "leaky"),
        ([("undecided", 1), ("undecided", 0.4)], "leaky"),  # 10^1.4 > 20
        ([("undecided", 1), ("undecided", 0.2)], "undecided"),
        ([("undecided", -1), ("undecided", -0.4)], "clean"),
        ([("clean", -3), ("undecided", -0.1)], "clean"),
        ([("clean", -3), ("undecided", 0.1)], "undecided"),  # they point to different sides
    ],
)
def test_one_verdict_of_two_splits(splits: list[tuple[Verdict, float]], expected: Verdict) -> None:
    assert overall([finding(*values) for values in splits]) == expected


def test_to_know_more_than_leaky_references_by_chance_is_no_leak() -> None:
    spread = np.stack([np.full(4, 0.4), 0.7 + np.array([1.0, -1, 1, -1])])  # .55 is what leaky references know
    found = compare(spread, REFERENCES, 1)
    deviation = math.sqrt((1 / 6) * (1 + 1 / 2) + (METHOD * (LEAKY - CLEAN)) ** 2)
    assert found.p_clean == pytest.approx(norm.sf(0.7, CLEAN, deviation))
    assert found.p_clean > CERTAIN
    assert found.verdict == "undecided"


def test_references_of_unlike_knowledge_are_taken_together_and_the_noisier_kind_widens_the_deviation() -> None:
    """Clean ones know .4 and .6 of the probes, give or take .1 by chance, and .1 and .2 of what is held out."""
    steps = 0.1 * np.array([1.0, -1, 1, -1])
    clean = [np.stack([0.4 + steps, np.full(4, 0.1)]), np.stack([0.6 - steps, np.full(4, 0.2)])]
    steady = [flat(0.5, 0.55)] * 2
    chance = (0.2**2 * 4 / 3) / 2 / 4 / 2  # of one of the two to the other, and of none to itself
    drawn = (1 - chance / 0.1**2) * 0.1  # of each one's distance of .1 from both, what is left
    values = 0.1 - 0.3 * (0.5 - drawn), 0.2 - 0.3 * (0.5 + drawn)
    noise = np.var(values, ddof=1) * (1 + 1 / 2)
    found = compare(flat(0.5, 0.3), {"clean": clean, "leaky": steady, "texts": []}, 1)
    assert (found.if_clean, found.if_leaky) == pytest.approx((0.15, 0.55))  # .3 and 1.1 of .5
    assert found.deviation == pytest.approx(math.sqrt(noise + (METHOD * 0.4) ** 2))
    known = np.stack([0.7 + steps, np.full(4, 0.3)])  # which differs from one of the two alone by chance
    found = compare(known, {"clean": clean, "leaky": steady, "texts": []}, 1)
    assert found.if_clean == pytest.approx(0.3 * (0.5 + (1 - chance / 0.2**2) * 0.2))
    spread = [flat(0.5, 0.3), flat(0.5, 0.8)]
    found = compare(flat(0.5, 0.3), {"clean": [flat(0.5, 0.15)] * 2, "leaky": spread, "texts": []}, 1)
    assert found.deviation == pytest.approx(math.sqrt(0.125 * (1 + 1 / 2) + (METHOD * 0.4) ** 2))


def test_tokens_that_know_no_more_than_texts_tell_are_clean() -> None:
    near = {"clean": [flat(0.5, 0.1), flat(0.5, 0.11)], "leaky": [flat(0.5, 0.5), flat(0.5, 0.51)]}
    noise = math.sqrt(0.00005 * (1 + 1 / 2))
    found = compare(flat(0.5, 0.2), near | {"texts": [flat(0.1, 0.2)]}, 1)
    assert found.faint == pytest.approx(0.2 + 2 * noise)
    assert found.verdict == "clean"
    assert compare(flat(0.5, 0.2), near | {"texts": [flat(0.1, 0.0)]}, 1).faint == pytest.approx(
        FAINT * 0.505 + 2 * noise
    )
