"""Cells of the table of results, each filled by a process of its own, some side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.markup import escape

from oovrec.app.cells import Cell
from oovrec.app.page import duration
from oovrec.errors import Interrupted
from oovrec.progress import say

COMMAND = "from oovrec.app.cli import app; app()"
ERROR = "error: "
LOOK = 0.1  # seconds between two looks at the processes
CHILD = "OOVREC_CHILD"  # set for the processes begun here


def carry_out(cells: Sequence[Cell], jobs: int) -> dict[str, str]:
    """Fill ``cells`` in order, ``jobs`` at a time; a processor's threads are divided among them.

    Returns:
        The sentence of each cell that failed, by its name.

    Raises:
        Interrupted: Ctrl-C; the processes have kept their states.
    """
    waiting, running, failed = deque(cells), list[_Process](), dict[str, str]()
    threads = max(1, torch.get_num_threads() // jobs)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.popleft(), threads))
            time.sleep(LOOK)
            for process in [process for process in running if process.ended]:
                running.remove(process)
                failed |= process.outcome()
    except KeyboardInterrupt as error:
        for process in running:
            process.stop()
        raise Interrupted("stopped; the same command goes on from there.") from error
    return failed


class _Process:
    """A cell being filled by a process that says what it does in ``<run folder>.log``."""

    def __init__(self, cell: Cell, threads: int) -> None:
        self.cell, self.log = cell, Path(f"{cell.run.folder}.log")
        recipe, data = cell.run.recipe, cell.run.data
        words = [
            "bench",
            "cell",
            cell.recipe,
            "--data",
            data.source,
            "--seed",
            str(recipe.seed),
            "--out",
            str(cell.out),
        ]
        words += ["--from", recipe.tokens.built_from] if recipe.tokens else []
        words += ["--variant", cell.variant] if cell.variant else []
        words += [word for override in cell.overrides for word in ("--set", override)]
        environment = {**dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)), CHILD: "1"}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:  # another process may be at the same cell, and say so there
            self.begin = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *words],
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends: see live_with_parent
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on
            )
        say(escape(f"{cell.name}: begun; {self.log}"))

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def outcome(self) -> dict[str, str]:
        """Say how it went; its name and sentence where it failed."""
        if self.process.returncode == 0 and (result := self.cell.result()):
            raw, masked = (result.blocks[block]["ndcg@10"] for block in ("raw", "masked"))
            time_taken = duration(result.wall_seconds)
            say(escape(f"{self.cell.name}: ndcg@10 {raw:.4f} raw, {masked:.4f} masked; {time_taken}"))
            return {}
        said = self.log.read_bytes()[self.begin :].decode(errors="replace").strip().splitlines()
        errors = [line for line in said if line.startswith(ERROR)]
        sentence = (errors or said or ["it was killed."])[-1].removeprefix(ERROR)
        say(f"[bold red]{escape(self.cell.name)} failed:[/] {escape(sentence)}")
        return {self.cell.name: sentence}

    def stop(self) -> None:
        """Let it keep its state; a second Ctrl-C meanwhile ends it at once."""
        try:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
        except KeyboardInterrupt:
            self.process.kill()


def live_with_parent() -> None:
    """End a process that was begun here as soon as its standard input is closed: its parent is gone."""
    if CHILD not in os.environ:
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
