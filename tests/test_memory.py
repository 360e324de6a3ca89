"""Freed memory is kept for the next step, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they will")
def test_what_nobody_uses_is_given_back() -> None:
    """Small blocks between ones that stay, of which malloc would give back none by itself."""
    code = """
from oovrec.memory import give_back, keep_freed
keep_freed()
blocks = [bytearray(100_000) for _ in range(2000)]
del blocks[::2]
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = held()
give_back()
print(before - held())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) > 80e6


def test_the_environment_has_its_way() -> None:
    assert run(True, GLIBC_TUNABLES="glibc.malloc.check=0")[0] == "False"
