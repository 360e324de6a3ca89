"""What the figures say, in sentences: who is ahead on ndcg@10, and whether that could be chance.

Masked, or among all candidates where the main system was validated so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oovrec.app.leads import TOO_FEW
from oovrec.app.report_data import ReportData, SystemRow
from oovrec.data.checks import REPEATED_SHARE

ALPHA = 0.05  # a difference with a larger p is called chance
SEEDS = f"That is one seed of each, {TOO_FEW}; 'oovrec compare' takes several."


def headline(data: ReportData) -> str:
    """The main system's hit@10 and ndcg@10, as a sentence."""
    main, masked = data.systems[0], data.validated_on == "masked"
    block, raw = main.blocks[data.validated_on], main.blocks["raw"]["hit@10"]
    low, high = block["ci"]["hit@10"]
    repeated = data.dataset.splits["test"].repeated_targets
    missed = f" {repeated:.1%} of those items stand in the user's own history, which masking rules out; "
    missed += f"with them among the candidates, hit@10 is {raw:.1%}."
    among = "" if masked else ", those of the history among them"
    return (
        f"Asked for ten of {data.dataset.items:,} items{among}, {main.label} names the one that was held out for "
        f"{block['hit@10']:.1%} of {block['users']:,} users (95% interval {low:.1%} to {high:.1%}); "
        f"its ndcg@10 is {block['ndcg@10']:.4f}.{missed if masked and repeated >= REPEATED_SHARE else ''}"
    )


def best(systems: list[SystemRow], metric: str, block: str) -> SystemRow:
    """The system with the highest figure; the earlier one where two are equal."""
    return max(systems, key=lambda system: system.blocks[block][metric])


def is_best(system: SystemRow, systems: Sequence[SystemRow], metric: str, block: str) -> bool:
    """Whether no other system has a higher figure, and some have a lower one."""
    figures = [other.blocks[block][metric] for other in systems]
    return min(figures) < max(figures) == system.blocks[block][metric]


def verdict(data: ReportData) -> str:
    """Whether the main system is ahead of the others, whoever wins; '' when there are no others."""
    main, *others = data.systems
    if not others:
        return ""
    block = data.validated_on
    rival = best(others, "ndcg@10", block)
    score = rival.blocks[block]["ndcg@10"]
    if main.blocks[block]["ndcg@10"] == score:
        return f"{rival.label} has the same."
    if main is best(data.systems, "ndcg@10", block):
        opening = f"It is ahead of {_and(others)}" if len(others) > 1 else f"It is ahead of {rival.label}"
        nearest = f"; the nearest, {rival.label}, has {score:.4f}" if len(others) > 1 else f", which has {score:.4f}"
    else:
        opening, nearest = f"{rival.label} is ahead of it", f", with {score:.4f}"
    doubt = f". {SEEDS}" if significant(rival, block) else ", a difference that may be chance."
    return f"{opening}{nearest}{doubt}"


def significant(system: SystemRow, block: str) -> bool:
    """Whether the main system's ndcg@10 differs from this system's by more than chance."""
    return system.lead is not None and system.lead[block]["ndcg@10"]["p"] < ALPHA


def comparison(data: ReportData, system: SystemRow, metric: str = "ndcg@10") -> str:
    """The paired comparison of the main system with another, as a sentence."""
    if system.lead is None:
        raise ValueError(f"{system.label} was not compared")
    found = system.lead[data.validated_on][metric]
    low, high = found["interval"]
    return (
        f"{data.systems[0].label} minus {system.label}, {data.validated_on} {metric}: {signed(found['mean'])} "
        f"(95% interval {signed(low)} to {signed(high)}, {_p(found)})."
    )


def leaky(data: ReportData) -> bool:
    """Whether any system's tokens saw held-out interactions."""
    return any(system.tokens_from == "all" for system in data.systems)


def signed(value: float) -> str:
    """Four decimals behind a sign, a true minus."""
    return f"{value:+.4f}".replace("-", "−")


def _p(found: dict[str, Any]) -> str:
    return "p ≤ 0.001" if found["p"] <= 0.001 else f"p = {found['p']:.3f}"


def _and(systems: list[SystemRow]) -> str:
    names = [system.label for system in systems]
    return f"{', '.join(names[:-1])} and {names[-1]}"
