"""Processes that train one model together (``accelerate launch``, ``torchrun``): the first of them writes its files."""

from __future__ import annotations

import os


def leading() -> bool:
    """Whether this is the first of them, or alone."""
    return int(os.environ.get("RANK", "0")) == 0


def meet() -> None:
    """Wait until all of them are here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import Accelerator  # not before a command that trains nothing

        Accelerator(mixed_precision="no").wait_for_everyone()  # as the training's own: the first one decides for all
