"""Ten million interactions, from the file on: rows ``large-ready`` and ``large-evaluation`` of the speed table.

    make .peers
    python benchmarks/large.py [--interactions 1e7] [--users 2e5] [--items 5e4] [--peers .peers/bin/python]

The log is made up: users of lognormal activity take items of four of many groups (in one of seven cases of any), the
better known the more often; nobody takes one twice. ``ready`` is all that comes before SASRec's second step: ours the
whole command ``oovrec train sasrec`` of one step, for RecBole 1.2.1 creating and preparing its dataset. ``evaluation``
is the command ``oovrec evaluate``, which reads the log again, for RecBole the evaluation alone. The first row's
settings have ``oovrec tokens build --method metavec`` and ``oovrec batch`` too. Seconds are of the processor, of all
threads together: on a busy machine they are steadier than those of the clock, which stand beside them, as do peaks of
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).parent.absolute()
OOVREC = Path(sys.executable).with_name("oovrec")
GROUP, TASTES, STRAY, EXPONENT = 200, 4, 0.15, 0.8  # items a group, groups a user, share of strays, of Pareto's law


def made_up(interactions: int, users: int, items: int) -> pl.DataFrame:
    """The log described above, in random order; ``interactions`` before repeated ones are dropped."""
    rng, groups = np.random.default_rng(0), max(items // GROUP, 1)
    activity = rng.lognormal(0, 1, users)
    user = np.repeat(np.arange(users), np.maximum(5, activity * interactions / activity.sum()).astype(int))
    group = rng.integers(0, groups, (users, TASTES))[user, rng.integers(0, TASTES, len(user))]
    own = group * GROUP + (rng.pareto(EXPONENT, len(user)) * 12).astype(np.int64) % GROUP
    item = np.where(rng.random(len(user)) < STRAY, rng.integers(0, items, len(user)), own % items)
    order = rng.permutation(len(user))
    times = rng.integers(1_500_000_000, 1_700_000_000, len(user))
    log = pl.DataFrame({"user": user[order], "item": item[order], "timestamp": times})
    ids = pl.format("u{}", "user"), pl.format("B{}", "item"), pl.col("timestamp")
    return log.unique(["user", "item"], keep="first", maintain_order=True).select(ids)


def measured(*words: object) -> dict[str, float]:
    """Seconds and peak memory of a program."""
    start = time.perf_counter()
    process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # its peak begins with this program's, which is small
    if status:
        raise SystemExit(f"failed: {' '.join(map(str, words))}")
    processor, clock = used.ru_utime + used.ru_stime, time.perf_counter() - start
    found = {"processor_seconds": round(processor, 1), "seconds": round(clock, 1), "peak_mib": used.ru_maxrss >> 10}
    print(*words[1:3], found, flush=True)
    return found


def ours(log: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Every stage of ours."""
    run = folder / "run"
    steps = ("--set", "training.max_steps=1", "--set", "training.validation_users=100")
    return {
        "ready": measured(OOVREC, "train", "sasrec", "--data", log, "--out", run, *steps),
        "evaluation": measured(OOVREC, "evaluate", run),
        "batch": measured(OOVREC, "batch", run, "--out", folder / "lists.parquet"),
        "tokens": measured(OOVREC, "tokens", "build", log, "--method", "metavec", "--out", folder / "tokens"),
    }


def recbole(log: Path, folder: Path, python: str) -> dict[str, Any]:
    """RecBole's; its script is given the same histories."""
    histories, out = folder / "histories.txt", folder / "recbole.json"
    table = pl.read_csv(log).sort("user", "timestamp", maintain_order=True)
    lines = table.group_by("user", maintain_order=True).agg(pl.col("item").str.slice(1).str.join(" "))
    histories.write_text("\n".join(lines["item"]) + "\n")
    script = HERE / "peers" / "recbole_sasrec.py"
    command = [str(Path(python).absolute()), str(script), str(histories), str(out), "--batches", "2"]
    subprocess.run(command, check=True, cwd=folder)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=float, default=1e7)
    parser.add_argument("--users", type=float, default=2e5)
    parser.add_argument("--items", type=float, default=5e4)
    parser.add_argument("--peers", default=".peers/bin/python", help="a Python with peers/requirements.txt")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {name: int(getattr(options, name)) for name in ("interactions", "users", "items")}
    if options.make:
        made_up(**sizes).write_csv(options.make)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log.csv"
        given = [word for key, value in sizes.items() for word in (f"--{key}", str(value))]
        subprocess.run([sys.executable, __file__, "--make", str(log), *given], check=True)
        interactions = pl.scan_csv(log).select(pl.len()).collect().item()
        mine = ours(log, folder)
        theirs = recbole(log, folder, options.peers)
    print("RecBole", theirs)
    import rows  # only now: torch would raise this program's peak of memory, with which that of a child begins

    about = {"interactions": interactions, "users": sizes["users"], "items": sizes["items"]}
    stages = {"ready": {"stages": mine, "load": os.getloadavg()[0]}, "evaluation": {"load": os.getloadavg()[0]}}
    for stage, more in stages.items():
        stock = theirs[f"{stage}_processor"]
        settings = {**about, **more, "RecBole": {key: theirs[key] for key in theirs if key.startswith(stage)}}
        used = mine[stage]["processor_seconds"]
        row = rows.row(f"large-{stage}", "processor s", used, stock, settings, ratio=stock / used)
        print(row["name"], row["ours"], row["stock"], row["ratio"])
        print(rows.write(row))


if __name__ == "__main__":
    main()
