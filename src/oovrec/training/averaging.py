"""The mean of the latest weights, which is steadier than the weights themselves.

Each update leaves the weights somewhere around where they are heading; their exponential moving average (Polyak &
Juditsky 1992; Tarvainen & Valpola 2017) lies nearer to it, so that it ranks better and its validation jumps less from
one epoch to the next. Training itself does not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of what a module learns.

    Args:
        module: whose weights are averaged; all that it learns are, its buffers are not.
        epochs: over about how many of the latest epochs: an update has e times the weight of the one so long before.
    """

    def __init__(self, module: nn.Module, epochs: float) -> None:
        named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.epochs = epochs
        self.weights: dict[str, Tensor] = {name: parameter.detach().clone() for name, parameter in named.items()}
        self._parameters: list[Tensor] = list(named.values())

    @torch.no_grad()
    def take(self, done: int, epoch: int) -> None:
        """Take in the weights as update number ``done``, from 1, left them; an ``epoch`` has so many.

        The first updates count by their number, so that the weights that training began with are soon forgotten.
        """
        share = max(1 / (self.epochs * epoch), 2 / (done + 2))
        torch._foreach_lerp_(list(self.weights.values()), self._parameters, min(share, 1.0))

    def load(self, weights: dict[str, Tensor]) -> None:
        """Go on from the ``weights`` of another average of the same module; raises ValueError where they differ."""
        if weights.keys() != self.weights.keys():
            raise ValueError("the average is of another module")
        for name, weight in weights.items():
            self.weights[name].copy_(weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the module has the average in the place of its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self.weights.values(), strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
