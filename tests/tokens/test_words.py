"""Words of items as nodes of the walks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from oovrec.tokens.words import title_words

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
