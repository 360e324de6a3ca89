"""The loop's arithmetic and manners, on modules small enough to follow by hand."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec import memory
from oovrec.errors import OovrecError
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch, train
from oovrec.training.optimizer import adamw, learning_rate


class Regression(nn.Module):
    """Mean squared error of a linear map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.map = nn.Linear(3, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.map(x)[:, 0], y)


X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 3


def in_batches(size: int) -> Callable[[np.random.Generator], list[Batch]]:
    def epoch(rng: np.random.Generator) -> list[Batch]:
        return [lambda i=i: {"x": X[i : i + size], "y": Y[i : i + size]} for i in range(0, len(X), size)]  # type: ignore[misc]

    return epoch


def run(
    module: nn.Module,
    *,
    batch: int = 8,
    validate: Callable[[], float] = lambda: 0.0,
    folder: Path | None = None,
    **options: Any,
):
    config = TrainingConfig(**{"precision": "fp32", "epochs": 3, "learning_rate": 0.05, **options})
    return train(module, in_batches(batch), validate, config, seed=1, folder=folder, resume=False, data="toy")


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda x: x.mean(dim=1), r"a tensor of the shape \(8,\)"),
        (lambda x: x.mean().detach(), r"a tensor of the shape \(\)"),
        (lambda x: x.mean().item(), "float"),
        (lambda x: None, "NoneType"),
    ],
)
def test_a_module_gives_a_loss_to_learn_from(loss: Callable[[Tensor], object], said: str) -> None:
    class Odd(Regression):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            return loss(self.map(x))

    with pytest.raises(OovrecError, match=f"system's module: gives {said} and not a loss, a scalar that depends on"):
        run(Odd())


def test_it_learns_what_torch_learns_by_hand() -> None:
    ours, theirs = Regression(), Regression()
    logs = run(ours, clip_norm=0.5)
    optimizer = torch.optim.AdamW(
        [{"params": [theirs.map.weight]}, {"params": [theirs.map.bias], "weight_decay": 0}], lr=0.05
    )
    losses = []
    for _ in range(3):
        for batch in in_batches(8)(np.random.default_rng()):
            optimizer.zero_grad()
            loss = theirs(**batch())
            loss.backward()
            losses.append(loss.item())
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
    # every epoch validates alike, so the first one's weights are the best and come back; compare what was logged
    assert [log.loss for log in logs] == pytest.approx([sum(losses[i : i + 3]) / 3 for i in (0, 3, 6)], rel=1e-5)


def test_it_stops_after_so_many_steps_whose_rates_fall_to_zero_by_then() -> None:
    whole, cut, validated = Regression(), Regression(), []
    every = run(whole, epochs=2)
    logs = run(cut, epochs=9, max_steps=5, validate=lambda: validated.append(1) or 0.0)
    assert [log.epoch for log in logs] == [1, 2]
    assert len(validated) == 2  # the epoch that breaks off is validated too
    assert logs[0].loss == every[0].loss
    other, losses = Regression(), []
    optimizer = adamw(other, TrainingConfig(learning_rate=0.05))
    for batch in [*in_batches(8)(np.random.default_rng()), *in_batches(8)(np.random.default_rng())][:5]:
        optimizer.zero_grad()
        losses.append(other(**batch()))
        losses[-1].backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
    assert logs[1].loss == pytest.approx(sum(loss.item() for loss in losses[3:]) / 2, rel=1e-6)
    assert run(Regression(), max_steps=5, schedule="cosine")[1].learning_rate == pytest.approx(
        0.05 * (1 + math.cos(math.pi * 4 / 5)) / 2
    )


