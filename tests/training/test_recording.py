"""Recorded steps: what is replayed gives the losses and gradients of the steps themselves.

A recording here runs the function again, as a CUDA graph runs its kernels; on a card the graphs themselves are tried.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oovrec.errors import OovrecError
from oovrec.training import recording
from oovrec.training.recording import SIGHTINGS, CudaGraphs, Replayed, Tensors, moved, replayed

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Repeater:
    """Runs the recorded function again and leaves its result, and the gradients, in the same tensors."""

    def __init__(self, module: nn.Module) -> None:
        self.replays, self.parameters = 0, list(module.parameters())

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        result, places = run(), [parameter.grad for parameter in self.parameters]

        def replay() -> None:
            self.replays += 1
            before = [parameter.grad for parameter in self.parameters]
            self._give(places)
            result.copy_(run())
            self._give(before)

        return result, replay

    def _give(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient


class Net(nn.Module):
    """A linear map with dropout, and a part that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor, more: list[Tensor]) -> Tensor:
        return nn.functional.dropout(self.used(torch.cat([x, *more])), 0.5).square().sum()


def steps(device: str) -> tuple[Net, Callable[[Tensors], Tensor]]:
    torch.manual_seed(0)
    module = Net().to(device)

    def gradients(batch: Tensors) -> Tensor:
        loss: Tensor = module(**{name: moved(value, torch.device(device)) for name, value in batch.items()})
        loss.backward()
        return loss.detach()

    return module, gradients


def batch(number: int, rows: int) -> dict[str, Tensor | list[Tensor]]:
    rng = torch.Generator().manual_seed(number)
    return {"x": torch.randn(rows, 3, generator=rng), "more": [torch.randn(2, 3, generator=rng)]}


@pytest.mark.parametrize("device", DEVICES)
def test_replayed_steps_are_the_same(device: str) -> None:
    (module, plain), (other, gradients) = steps(device), steps(device)
    repeater = Repeater(other)
    replayed = Replayed(gradients, other, torch.device(device), repeater if device == "cpu" else CudaGraphs())
    optimisers = [torch.optim.AdamW(net.parameters(), weight_decay=0.5) for net in (module, other)]
    losses: list[list[Tensor]] = [[], []]
    for number in range(12):
        for at, step in enumerate((plain, replayed)):
            torch.manual_seed(number)
            losses[at].append(step(batch(number, rows=4 + number % 2)))
            optimisers[at].step()
            optimisers[at].zero_grad()
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=0)
    for mine, theirs in zip(other.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)  # the unused ones have not decayed either
    assert len(replayed.recorded) == 2
    if device == "cpu":
        assert repeater.replays == 12 - 2 * SIGHTINGS


def test_what_cannot_be_recorded_is_done_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    tries = []

    def fails(run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        tries.append(run())
        raise RuntimeError("operation not permitted when stream is capturing")

    (module, plain), (other, gradients) = steps("cpu"), steps("cpu")
    replayed = Replayed(gradients, other, torch.device("cpu"), fails)
    for number in range(2 * SIGHTINGS + 2):
        for net, step in ((module, plain), (other, replayed)):
            torch.manual_seed(number)
            step(batch(number, rows=4 + number % 2))
            assert net.unused.weight.grad is None
        torch.testing.assert_close(other.used.weight.grad, module.used.weight.grad, rtol=0, atol=0)
        for net in (module, other):
            net.zero_grad()
    assert len(tries) == 2  # of each shape once
    assert capsys.readouterr().err.count("without being recorded") == 1


def test_there_are_only_so_many_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST", 1)
    module, gradients = steps("cpu")
    replayed = Replayed(gradients, module, torch.device("cpu"), Repeater(module))
    for number in range(2 * SIGHTINGS):
        module.zero_grad()
        replayed(batch(number, rows=4 + number % 2))
    assert len(replayed.recorded) == 1


@pytest.mark.parametrize("value", [2.5, [1, 2], [np.zeros(2)]])
def test_a_batch_holds_tensors_alone(value: object) -> None:
    with pytest.raises(OovrecError, match="holds what is neither a tensor nor a list of tensors; make a tensor of"):
        moved(value, torch.device("cpu"))  # type: ignore[arg-type]


def test_batches_are_of_one_shape_where_every_part_is() -> None:
    """Of a list too: a smaller part would be spread over the place of a larger one, and nobody told."""
    (module, plain), (other, gradients) = steps("cpu"), steps("cpu")
    recorded = Replayed(gradients, other, torch.device("cpu"), Repeater(other))
    for number in range(2 * SIGHTINGS + 2):
        parts = batch(number, rows=4) | {"more": [torch.ones(2, 3), torch.full((1 + number % 2, 3), float(number))]}
        losses = []
        for step in (plain, recorded):
            torch.manual_seed(number)
            losses.append(step(parts))
        for net in (module, other):
            net.zero_grad()
        assert losses[0] == losses[1]


def test_what_a_module_may_not_replay_and_what_is_on_no_card_is_not_recorded() -> None:
    module, gradients = steps("cpu")
    assert replayed(gradients, module, torch.device("cuda")) is gradients
    module.replayable = True
    assert replayed(gradients, module, torch.device("cpu")) is gradients
