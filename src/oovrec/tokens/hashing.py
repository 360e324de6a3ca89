"""Counter-based random bits for the compiled kernels: a draw depends on its counter alone, never on a thread."""

from __future__ import annotations

import numpy as np
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@njit(cache=True)
def mix(counter):  # type: ignore[no-untyped-def]
    """64 random bits of a uint64 counter (the output function of SplitMix64; Steele, Lea and Flood, 2014)."""
    z = counter + GOLDEN
    z = (z ^ (z >> _SHIFT_1)) * _FACTOR_1
    z = (z ^ (z >> _SHIFT_2)) * _FACTOR_2
    return z ^ (z >> _SHIFT_3)


@njit(cache=True)
def below(bits, n):  # type: ignore[no-untyped-def]
    """A whole number in ``[0, n)`` from the upper half of 64 random bits, for ``n`` < 2^32 (Lemire, 2019)."""
    return np.int64(((bits >> _HALF) * np.uint64(n)) >> _HALF)


@njit(cache=True)
def unit(bits):  # type: ignore[no-untyped-def]
    """A float32 in ``[0, 1]`` (1 by rounding alone) from the lower half of 64 random bits, unlike :func:`below`'s."""
    return np.float32(np.float64(bits & _LOW) * 2.0**-32)
