"""``metrics.json`` and the files of ``results/``: what was measured, of what, with what, on what."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from oovrec.config import Options, checked
from oovrec.data.dataset import Until
from oovrec.errors import OovrecError
from oovrec.evaluation.protocol import HeldOut
from oovrec.files import read_json, write_json

TokensFrom = Literal["train", "all", "none"]
METRICS = ("hit@5", "ndcg@5", "hit@10", "ndcg@10", "mrr", "coverage@10")
BLOCKS = ("raw", "masked", "later_day_raw", "later_day_masked")
ROUNDING = 1e-9  # a mean may lie this far outside the interval of equal values
PACKAGES = ("oovrec", "torch", "transformers", "accelerate", "numpy", "numba", "scikit-learn", "polars")


class Result(Options):
    """One system's figures on one dataset with one seed.

    Attributes:
        system: the recommender's name.
        dataset: the dataset's name.
        tokens_from: what its tokens were built from; ``all`` saw held-out interactions, ``none``: no tokens.
        seed: of training and tokens.
        config_hash: of the recipe as it was run.
        commit: of oovrec's source; None outside a checkout.
        hardware: as :func:`hardware` describes it.
        wall_seconds: of training and evaluation together.
        blocks: as :meth:`oovrec.evaluation.protocol.Evaluation.blocks` gives them; ``raw`` and ``masked`` at least.
        tasks: as in :class:`oovrec.evaluation.protocol.Evaluation`; in files only where there are any.
        by_days: the like; in files only where test items were held out by time, and not in those of before 2026-11-29.
        added: items named after the training, by what told where they belong; in files only where there are any.
        settings_hash: of the recipe but for its seed; '' in files of before 2026-11-28.
        hold_out: how the test items were held out; in files only where they were not each user's ``last``.
        until: what was learnt until; in files only where it was the ``test``: from what validates too.
    """

    system: str
    dataset: str
    tokens_from: TokensFrom
    seed: int
    config_hash: str
    commit: str | None
    hardware: str
    wall_seconds: float
    blocks: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    by_days: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    added: dict[str, int] = Field(default_factory=dict)
    settings_hash: str = ""
    hold_out: HeldOut = "last"
    until: Until = "validation"

    def flat(self) -> dict[str, Any]:
        """Plain values, the blocks beside the other keys."""
        return {**self.model_dump(exclude={"blocks"}, exclude_defaults=True), **self.blocks}


def write_result(path: Path, result: Result) -> None:
    """Write ``result`` as one flat JSON object."""
    _check_blocks(result.blocks, path)
    write_json(path, result.flat())


def read_result(path: Path) -> Result:
    """Read what :func:`write_result` wrote.

    Raises:
        OovrecError: missing or not JSON; lacks a key or has a strange one; a figure is no share or lies
            outside its own interval.
    """
    values = read_json(path, remedy="evaluate the run again")
    if not isinstance(values, dict):
        raise OovrecError("is not a JSON object", where=path, remedy="evaluate the run again")
    blocks = {name: values.pop(name) for name in BLOCKS if name in values}
    result = checked(Result, {**values, "blocks": blocks}, where=str(path))
    _check_blocks(result.blocks, path)
    _check_figures(result.tasks, f"{path}, tasks")
    _check_figures(result.by_days, f"{path}, by_days")
    return result


def _check_blocks(blocks: dict[str, dict[str, Any]], path: Path) -> None:
    if missing := {"raw", "masked"} - blocks.keys():
        raise OovrecError(f"has no block '{min(missing)}'", where=path, remedy="evaluate the run again")
    for name, block in blocks.items():
        for metric in METRICS:
            try:
                value, (low, high) = block[metric], block["ci"][metric]
                sound = 0 <= low <= value + ROUNDING and value - ROUNDING <= high <= 1
            except (KeyError, TypeError, ValueError):
                sound = False
            if not sound:
                what = f"'{metric}' is missing or not a share between its interval's ends"
                raise OovrecError(what, where=f"{path}, {name}", remedy="evaluate the run again")


def _check_figures(figures: dict[str, dict[str, dict[str, Any]]], where: str) -> None:
    for part, row, block in ((part, row, block) for part, rows in figures.items() for row, block in rows.items()):
        for metric in block.keys() - {"ci", "users"}:
            try:
                low, high = block["ci"][metric]
                sound = 0 <= low <= block[metric] + ROUNDING and block[metric] - ROUNDING <= high
            except (KeyError, TypeError, ValueError):
                sound = False
            if not sound:
                what = f"'{metric}' is no figure between its interval's ends"
                raise OovrecError(what, where=f"{where}, {part}, {row}", remedy="evaluate the run again")


def hardware() -> str:
    """The machine in words: processor, cores this process may use, memory, accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory")
    gpus = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    return ", ".join([*parts, *(f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus))])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the figures."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None outside one.

    ``-dirty`` is added where its files were changed, those under ``results/`` apart, which runs themselves write.
    """
    here = Path(__file__).parent
    commands = [
        ["git", "ls-files", "--error-unmatch", Path(__file__).name],  # another project's checkout does not list us
        ["git", "rev-parse", "HEAD"],
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results"],
    ]
    try:
        runs = [subprocess.run(command, cwd=here, capture_output=True, text=True, check=True) for command in commands]
    except (OSError, subprocess.CalledProcessError):
        return None
    commit, changes = (run.stdout.strip() for run in runs[1:])
    return f"{commit}-dirty" if changes else commit


def environment(seed: int, data_sha256: str) -> dict[str, Any]:
    """What ``environment.json`` holds: enough to know whether two runs should agree; no paths, no names of people."""
    return {
        "versions": versions(),
        "hardware": hardware(),
        "platform": f"{platform.system()} {platform.machine()}",
        "seed": seed,
        "commit": git_commit(),
        "data_sha256": data_sha256,
    }
