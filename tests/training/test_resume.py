"""An interrupted training goes on to the same bits.

Also run as a program, by the tests that need a process to kill or two to work together.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oovrec.config import Options
from oovrec.errors import Interrupted, OovrecError
from oovrec.files import read_tensors, write_tensors
from oovrec.training import loop
from oovrec.training.checkpoint import Checkpoint, EpochLog, learnt, put
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch, train

BATCHES, EPOCHS = 5, 4
CONFIG = TrainingConfig(epochs=EPOCHS, learning_rate=0.01, precision="fp32", warmup_steps=3, schedule="cosine")


class ToyConfig(Options):
    """One option that must be given, one that need not."""

    width: int
    dropout: float = 0.1


class Toy(nn.Module):
    """Embedding, dropout and a softmax; a buffer of no dimension, as batch norms have."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))
        made = torch.Generator().manual_seed(2)
        self.table = nn.Parameter(torch.randn(11, 6, generator=made))
        self.bias = nn.Parameter(torch.zeros(11))
        self.dropout = nn.Dropout(dropout)

    def forward(self, items: Tensor, targets: Tensor) -> Tensor:
        self.seen += self.training
        logits = self.dropout(self.table[items]) @ self.table.T + self.bias
        return nn.functional.cross_entropy(logits, targets)


def toy_epoch(before: Callable[[], None] = lambda: None) -> Callable[[np.random.Generator], list[Batch]]:
    """Random batches; ``before`` is called as each is made."""

    def make(pair: np.ndarray) -> dict[str, Tensor]:
        before()
        return {"items": torch.from_numpy(pair[0]), "targets": torch.from_numpy(pair[1])}

    def epoch(rng: np.random.Generator) -> list[Batch]:
        return [lambda pair=pair: make(pair) for pair in rng.integers(0, 11, (BATCHES, 2, 8))]  # type: ignore[misc]

    return epoch


def toy_score(module: Toy) -> Callable[[], float]:
    return lambda: float(-module.table.abs().sum())


def toy_train(
    module: Toy, folder: Path | None, *, resume: bool = False, before: Callable[[], None] = lambda: None
) -> list[EpochLog]:
    return train(module, toy_epoch(before), toy_score(module), CONFIG, seed=9, folder=folder, resume=resume, data="toy")


def interrupting(when: int) -> Callable[[], None]:
    """Sends Ctrl-C to this process while the ``when``-th batch is made."""
    count = iter(range(1, 1000))

    def before() -> None:
        if next(count) == when:
            signal.raise_signal(signal.SIGINT)

    return before


@pytest.fixture(scope="module")
def whole() -> tuple[Toy, list[EpochLog]]:
    """A training that nothing interrupted."""
    module = Toy()
    return module, toy_train(module, None)


def assert_same(module: Toy, logs: list[EpochLog], whole: tuple[Toy, list[EpochLog]]) -> None:
    for (name, mine), reference in zip(module.state_dict().items(), whole[0].state_dict().values(), strict=True):
        assert torch.equal(mine, reference), name
    timeless = [[(log.epoch, log.loss, log.ndcg, log.learning_rate) for log in some] for some in (logs, whole[1])]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("when", [1, 7, BATCHES, BATCHES * EPOCHS])
def test_ctrl_c_then_resume_gives_the_same_bits(when: int, tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="--resume"):
        toy_train(Toy(), tmp_path, before=interrupting(when))
    assert signal.getsignal(signal.SIGINT) is handler  # as it was, whatever started the tests
    torch.manual_seed(77)  # another process would have another state
    module, counted = Toy(), []
    logs = toy_train(module, tmp_path, resume=True, before=lambda: counted.append(1))
    assert len(counted) == BATCHES * EPOCHS - when  # the step under way was finished and none is repeated
    assert_same(module, logs, whole)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_many_interruptions_give_the_same_bits(tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    for attempt in range(5):
        with pytest.raises(Interrupted):
            toy_train(Toy(), tmp_path, resume=attempt > 0, before=interrupting(3))
    module = Toy()
    assert_same(module, toy_train(module, tmp_path, resume=True), whole)


@pytest.mark.parametrize(("when", "said"), [(3, "nothing was kept yet"), (BATCHES + 2, "same command goes on from")])
def test_a_step_that_is_cut_short_says_whether_anything_was_kept(when: int, said: str, tmp_path: Path) -> None:
    """As a second Ctrl-C does; the first state is that of the first epoch's end."""
    count = iter(range(1, 1000))

    def before() -> None:
        if next(count) == when:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=said):
        toy_train(Toy(), tmp_path, before=before)


