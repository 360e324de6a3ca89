"""Words of items as nodes of the walks."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens.build import Material
from oovrec.tokens.words import wording
titles = ["pack 7", "pack 3 7", "3 oz", "oz", "pack 3", "other"] * 2
attributes = [(7, 3), (7,), (3, 7), (), (3,), ()] * 2
items = [f"i{n}" for n in range(12)]
data = Dataset("d", ["u"], items, Histories.of([range(12)], [0]), titles=titles, attributes=attributes)
found = wording(Material.of(data), 1.0)
print(found)
"""


def test_the_word_7_and_the_attribute_7_are_told_apart_in_one_order_always() -> None:
    """Sets of both have an order that depends on how texts are hashed, which differs from process to process."""
    printed = set()
    for seed in ("0", "1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
        assert made.returncode == 0, made.stderr
        printed.add(made.stdout)
    assert len(printed) == 1
