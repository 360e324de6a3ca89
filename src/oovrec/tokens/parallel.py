"""Compiled kernels on several threads; the tasks, not the threads, say what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TypeVar

from numba import config
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")
ALONE = Lock()


def in_parallel(task: Callable[[T], R], over: Iterable[T], threads: int | None = None) -> list[R]:
    """``[task(x) for x in over]`` on ``threads`` threads (by default ``NUMBA_NUM_THREADS``, else the cores at hand).

    For kernels that release the interpreter's lock and write to disjoint places.
    """
    workers = threads or config.NUMBA_NUM_THREADS
    if workers == 1:
        return [task(x) for x in over]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(task, over))


@contextmanager
def products_alone() -> Iterator[None]:
    """Within it compiled kernels multiply matrices on their own thread alone: the threads are theirs."""
    with ALONE, _blas().limit(limits=1):  # one at a time, for each puts back what it found
        yield


@cache
def _blas() -> ThreadpoolController:
    """What numba multiplies by, scipy's OpenBLAS; not torch's."""
    import scipy.linalg.blas  # noqa: F401, for it to be there

    return ThreadpoolController().select(internal_api="openblas")
