"""Freed memory is kept for the next step, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

ROUNDS, BYTES = 20, 64 << 20
STEPS = f"""
import resource
import numpy as np
from oovrec.app.memory import keep_freed
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


def test_the_environment_has_its_way() -> None:
    assert run(True, GLIBC_TUNABLES="glibc.malloc.check=0")[0] == "False"
