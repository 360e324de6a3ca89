"""What an item's text and attributes say, as edges between items and words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from oovrec.data.scripts import UNSPACED
from oovrec.tokens.build import Material
from oovrec.tokens.walks import Relation

WORD = re.compile(rf"([{UNSPACED}]+)|[^\W{UNSPACED}]+")
FEWEST = 2  # items that share a word; one item's own tells nothing
LARGEST_SHARE = 0.2  # of the items; a word of more tells little


def item_words(titles: Sequence[str] | None, attributes: Sequence[Sequence[int]] | None) -> list[set[str | int]]:
    """The words of each item's title, in lower case, and its attribute numbers."""
    count = len(titles if titles is not None else attributes or ())
    texts, numbers = titles or [""] * count, attributes or [()] * count
    return [{*title_words(text), *own} for text, own in zip(texts, numbers, strict=True)]


def title_words(title: str) -> set[str]:
    """The words of a title, in lower case; where a script does not part them, every two characters side by side."""
    found: set[str] = set()
    for run in WORD.finditer(title.lower()):
        pairs = len(run[0]) - 1 if run[1] else 0
        found |= {run[0][place : place + 2] for place in range(pairs)} or {run[0]}
    return found


def _order(word: str | int) -> tuple[str, bool]:
    """An item's word 7 before its attribute 7, whatever order a set has them in."""
    return str(word), isinstance(word, int)


def wording(material: Material, weight: float) -> Relation | None:
    """Items and the words they share with others; words are the nodes after users and items.

    None where the data has neither texts nor attributes that several items share.
    """
    described = item_words(material.titles, material.attributes)
    shared = Counter(word for words in described for word in sorted(words, key=_order))
    most = LARGEST_SHARE * len(material.items)
    known = sorted((word for word, count in shared.items() if FEWEST <= count <= most), key=str)
    node = {word: number for number, word in enumerate(known, len(material.users) + len(material.items))}
    edges = [(item, node[word]) for item, words in enumerate(described) for word in words if word in node]
    if not edges:
        return None
    ends = np.array(sorted(edges), np.int64)
    return Relation(ends[:, 0] + len(material.users), ends[:, 1], weight)
