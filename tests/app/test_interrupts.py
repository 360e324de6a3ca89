"""Ctrl-C and speed of the start, with the command as its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from oovrec.app import pipeline
from oovrec.app.source import Source
from oovrec.tokens import table

COMMAND = "from oovrec.app.cli import app; app()"
PATIENCE = 90.0  # seconds


def start(*words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def interrupted(process: subprocess.Popen[str], sign: Path) -> str:
    """Send Ctrl-C as soon as ``sign`` is there; what the process said on standard error."""
    deadline = time.monotonic() + PATIENCE
    while not sign.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


@pytest.fixture
def sasrec(log: Path) -> tuple[object, ...]:
    return ("train", "sasrec", "--data", log, "--set", "training.epochs=30", "--set", "training.precision=fp32")


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_weights(oovrec, sasrec, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    said = interrupted(start(*sasrec, "--out", out), out / "log.jsonl")
    assert "the same command goes on from there" in said
    assert not (out / "model.safetensors").exists()
    refused = oovrec("evaluate", out, code=2)
    assert "its training is not finished; finish it by its own command with --resume" in refused.stderr
    oovrec(*sasrec, "--out", out, "--resume")
    oovrec(*sasrec, "--out", tmp_path / "whole")
    stopped, reference = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole"))
    assert stopped.keys() == reference.keys()
    assert all((stopped[name] == reference[name]).all() for name in reference)
    assert not (out / "checkpoint").exists()


def test_two_processes_train_one_run(oovrec, sasrec, tmp_path: Path) -> None:
    """Each learns from every other of an even number of batches, as one that adds up two does; one of them writes."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    (tmp_path / "start.py").write_text(COMMAND)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "start.py"))
    words = [*sasrec, "--set", "training.epochs=2", "--set", "training.batch_size=80", "--set", "model.dropout=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, *map(str, words), "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        *("config.yaml", "environment.json", "items.tsv", "log.jsonl", "model.safetensors", "users.txt")
    ]
    oovrec(*words, "--set", "training.accumulate=2", "--out", alone)
    together, added = (
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (out, alone)
    )
    assert together == pytest.approx(added, rel=1e-4)


def test_the_start_is_light() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'polars', 'numba', 'matplotlib'}"
    code = f"import sys, oovrec, oovrec.app.cli; print(sorted({heavy} & sys.modules.keys()), dir(oovrec)[-1])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["[]", "train"]


def test_a_sequential_recommender_does_not_wait_for_transformers() -> None:
    """Which takes more than a second to load, at every command."""
    code = "import sys, oovrec.app.pipeline as steps; print(steps.system('sasrec'), 'transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("SASRec'> False")


def test_the_command_is_a_program(tmp_path: Path) -> None:
    process = start("data", "show", tmp_path / "nowhere.csv")
    shown, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, shown) == (2, "")
    assert said == f"error: {tmp_path}/nowhere.csv: no such file or folder; check the path.\n"


def test_tokens_that_are_being_written_are_there_whole_or_not_at_all(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "write_json", stop)  # of tokens.json, which is written last
    with pytest.raises(KeyboardInterrupt):
        pipeline.build(Source(source=str(log)), tmp_path / "tokens", "random", "train", 0, {})
    assert not list(tmp_path.iterdir())
