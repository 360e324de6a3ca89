"""Freed memory is kept for the next step, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

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


def test_memory_is_given_back_when_more_is_held_than_the_largest_step_left_and_little_room_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = [(100, 0), (109, 0), (111, 28), (111, 27), (90, 0), (110, 0), (112, 27), (130, 0), (140, 0), (150, 0)]
    took: list[int] = []
    given: list[list[int]] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(took[-2:]))
    kept = memory.Kept()
    for held, room in steps:
        took.append(held)
        monkeypatch.setattr(memory, "resident", lambda held=held: held)
        monkeypatch.setattr(memory, "room", lambda _, room=room: room)
        kept.stepped()
    assert given == [[111, 111], [110, 112], [140, 150]]  # more than 110, as that of 90 was not the largest; then 143


def test_the_room_of_a_container_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "LIMIT", tmp_path / "memory.max")
    whole = memory.room(0)
    assert 0 < whole <= 2**63
    for text, left in {"max\n": whole, "5000\n": 4000}.items():
        (tmp_path / "memory.max").write_text(text)
        assert memory.room(1000) == pytest.approx(left, rel=0.5)


def test_what_is_held_grows_with_what_is_used() -> None:
    """Other systems than Linux do not say."""
    before = memory.resident()
    block = bytearray(b"1" * BYTES)
    grown = memory.resident() - before
    assert grown > 0.9 * len(block) if platform.system() == "Linux" else grown == 0
