"""Did given tokens see held-out interactions? A statistic, references on the same data, and a likelihood ratio.

Tokens that were built from everything know a validation target as well as a training item that the audit hides for
comparison (the *probe*); tokens built from the training part know the probe much better. What they know is measured as
excess over a model of the training part (:mod:`oovrec.tokens.evidence`), so neither popularity, nor a strong or a weak
method, nor what texts tell looks like a leak. References of the same shape, clean and leaky, say which held-out
excess goes with the probe's in either case (:mod:`oovrec.tokens.references`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.progress import Bar
from oovrec.tokens.artefacts import Artefact, same_day_order
from oovrec.tokens.evidence import TARGETS, Candidates, Evidence, Target, audited_users, before_probes, closeness
from oovrec.tokens.findings import Finding, Verdict, compare, deciding, overall
from oovrec.tokens.quality import SPLITS, cluster_lift, log_lift, repeated_clusters
from oovrec.tokens.references import SMALL, Kind, Pair, References, Shape
from oovrec.tokens.table import TokenTable


@dataclass(frozen=True)
class Audit:
    """What an audit finds.

    Attributes:
        verdict: of both splits; see :func:`oovrec.tokens.findings.overall`.
        splits: verdict by split.
        log10_ratio: of the statistic that decides, by split.
        p_clean: of the same.
        findings: by statistic (``items``: items named alike; ``users``: users named alike; ``order``: numbers close to
            each other; ``next``: either of the target and the item just before it) and split.
        lift: mean log-lift of (user cluster, item cluster) by part, of the tokens and of the mean reference of each
            kind; None without user clusters.
        repeats: share of targets whose item cluster is in the history, likewise; None where items have no clusters.
        groups: item groups, and user groups, a level.
        references: ``[probe, validation, test]`` excess of each reference, by statistic and kind.
        artefacts: orders of tokens that tell which target of a day comes last.
        notes: what limits the verdict, a sentence each.
    """

    verdict: Verdict
    splits: dict[str, Verdict]
    log10_ratio: dict[str, float]
    p_clean: dict[str, float]
    findings: dict[str, dict[str, Finding]]
    lift: dict[str, dict[str, float]] | None
    repeats: dict[str, dict[str, float]] | None
    groups: dict[str, list[int]]
    references: dict[str, dict[str, list[list[float]]]]
    artefacts: list[Artefact]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Auditor:
    """Audits tokens on one dataset; what depends on the data alone is computed once.

    Raises:
        OovrecError: too few users have held-out items and two training items.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        if len(audited_users(dataset)) < 2:
            remedy = "give data in which users have four items or more"
            raise OovrecError(
                "too few users have two training and two held-out items", where=dataset.name, remedy=remedy
            )
        self.dataset, self.seed = dataset, seed
        self.count = 6 if len(dataset.full.items) <= SMALL else 3
        self._before = before_probes(dataset)
        self._measured: dict[tuple[Any, Kind, int], tuple[dict[str, np.ndarray], Pair] | None] = {}
        self._evidence: dict[Target, Evidence] = {}
        with Bar("audit: what training tells", 3 * self.count + len(TARGETS), "steps") as bar:
            self.references = References(dataset, seed, self.count, bar.advance)
            base = self.references.base()
            for number, target in enumerate(TARGETS):
                self._evidence[target] = Evidence(dataset, target, base, self.references.texts, seed + number)
                bar.advance()
            for run in range(self.count):
                self.references.vectors("clean", run)
                self.references.vectors("leaky", run)

    def audit(self, items: TokenTable, users: TokenTable | None = None) -> Audit:
        """Audit item tokens, alone or with user tokens.

        Raises:
            OovrecError: an item or user of the dataset has no tokens.
        """
        items = items.reindexed(self.dataset.items)
        users = None if users is None else users.reindexed(self.dataset.users)
        given = Pair(Shape.of(items), None if users is None else Shape.of(users))
        measured = self._excesses(given)
        kinds = {kind: self._references(given, kind) for kind in ("clean", "leaky", "texts")}
        findings: dict[str, dict[str, Finding]] = {
            name: {
                split: compare(own, {kind: [run[name] for run, _ in runs] for kind, runs in kinds.items()}, column)
                for column, split in enumerate(SPLITS, 1)
            }
            for name, own in measured.items()
        }
        decided = {split: deciding([finding[split] for finding in findings.values()]) for split in SPLITS}
        shapes = {"given": [given], **{kind: [pair for _, pair in kinds[kind]] for kind in ("clean", "leaky")}}
        return Audit(
            verdict=overall(list(decided.values())),
            splits={split: finding.verdict for split, finding in decided.items()},
            log10_ratio={split: finding.log10_ratio for split, finding in decided.items()},
            p_clean={split: finding.p_clean for split, finding in decided.items()},
            findings=findings,
            lift=_means(shapes, self._lift) if given.users and given.users.levels and given.items.levels else None,
            repeats=_means(shapes, self._repeats) if given.items.levels else None,
            groups={"items": list(given.items.counts), "users": list(given.users.counts if given.users else ())},
            references={
                name: {kind: [run[name].mean(axis=1).tolist() for run, _ in runs] for kind, runs in kinds.items()}
                for name in measured
            },
            artefacts=same_day_order(self.dataset, items),
            notes=self._notes(given),
        )

    def _references(self, given: Pair, kind: Kind) -> list[tuple[dict[str, np.ndarray], Pair]]:
        """Excesses and shapes of the references of ``kind``, made once for a shape."""
        key = given.items.counts, given.users.counts[:1] if given.users else None
        runs = []
        for run in range(self.count):
            if (key, kind, run) not in self._measured:
                pair = self.references.like(given, kind, run)
                self._measured[key, kind, run] = None if pair is None else (self._excesses(pair), pair)
            if (found := self._measured[key, kind, run]) is not None:
                runs.append(found)
        return runs

    def _excesses(self, pair: Pair) -> dict[str, np.ndarray]:
        """``[targets, users]`` excess by statistic."""
        columns = {target: self._features(pair, self._evidence[target].candidates) for target in TARGETS}
        excesses = {target: self._evidence[target].excess(_stacked(columns[target])) for target in TARGETS}
        found, start = {}, 0
        for name, features in columns["probe"].items():
            stop = start + features.shape[2]
            found[name] = np.stack([excesses[target][:, start:stop].mean(axis=1) for target in TARGETS])
            start = stop
        return found

    def _features(self, pair: Pair, candidates: Candidates) -> dict[str, np.ndarray]:
        """``[n, c, f]`` features of the tokens, by statistic."""
        items, found = pair.items, {}
        compared = candidates.compared(_alike(items.levels) if items.levels else closeness(items.places))
        found["items" if items.levels else "order"] = compared[:, :, :2]
        found["next"] = compared[:, :, 2:]
        if pair.users and pair.users.levels:
            groups = items.levels[0] if items.levels else np.arange(len(items.places))
            found["users"] = self._lifts(pair.users.levels[0], groups, candidates)[:, :, None]
        return found

    def _lifts(self, users: np.ndarray, items: np.ndarray, candidates: Candidates) -> np.ndarray:
        """``[n, c]`` float32 log-lift, over what precedes the probes, of the groups of user and candidate."""
        shape = (int(users.max()) + 1, int(items.max()) + 1)
        lift = log_lift(users[self._before.rows], items[self._before.items], shape)
        return lift[users[candidates.users][:, None], items[candidates.items]].astype(np.float32)

    def _lift(self, pair: Pair) -> dict[str, float]:
        assert pair.users is not None
        return cluster_lift(pair.users.levels[0], pair.items.levels[0], self.dataset)

    def _repeats(self, pair: Pair) -> dict[str, float]:
        groups, data = pair.items.levels[0], self.dataset
        return {split: repeated_clusters(groups, data.histories(split), data.targets(split))[0] for split in SPLITS}

    def _notes(self, given: Pair) -> list[str]:
        notes = []
        if not given.items.levels:
            what = "every item has a token of its own: only the order of the tokens can hold anything"
            notes.append(f"{what}, or vectors that come with them")
        met = np.bincount(self.dataset.histories("train").items, minlength=len(self.dataset.items)) > 0
        if not met.all():
            alone = f"{(~met).sum():,} of {len(met):,} items"
            notes.append(f"in held-out parts only: {alone}, whose own tokens are hardly tested")
        return notes


