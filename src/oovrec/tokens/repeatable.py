"""torch, BLAS and OpenMP on one thread and from a seed, so that what is learnt can be learnt again anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within it torch draws from ``seed``, on one thread; its generator and all threads are then put back.

    Sums are rounded otherwise on more threads, and training magnifies the difference into other codes.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), threadpool_limits(1):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
