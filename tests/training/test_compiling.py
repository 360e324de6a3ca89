"""Training through torch.compile, and without it where it fails: the same weights either way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.training import loop
from oovrec.training.compiling import compiled
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch, train

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """With dropout, so that a step done twice from another state of the generator would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.map = nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.map(x), 0.5, self.training).square().mean()


def epoch(rng: np.random.Generator) -> list[Batch]:
    return [lambda i=i: {"x": X[i : i + 8]} for i in range(0, 24, 8)]  # type: ignore[misc]


def trained(**options: Any) -> tuple[list[float], dict[str, Tensor]]:
    config = TrainingConfig(precision="fp32", epochs=2, **options)
    module = Net()
    logs = train(module, epoch, lambda: 0.0, config, seed=1, folder=None, resume=False, data="toy")
    assert [log.epoch for log in logs] == [1, 2]
    return [log.loss for log in logs], module.state_dict()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Makes ``torch.compile`` hand its graphs to the given function."""
    compile_with = torch.compile

    def use(made: Callable[..., Any]) -> None:
        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", lambda model, **options: compile_with(model, backend=made, **options))

    return use


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_compiler_that_fails_costs_a_line_and_changes_nothing(
    accumulate: int, backend: Callable[[Callable[..., Any]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def broken(graph: Any, inputs: Any) -> Any:
        calls.append(graph)
        raise RuntimeError("this machine has no compiler, see [/tmp/log]")

    backend(broken)
    expected, got = trained(compile=False, accumulate=accumulate), trained(compile=True, accumulate=accumulate)
    assert len(calls) == 1  # it is not tried again
    assert got[0] == expected[0]
    assert all(torch.equal(got[1][name], tensor) for name, tensor in expected[1].items())
    said = capsys.readouterr().err
    assert said.count("training goes on without torch.compile") == 1
    assert "this machine has no compiler, see [/tmp/log]" in " ".join(said.split())  # brackets are no markup


def test_a_platform_without_torch_compile_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("not supported on this platform")

    monkeypatch.setattr(torch, "compile", refuse)
    assert trained(compile=True)[0] == trained(compile=False)[0]
    assert capsys.readouterr().err.count("not supported on this platform") == 1


def test_what_compiles_is_run_compiled(backend: Callable[[Callable[..., Any]], None]) -> None:
    runs = []

    def counted(graph: Any, inputs: Any) -> Any:
        return lambda *values: runs.append(1) or graph(*values)

    backend(counted)
    expected, got = trained(compile=False), trained(compile=True)
    assert len(runs) == 6  # every batch
    assert got[0] == pytest.approx(expected[0], rel=1e-6)


def test_errors_of_the_model_itself_are_not_taken_for_the_compilers(
    backend: Callable[[Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(lambda graph, inputs: graph)

    def wrong(rng: np.random.Generator) -> list[Batch]:
        def batch() -> dict[str, Tensor]:
            raise ValueError("a broken batch")

        return [batch]

    with pytest.raises(ValueError, match="a broken batch"):
        train(Net(), wrong, lambda: 0.0, TrainingConfig(compile=True), seed=1, folder=None, resume=False, data="toy")


def test_auto_compiles_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **options: ("compiled", model))
    module = Net()
    assert compiled(module, TrainingConfig(), torch.device("cpu")) is module
    assert compiled(module, TrainingConfig(), torch.device("cuda")) == ("compiled", module)
    assert compiled(module, TrainingConfig(compile=False), torch.device("cuda")) is module
    module.replayable = True
    assert compiled(module, TrainingConfig(), torch.device("cuda")) is module
    assert compiled(module, TrainingConfig(compile=True), torch.device("cuda")) == ("compiled", module)


def test_a_step_whose_second_batch_cannot_be_compiled_is_done_whole_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another shape than the first: its losses and batches count once."""
    expected = trained(compile=False, accumulate=3)

    def failing(model: nn.Module, *_: Any) -> Callable[..., Any]:
        calls = iter(range(1, 3))

        def call(**batch: Any) -> Any:
            if next(calls) == 2:
                raise ArithmeticError("no kernel")
            return model(**batch)

        return call

    monkeypatch.setattr(loop, "compiled", failing)
    monkeypatch.setattr(loop, "failures", lambda: (ArithmeticError,))
    got = trained(accumulate=3)
    assert got[0] == expected[0]
    assert all(torch.equal(got[1][name], tensor) for name, tensor in expected[1].items())
