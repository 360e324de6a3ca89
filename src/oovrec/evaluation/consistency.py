"""Can reported hit@k and ndcg@k all be true? The arithmetic of tables with one relevant item a user.

Let p_r be the share of users whose target stands at rank r. Then hit@k = Σ p_r and ndcg@k = Σ p_r / log2(r + 1), both
over r ≤ k, so that figures can stand together only if some p ≥ 0 with Σ p ≤ 1 gives all of them, each within half a
unit of its last printed place. That is a linear programme, and it is the whole test: ndcg@k between hit@k / log2(k + 1)
and hit@k, figures that grow with k, hit@1 = ndcg@1, and the growth of ndcg from k to m between the growth of hit over
log2(m + 1) and over log2(k + 2) all follow from it. Between two neighbouring cutoffs only the first and the last rank
matter: 1 / log2(r + 1) of a rank between them is a mixture of theirs.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linprog

from oovrec.errors import OovrecError
from oovrec.files import read_text

METRIC = re.compile(r"(hit|hits|hr|recall|ndcg)@([1-9]\d{0,8})", re.IGNORECASE)  # with one relevant item, hit is recall
DECIMALS = 9  # figures with more are taken as rounded to these: beyond them lies the noise of floating point
NOISE = 1e-4  # units of the last place that the linear programme may be off
REMEDY = "give a table of hit@k and ndcg@k, such as {system: {dataset: {metric: value}}}"


@dataclass(frozen=True)
class Suspect:
    """A figure that, were it another, would leave the rest of its row possible.

    Attributes:
        metric: its name in the table.
        value: as reported.
        low, high: what the row's other figures, each within its rounding, allow it to be.
        excess: how far ``value`` is outside, beyond its own rounding.
        units: the same in units of the last printed place.
    """

    metric: str
    value: float
    low: float
    high: float
    excess: float
    units: float


@dataclass(frozen=True)
class Finding:
    """A row whose figures cannot all be true.

    Attributes:
        place: the keys that lead to it, such as system and dataset.
        reason: a sentence.
        suspects: figures that alone could be the wrong one; ndcg first, the largest cutoff first. Empty where more
            than one must be wrong.
        spread: the error beyond rounding that, spread over all figures of the row, would make it possible.
    """

    place: tuple[str, ...]
    reason: str
    suspects: list[Suspect]
    spread: float


@dataclass(frozen=True)
class Consistency:
    """What a table's arithmetic says.

    Attributes:
        rows: how many rows were checked.
        decimals: printed places, the most that any figure of the table shows.
        findings: rows that cannot be right, in the table's order.
    """

    rows: int
    decimals: int
    findings: list[Finding]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_table(path: Path) -> Consistency:
    """Check every row of a JSON table: objects nested as one likes, innermost metric: value.

    Raises:
        OovrecError: missing or not JSON; a figure that is no number; no known metric. The place is named.
    """
    rows = dict(_rows(_read(path), (), path))
    if not rows:
        raise OovrecError("holds no hit@k and no ndcg@k", where=path, remedy=REMEDY)
    decimals = max(_decimals(value) for row in rows.values() for value in row.values())
    checked = {place: {name: float(value) for name, value in row.items()} for place, row in rows.items()}
    findings = [_finding(place, row, decimals) for place, row in checked.items()]
    return Consistency(len(rows), decimals, [finding for finding in findings if finding is not None])


def _read(path: Path) -> dict[str, Any]:
    try:  # numbers as they are printed
        values = json.loads(
            read_text(path, remedy=REMEDY),
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=str,
            object_pairs_hook=partial(_once, path),
        )
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}"
        raise OovrecError(f"is not valid JSON ({error.msg})", where=where, remedy=REMEDY) from error
    if not isinstance(values, dict):
        raise OovrecError("is not a JSON object", where=path, remedy=REMEDY)
    inner = values.get("results")
    return inner if isinstance(inner, dict) else values


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two rows of a name, one would not be checked."""
    values = dict(pairs)
    if len(values) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise OovrecError(f"the key '{name}' is there twice", where=path, remedy="give each row a name of its own")
    return values


