"""BLEU and ROUGE against sacrebleu and rouge-score."""

from __future__ import annotations

import re

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import BLEU

from oovrec.evaluation.texts import bleu, bleu_counts, common_subsequence, texts_block

WORDS = ["the", "brush", "is", "soft", "and", "smells", "of", "Roses", "9", "fine", "don", "!", ".", ","]


def texts(seed: int, count: int) -> tuple[list[str], list[str]]:
    """References, and what is written: their words with some exchanged, dropped or doubled."""
    rng = np.random.default_rng(seed)
    references = [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(count)]
    written = []
    for text in references:
        words = [word if rng.random() < 0.7 else str(rng.choice(WORDS)) for word in text.split()]
        written.append(" ".join(word for word in words for _ in range(rng.choice([0, 1, 1, 1, 1, 2]))))
    return [*written, "", "something else entirely"], [*references, "not written", "the brush"]


@pytest.mark.parametrize("seed", range(5))
def test_bleu_equals_sacrebleu(seed: int) -> None:
    oracle = BLEU(tokenize="none", smooth_method="none", force=True)
    written, references = texts(seed, 30)
    split = [[" ".join(re.findall(r"\w+|[^\w\s]", text.lower())) for text in side] for side in (written, references)]
    expected = oracle.corpus_score(split[0], [split[1]]).score / 100
    assert 0.05 < expected < 1
    assert texts_block(written, references)["bleu4"] == pytest.approx(expected, abs=1e-12)


def test_bleu_of_chinese_is_sacrebleus_of_its_characters() -> None:
    written = ["这个刷子很软,我喜欢", "味道不好 and the brush broke"]
    references = ["这把刷子很软,大家都喜欢", "味道很不好 and the brush broke"]
    expected = BLEU(tokenize="zh", smooth_method="none", force=True).corpus_score(written, [references]).score / 100
    assert 0.05 < expected < 1
    assert texts_block(written, references)["bleu4"] == pytest.approx(expected, abs=1e-12)


def test_rouge_of_japanese_is_of_its_characters() -> None:
    block = texts_block(["やわらかい"], ["やわらかな"])  # four of five; three of four pairs
    assert [block[name] for name in ("rouge1", "rouge2", "rougeL")] == pytest.approx([0.8, 0.75, 0.8])


@pytest.mark.parametrize("seed", range(5))
def test_rouge_equals_rouge_score(seed: int) -> None:
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names)
    written, references = texts(seed, 30)
    scores = [scorer.score(reference, text) for text, reference in zip(written, references, strict=True)]
    block = texts_block(written, references)
    for name in names:
        assert block[name] == pytest.approx(np.mean([score[name].fmeasure for score in scores]), abs=1e-12)
        low, high = block["ci"][name]
        assert low < block[name] < high


def test_equal_texts_are_perfect_and_strange_ones_worthless() -> None:
    same = ["a soft brush that lasts", "Ümläute gehören dazu, sehr wohl"]
    block = texts_block(same, same)
    assert [block[name] for name in ("bleu4", "rouge1", "rouge2", "rougeL")] == pytest.approx([1, 1, 1, 1])
    other = texts_block(["x y z", ""], ["a b c d", "e"])
    assert [other[name] for name in ("bleu4", "rouge1", "rouge2", "rougeL")] == [0, 0, 0, 0]


def test_the_interval_of_bleu_is_that_of_resampled_corpora() -> None:
    written, references = texts(9, 60)
    block, rng = texts_block(written, references), np.random.default_rng(0)
    counts = np.array([bleu_counts(*pair) for pair in zip(written, references, strict=True)])
    drawn = [counts[rng.integers(len(counts), size=len(counts))].sum(axis=0) for _ in range(2000)]
    np.testing.assert_allclose(block["ci"]["bleu4"], np.quantile(bleu(np.array(drawn)), [0.025, 0.975]), atol=0.02)


def test_longest_common_subsequence_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        a, b = (list(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        assert common_subsequence(a, b) == table[-1, -1]


def test_the_seed_is_that_of_the_intervals_of_texts() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["a", "good", "bad", "toy", "box", "for", "the", "cat"])
    pairs = [[" ".join(rng.choice(words, 9)) for _ in range(30)] for _ in range(2)]
    one, again, other = (texts_block(*pairs, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one["ci"]["rouge1"] != other["ci"]["rouge1"]
    assert one["rouge1"] == other["rouge1"]
