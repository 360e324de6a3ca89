"""From excess to verdict: what clean and leaky tokens of the same memory would have, and the ratio of likelihoods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["clean", "leaky", "undecided"]

# Set before the calibration study (results/audit), not by it.
DECISIVE = 20.0  # likelihood ratio from which a verdict is given
METHOD = 0.15  # of the distance from clean to leaky: how far other methods may lie from the references
LEAST = 1e-12  # deviation, where tokens and references have nothing to deviate in
FAINT = 0.15  # of the leaky references' excess: next to nothing
CERTAIN = 1e-6  # chance under clean below which what knows more than even leaky references do is a leak


@dataclass(frozen=True)
class Finding:
    """One statistic on one split.

    Attributes:
        probe: excess of the tokens at the probes, in standard deviations, mean over users.
        excess: the same at the split's targets.
        if_clean: the excess that clean tokens with this knowledge of the probes have.
        if_leaky: the same of tokens that have seen the split.
        deviation: standard deviation of ``excess`` under either.
        faint: excess up to which tokens know no more than texts tell, or next to nothing, and surely less than half of
            what leaky references know.
        log10_ratio: of the likelihoods of leaky and clean.
        p_clean: chance of such an excess or a greater one if the tokens are clean.
        verdict: what follows.
    """

    probe: float
    excess: float
    if_clean: float
    if_leaky: float
    deviation: float
    faint: float
    log10_ratio: float
    p_clean: float
    verdict: Verdict


def compare(own: np.ndarray, references: dict[str, list[np.ndarray]], column: int) -> Finding:
    """Compare ``[targets, users]`` excess with that of the references, for the split of ``column``."""
    probe, excess = float(own[0].mean()), float(own[column].mean())
    kinds = {kind: references[kind] for kind in ("clean", "leaky")}
    shares = {kind: _share(runs, column) for kind, runs in kinds.items()}
    shares["leaky"] = max(shares["leaky"], shares["clean"] + 1e-6)
    expected = {kind: shares[kind] * _level(own[0], runs) for kind, runs in kinds.items()}
    expected["leaky"] = max(expected.values())
    texts = max([0.0, *(float(run[column].mean()) for run in references["texts"])])
    noise = math.sqrt(max(_noise(own, runs, shares[kind], column) for kind, runs in kinds.items()))
    distance = expected["leaky"] - expected["clean"]
    deviation = max(math.sqrt(noise**2 + (METHOD * distance) ** 2 + (texts / 2) ** 2), LEAST)
    log_ratio = ((excess - expected["clean"]) ** 2 - (excess - expected["leaky"]) ** 2) / (2 * deviation**2)
    reach = float(np.mean([run[column].mean() for run in kinds["leaky"]]))
    faint = min(max(texts, FAINT * reach) + 2 * noise, reach / 2 - 2 * noise)
    p_clean = math.erfc((excess - expected["clean"]) / deviation / math.sqrt(2)) / 2
    beyond = p_clean < CERTAIN and excess > max(expected["leaky"], reach)
    return Finding(
        probe=probe,
        excess=excess,
        if_clean=expected["clean"],
        if_leaky=expected["leaky"],
        deviation=deviation,
        faint=faint,
        log10_ratio=log_ratio / math.log(10),
        p_clean=p_clean,
        verdict="leaky" if beyond else _verdict(log_ratio, excess, faint),
    )


def _share(runs: list[np.ndarray], column: int) -> float:
    """Held-out excess for a unit of the probes' excess."""
    return float(sum(run[column].mean() for run in runs)) / max(float(sum(run[0].mean() for run in runs)), 1e-9)


def _level(probe: np.ndarray, runs: list[np.ndarray]) -> float:
    """The tokens' excess at the probes, drawn to the references' as far as chance explains the distance.

    The positive-part estimator of James and Stein (1961); below 0 nothing is known.
    """
    usual, own = float(np.mean([run[0].mean() for run in runs])), float(probe.mean())
    chance = float(np.mean([_sampling(probe - run[0]) for run in runs]))
    kept = max(0.0, 1 - chance / max((own - usual) ** 2, 1e-12))
    return max(0.0, usual + kept * (own - usual))


def _noise(own: np.ndarray, runs: list[np.ndarray], share: float, column: int) -> float:
    """Variance of the excess less what the probes explain: between references, or between tables over users."""
    values = [run[column].mean() - share * _level(run[0], runs) for run in runs]
    sampling = np.mean([_sampling(own[column] - run[column]) for run in runs])
    return max(float(np.var(values, ddof=1)), float(sampling)) * (1 + 1 / len(runs))


def _sampling(difference: np.ndarray) -> float:
    """Variance of one table's mean over users, from the difference of two tables alike."""
    return float(difference.var(ddof=1)) / 2 / len(difference)


def _verdict(log_ratio: float, excess: float, faint: float) -> Verdict:
    if log_ratio > math.log(DECISIVE):
        return "leaky"
    return "clean" if log_ratio < -math.log(DECISIVE) or excess < faint else "undecided"


def deciding(findings: list[Finding]) -> Finding:
    """Of the findings on a split the one that decides: any leak; else the statistic that says most."""
    leaky = [finding for finding in findings if finding.verdict == "leaky"]
    decided = [finding for finding in findings if finding.verdict != "undecided"]
    return max(leaky or decided or findings, key=lambda finding: abs(finding.log10_ratio))


def overall(findings: list[Finding]) -> Verdict:
    """One verdict of the deciding findings of the splits.

    Leaky if one split is; clean if all are. Otherwise their evidence is added, if it points the same way in all: what
    saw one held-out part has mostly seen the other.
    """
    verdicts, ratios = {finding.verdict for finding in findings}, [finding.log10_ratio for finding in findings]
    if "leaky" in verdicts:
        return "leaky"
    if verdicts == {"clean"}:
        return "clean"
    if abs(sum(ratios)) > math.log10(DECISIVE) and len({ratio > 0 for ratio in ratios}) == 1:
        return "leaky" if ratios[0] > 0 else "clean"
    return "undecided"
