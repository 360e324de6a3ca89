"""The one training loop: any module whose forward takes a batch by keyword and returns its loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from oovrec.config import Options, defaults
from oovrec.errors import Diverged, Interrupted, OovrecError, out_of_memory
from oovrec.memory import Kept, give_back
from oovrec.progress import Bar
from oovrec.training.checkpoint import Checkpoint, EpochLog, Progress, Weights, put, weights
from oovrec.training.compiling import compiled, failures, say_not_compiled
from oovrec.training.config import TrainingConfig
from oovrec.training.group import accelerator as shared_accelerator
from oovrec.training.interrupts import Interrupts
from oovrec.training.optimizer import adamw, autocast, learning_rate
from oovrec.training.recording import Gradients, Tensors, moved, replayed

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = Callable[[], Tensors]
Epoch = Callable[[np.random.Generator], Sequence[Batch]]

CHECKPOINT_SECONDS = 60.0  # between two states inside an epoch
CHECKPOINT_SHARE = 0.05  # of the time may go into them: where writing is slow, they are rarer
LOOK = 10  # updates between two looks at the loss on an accelerator, which each look has to wait for


def train(
    module: nn.Module,
    epoch: Epoch,
    validate: Callable[[], float] | None,
    config: TrainingConfig,
    *,
    seed: int,
    folder: Path | None,
    resume: bool,
    data: str,
    model: Options | None = None,
    marks: Mapping[str, Any] | None = None,
) -> list[EpochLog]:
    """Train ``module`` in place; it ends on the accelerator, in eval mode, with the weights of its best epoch.

    Without validation it learns for all epochs and ends with the last one's weights.

    The batches of an epoch are drawn from a generator of (seed, epoch), dropout in a batch from one of
    (seed, epoch, batch, process): a training that was interrupted anywhere goes on as if it had not been, on a
    processor to the last bit. With several processes (``accelerate launch``) each takes every n-th batch.

    Args:
        module: called with a batch's tensors by keyword; returns the loss, a scalar.
        epoch: lists an epoch's batches, each a function that makes its tensors (or lists of them), the
            first of which has a row a sample.
        validate: a figure to maximise (validation ndcg@10); called in eval mode, without gradients. None where nothing
            is held out to validate by.
        config: the shared options.
        seed: of every random choice.
        folder: ``log.jsonl`` and ``checkpoint/`` go there; None keeps nothing.
        resume: go on from the state in ``folder``; a finished training gives its weights and log back.
        data: fingerprint of the data.
        model: options of the model.
        marks: what else a state must have been trained with. One of another seed, data, config, model or mark is
            refused; an option that is younger than the state counts there as its default.

    Returns:
        One entry an epoch.

    Raises:
        OovrecError: nothing (fitting) to resume; the loss is not a number; out of memory or disk.
        Interrupted: Ctrl-C; the state is kept.
    """
    accelerator = shared_accelerator()
    settings = {"seed": seed, "data": data, "processes": accelerator.num_processes}
    settings |= _of("training", config.model_dump(mode="json")) | _of("model", marks or {})
    unset = _of("training", defaults(TrainingConfig))
    if model is not None:
        settings |= _of("model", model.model_dump(mode="json"))
        unset |= _of("model", defaults(type(model)))
    checkpoint = Checkpoint(folder, settings, unset)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # dropout draws from torch's global generator: leave that as it was
        return _Training(accelerator, module, epoch, validate, config, seed, checkpoint).run(resume)


def _of(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}


class _Training:
    """One training under way: what :func:`train` is given, and how far it has come."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        epoch: Epoch,
        validate: Callable[[], float] | None,
        config: TrainingConfig,
        seed: int,
        checkpoint: Checkpoint,
    ) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.module, self.epoch, self.validate = module.to(self.device), epoch, validate
        self.config, self.seed, self.checkpoint = config, seed, checkpoint
        self.optimizer = adamw(self.module, config)
        self.plain = accelerator.prepare(self.module)
        self.model = compiled(self.plain, config, self.device)
        self.gradients: Gradients = self._gradients
        if accelerator.num_processes == config.accumulate == 1 and self.model is self.plain:  # a step is a batch
            self.gradients = replayed(self._gradients, self.module, self.device)
        self.progress = Progress()
        self.best: Weights | None = None
        self.interrupts = Interrupts()
        self.bar: Bar | None = None
        self.averaged = 1  # batches of the update under way; an epoch's last one may have fewer
        self.unread: list[Tensor] = []  # losses not yet fetched from the device
        self.kept = Kept()
        self.checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS

    def run(self, resume: bool) -> list[EpochLog]:
        if resume:
            self.progress, self.best = self.checkpoint.read(self.module, self.optimizer)
        elif self.accelerator.is_main_process:
            self.checkpoint.clear()
        try:
            with self.interrupts:
                self._epochs()
                if self.interrupts.requested:  # while the last state was written
                    raise self._interrupted()
        except KeyboardInterrupt as error:  # a second Ctrl-C, in the middle of a step
            raise self._interrupted() from error
        if self.best is not None:
            put(self.module, self.best)
        self.module.eval()
        return self.progress.logs

    def _epochs(self) -> None:
        if self.progress.finished:
            return
        batches = self._batches()
        left = len(batches) * (self.config.last_epoch - self.progress.epoch + 1) - self.progress.batch
        if self.config.max_steps:
            left = min(left, (self.config.max_steps - self.progress.updates) * self.config.accumulate)
        main = self.accelerator.is_main_process
        with Bar("training", left, "batches") if main else nullcontext() as self.bar:
            while True:
                self._learn(batches)
                self._close_epoch()
                if self.progress.finished:
                    return
                batches = self._batches()

    def _batches(self) -> list[Batch]:
        """This process's share of the epoch under way; the first batches again where the count does not divide."""
        batches = self.epoch(np.random.default_rng([self.seed, self.progress.epoch]))
        if not batches:
            raise OovrecError("there is nothing to learn from", remedy="give histories of at least two training items")
        step = self.accelerator.num_processes
        places = range(self.accelerator.process_index, math.ceil(len(batches) / step) * step, step)
        return [batches[place % len(batches)] for place in places]

    @property
    def _enough(self) -> bool:
        return 0 < self.config.max_steps <= self.progress.updates

    def _over(self, total: int) -> bool:
        """Whether the epoch of ``total`` batches is."""
        return self.progress.batch == total or self._enough

    def _learn(self, batches: list[Batch]) -> None:
        """The rest of the epoch's updates."""
        self.module.train()
        began, before = time.monotonic(), self.progress.seconds
        total = len(batches)
        while not self._over(total):
            some = batches[self.progress.batch : self.progress.batch + self.config.accumulate]
            with _memory(self.config.batch_size):
                self._try_update(some, total)
            if self.device.type == "cpu" or self.progress.updates % LOOK == 0 or self._over(total):
                self._read_losses()
                self.kept.stepped()
                self.progress.seconds = before + time.monotonic() - began
                self._keep_or_stop()
            if self.bar is not None:
                self.bar.advance(len(some), self._note())

    def _try_update(self, batches: list[Batch], total: int) -> None:
        """:meth:`_update`, a second time without ``torch.compile`` if that fails."""
        if self.model is self.plain:
            return self._update(batches, total)
        before, read = replace(self.progress), len(self.unread)
        try:
            self._update(batches, total)
        except failures() as error:
            say_not_compiled(error)
            self.model, self.progress = self.plain, before
            del self.unread[read:]
            self.optimizer.zero_grad()
            self._update(batches, total)

    def _update(self, batches: list[Batch], total: int) -> None:
        """One optimiser step over ``batches`` of the epoch's ``total``; their gradients are averaged."""
        done = (self.progress.epoch - 1 + self.progress.batch / total) / self.config.epochs
        if self.config.max_steps:
            done = max(done, self.progress.updates / self.config.max_steps)
        self.progress.rate = learning_rate(self.config, self.progress.updates, done)
        self.averaged = len(batches)
        for number, batch in enumerate(batches, 1):
            key = [self.seed, self.progress.epoch, self.progress.batch, self.accelerator.process_index]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            tensors = batch()
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.plain):
                self.unread.append(self.gradients(tensors))
            self.progress.batch += 1
            self.progress.samples += len(next(iter(tensors.values()))) * self.accelerator.num_processes
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.progress.rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.updates += 1

    def _gradients(self, batch: Tensors) -> Tensor:
        """Add the gradients of a batch to what the parameters have; returns its loss."""
        with autocast(self.config, self.device):
            loss = self.model(**{name: moved(value, self.device) for name, value in batch.items()})
        _check_loss(loss)
        self.accelerator.backward(loss / self.averaged)
        return loss.detach()

    def _read_losses(self) -> None:
        losses = torch.stack(self.unread)
        if self.accelerator.num_processes > 1:  # so that the state, which one of them writes, is of all
            losses = self.accelerator.reduce(losses, "mean")
        for loss in losses.tolist():
            if not math.isfinite(loss):
                where = f"epoch {self.progress.epoch}, batch {self.progress.batch}"
                remedy = f"lower training.learning_rate (it is {self.config.learning_rate:g})"
                raise Diverged("the loss is no longer a number", where=where, remedy=remedy)
            self.progress.loss += loss
        self.unread.clear()

    def _keep_or_stop(self) -> None:
        if self.interrupts.requested:
            self.accelerator.set_trigger()
        if self.accelerator.check_trigger():  # in any process
            self._keep()
            raise self._interrupted()
        if time.monotonic() >= self.checkpoint_at:
            self._keep()

    def _keep(self) -> None:
        began = time.monotonic()
        if self.accelerator.is_main_process:
            self.checkpoint.write(self.progress, self.module, self.optimizer, self.best)
        ended = time.monotonic()
        self.checkpoint_at = ended + max(CHECKPOINT_SECONDS, (ended - began) / CHECKPOINT_SHARE)

    def _interrupted(self) -> Interrupted:
        place = f"stopped in epoch {self.progress.epoch} of {self.config.last_epoch}"
        if self.checkpoint.folder is None:
            return Interrupted(f"{place}; nothing was kept, as no run folder was given.")
        if not self.checkpoint.kept:
            return Interrupted(f"{place}; nothing was kept yet, so that the same command begins anew.")
        goes_on = f"the same command goes on from there ({self.checkpoint.folder})"
        return Interrupted(f"{place}; {goes_on}, of 'train', 'retrain' and 'run' with --resume.")

    def _close_epoch(self) -> None:
        """Validate where it is time to, write the log and the state, decide whether to go on."""
        state, config = self.progress, self.config
        last = state.epoch >= config.last_epoch or self._enough
        due = state.epoch % config.validate_every == 0 or last
        ndcg = self._validated(self.validate) if due and self.validate else None
        loss, speed = state.loss / state.batch, state.samples / max(state.seconds, 1e-9)
        state.logs.append(EpochLog(state.epoch, loss, ndcg, state.seconds, speed, state.rate))
        if ndcg is not None:
            better = state.best is None or ndcg > state.best
            state.waited = 0 if better else state.waited + 1
            if better:
                state.best, self.best = ndcg, weights(self.module)
        state.finished = last or state.waited >= config.patience
        if state.finished and self.best is None:  # nothing validated
            self.best = weights(self.module)
        if not state.finished:
            state.begin_next()
        self._keep()
        give_back()

    def _validated(self, validate: Callable[[], float]) -> float:
        self.module.eval()
        try:
            with self.interrupts.at_once(), torch.no_grad(), autocast(self.config, self.device):
                return self._mean(validate())
        except KeyboardInterrupt as error:  # validation changes nothing, so the state is whole
            self._keep()
            raise self._interrupted() from error

    def _mean(self, value: float) -> float:
        """Over the processes, so that all decide alike."""
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(self.accelerator.reduce(mine, "mean"))

    def _note(self) -> str:
        state = self.progress
        loss = f"loss {state.loss / max(state.batch, 1):.3f}"
        best = "" if state.best is None else f"  best ndcg@10 {state.best:.4f}"
        return f"epoch {state.epoch}/{self.config.last_epoch}  {loss}{best}"


def _check_loss(loss: Any) -> None:
    """Make sure that a module, which may be another package's, gave a loss to learn from.

    Raises:
        OovrecError: it did not.
    """
    if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
        kind = f"a tensor of the shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        what = f"gives {kind} and not a loss, a scalar that depends on its weights"
        raise OovrecError(what, where="the forward of the system's module", remedy="return the batch's mean loss")


@contextmanager
def _memory(batch_size: int) -> Iterator[None]:
    """Turns running out of memory into an error that names the option to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not out_of_memory(error):
            raise
        raise OovrecError(
            "out of memory", where="training", remedy=f"lower training.batch_size (it is {batch_size})"
        ) from error
