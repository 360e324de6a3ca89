"""The state of an unfinished training, in one file that is always whole.

``checkpoint/state.safetensors`` holds the weights that the module learns (``module.*``), the optimiser's moments
(``optimizer.*``), the best weights so far (``best.*``) and, in its header, a JSON of :class:`Progress` and of
the settings. One file, replaced in one step: a process killed at any moment leaves the old state or the
new one. Random generators need no place in it, as the loop derives each step's from the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from oovrec.errors import OovrecError
from oovrec.files import read_tensors, write_tensors, write_text


@dataclass(frozen=True)
class EpochLog:
    """One epoch of a training; a line of ``log.jsonl``.

    Attributes:
        epoch: from 1.
        loss: mean over the epoch's batches.
        ndcg: validation ndcg@10; None where this epoch was not validated.
        seconds: of training, validation not counted.
        samples_per_second: sequences (or prompts) a second of training.
        learning_rate: at the end of the epoch.
    """

    epoch: int
    loss: float
    ndcg: float | None
    seconds: float
    samples_per_second: float
    learning_rate: float


def best_epoch(log: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch whose weights are kept, of a log of :class:`EpochLog`'s values; None where nothing was validated."""
    validated = (epoch for epoch in log if epoch["ndcg"] is not None)
    return max(validated, key=lambda epoch: (epoch["ndcg"], -epoch["epoch"]), default=None)


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: the epoch under way, from 1.
        batch: batches of it that are done (of each process).
        updates: optimiser steps since the beginning.
        rate: the learning rate of the last one.
        loss: sum of the losses of those batches.
        samples: sequences (or prompts) in those batches.
        seconds: spent on those batches.
        best: the best validation so far; None before the first.
        waited: validations since then.
        finished: nothing is left to do.
        logs: the epochs that are done.
    """

    epoch: int = 1
    batch: int = 0
    updates: int = 0
    rate: float = 0.0
    loss: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0
    finished: bool = False
    logs: list[EpochLog] = field(default_factory=list)

    def begin_next(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch, self.loss, self.samples, self.seconds = self.epoch + 1, 0, 0.0, 0, 0.0


Weights = dict[str, Tensor]


def learnt(module: nn.Module) -> Weights:
    """A module's weights and buffers, without frozen weights: those are where they came from."""
    named = module.named_parameters(remove_duplicate=False)
    frozen = {name for name, parameter in named if not parameter.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def put(module: nn.Module, state: Weights) -> None:
    """Put back what :func:`learnt` gave; raises RuntimeError where it does not fit."""
    if state.keys() != learnt(module).keys():
        raise RuntimeError("the state is of another module")
    module.load_state_dict(state, strict=False)


def weights(module: nn.Module) -> Weights:
    """A copy of what :func:`learnt` gives, in main memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in learnt(module).items()}


class Checkpoint:
    """Reads and writes the state of one training.

    Args:
        folder: the run folder; None keeps nothing.
        settings: everything that must be the same when the training goes on (seed, data, options), by name.
        unset: what a setting is in a state that does not name it, for it came later.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], unset: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as it will be read back
        self.unset = unset

    @property
    def path(self) -> Path | None:
        """Where the state is kept."""
        return self.folder / "checkpoint" / "state.safetensors" if self.folder else None

    @property
    def kept(self) -> bool:
        """Whether there is a state to go on from."""
        return self.path is not None and self.path.is_file()

    def clear(self) -> None:
        """Forget an earlier training in the same folder."""
        if self.folder and self.path:
            self.path.unlink(missing_ok=True)
            (self.folder / "log.jsonl").unlink(missing_ok=True)

    def write(self, progress: Progress, module: nn.Module, optimizer: Optimizer, best: Weights | None) -> None:
        """Replace the state; of a finished training only the best weights are kept."""
        if self.folder is None or self.path is None:
            return
        tensors = {f"best.{name}": tensor for name, tensor in (best or {}).items()}
        if not progress.finished:
            tensors |= {f"module.{name}": tensor for name, tensor in learnt(module).items()}
            tensors |= _moments(optimizer)
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        header = {"progress": json.dumps(asdict(progress)), "settings": json.dumps(self.settings)}
        write_tensors(self.path, arrays, header)
        self._write_log(progress)

    def _write_log(self, progress: Progress) -> None:
        lines = [json.dumps(asdict(log)) + "\n" for log in progress.logs]
        if self.folder and lines:
            write_text(self.folder / "log.jsonl", "".join(lines))

    def read(self, module: nn.Module, optimizer: Optimizer) -> tuple[Progress, Weights | None]:
        """Put the state back into ``module`` and ``optimizer``; returns the progress and the best weights.

        Raises:
            OovrecError: there is no state, it is broken, or it belongs to other settings.
        """
        if self.path is None or not self.kept:
            remedy = "start without --resume, or give the folder of the interrupted run"
            raise OovrecError("there is no training to resume here", where=self.folder, remedy=remedy)
        arrays, header = read_tensors(self.path)
        try:
            stored = json.loads(header["progress"])
            progress = Progress(**{**stored, "logs": [EpochLog(**log) for log in stored["logs"]]})
            self._check(json.loads(header["settings"]))
            parts = _parts(arrays)
            if not progress.finished:
                put(module, parts["module"])
                _load_moments(optimizer, parts.get("optimizer", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            remedy = "start again without --resume"
            raise OovrecError("is not a state of this training", where=self.path, remedy=remedy) from error
        self._write_log(progress)
        return progress, parts.get("best")

    def _check(self, stored: dict[str, Any]) -> None:
        for name in sorted(stored.keys() | self.settings.keys()):
            then, now = stored.get(name, self.unset.get(name)), self.settings.get(name)
            if then != now:
                changed = f"the interrupted training had {name} = {then}, not {now}"
                raise OovrecError(
                    changed, where=self.path, remedy="give the same settings, or start again without --resume"
                )


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": tensor for index, moments in state.items() for name, tensor in moments.items()}


def _load_moments(optimizer: Optimizer, tensors: Weights) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parts(arrays: dict[str, np.ndarray]) -> dict[str, Weights]:
    """``module.embedding.weight`` becomes ``["module"]["embedding.weight"]``."""
    parts: dict[str, Weights] = {}
    for key, array in arrays.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = torch.from_numpy(array)
    return parts
