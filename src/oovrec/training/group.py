"""Processes that train one model together (``accelerate launch``, ``torchrun``): the first of them writes its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def leading() -> bool:
    """Whether this is the first of them, or alone."""
    return int(os.environ.get("RANK", "0")) == 0


def meet() -> None:
    """Wait until all of them are here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        accelerator().wait_for_everyone()


def accelerator() -> Accelerator:
    """What the processes share a training by.

    Where there is no device but processors it has to be told so, or each of several processes takes itself for alone.
    """
    import torch  # neither before a command that trains nothing
    from accelerate import Accelerator

    # autocast is the loop's own, so that validation has the same
    return Accelerator(mixed_precision="no", cpu=not torch.accelerator.is_available())
