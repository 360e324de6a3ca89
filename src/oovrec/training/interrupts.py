"""Ctrl-C during long work: noted, and answered where stopping does no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from oovrec.progress import say


class Interrupts:
    """While entered, the first Ctrl-C only sets ``requested``; a second one raises KeyboardInterrupt.

    Outside the main thread, which alone receives signals, this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._immediate = False

    def __enter__(self) -> Interrupts:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._previous)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Here the first Ctrl-C already raises KeyboardInterrupt."""
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested or self._immediate:
            raise KeyboardInterrupt
        self.requested = True
        say("finishing the step, then keeping the state; Ctrl-C again stops at once")
