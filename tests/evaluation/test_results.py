"""Results survive the disk; broken files get one sentence; the environment tells nothing private."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oovrec.errors import OovrecError
from oovrec.evaluation.results import METRICS, Result, environment, git_commit, hardware, read_result, write_result


def result(**changes: Any) -> Result:
    block = {**dict.fromkeys(METRICS, 0.25), "ci": {name: [0.2, 0.3] for name in METRICS}, "users": 40}
    values = {
        "system": "llama",
        "dataset": "toy",
        "tokens_from": "train",
        "seed": 1,
        "config_hash": "c0ffee",
        "commit": None,
        "hardware": "a computer",
        "wall_seconds": 12.5,
        "blocks": {"raw": block, "masked": block},
    }
    return Result(**{**values, **changes})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_result(path, result())
    assert read_result(path) == result()
    flat = json.loads(path.read_text())
    assert flat["tokens_from"] == "train"
    assert flat["masked"]["hit@10"] == 0.25
    assert "blocks" not in flat


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda flat: flat.pop("masked"), "no block 'masked'"),
        (lambda flat: flat.pop("tokens_from"), "tokens_from"),
        (lambda flat: flat.update(tokens_form="all"), "unknown key 'tokens_form'.*'tokens_from'"),
        (lambda flat: flat.update(tokens_from="some"), "tokens_from.*'some'"),
        (lambda flat: flat["raw"].pop("mrr"), "raw: 'mrr' is missing"),
        (lambda flat: flat["raw"].update({"hit@5": 5.98}), "raw: 'hit@5' is missing or not a share"),
        (lambda flat: flat["raw"].update({"hit@5": "0.25"}), "raw: 'hit@5'"),
        (lambda flat: flat["raw"]["ci"].update({"ndcg@5": [0.26, 0.3]}), "raw: 'ndcg@5'"),
    ],
)
def test_altered_files_get_one_sentence(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "metrics.json"
    write_result(path, result())
    flat = json.loads(path.read_text())
    change(flat)
    path.write_text(json.dumps(flat))
    with pytest.raises(OovrecError, match=message):
        read_result(path)


@pytest.mark.parametrize("text", ["[1, 2]", '{"system": "llama",', ""])
def test_broken_files_get_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(OovrecError, match=r"metrics\.json"):
        read_result(path)


def test_environment_has_no_paths_and_no_names() -> None:
    about = environment(3, "ab12")
    assert about["seed"] == 3
    assert about["data_sha256"] == "ab12"
    assert {"python", "torch", "numpy"} <= about["versions"].keys()
    text = json.dumps(about)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    assert getpass.getuser() not in text.split()
    assert socket.gethostname() not in text


def test_hardware_names_cores_and_memory() -> None:
    assert "cores" in hardware()
    assert "memory" in hardware()


def test_commit_is_the_checkouts() -> None:
    here = Path(__file__).parents[2]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
    if head.returncode or not (here / ".git").exists():
        pytest.skip("not a git checkout")
    assert (git_commit() or "").removesuffix("-dirty") == head.stdout.strip()
