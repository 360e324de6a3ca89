"""One progress display for all long work: speed and time left, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 15.0  # without a terminal a line is printed this often at most

console = Console(stderr=True)


class Bar:
    """A progress bar; on a terminal it is drawn live, elsewhere a plain line now and then.

    Args:
        description: what is being done ("walks", "epoch 3/20").
        total: how many steps there are.
        unit: what one step is called ("users", "nodes").
    """

    def __init__(self, description: str, total: int, unit: str = "steps") -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done, self.note = 0, ""
        self.start = self._last = time.monotonic()
        self._rich: RichProgress | None = None

    def __enter__(self) -> Bar:
        if console.is_terminal:
            self._rich = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._task = self._rich.add_task(self.description, total=self.total, speed="", note="")
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich is not None:
            self._rich.stop()

    @property
    def speed(self) -> float:
        """Steps a second since the bar began."""
        return self.done / max(time.monotonic() - self.start, 1e-9)

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count ``steps`` more as done; ``note`` replaces the text at the end of the bar."""
        self.done += steps
        if note is not None:
            self.note = note
        speed = f"{self.speed:,.4g} {self.unit}/s"
        if self._rich is not None:
            self._rich.update(self._task, advance=steps, speed=speed, note=self.note)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            left = (self.total - self.done) / max(self.speed, 1e-9)
            line = f"{self.description}: {self.done:,}/{self.total:,} {self.unit}, {speed}, {left:.0f} s left"
            print(f"{line}  {self.note}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def quiet_transformers(*, advice: bool = True) -> Iterator[None]:
    """Without transformers' own bar for a model that is loaded or saved in a moment.

    Args:
        advice: let it warn; its errors are told in any case.
    """
    from transformers.utils import logging  # not at the start of every command

    shown, told = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    if not advice:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(told)
        if shown:
            logging.enable_progress_bar()


def say(message: str) -> None:
    """Print a line for the person at the terminal, on standard error (results go to standard output)."""
    console.print(message, highlight=False, soft_wrap=True)
