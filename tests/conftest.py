"""What tests of every room share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two test processes share the machine's cores: more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels for cards are interpreted where there is none. To be said before torch brings Triton in.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidiactl").exists() else "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no shared data beside the checkout")
    return folder