@pytest.mark.parametrize(("accumulate", "size"), [(2, 8), (4, 16)])  # the last of four, over 24, has two alone
def test_accumulated_batches_equal_one_large_batch(accumulate: int, size: int) -> None:
    small, large = Regression(), Regression()
    run(small, batch=4, accumulate=accumulate, epochs=1, clip_norm=0.5)
    run(large, batch=size, epochs=1, clip_norm=0.5)
    for mine, theirs in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the optimiser meets them: AdamW itself would not tell their mean from their sum."""
    module, met = Regression(), []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *words: Any) -> Any:
        met.append(module.map.weight.grad.clone())
        return step(self, *words)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    run(module, batch=4, accumulate=4, epochs=1, clip_norm=0)
    other = Regression()
    other(X[:16], Y[:16]).backward()
    torch.testing.assert_close(met[0], other.map.weight.grad)


def test_an_epoch_that_is_no_better_does_not_end_the_waiting() -> None:
    assert len(run(Regression(), epochs=9, patience=2)) == 3  # all validate alike


def test_only_matrices_decay() -> None:
    module = Regression()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = adamw(module, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(module.map.weight, before[0] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(module.map.bias, before[1])


def test_rate_rises_then_falls_along_a_cosine() -> None:
    config = TrainingConfig(learning_rate=2.0, warmup_steps=4, schedule="cosine")
    assert [learning_rate(config, updates, 0.0) for updates in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert [learning_rate(config, 9, done) for done in (0, 0.5, 1)] == pytest.approx([2.0, 1.0, 0.0])
    held = TrainingConfig(learning_rate=2.0)
    assert learning_rate(held, 0, 0.9) == 2.0


def test_best_epoch_is_kept_and_patience_ends() -> None:
    module, seen, scores = Regression(), [], iter([0.1, 0.5, 0.4, 0.3, 0.9])

    def validate() -> float:
        assert not module.training
        assert not torch.is_grad_enabled()
        seen.append(module.map.weight.detach().clone())
        return next(scores)

    logs = run(module, validate=validate, epochs=5, patience=2)
    assert [log.ndcg for log in logs] == [0.1, 0.5, 0.4, 0.3]  # the fifth epoch never came
    assert torch.equal(module.map.weight, seen[1])
    assert not torch.equal(seen[1], seen[3])
    assert not module.training


def test_validation_every_other_epoch_and_at_the_end() -> None:
    logs = run(Regression(), epochs=5, validate_every=2)
    assert [log.ndcg is None for log in logs] == [True, False, True, False, False]


def test_log_file_holds_a_line_an_epoch(tmp_path: Path) -> None:
    logs = run(Regression(), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] == logs[2].loss < logs[0].loss
    assert all(log.samples_per_second == pytest.approx(24 / log.seconds) for log in logs)


def test_bf16_is_used_in_training_and_validation_alike() -> None:
    kinds = []

    class Probe(Regression):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            kinds.append(self.map(x).dtype)
            return super().forward(x, y)

    module = Probe()

    def validate() -> float:
        kinds.append(module.map(X).dtype)
        return 0.0

    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        kinds.clear()
        run(module, validate=validate, precision=precision, epochs=1)
        assert set(kinds) == {dtype}
        assert module.map.weight.dtype == torch.float32


def test_a_loss_that_is_no_number_is_an_error() -> None:
    module = Regression()

    def poisoned(rng: np.random.Generator) -> list[Batch]:
        return [lambda: {"x": X, "y": Y * torch.nan}]

    config = TrainingConfig(learning_rate=0.7)
    with pytest.raises(OovrecError, match=r"epoch 1, batch 1: .*lower training.learning_rate \(it is 0.7\)"):
        train(module, poisoned, lambda: 0.0, config, seed=1, folder=None, resume=False, data="toy")


@pytest.mark.parametrize("silent", [False, True])
def test_out_of_memory_names_the_batch_size(silent: bool) -> None:
    class Greedy(Regression):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            if silent:  # as cuDNN says it, seen on an H100 whose memory was full
                raise RuntimeError("Expected mha_graph.execute(handle, pack, workspace).is_good() to be true")
            return super().forward(x, torch.empty(1 << 55))

    with pytest.raises(OovrecError, match=r"out of memory; lower training.batch_size \(it is 8\)"):
        run(Greedy(), batch_size=8)


def test_another_runtime_error_is_not_taken_for_it() -> None:
    class Broken(Regression):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x[:, :2], y)

    with pytest.raises(RuntimeError, match="shapes"):
        run(Broken())


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(OovrecError, match="nothing to learn from"):
        train(
            Regression(), lambda rng: [], lambda: 0.0, TrainingConfig(), seed=1, folder=None, resume=False, data="toy"
        )


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    module, before = Regression(), torch.get_rng_state()
    run(module)
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_that_are_never_reached_leave_the_cosine_to_the_epochs() -> None:
    bounded, free = (run(Regression(), epochs=2, max_steps=steps, schedule="cosine") for steps in (1000, 0))
    assert [log.learning_rate for log in bounded] == [log.learning_rate for log in free]


def test_batches_and_dropout_are_drawn_from_the_seed_and_anew_each_time() -> None:
    orders: list[int] = []
    dropouts: list[float] = []

    class Noting(Regression):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            dropouts.append(float(torch.rand(())))
            return super().forward(x, y)

    def epoch(rng: np.random.Generator) -> list[Batch]:
        orders.append(int(rng.integers(2**63)))
        return in_batches(8)(rng)

    for seed in (1, 1, 2):
        config = TrainingConfig(epochs=2, precision="fp32")
        train(Noting(), epoch, lambda: 0.0, config, seed=seed, folder=None, resume=False, data="toy")
    for drawn, each in ((orders, 2), (dropouts, 6)):
        assert drawn[:each] == drawn[each : 2 * each]
        assert len({*drawn}) == 2 * each


def without_validation(module: nn.Module, folder: Path | None = None, *, resume: bool = False, **options: Any):
    config = TrainingConfig(precision="fp32", learning_rate=0.05, schedule="cosine", **options)
    return train(module, in_batches(8), None, config, seed=1, folder=folder, resume=resume, data="toy")


def test_what_stops_after_some_epochs_is_the_beginning_of_the_whole(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    whole = Regression()

    def validate() -> float:
        seen.append(whole.map.weight.detach().clone())
        return 0.0

    logs = run(whole, validate=validate, epochs=6, schedule="cosine")
    part = Regression()
    found = without_validation(part, tmp_path, epochs=6, stop_after=4)
    assert [(log.epoch, log.loss, log.learning_rate) for log in found] == [
        (log.epoch, log.loss, log.learning_rate) for log in logs[:4]
    ]
    assert {log.ndcg for log in found} == {None}
    assert torch.equal(part.map.weight, seen[3])
    assert not part.training
    again = Regression()
    assert without_validation(again, tmp_path, resume=True, epochs=6, stop_after=4) == found
    assert torch.equal(again.map.weight, seen[3])


def test_more_epochs_to_stop_after_than_there_are_are_all() -> None:
    assert len(without_validation(Regression(), epochs=2, stop_after=5)) == 2
    assert len(without_validation(Regression(), epochs=2)) == 2


def test_what_steps_leave_behind_is_given_back_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    held, given = itertools.count(100, 100), []
    monkeypatch.setattr(memory, "resident", lambda: next(held))
    monkeypatch.setattr(memory, "room", lambda _: 0)
    monkeypatch.setattr(memory, "give_back", lambda: given.append(1))
    run(Regression(), batch=4, epochs=1)  # six steps, after which 100, 200, ... are held
    assert len(given) == 3  # at 200, 400 and 600
