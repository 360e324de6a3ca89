"""What a dataset is like, and what in it would make figures mislead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import time
from typing import Any

import numpy as np

from oovrec.data.dataset import DAY, Dataset, Split
from oovrec.data.ids import id_order

# Amazon's Beauty, Sports and Toys ascend in .69 to .72 of adjacent pairs (ties of a day are stored by id), copies of
# them that were sorted by id in all.
SORTED_SHARE = 0.95
PLAUSIBLE_SINCE = 631_152_000  # 1990, before which nobody kept such logs
COUNTED = 31 * DAY  # times that all lie within January 1970 only number the interactions
REPEATED_SHARE = 0.01  # of targets that masking rules out, from which on figures are moved by it
QUANTILES = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "most": 1.0}


@dataclass(frozen=True)
class SplitReport:
    """One split's counts.

    Attributes:
        histories: sequences that are known before the targets.
        interactions: items in them.
        targets: held-out items; 0 for the training part.
        unseen_targets: targets that no training part holds.
        repeated_targets: share of targets that the user's own history holds; masking the history rules them out.
        same_day: share of targets on the UTC day of the item before them; None without times.
        from_later: share of the training part that came after a target, the mean over all; None without times.
    """

    histories: int
    interactions: int
    targets: int = 0
    unseen_targets: int = 0
    repeated_targets: float = 0.0
    same_day: float | None = None
    from_later: float | None = None


@dataclass(frozen=True)
class Report:
    """What :func:`inspect` finds.

    Attributes:
        name, source, sha256: of the dataset.
        users, items, interactions: how many there are.
        density: share of the user-item pairs that occur.
        dates: ISO dates of the first and last interaction; None without times.
        lengths: quantiles of the history lengths.
        mean_length: interactions a user.
        items_without_training: items that only held-out interactions touch.
        repeats: share of interactions with an item that the user had before.
        duplicates: interactions that repeat another's user, item and time; without times, the item just before.
        ascending: share of adjacent items in histories whose ids ascend (as numbers where all are).
        splits: counts by split.
        notes: what reading changed.
        warnings: what would make figures mislead; each begins with a word to search for.
    """

    name: str
    source: str
    sha256: str
    users: int
    items: int
    interactions: int
    density: float
    dates: tuple[str, str] | None
    lengths: dict[str, float]
    mean_length: float
    items_without_training: int
    repeats: float
    duplicates: int
    ascending: float
    splits: dict[str, SplitReport]
    notes: list[str]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return asdict(self)


def inspect(dataset: Dataset) -> Report:
    """Count a dataset's parts and look for what would make figures on it mislead.

    Some user must have targets, as in every dataset that ``load_dataset`` gives.
    """
    lengths, total = dataset.full.lengths, len(dataset.full.items)
    trained = np.zeros(len(dataset.items), bool)
    trained[dataset.histories("train").items] = True
    pairs = _distinct(dataset.full.rows, dataset.full.items)
    splits = {split: _split_report(dataset, split, trained) for split in ("train", "validation", "test")}
    ascending, duplicates = _ascending(dataset), _duplicates(dataset)
    return Report(
        name=dataset.name,
        source=dataset.source,
        sha256=dataset.sha256,
        users=len(dataset.users),
        items=len(dataset.items),
        interactions=total,
        density=pairs / (len(dataset.users) * len(dataset.items)),
        dates=None if dataset.times is None else (_day(dataset.times.min()), _day(dataset.times.max())),
        lengths={name: float(np.quantile(lengths, share)) for name, share in QUANTILES.items()},
        mean_length=total / len(dataset.users),
        items_without_training=int((~trained).sum()),
        repeats=1 - pairs / total,
        duplicates=duplicates,
        ascending=ascending,
        splits=splits,
        notes=dataset.notes,
        warnings=_warnings(dataset, ascending, duplicates, splits["test"]),
    )


def _split_report(dataset: Dataset, split: Split, trained: np.ndarray) -> SplitReport:
    known = dataset.histories(split)
    if split == "train" or not len(known):
        return SplitReport(len(known), len(known.items))
    targets, later = dataset.targets(split), dataset.later_day(split)
    repeated = np.zeros(len(targets), bool)
    np.logical_or.at(repeated, known.rows, known.items == targets[known.rows])
    return SplitReport(
        histories=len(known),
        interactions=len(known.items),
        targets=len(targets),
        unseen_targets=int((~trained[targets]).sum()),
        repeated_targets=float(repeated.mean()),
        same_day=None if later is None else float(1 - later.mean()),
        from_later=_from_later(dataset, split),
    )


def _from_later(dataset: Dataset, split: Split) -> float | None:
    if dataset.times is None:
        return None
    training = np.sort(dataset.times[dataset.positions("train")])
    before = np.searchsorted(training, dataset.times[dataset.target_positions(split)], side="right")
    return float(1 - before.mean() / len(training))


def _ascending(dataset: Dataset) -> float:
    """Share of adjacent pairs within histories whose item ids ascend."""
    ranks, rows = id_order(dataset.items)[dataset.full.items], dataset.full.rows
    adjacent = rows[1:] == rows[:-1]
    return float((ranks[1:] > ranks[:-1])[adjacent].mean())


def _duplicates(dataset: Dataset) -> int:
    rows, items = dataset.full.rows, dataset.full.items
    if dataset.times is None:
        return int(((rows[1:] == rows[:-1]) & (items[1:] == items[:-1])).sum())
    return len(items) - _distinct(rows, items, *dataset.moments)


def _distinct(*columns: np.ndarray) -> int:
    """How many different rows the columns make."""
    table = np.stack(columns)[:, np.lexsort(columns)]
    return int((table[:, 1:] != table[:, :-1]).any(axis=0).sum()) + 1


def _day(seconds: int) -> str:
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))


def _implausible(times: np.ndarray) -> int:
    """How many times are before 1990 or after tomorrow; none where all only number the interactions."""
    if times.min() >= 0 and times.max() < COUNTED:
        return 0
    return int(((times < PLAUSIBLE_SINCE) | (times > time() + DAY)).sum())


def _warnings(dataset: Dataset, ascending: float, duplicates: int, test: SplitReport) -> list[str]:
    warnings, same_day = [], test.same_day
    if ascending >= SORTED_SHARE:
        warnings.append(
            f"sorted_by_id: {ascending:.1%} of adjacent items ascend by id; these histories look sorted by item id, "
            "not by time, and figures on them mean nothing; get the data in its original order"
        )
    if dataset.times is not None and same_day and not (dataset.times % DAY).any():
        stored = "not known; read the later_day figures too, or have it drawn at random by a data file's tie_seed"
        drawn = "drawn at random"
        warnings.append(
            f"whole_days: times are whole days and {same_day:.1%} of test targets share the day of the item before "
            f"them, so their order is {stored if dataset.tie_seed is None else drawn}"
        )
    if dataset.times is not None and (implausible := _implausible(dataset.times)):
        warnings.append(
            f"implausible_dates: {implausible:,} interactions are dated before 1990 or after tomorrow, from "
            f"{_day(dataset.times.min())} to {_day(dataset.times.max())}; perhaps the times mix seconds and "
            "milliseconds, or are of another unit, and their order or days are wrong; mend them or name another column"
        )
    if test.repeated_targets >= REPEATED_SHARE:
        warnings.append(
            f"repeats: {test.repeated_targets:.1%} of test targets stand in their user's own history; masked figures "
            "count each of them as a miss, so read the raw ones, choose epochs by them (training.validate_on=raw) "
            "and recommend with --no-mask-seen"
        )
    if duplicates:
        warnings.append(f"duplicates: {duplicates:,} interactions stand there twice; remove them if they are an error")
    return warnings
