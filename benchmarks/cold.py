"""Items that a model never saw, named afterwards: do users who took them find them, and what do the other items lose?

    python benchmarks/cold.py [--data ml-100k] [--share 0.05] [--seed 0] [--trained RUN] [--out results/cold]

All interactions of 5% of the items are removed and the recipe is trained on the rest. The items are then added by the
interactions of the training part (by all, and by the first few of each), by words of titles and attributes, by titles
alone, and, for comparison, by interactions but in clusters dealt at random (the mean of ``DEALS``; where items stand
alone, beside one dealt at random), and but as the last of their clusters. Held-out targets are those of the whole
data; ``warm`` ones are also ranked by the model before the addition, which reads histories without the new items.
``--trained`` is a run of the same recipe on all of the data: what training with the items would give. What ``--out``
holds already is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from oovrec.app.additions import with_items
from oovrec.app.new_items import renumbered
from oovrec.app.pipeline import train_on
from oovrec.app.recipe import read_recipe
from oovrec.app.runs import Run, load_run
from oovrec.app.source import Source
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.evaluation.metrics import paired_bootstrap, per_user, percentile_intervals
from oovrec.evaluation.ranks import ranks
from oovrec.evaluation.resampling import resampled_means
from oovrec.evaluation.results import git_commit, hardware, versions
from oovrec.files import read_json, write_json
from oovrec.models.base import Recommender
from oovrec.tokens.cold import Around, Described, by_interactions, by_words

SPLITS: tuple[Literal["validation", "test"], ...] = ("validation", "test")
METRICS = ("hit@10", "ndcg@10")
FEW = (1, 10)  # first interactions of an item
DEALS = 3
BATCH = 256


def drawn(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, int]:
    """``dataset`` with a share of its items, drawn of those in training, put last; and how many these are."""
    seen = np.unique(dataset.histories("train").items)
    count = round(share * len(dataset.items))
    cold = np.sort(np.random.default_rng(seed).choice(seen, count, replace=False))
    order = np.concatenate([np.setdiff1d(np.arange(len(dataset.items)), cold), cold]).tolist()
    items = [dataset.items[item] for item in order]
    return replace(
        dataset,
        items=items,
        titles=dataset.titles and [dataset.titles[item] for item in order],
        attributes=dataset.attributes and [dataset.attributes[item] for item in order],
        full=renumbered(dataset.full, dataset.items, items),
    ), count


def without_last(dataset: Dataset, count: int) -> Dataset:
    """``dataset`` without its last items and all their interactions."""
    known = len(dataset.items) - count
    kept = dataset.full.items < known
    return replace(
        dataset,
        items=dataset.items[:known],
        titles=dataset.titles and dataset.titles[:known],
        attributes=dataset.attributes and dataset.attributes[:known],
        full=renumbered(dataset.full, dataset.items, dataset.items[:known]),
        times=None if dataset.times is None else dataset.times[kept],
        ratings=None if dataset.ratings is None else dataset.ratings[kept],
    )


def first_met(whole: Dataset, known: int, few: int) -> Histories:
    """The training part without all but the first ``few`` interactions of each item from ``known`` on."""
    training = whole.histories("train")
    times = np.arange(len(training.items)) if whole.times is None else _training_times(whole)
    order = np.argsort(times, kind="stable")
    nth, seen = np.zeros(len(order), np.int64), np.zeros(len(whole.items), np.int64)
    for place in order:
        nth[place] = seen[training.items[place]]
        seen[training.items[place]] += 1
    return training.where((training.items < known) | (nth < few))


def _training_times(whole: Dataset) -> np.ndarray:
    places = np.arange(len(whole.full.items)) - whole.full.indptr[whole.full.rows]
    return whole.times[places < whole.histories("train").lengths[whole.full.rows]]


def dealt(labels: np.ndarray, around: list[Around], seed: int) -> list[Around]:
    """A random cluster for each new item, by one of its members; how often the item was taken stays known."""
    rng, clusters = np.random.default_rng(seed), np.unique(labels)
    members = [rng.choice(np.flatnonzero(labels == rng.choice(clusters))) for _ in around]
    return [replace(part, items=np.array([m]), weights=np.ones(1)) for part, m in zip(around, members, strict=True)]


def ranked(model: Recommender, histories: Histories, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Raw and masked ranks of each history's target."""
    found = [ranks(model.scores(batch), targets[rows], batch) for rows, batch in histories.batches(BATCH)]
    return {name: np.concatenate([getattr(part, name) for part in found]) for name in ("raw", "masked")}