def audit(dataset: Dataset, items: TokenTable, users: TokenTable | None = None, seed: int = 0) -> Audit:
    """Say whether ``items``, and ``users`` where given, saw the held-out interactions of ``dataset``.

    Raises:
        OovrecError: an item or user has no tokens; the data is too small.
    """
    items.reindexed(dataset.items)  # says at once what is missing
    if users is not None:
        users.reindexed(dataset.users)
    return Auditor(dataset, seed).audit(items, users)


def _alike(levels: list[np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Minus the log of the share of items that begin like both, as far as the two agree (Resnik, 1995)."""
    weights = [(math.log(len(groups)) - np.log(np.bincount(groups))).astype(np.float32) for groups in levels]

    def similarity(past: np.ndarray, items: np.ndarray) -> np.ndarray:
        shared = np.zeros(items.shape, np.float32)
        for groups, weight in zip(levels, weights, strict=True):
            shared = np.where(groups[past] == groups[items], weight[groups[items]], shared)
        return shared

    return similarity


def _stacked(features: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(features.values()), axis=2)


def _means(shapes: dict[str, list[Pair]], statistic: Callable[[Pair], dict[str, float]]) -> dict[str, dict[str, float]]:
    """The statistic of the given tokens, and its mean over the references of each kind, by part."""
    found = {name: [statistic(pair) for pair in pairs] for name, pairs in shapes.items()}
    return {
        name: {part: float(np.mean([run[part] for run in runs])) for part in runs[0]} for name, runs in found.items()
    }
