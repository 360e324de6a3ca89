"""What the C library does with memory that is given back to it."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

NEVER, MOST = 2**31 - 1, 2**28  # bytes: an int's largest; a block above MOST is still given back at once
OPTIONS = {-1: NEVER, -3: MOST}  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
GROWN, LEFT = 1.1, 1 / 4  # of what the largest step alone has left, and of what is held
LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container
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


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def room(held: int) -> int:
    """Bytes that a process that holds so many could still have; ``2**63`` where the system does not say."""
    left = [2**63]
    with suppress(OSError, ValueError):  # the latter where a container has no limit
        left.append(int(LIMIT.read_text()) - held)
    with suppress(OSError, ValueError, KeyError):  # the latter two of systems that only look like Linux
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        left.append(int(told["MemAvailable"].split()[0]) * 1024)
    return min(left)


class Kept:
    """Looks after what steps of many shapes leave behind, so that none fails for want of what an earlier one kept."""

    def __init__(self) -> None:
        self.largest = 0  # bytes after the largest step that followed a giving back
        self.given = True

    def stepped(self) -> None:
        """To be called after each step: gives back where more is held than the largest left, and little room is left.

        Each time costs the next step as much as not to keep anything would have, so it is not done where there is room.
        """
        held = resident()
        if self.given:
            self.largest, self.given = max(self.largest, held), False
        elif held > GROWN * self.largest and room(held) < LEFT * held:
            give_back()
            self.given = True
