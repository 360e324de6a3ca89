"""How the threads of a program wait for each other, which OpenMP reads when torch is loaded."""

from __future__ import annotations

import os

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def spin_briefly() -> None:
    """Let waiting threads spin for some 20 µs, then sleep, unless the environment says otherwise.

    With sleep alone, the small steps of training take half as long again. By torch's own setting threads spin for
    milliseconds, which takes several times as long as soon as another program is busy.
    """
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