def _rows(
    values: Mapping[str, Any], place: tuple[str, ...], path: Path
) -> Iterator[tuple[tuple[str, ...], dict[str, Decimal]]]:
    """Objects that hold metrics, by the keys that lead to them; other keys of theirs are left alone."""
    where = ", ".join([str(path), *([" → ".join(place)] if place else [])])
    row = {name: value for name, value in values.items() if METRIC.fullmatch(name)}
    for name, value in row.items():
        if not isinstance(value, Decimal) or not math.isfinite(float(value)):
            what = f"'{name}' is {json.dumps(value, default=str)}, which is no number"
            raise OovrecError(what, where=where, remedy="give a share between 0 and 1, or leave the metric out")
    inner = {name: value for name, value in values.items() if isinstance(value, dict)}
    if row:
        yield place, row
    elif values and all(isinstance(value, Decimal) for value in values.values()):
        raise OovrecError(f"has no hit@k and no ndcg@k, but '{min(values)}'", where=where, remedy=REMEDY)
    else:
        for name, value in inner.items():
            yield from _rows(value, (*place, name), path)


def _decimals(value: Decimal) -> int:
    return min(DECIMALS, max(0, -int(value.as_tuple().exponent)))


def _finding(place: tuple[str, ...], row: dict[str, float], decimals: int) -> Finding | None:
    unit = 10.0**-decimals
    if strangers := [_outside(name, value, 0, 1, unit) for name, value in row.items() if not 0 <= value <= 1]:
        remedy = "no share is negative" if strangers[0].value < 0 else "divide percentages by 100"
        reason = f"{strangers[0].metric} is {strangers[0].value:g}, which is no share; {remedy}"
        return Finding(place, reason, strangers, max(suspect.excess for suspect in strangers))
    coefficients, values = _coefficients(list(row)), np.array(list(row.values())) / unit
    spread = _spread(coefficients, values, unit)
    if spread <= NOISE:
        return None
    suspects = []
    for name in sorted(row, key=lambda name: (_kind(name) == "hit", -_cutoff(name))):
        index = list(row).index(name)
        if ends := _range(index, coefficients, values, unit):
            suspects.append(_outside(name, row[name], *ends, unit))
    return Finding(place, _reason(suspects, decimals), suspects, spread * unit)


def _outside(name: str, value: float, low: float, high: float, unit: float) -> Suspect:
    excess = max(low - value, value - high) - unit / 2
    return Suspect(name, value, low, high, excess, excess / unit)


def _kind(metric: str) -> str:
    return "ndcg" if metric.lower().startswith("ndcg") else "hit"


def _cutoff(metric: str) -> int:
    return int(metric.rpartition("@")[2])


def _coefficients(metrics: list[str]) -> np.ndarray:
    """``[metrics, ranks]`` what a user at each of the ranks that matter adds to each metric."""
    cutoffs = sorted({_cutoff(metric) for metric in metrics})
    ranks = np.unique([*cutoffs, *(cutoff + 1 for cutoff in (0, *cutoffs[:-1]))])
    gains = {"hit": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 1)}
    return np.stack([np.where(ranks <= _cutoff(metric), gains[_kind(metric)], 0) for metric in metrics])


def _limits(coefficients: np.ndarray, values: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """``A`` and ``b`` of A p ≤ b: figures within half a unit of ``values``, and no more users than all; in units."""
    return (
        np.vstack([coefficients, -coefficients, np.ones(coefficients.shape[1])]),
        np.concatenate([values + 0.5, 0.5 - values, [1 / unit]]),
    )


def _spread(coefficients: np.ndarray, values: np.ndarray, unit: float) -> float:
    """The smallest error beyond rounding, in units, that lets ``values`` stand together if each may have it."""
    constraints, bounds = _limits(coefficients, values, unit)
    error = np.append(-np.ones(len(constraints) - 1), 0)  # one more unknown; all users are all users
    cost = np.append(np.zeros(coefficients.shape[1]), 1)
    return float(linprog(cost, A_ub=np.column_stack([constraints, error]), b_ub=bounds).fun)


def _range(index: int, coefficients: np.ndarray, values: np.ndarray, unit: float) -> tuple[float, float] | None:
    """What the other figures let ``values[index]`` be, as a share; None if they cannot stand without it either."""
    others = _limits(np.delete(coefficients, index, axis=0), np.delete(values, index), unit)
    ends = [linprog(sign * coefficients[index], others[0], others[1] + NOISE) for sign in (1, -1)]
    if not all(end.success for end in ends):
        return None
    return float(ends[0].fun) * unit, -float(ends[1].fun) * unit


def _reason(suspects: list[Suspect], decimals: int) -> str:
    if not suspects:
        return "more than one figure must be wrong"
    first = suspects[0]
    side, bound = ("least", first.low) if first.value < first.low else ("most", first.high)
    return f"{first.metric} is {first.value:.{decimals}f}; the others allow at {side} {bound:.{decimals + 1}f}"
