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
from oovrec.evaluation import results
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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that the code seems to run from, with one commit."""
    source, figures = tmp_path / "src" / "results.py", tmp_path / "results" / "a.json"
    for path in (source, figures):
        path.parent.mkdir()
        path.write_text("1\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "first")
    monkeypatch.setattr(results, "__file__", str(source))
    return tmp_path


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_changed_checkout_is_dirty_but_not_by_results_or_new_files(checkout: Path) -> None:
    commit = _git(checkout, "rev-parse", "HEAD")
    assert git_commit() == commit
    (checkout / "results" / "a.json").write_text("2\n")  # runs write there
    (checkout / "notes.txt").write_text("mine\n")
    assert git_commit() == commit
    (checkout / "src" / "results.py").write_text("2\n")
    assert git_commit() == f"{commit}-dirty"


def test_a_checkout_of_another_project_says_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed := checkout / "src" / "installed.py").write_text("1\n")  # not listed
    monkeypatch.setattr(results, "__file__", str(installed))
    assert git_commit() is None


@pytest.mark.parametrize(
    "interval, sound",
    [
        ([0.2, 0.3], True),
        ([0.25 + 1e-12, 0.3], True),  # what rounding does to the mean of equal values
        ([0.2, 0.25 - 1e-12], True),
        ([0.25 + 1e-6, 0.3], False),
        ([0.2, 0.25 - 1e-6], False),
        ([-0.1, 0.3], False),
        ([0.2, 1.1], False),
        ([0.3, 0.2], False),
    ],
)
def test_an_interval_is_of_shares_around_the_figure(tmp_path: Path, interval: list[float], sound: bool) -> None:
    changed = result()
    changed.blocks["masked"] = json.loads(json.dumps(changed.blocks["masked"]))
    changed.blocks["masked"]["ci"]["mrr"] = interval
    path = tmp_path / "metrics.json"
    if sound:
        write_result(path, changed)
        assert read_result(path) == changed
    else:
        with pytest.raises(OovrecError, match="masked: 'mrr' is missing or not a share"):
            write_result(path, changed)
        assert not path.exists()


@pytest.mark.parametrize(
    "rmse, interval", [(1.2, [1.3, 1.4]), (1.2, [1.0, 1.1]), (1.2, [-1, 2]), (1.2, [1.0]), ("a", [1, 2])]
)
def test_a_tasks_figure_lies_in_its_interval(tmp_path: Path, rmse: Any, interval: list[float]) -> None:
    path = tmp_path / "metrics.json"
    block = {"rmse": 1.2, "ci": {"rmse": [1.1, 1.3]}, "users": 4}
    write_result(path, result(tasks={"rating": {"seen": block}}))
    assert read_result(path).tasks == {"rating": {"seen": block}}
    flat = json.loads(path.read_text())
    flat["tasks"]["rating"]["seen"] |= {"rmse": rmse, "ci": {"rmse": interval}}
    path.write_text(json.dumps(flat))
    with pytest.raises(OovrecError, match="tasks, rating, seen: 'rmse' is no figure"):
        read_result(path)
