"""From exceptions to one sentence on standard error and an exit code."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from oovrec.errors import FULL, Interrupted, OovrecError, out_of_memory, refusal

BAD_INPUT, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """The commands; whatever a person can mend ends in a sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OovrecError as error:
            raise _exit(f"error: {error}", BAD_INPUT) from error
        except Interrupted as stop:
            raise _exit(str(stop), INTERRUPTED) from stop
        except KeyboardInterrupt as stop:
            raise _exit("stopped.", INTERRUPTED) from stop
        except Exception as error:
            if (sentence := _resources(error)) is None:
                raise
            raise _exit(f"error: {sentence}", BAD_INPUT) from error


def _resources(error: BaseException) -> str | None:
    """A sentence for want of memory or disk; None for anything else, which is a defect and keeps its traceback."""
    if refusal(error) in FULL:
        return "the disk is full; free some space or choose another --out."
    if out_of_memory(error):
        return "out of memory; lower training.batch_size, model.history or model.length with --set, or raise --k-core."
    return None


def _exit(sentence: str, code: int) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(code)
