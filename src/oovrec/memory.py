"""What the C library does with memory that is given back to it."""

from __future__ import annotations

import ctypes
import os

NEVER, MOST = 2**31 - 1, 2**28  # bytes: an int's largest; a block above MOST is still given back at once
OPTIONS = {-1: NEVER, -3: MOST}  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
TOLD = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Let glibc keep freed blocks for the next step; whether it does.

    Of its own it gives large ones back to the system, which clears every page anew when the next step asks for as
    much: a third of the time of T5's feed-forward part, and more. Where the environment says otherwise, or the C
    library is another, nothing is changed.
    """
    if os.name != "posix" or any(name in os.environ for name in TOLD):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and sum(mallopt(option, value) for option, value in OPTIONS.items()) == len(OPTIONS)


def give_back() -> None:
    """Give what glibc keeps and nobody uses back to the system; for between two stretches of work.

    Batches of many shapes leave it in pieces that fit the next ones less and less.
    """
    if os.name == "posix" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
