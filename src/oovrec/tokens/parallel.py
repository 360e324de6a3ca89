"""Compiled kernels on several threads; the tasks, not the threads, say what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from numba import config

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(task: Callable[[T], R], over: Iterable[T], threads: int | None = None) -> list[R]:
    """``[task(x) for x in over]`` on ``threads`` threads (by default ``NUMBA_NUM_THREADS``, else the cores at hand).

    For kernels that release the interpreter's lock and write to disjoint places.
    """
    workers = threads or config.NUMBA_NUM_THREADS
    if workers == 1:
        return [task(x) for x in over]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(task, over))
