"""Training steps recorded once for each shape of a batch, and replayed: CUDA graphs.

A small model's step is thousands of short kernels, which one thread launches more slowly than a card runs them. A
recording is launched at once, with the batch in the place of the one it was made with. It has no choices left to
make, so a module says (``replayable``) that what its forward does depends on the shapes of a batch alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.markup import escape
from torch import Tensor, nn

from oovrec.errors import OovrecError, brief
from oovrec.progress import say

SIGHTINGS = 3  # a shape is recorded when it comes for this time; once or twice it is not worth it
MOST = 64  # recordings

Tensors = Mapping[str, Tensor | list[Tensor]]
Gradients = Callable[[Tensors], Tensor]
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]


@dataclass(frozen=True)
class Recording:
    """A step on batches of one shape.

    Attributes:
        inputs: where it reads the batch.
        loss: where it leaves the loss.
        gradients: of each parameter it moves, where it leaves them.
        replay: does it again.
    """

    inputs: Tensors
    loss: Tensor
    gradients: dict[nn.Parameter, Tensor]
    replay: Callable[[], None]

    def __call__(self, batch: Tensors) -> Tensor:
        for name, value in self.inputs.items():
            for there, here in zip(_listed(value), _listed(batch[name]), strict=True):
                there.copy_(pinned(here, there.device), non_blocking=True)
        for parameter, gradient in self.gradients.items():
            parameter.grad = gradient
        self.replay()
        return self.loss.clone()


class Replayed:
    """``gradients`` of batches, replayed where it has been recorded.

    What cannot be recorded (the device is asked for a value in between, or has no memory for it) is done as before.

    Args:
        gradients: makes the gradients of a batch, where the parameters have none, and returns its loss.
        module: the parameters.
        device: of the module.
        record: runs a function, and returns its result and what runs it again, into the same result.
    """

    def __init__(self, gradients: Gradients, module: nn.Module, device: torch.device, record: Record) -> None:
        self.gradients, self.device, self.record = gradients, device, record
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.seen: Counter[Any] = Counter()
        self.recorded: dict[Any, Recording] = {}
        self.shared: dict[nn.Parameter, Tensor] = {}  # all recordings leave a parameter's gradient in one place
        self.failed = False

    def __call__(self, batch: Tensors) -> Tensor:
        shapes = tuple((name, *(part.shape for part in _listed(value))) for name, value in batch.items())
        if shapes in self.recorded:
            return self.recorded[shapes](batch)
        loss = self.gradients(batch)
        self.seen[shapes] += 1
        if self.seen[shapes] == SIGHTINGS and len(self.recorded) < MOST:
            recording = self._recorded(batch)
            if recording is not None:
                self.recorded[shapes] = recording
        return loss

    def _recorded(self, batch: Tensors) -> Recording | None:
        """A recording of the batch's step, whose gradients were just made and stay what they are."""
        made = {parameter: parameter.grad for parameter in self.parameters if parameter.grad is not None}
        places = {p: self.shared.setdefault(p, torch.zeros_like(gradient)) for p, gradient in made.items()}
        inputs = {name: moved(value, self.device) for name, value in batch.items()}

        def step() -> Tensor:
            torch._foreach_zero_(list(places.values()))
            return self.gradients(inputs)

        try:
            for parameter, place in places.items():
                parameter.grad = place
            loss, replay = self.record(step)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not self.failed:
                reason = " ".join(str(error).split())[:160]
                told = f"some steps go on without being recorded as a CUDA graph, which failed here ({reason})"
                say(escape(told))
            self.failed = True
            return None
        finally:
            for parameter, gradient in made.items():
                parameter.grad = gradient
        return Recording(inputs, loss, places, replay)


def replayed(gradients: Gradients, module: nn.Module, device: torch.device) -> Gradients:
    """``gradients``, recorded and replayed where the device can and the module may be."""
    if device.type != "cuda" or not getattr(module, "replayable", False):
        return gradients
    return Replayed(gradients, module, device, CudaGraphs())


class CudaGraphs:
    """Records CUDA graphs, which share their memory: only one of them runs at a time."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = run()
        return result, graph.replay


def moved(value: Tensor | list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    """A part of a batch on ``device``.

    Raises:
        OovrecError: it is something else, as a system of another package may make it.
    """
    if isinstance(value, Tensor):
        return pinned(value, device).to(device, non_blocking=True)
    if not isinstance(value, list) or not all(isinstance(one, Tensor) for one in value):
        what = "a batch of the system's epoch() holds what is neither a tensor nor a list of tensors"
        raise OovrecError(what, remedy=f"make a tensor of {brief(repr(value))}")
    return [pinned(tensor, device).to(device, non_blocking=True) for tensor in value]


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor``, for a card in memory that it can fetch from by itself while the processor goes on."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def _listed(value: Tensor | list[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else value