def figures(ranks: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    """Means over ``rows`` and their 95% intervals."""
    shown: dict[str, Any] = {"targets": int(rows.sum())}
    for block, rank in ranks.items():
        values = {name: value for name, value in per_user(rank[rows]).items() if name in METRICS}
        ends = percentile_intervals(resampled_means(np.stack(list(values.values()), axis=1), seed=0))
        shown[block] = {name: round(float(value.mean()), 4) for name, value in values.items()}
        shown[block]["ci"] = {name: [round(float(e), 4) for e in pair] for name, pair in zip(values, ends, strict=True)}
        shown[block]["median_rank"] = float(np.median(rank[rows]))
    return shown


def difference(after: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Paired, of ranks."""
    found = {}
    for name in METRICS:
        change = paired_bootstrap(per_user(after)[name], per_user(before)[name], seed=0)
        interval = [round(float(end), 4) for end in change.interval]
        found[name] = {"mean": round(change.mean, 4), "interval": interval, "p": change.p}
    return found


class Trial:
    """A trained run, the whole data with the new items last, and the held-out targets of both splits together.

    Without those of users that have fewer than three known items, all of which the run was trained on.
    """

    def __init__(self, run: Run, whole: Dataset, count: int) -> None:
        self.run, self.whole, self.count, self.known = run, whole, count, len(whole.items) - count
        left = np.bincount(whole.full.rows[whole.full.items < self.known], minlength=len(whole.users))
        fair = {split: np.flatnonzero(left[whole.histories(split).users] >= 3) for split in SPLITS}
        parts = [whole.histories(split).take(fair[split]) for split in SPLITS]
        self.histories = Histories.of(
            [items for part in parts for items in part], np.concatenate([p.users for p in parts])
        )
        self.targets = np.concatenate([whole.targets(split)[fair[split]] for split in SPLITS])
        self.test = np.repeat([False, True], [len(part) for part in parts])
        self.cold = self.targets >= self.known
        self.short = renumbered(self.histories, range(len(whole.items)), range(self.known))

    def described(self, first: int, last: int, attributes: bool = True) -> Described:
        given = self.whole.attributes if attributes else None
        titles = self.whole.titles
        return Described(
            self.whole.items[first:last], titles and titles[first:last], None if given is None else given[first:last]
        )

    def ways(self) -> dict[str, list[Around]]:
        """What surrounds the new items, by every kind of evidence; nothing, where it tells nothing."""
        known, new, size = (0, self.known), (self.known, self.known + self.count), (self.known, self.count)
        ways = {"interactions": by_interactions(self.whole.histories("train"), *size)}
        for few in FEW:
            ways[f"first {few}"] = by_interactions(first_met(self.whole, self.known, few), *size)
        if self.whole.titles is not None:
            ways["titles"] = by_words(self.described(*known, False), self.described(*new, False))
        if self.whole.attributes is not None:
            ways["titles and attributes"] = by_words(self.described(*known), self.described(*new))
        return ways

    def named(self, around: list[Around]) -> Recommender:
        """The model with the new items so surrounded; one with nothing around it joins the first cluster."""
        new = self.described(self.known, self.known + self.count)
        return with_items(self.run.model, self.run.folder, new, around)[0]

    def of_cold(self, model: Recommender) -> dict[str, Any]:
        """Figures of targets that are new items, on test and on both splits together."""
        rows = np.flatnonzero(self.cold)
        found = ranked(model, self.histories.take(rows), self.targets[rows])
        return {"test": figures(found, self.test[rows]), "held out": figures(found, np.ones(len(rows), bool))}


def measure(trial: Trial, trained: Path | None, found: dict[str, Any], keep: Callable[[], None]) -> None:
    """Put into ``found`` what it lacks, and ``keep`` it after each part."""
    ways, model = trial.ways(), trial.run.model
    assert model.entities.tokens is not None
    labels = model.entities.tokens.items.codes[:, 0]
    todo: dict[str, Callable[[], Any]] = {
        "cold: interactions": lambda: trial.of_cold(trial.named(ways["interactions"])),
        "cold: interactions, cluster at random": lambda: mean(
            [trial.of_cold(trial.named(dealt(labels, ways["interactions"], seed))) for seed in range(DEALS)]
        ),
        **{f"cold: {name}": partial(lambda way: trial.of_cold(trial.named(way)), way) for name, way in ways.items()},
        "warm": lambda: warm(trial, trial.named(ways["interactions"])),
    }
    if not model.entities.tokens.items.stands_alone:
        named = partial(trial.named, unranked(ways["interactions"]))
        todo["cold: interactions, rank not known"] = lambda: trial.of_cold(named())
    if trained is not None:
        todo["cold: trained with them"] = lambda: reference(trial, trained)
    for name, part in todo.items():
        if name not in found:
            found[name] = part()
            print(name, found[name], flush=True)
            keep()


def unranked(around: list[Around]) -> list[Around]:
    """The same, but the new items become the last of their clusters."""
    return [replace(part, own=0) for part in around]


def warm(trial: Trial, served: Recommender) -> dict[str, Any]:
    """Test targets that are known items, before and after the addition."""
    rows = np.flatnonzero(trial.test & ~trial.cold)
    wanted, full, short = trial.targets[rows], trial.histories.take(rows), trial.short.take(rows)
    before, after = ranked(trial.run.model, short, wanted), ranked(served, full, wanted)
    ranks = {"before": before, "after, histories as before": ranked(served, short, wanted), "after": after}
    shown = {name: figures(found, np.ones(len(rows), bool)) for name, found in ranks.items()}
    return {**shown, "after - before": {block: difference(after[block], before[block]) for block in before}}


def reference(trial: Trial, folder: Path) -> dict[str, Any]:
    """The cold figures of a model that was trained with all items."""
    model = load_run(folder).model
    order = {item: place for place, item in enumerate(model.entities.items)}
    rows = np.flatnonzero(trial.cold)
    histories = renumbered(trial.histories.take(rows), trial.whole.items, model.entities.items)
    targets = np.array([order[trial.whole.items[item]] for item in trial.targets[rows]])
    found = ranked(model, histories, targets)
    return {"test": figures(found, trial.test[rows]), "held out": figures(found, np.ones(len(rows), bool))}


def mean(parts: list[Any]) -> Any:
    """Of nested figures; intervals are left out."""
    if isinstance(parts[0], dict):
        return {key: mean([part[key] for part in parts]) for key in parts[0] if key != "ci"}
    return round(float(np.mean(parts)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--recipe", default="metaid-llama")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/cold"))
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    whole, count = drawn(dataset, arguments.share, arguments.seed)
    known = without_last(whole, count)
    recipe = read_recipe(arguments.recipe, [f"seed={arguments.seed}"])
    folder = Path("runs/cold") / f"{dataset.name}-{arguments.recipe}-s{arguments.seed}"
    run = train_on(Run(folder, recipe, Source(source=arguments.data).found(known)), known)
    trial = Trial(run, whole, count)
    about = {
        "dataset": dataset.name,
        "recipe": arguments.recipe,
        "seed": arguments.seed,
        "items": {"known": len(known.items), "added": count},
        "hardware": hardware(),
        "versions": versions(),
        "commit": git_commit(),
    }
    path = arguments.out / f"{dataset.name}-{arguments.recipe}.json"
    found = read_json(path)["figures"] if path.exists() else {}
    measure(trial, arguments.trained, found, lambda: write_json(path, {**about, "figures": found}))


if __name__ == "__main__":
    main()
