"""Words of items as nodes of the walks."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from oovrec.data.histories import Histories
from oovrec.tokens.build import Material
from oovrec.tokens.words import title_words, wording

PROGRAM = """
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens.build import Material
from oovrec.tokens.words import wording
titles = ["pack 1 2 3 4 5 6", "1 4 oz", "2 5 oz", "3 6", "pack"] * 3 + [""] * 285
attributes = [(1, 2, 3, 4, 5, 6), (2, 3), (4,), (5, 6), (1,)] * 3 + [()] * 285
items = [f"i{n}" for n in range(300)]
data = Dataset("d", ["u"], items, Histories.of([range(300)], [0]), titles=titles, attributes=attributes)
found = wording(Material.of(data), 1.0)
print([array.tolist() for array in vars(found).values() if hasattr(array, "tolist")])
"""


def test_the_word_1_and_the_attribute_1_are_told_apart_in_one_order_always() -> None:
    """Sets of both have an order that depends on how texts are hashed, which differs from process to process."""
    printed = set()
    for seed in ("0", "1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
        assert made.returncode == 0, made.stderr
        printed.add(made.stdout)
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("L'Oréal Paris 2-in-1, 50 ml", "l oréal paris 2 in 1 50 ml"),
        ("東京物語", "東京 京物 物語"),
        ("茶 3個 セット", "茶 3 個 セッ ット"),
        ("iPhone15用ケース", "iphone15 用ケ ケー ース"),
        ("갤럭시 케이스", "갤럭시 케이스"),  # Korean has spaces
        ("— !", ""),
    ],
)
def test_words_of_a_title(title: str, words: str) -> None:
    assert title_words(title) == set(words.split())


def test_a_word_of_more_than_a_fifth_of_the_items_is_left_out() -> None:
    titles = ["shop four five"] * 4 + ["shop five"] + ["shop"] * 15
    histories = Histories.of([[0]])
    found = wording(Material(histories, ["u"], [f"i{n}" for n in range(20)], np.empty(0, np.int64), titles), 1.0)
    assert found is not None
    assert found.one.tolist() == [1, 2, 3, 4]
    assert found.other.tolist() == [21] * 4
