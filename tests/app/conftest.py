"""A tiny log, the command line in-process, and one finished main job to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from oovrec.app.cli import app

USERS, ITEMS, GROUPS, DAY = 60, 32, 4, 86_400
QUICK = ("--set", "training.epochs=2", "--set", "model.shape=debug", "--seed", "3")
Invoke = Callable[..., Result]


def write_log(path: Path, seed: int = 0) -> Path:
    """Users of four tastes over items of four kinds; every user and item has at least five interactions."""
    rng = np.random.default_rng(seed)
    lines, time = ["user_id,item_id,timestamp,title"], 1_400_000_000
    for user in range(USERS):
        for _ in range(rng.integers(7, 14)):
            own = user % GROUPS * (ITEMS // GROUPS) + rng.integers(ITEMS // GROUPS)
            item = own if rng.random() < 0.7 else rng.integers(ITEMS)
            time += DAY // 2
            lines.append(f"u{user},i{item},{time},Film [{item}]")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def oovrec() -> Invoke:
    """Run a command line as a program would; a defect's traceback fails the test."""

    def invoke(*words: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "films.csv")


@pytest.fixture(scope="session")
def other_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "other.csv", seed=1)


@pytest.fixture(scope="session")
def mixed_log(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log's rows at random days of a year: users who are there at the same time."""
    header, *rows = log.read_text(encoding="utf-8").splitlines()
    days = np.random.default_rng(2).integers(365, size=len(rows))
    for number, day in enumerate(days):
        user, item, _, title = rows[number].split(",")
        rows[number] = f"{user},{item},{1_400_025_600 + day * DAY},{title}"
    path = tmp_path_factory.mktemp("data") / "mixed.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def main_job(oovrec: Invoke, log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The run folder of ``oovrec run`` and what it printed. Tests must not change the folder."""
    out = tmp_path_factory.mktemp("runs") / "main"
    return out, oovrec("run", "--data", log, "--out", out, *QUICK)


@pytest.fixture(scope="session")
def finished(main_job: tuple[Path, Result]) -> Path:
    return main_job[0]
