"""The picture of tokens: one HTML page that needs nothing beside itself, and the map of clusters as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oovrec.app import figures
from oovrec.app.page import page, picture
from oovrec.app.token_facts import Item, TokenFacts, best_known
from oovrec.data.dataset import Dataset
from oovrec.files import write_text
from oovrec.tokens.quality import Quality, score
from oovrec.tokens.table import Tokens

SHOWN_ITEMS = 500  # where there are no clusters to show
WIDE, NARROW = ((6.2, 4.7), 20), ((3.3, 3.9), 8)  # the map's inches and most labels, on a desk and on a telephone
ABOUT = {
    "lift": (
        "Lift",
        (
            "How much likelier than by chance a user's cluster meets an item's cluster: the mean over interactions of "
            "the logarithm. Tokens that know as much of held-out items as of training ones have seen them."
        ),
    ),
    "repeats": (
        "Target's cluster in the history",
        "How often users already have an item of their target's cluster; by chance: if targets were dealt at random.",
    ),
    "memorisation": (
        "Memorisation score (MS)",
        "How closely similarity of embeddings follows similarity of ratings in training; 1 at best.",
    ),
    "diversity": (
        "Diversity score (DS)",
        "Symmetric Kullback–Leibler divergence between embeddings of sampled pairs; higher is more diverse.",
    ),
    "perplexity": ("Perplexity of words", "How many words a level would need if all were used equally often."),
    "collisions": ("Collisions", "The share whose first words, up to a level, are another's too."),
}


@dataclass(frozen=True)
class Figure:
    """A measured value: what of ('' where there is but one), the value, and what to hold beside it ('' if nothing)."""

    label: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Measure:
    """A measure of quality in readable words.

    Attributes:
        name: what it is called.
        about: what it says; '' where that is not known here.
        figures: its values.
    """

    name: str
    about: str
    figures: list[Figure]


@dataclass(frozen=True)
class TokensReport:
    """Everything on the page.

    Attributes:
        tokens: the tokens, items in the dataset's order.
        dataset: what they name.
        facts: how items and users are named.
        quality: what the names know.
        lift: mean log-lift by split; None for tokens without users.
        items: the best-known ones, where there are no clusters.
    """

    tokens: Tokens
    dataset: Dataset
    facts: TokenFacts
    quality: list[Measure]
    lift: dict[str, float] | None
    items: list[Item]

    @classmethod
    def of(cls, tokens: Tokens, dataset: Dataset) -> TokensReport:
        """What there is to say of ``tokens``.

        Raises:
            OovrecError: a user or item of the dataset has no tokens.
        """
        items = tokens.items.reindexed(dataset.items)
        tokens = Tokens(
            items, tokens.users, tokens.method, tokens.built_from, tokens.seed, tokens.config, tokens.details
        )
        quality, facts = score(tokens, dataset), TokenFacts.of(tokens, dataset)
        known = [] if facts.clusters else best_known(items, dataset, SHOWN_ITEMS)
        return cls(tokens, dataset, facts, measures(quality), quality.lift, known)

    @property
    def other_data(self) -> bool:
        """Whether the tokens say that they were built from other interactions than the dataset holds."""
        return self.tokens.of_other_data(self.dataset.fingerprint)

    @property
    def details(self) -> list[tuple[str, str]]:
        """What else ``tokens.json`` says of how they were built, a line each."""
        lines = [("options", self.tokens.config), *self.tokens.details.items()]
        return [(_words(name), text) for name, value in lines if (text := _line(value))]

    def lead(self) -> str:
        """What the names are, in two sentences."""
        facts, most = self.facts, max(self.facts.words_by_level)
        words = "one new word" if facts.depth == 1 else f"{'up to ' if self.uneven else ''}{facts.depth} new words"
        sentence = f"Each of {len(self.dataset.items):,} items has a name of {words}"
        if not facts.clusters:
            return f"{sentence}. No two share their first word, so that there are no clusters to show."
        sizes = [cluster.size for cluster in facts.clusters]
        count = (
            "one cluster" if len(sizes) == 1 else f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} items"
        )
        sentence += f"; the first is its cluster, and there {'is' if len(sizes) == 1 else 'are'} {count}"
        sentence += f". No level has more than {most:,} words." if facts.depth > 2 else "."
        if self.lift and "validation" in self.lift:
            times = {split: math.exp(value) for split, value in self.lift.items()}
            sentence += (
                f" A user's cluster meets the next item's {times['validation']:.1f} times as often as by chance on "
                f"validation, {times['train']:.1f} times in training."
            )
        return sentence

    @property
    def uneven(self) -> bool:
        """Whether some names are shorter than others."""
        return len({len(self.tokens.items.words(index)) for index in range(len(self.tokens.items))}) > 1


def write_tokens_report(tokens: Tokens, dataset: Dataset, folder: Path) -> Path:
    """Write ``tokens.html`` and, where clusters have places, ``token_map.png``.

    Returns:
        The path of the page.

    Raises:
        OovrecError: a user or item of the dataset has no tokens; a file cannot be written.
    """
    report = TokensReport.of(tokens, dataset)
    clusters, pictures = report.facts.clusters, {}
    if report.facts.explained is not None:
        wide, narrow = (figures.token_map(clusters, *form) for form in (WIDE, NARROW))
        figures.write_png(wide, folder / "token_map.png")
        pictures["wide"] = picture(wide, "clusters of items in two dimensions", clusters)
        pictures["narrow"] = picture(narrow, "clusters of items in two dimensions, smaller", clusters)
    if clusters:
        sizes = figures.cluster_sizes([cluster.size for cluster in clusters])
        pictures["sizes"] = picture(sizes, "how many clusters have how many items")
    path = folder / "tokens.html"
    write_text(path, page("tokens_report.html.j2", report=report, facts=report.facts, pictures=pictures))
    return path


def measures(quality: Quality) -> list[Measure]:
    """Every measure there is, also one that is not described here."""
    values, found = quality.to_json(), []
    chance = values.pop("repeats_by_chance")
    for key, value in values.items():
        name, about = ABOUT.get(key, (_words(key).capitalize(), ""))
        shown = [Figure(label, _number(figure)) for label, figure in _flat(value)]
        if key == "repeats":
            shown = [Figure(split, f"{value[split]:.1%}", f"by chance {chance[split]:.1%}") for split in value]
        if shown:
            found.append(Measure(name, about, shown))
    return found


def _flat(value: Any, label: str = "") -> Iterator[tuple[str, Any]]:
    """Plain figures with the keys that lead to them; what a scheme has none of is left out."""
    if isinstance(value, Mapping):
        pairs = [(_words(key), part) for key, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = [(f"level {level}", part) for level, part in enumerate(value, 1)]
    else:
        if value is not None:
            yield label, value
        return
    for name, part in pairs:
        yield from _flat(part, f"{label}, {name}" if label else name)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _line(value: Any) -> str:
    """Nested values in one line: ``clusters 37, window 5``."""
    return ", ".join(f"{label} {figure}".strip() for label, figure in _flat(value))


def _words(key: object) -> str:
    return str(key).replace("_", " ")