def test_ctrl_c_tells_of_the_last_epoch_that_is_trained(tmp_path: Path) -> None:
    """Where a training is to stop before its schedule ends."""
    short, epoch = CONFIG.model_copy(update={"stop_after": 3}), toy_epoch(interrupting(BATCHES + 2))
    with pytest.raises(Interrupted, match="stopped in epoch 2 of 3;"):
        train(Toy(), epoch, None, short, seed=9, folder=tmp_path, resume=False, data="toy")


def test_ctrl_c_in_validation_stops_at_once(tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    def validate() -> float:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("validation went on")

    with pytest.raises(Interrupted, match="epoch 1 of 4"):
        train(Toy(), toy_epoch(), validate, CONFIG, seed=9, folder=tmp_path, resume=False, data="toy")
    module, counted = Toy(), []
    assert_same(module, toy_train(module, tmp_path, resume=True, before=lambda: counted.append(1)), whole)
    assert len(counted) == BATCHES * (EPOCHS - 1)


def test_ctrl_c_while_the_last_state_is_written_is_not_lost(
    tmp_path: Path, whole: tuple[Toy, list[EpochLog]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what comes after the training, a comparison's other systems, would go on."""
    write, written = Checkpoint.write, []

    def interrupted(self: Checkpoint, *state: Any) -> None:
        written.append(1)
        if len(written) == EPOCHS:
            signal.raise_signal(signal.SIGINT)
        write(self, *state)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", interrupted)
        with pytest.raises(Interrupted, match=r"epoch 4 of 4.*--resume"):
            toy_train(Toy(), tmp_path)
    module = Toy()
    logs = toy_train(module, tmp_path, resume=True, before=lambda: pytest.fail("it trained again"))
    assert_same(module, logs, whole)


def test_a_second_ctrl_c_stops_in_the_middle_of_a_step(tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step went on")

    with pytest.raises(Interrupted):
        toy_train(Toy(), tmp_path, before=interrupting(BATCHES + 2))
    with pytest.raises(Interrupted):
        toy_train(Toy(), tmp_path, resume=True, before=twice)
    module = Toy()
    assert_same(module, toy_train(module, tmp_path, resume=True), whole)


def test_kill_at_any_moment_leaves_a_resumable_state(tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    """A process that writes its state all the time is killed twice; what it left goes on to the same bits."""
    log = tmp_path / "log.jsonl"
    for attempt in range(2):
        program = [sys.executable, __file__, "slowly", str(tmp_path), *(["--resume"] if attempt else [])]
        lines = len(log.read_text().splitlines()) if attempt else 0
        with subprocess.Popen(program) as process:
            while not (log.exists() and len(log.read_text().splitlines()) > lines):
                assert process.poll() is None, "ended before it could be killed"
                time.sleep(0.01)
            time.sleep(0.05 * attempt + 0.03)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    module, counted = Toy(), []
    assert_same(module, toy_train(module, tmp_path, resume=True, before=lambda: counted.append(1)), whole)
    assert 0 < len(counted) < BATCHES * (EPOCHS - 1)


def test_a_finished_training_gives_its_weights_back(tmp_path: Path, whole: tuple[Toy, list[EpochLog]]) -> None:
    toy_train(Toy(), tmp_path)
    kept = load_file(tmp_path / "checkpoint" / "state.safetensors")
    assert {name.split(".")[0] for name in kept} == {"best"}  # moments are not worth keeping any more
    module = Toy()
    logs = toy_train(module, tmp_path, resume=True, before=lambda: pytest.fail("it trained again"))
    assert_same(module, logs, whole)


def test_a_new_training_forgets_the_old_one(tmp_path: Path) -> None:
    toy_train(Toy(), tmp_path)
    with pytest.raises(Interrupted):
        toy_train(Toy(), tmp_path, before=interrupting(2))
    assert not (tmp_path / "log.jsonl").exists()


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(Interrupted):
        toy_train(Toy(), tmp_path, before=interrupting(7))
    return tmp_path


@pytest.mark.parametrize(
    "change, named",
    [
        ({"seed": 8}, "seed = 9, not 8"),
        ({"data": "other"}, "data = toy, not other"),
        ({"config": CONFIG.model_copy(update={"learning_rate": 0.02})}, "training.learning_rate = 0.01, not 0.02"),
        ({"marks": {"system": "sasrec"}}, "model.system = None, not sasrec"),
        ({"model": ToyConfig(width=8, dropout=0.4)}, "model.dropout = 0.1, not 0.4"),
        ({"model": ToyConfig(width=8)}, "model.width = None, not 8"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict, named: str, interrupted: Path) -> None:
    given = {"seed": 9, "data": "toy", "config": CONFIG, **change}
    config = given.pop("config")
    with pytest.raises(OovrecError, match=named):
        train(Toy(), toy_epoch(), lambda: 0.0, config, folder=interrupted, resume=True, **given)


def test_a_state_from_before_an_option_was_there_goes_on_with_its_default(
    interrupted: Path, whole: tuple[Toy, list[EpochLog]]
) -> None:
    path = interrupted / "checkpoint" / "state.safetensors"
    arrays, header = read_tensors(path)
    settings = json.loads(header["settings"])
    del settings["training.validate_days"], settings["training.skipped"]
    write_tensors(path, arrays, header | {"settings": json.dumps(settings)})
    module, given = Toy(), {"seed": 9, "folder": interrupted, "resume": True, "data": "toy"}
    with pytest.raises(OovrecError, match=r"training.validate_days = 0, not 14"):
        train(module, toy_epoch(), toy_score(module), CONFIG.model_copy(update={"validate_days": 14}), **given)
    assert_same(module, toy_train(module, interrupted, resume=True), whole)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match="no training to resume here; start without --resume"):
        toy_train(Toy(), tmp_path, resume=True)


def test_a_truncated_state(interrupted: Path) -> None:
    path = interrupted / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(OovrecError, match=r"state\.safetensors: is not a whole safetensors file"):
        toy_train(Toy(), interrupted, resume=True)


def test_a_flipped_bit(interrupted: Path) -> None:
    path = interrupted / "checkpoint" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(OovrecError, match="was altered"):
        toy_train(Toy(), interrupted, resume=True)


def test_a_state_of_something_else(interrupted: Path) -> None:
    path = interrupted / "checkpoint" / "state.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(OovrecError, match="is not a state of this training; start again without --resume"):
        toy_train(Toy(), interrupted, resume=True)


def test_two_processes_equal_two_accumulated_batches(tmp_path: Path) -> None:
    """Each of two processes takes every other batch; their mean gradient is that of accumulating both."""
    program = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
        "together",
        str(tmp_path),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *program], check=True, env=environment, capture_output=True, timeout=300)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    alone = Toy(dropout=0.0)
    train_together(alone, accumulate=2)
    for name in ("table", "bias"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], alone.state_dict()[name], rtol=1e-5, atol=1e-6)


def train_together(module: Toy, accumulate: int) -> None:
    def even(rng: np.random.Generator) -> list[Batch]:
        return toy_epoch()(rng)[:4]

    config = CONFIG.model_copy(update={"accumulate": accumulate, "epochs": 1, "schedule": "constant"})
    train(module, even, lambda: 0.5, config, seed=9, folder=None, resume=False, data="toy")


if __name__ == "__main__":
    task, where = sys.argv[1], Path(sys.argv[2])
    if task == "slowly":
        loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = 0.0, 1e9
        toy_train(Toy(), where, resume="--resume" in sys.argv, before=lambda: time.sleep(0.03))
    else:
        toy = Toy(dropout=0.0)
        train_together(toy, accumulate=1)
        save_file(toy.state_dict(), where / f"{os.environ['RANK']}.safetensors")


@pytest.mark.parametrize("changes", [{"table": None}, {"other": torch.zeros(3)}])
def test_a_state_that_lacks_or_adds_a_weight_does_not_fit(changes: dict[str, torch.Tensor | None]) -> None:
    module = Toy()
    state = {name: value for name, value in {**learnt(module), **changes}.items() if value is not None}
    with pytest.raises(RuntimeError, match="of another module"):
        put(module, state)


def test_a_frozen_weight_that_has_two_names_is_not_kept() -> None:
    module = nn.ModuleDict({"one": nn.Embedding(3, 2), "other": nn.Linear(2, 3)})
    module["other"].weight = module["one"].weight.requires_grad_(False)
    assert learnt(module).keys() == {"other.bias"}


def test_a_log_that_was_not_written_any_more_is_when_the_training_goes_on(tmp_path: Path) -> None:
    """As after a kill between the state's writing and the log's."""
    toy_train(Toy(), tmp_path)
    (tmp_path / "log.jsonl").unlink()
    toy_train(Toy(), tmp_path, resume=True)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == EPOCHS


def test_the_time_before_an_interruption_counts(tmp_path: Path) -> None:
    stop = interrupting(2)

    def slowly() -> None:
        time.sleep(0.15)
        stop()

    with pytest.raises(Interrupted):
        toy_train(Toy(), tmp_path, before=slowly)
    first, second, *_ = toy_train(Toy(), tmp_path, resume=True)
    assert first.seconds >= 0.3 > second.seconds
    assert first.samples_per_second == pytest.approx(5 * 8 / first.seconds)
