"""Freed memory is kept for the next step, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from oovrec import memory

ROUNDS, BYTES = 20, 64 << 20
STEPS = f"""
import resource
import numpy as np
from oovrec.memory import keep_freed
kept = keep_freed() if KEEP else None
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    np.empty({BYTES}, np.uint8).fill(1)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
BLOCKS, SIZE = 2000, 100_000
PAGES = BLOCKS // 2 * SIZE / 4096  # of every second block
HOLES = f"""
import resource
from oovrec.memory import give_back, keep_freed
keep_freed()
blocks = [bytearray(b"1" * {SIZE}) for _ in range({BLOCKS})]
del blocks[::2]
if GIVE:
    give_back()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks += [bytearray(b"1" * {SIZE}) for _ in range({BLOCKS // 2})]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(keep: bool, **environment: str) -> tuple[str, int]:
    """What ``keep_freed`` said, and the pages that the system handed out in all rounds."""
    code = STEPS.replace("KEEP", str(keep))
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    said, pages = out.stdout.split()
    return said, int(pages)


def test_pages_are_handed_out_once() -> None:
    (_, plain), (said, kept) = run(False), run(True)
    assert said == str(platform.libc_ver()[0] == "glibc")
    assert kept < (plain / 4 if said == "True" else plain) + 1000


def test_what_nobody_uses_is_given_back() -> None:
    """What is used again then has to be handed out anew; and malloc alone gives nothing back of holes."""

    def pages(give: bool) -> int:
        code = HOLES.replace("GIVE", str(give))
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    kept, given = pages(False), pages(True)
    assert (given > kept + PAGES / 2) == (platform.libc_ver()[0] == "glibc")
    assert kept < PAGES / 2


def test_the_environment_has_its_way() -> None:
    assert run(True, GLIBC_TUNABLES="glibc.malloc.check=0")[0] == "False"


def test_memory_is_given_back_when_a_quarter_more_is_held_than_the_largest_step_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[int] = []
    given: list[int] = []
    monkeypatch.setattr(memory, "resident", lambda: held[-1])
    monkeypatch.setattr(memory, "give_back", lambda: given.append(len(held)))
    kept = memory.Kept()
    for after in (100, 124, 126, 90, 125, 126, 130, 140, 163):
        held.append(after)
        kept.stepped()
    assert given == [3, 6, 9]  # 126 of 100 twice, as the step of 90 was not the largest; then 163 of 130


@pytest.mark.skipif(platform.system() != "Linux", reason="other systems do not say")
def test_what_is_held_grows_with_what_is_used() -> None:
    before = memory.resident()
    block = bytearray(b"1" * BYTES)
    assert memory.resident() - before > 0.9 * len(block)
