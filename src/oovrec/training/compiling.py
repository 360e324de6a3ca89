"""``torch.compile`` where it helps; a model that cannot be compiled is trained as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rich.markup import escape
from torch import nn

from oovrec.progress import say
from oovrec.training.config import TrainingConfig


def compiled(model: nn.Module, config: TrainingConfig, device: torch.device) -> Callable[..., Any]:
    """``model`` to be called through ``torch.compile`` if ``config`` wants it on ``device``, else itself.

    Compiling happens at the first call and may fail there, with one of :func:`failures`. A model whose steps are
    recorded instead (``replayable``, see :mod:`oovrec.training.recording`) is left alone unless told otherwise.
    """
    own = getattr(model, "module", model)  # of a model that is spread over several processes
    automatic = device.type == "cuda" and not getattr(own, "replayable", False)
    wanted = automatic if config.compile == "auto" else config.compile
    if not wanted:
        return model
    try:
        faster: Callable[..., Any] = torch.compile(model, dynamic=True)
    except RuntimeError as error:  # not for this platform or Python
        say_not_compiled(error)
        return model
    return faster


def failures() -> tuple[type[Exception], ...]:
    """What the first forward or backward pass raises where compiling fails."""
    from torch._dynamo.exc import TorchDynamoException  # slow to import: only who compiles should wait for it
    from torch._inductor.exc import InductorError

    return TorchDynamoException, InductorError


def say_not_compiled(error: Exception) -> None:
    """One line that tells why, and that nothing is lost but speed."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    told = f"training goes on without torch.compile, which failed here ({reason}); training.compile=false skips it"
    say(escape(told))
