"""Written texts against those that users wrote: BLEU-4 and ROUGE.

BLEU-4 is the corpus's (Papineni et al., ACL 2002), unsmoothed, over lower-case words and punctuation marks; ROUGE-1,
-2 and -L (Lin, 2004) are mean F1 over lower-case words. Of Japanese and Chinese each character counts as a word. One
reference a text; all figures from 0 to 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from oovrec.data.scripts import UNSPACED
from oovrec.evaluation import metrics
from oovrec.evaluation.resampling import resampled_means

ORDERS = (1, 2, 3, 4)
WORD = rf"[{UNSPACED}]|[^\W{UNSPACED}]+"


def texts_block(written: Sequence[str], references: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """``bleu4``, ``rouge1``, ``rouge2``, ``rougeL``, ``ci`` their 95% intervals by resampling users, and ``users``."""
    pairs = list(zip(written, references, strict=True))
    counts = np.array([bleu_counts(*pair) for pair in pairs], np.float64)
    scores = np.array([rouge(*pair) for pair in pairs])
    resampled = resampled_means(np.hstack([counts, scores]), seed=seed)
    drawn = np.column_stack([bleu(resampled[:, :-3]), resampled[:, -3:]])
    names = ("bleu4", "rouge1", "rouge2", "rougeL")
    values = [float(bleu(counts.sum(axis=0)[None])[0]), *map(float, scores.mean(axis=0))]
    intervals = map(list, metrics.percentile_intervals(drawn))
    return {
        **dict(zip(names, values, strict=True)),
        "ci": dict(zip(names, intervals, strict=True)),
        "users": len(pairs),
    }


def bleu_counts(written: str, reference: str) -> list[int]:
    """What BLEU adds up over a corpus: matches of each order, n-grams of each order, both lengths."""
    ours, theirs = (re.findall(rf"{WORD}|[^\w\s]", text.lower()) for text in (written, reference))
    matches = [(_grams(ours, n) & _grams(theirs, n)).total() for n in ORDERS]
    return [*matches, *(max(0, len(ours) - n + 1) for n in ORDERS), len(ours), len(theirs)]


def bleu(counts: np.ndarray) -> np.ndarray:
    """``[n]`` BLEU-4 of ``n`` corpora from their sums ``[n, 10]`` (or means) of :func:`bleu_counts`."""
    matches, total, (ours, theirs) = counts[:, :4], counts[:, 4:8], counts[:, 8:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matches / total).mean(axis=1))
        brevity = np.exp(np.minimum(0, 1 - theirs / ours))
        return np.where(matches.min(axis=1) > 0, precision * brevity, 0.0)


def rouge(written: str, reference: str) -> list[float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L."""
    ours, theirs = (re.findall(WORD, text.lower()) for text in (written, reference))
    shared = [((_grams(ours, n) & _grams(theirs, n)).total(), n - 1) for n in (1, 2)]
    shared.append((common_subsequence(ours, theirs), 0))
    return [_f1(match, len(ours) - shorter, len(theirs) - shorter) for match, shorter in shared]


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table in the bits of a number (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    everywhere = row = (1 << len(a)) - 1
    for word in b:
        match = row & places.get(word, 0)
        row = (row + match | row - match) & everywhere
    return len(a) - row.bit_count()


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[place:] for place in range(n)), strict=False))


def _f1(match: int, ours: int, theirs: int) -> float:
    return 2 * match / (ours + theirs) if match else 0.0
