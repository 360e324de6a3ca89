"""How a run folder is begun, checked when it is taken up again, and cleared when nothing came of it."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oovrec.app.runs import Run
from oovrec.config import flat
from oovrec.errors import OovrecError, brief
from oovrec.evaluation.results import environment
from oovrec.files import read_json, write_json, write_yaml

TIMES = ("seconds", "test_seconds")  # in environment.json
# What there is in a folder where a run was killed in its first moments, before it was one.
BEGUN = re.compile(r"environment\.json|\.(environment\.json|config\.yaml)\..*")


def begin(run: Run, spent: float) -> None:
    """Write ``environment.json`` and ``config.yaml``: from here on the folder holds a run.

    Args:
        spent: seconds, on it so far.
    """
    values = {**run.recipe.to_dict(), "data": run.data.model_dump(mode="json")}
    write_json(run.folder / "environment.json", {**environment(run.recipe.seed, run.data.sha256), "seconds": spent})
    write_yaml(run.folder / "config.yaml", values)


def check_free(folder: Path, remedy: str = "choose another --out") -> None:
    """Make sure that something new can begin in ``folder``.

    Args:
        remedy: where a run is there.

    Raises:
        OovrecError: a run or something else is there, or nothing can be written.
    """
    check_writable(folder, "choose another --out")
    if (folder / "config.yaml").exists():
        raise OovrecError("already holds a run", where=folder, remedy=remedy)
    if folder.exists() and (not folder.is_dir() or any(not BEGUN.fullmatch(path.name) for path in folder.iterdir())):
        raise OovrecError("is there already and is not empty", where=folder, remedy="choose another --out")


def check_writable(folder: Path, remedy: str) -> None:
    """Make sure that files can be written into ``folder``, which may have to be made.

    Raises:
        OovrecError: they cannot.
    """
    there = next((place for place in (folder, *folder.parents) if os.access(place, os.F_OK)), folder)
    if not os.access(there, os.W_OK | os.X_OK) and (there != folder or there.is_dir()):
        raise OovrecError("cannot be written to", where=folder, remedy=remedy)


def check_same(run: Run, wanted: Run) -> None:
    """Make sure that ``run`` is what is asked for now.

    Raises:
        OovrecError: an option or the data differ; the first one that does is named.
    """
    pairs = ((run.recipe.to_dict(), wanted.recipe.to_dict()), (run.data.model_dump(), wanted.data.model_dump()))
    for stored, asked in pairs:
        then, now = flat(stored), flat(asked)
        for key in [
            key for key in {**then, **now} if key.split(".")[0] not in ("source", "name", "published", "search")
        ]:
            if then.get(key) != now.get(key):
                what = f"was begun with {key} = {brief(str(then.get(key)))}, not {brief(str(now.get(key)))}"
                raise OovrecError(
                    what, where=run.folder, remedy="give the same settings, or another --out without --resume"
                )


def resumable(folder: Path) -> bool:
    """Whether the folder holds the state of an unfinished training."""
    return (folder / "checkpoint" / "state.safetensors").exists()


@contextmanager
def kept_or_removed(folder: Path) -> Iterator[None]:
    """On an error before there is anything to resume from, remove what was written to the new ``folder``.

    A folder that was there already, empty, stays: it may be a link, or where the command runs.
    """
    before = folder.exists()
    try:
        yield
    except Exception:
        if not resumable(folder) and not (folder / "model.safetensors").exists():
            if before:
                _empty(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        raise


def _empty(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def timed(folder: Path, *, testing: bool = False, at_least: float = 0) -> Iterator[None]:
    """Keep the time spent inside in ``environment.json``, unless the process is killed.

    Args:
        testing: it goes into ``test_seconds``, in place of an earlier test's; else it is added to ``seconds``.
        at_least: seconds spent before, of which a process that was killed may have told less.
    """
    start = time.monotonic()
    before = _environment(folder)
    try:
        yield
    finally:
        if before:
            known, spent = _environment(folder).get("seconds", 0.0), time.monotonic() - start
            note(folder, **({"test_seconds": spent} if testing else {"seconds": max(at_least, known) + spent}))


def note(folder: Path, **entries: Any) -> None:
    """Put entries into ``environment.json``, in place of those that it has."""
    write_json(folder / "environment.json", {**_environment(folder), **entries})


def seconds(folder: Path) -> float:
    """Time spent on the run: on tokens and training, and on its last test."""
    about = _environment(folder)
    return sum(float(about.get(name, 0.0)) for name in TIMES)


def _environment(folder: Path) -> dict[str, Any]:
    """What ``environment.json`` says; nothing where there is none."""
    path = folder / "environment.json"
    about = read_json(path) if path.exists() else {}
    if not isinstance(about, dict) or not all(isinstance(about.get(name, 0), int | float) for name in TIMES):
        raise OovrecError("says no times", where=path, remedy="restore the file or remove it")
    return about
