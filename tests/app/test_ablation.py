"""The kinds of augmentation beside each other: what is trained, chosen, written down and not done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oovrec.app import ablation, bench, cells, processes
from oovrec.app.cells import Cell, fill
from oovrec.app.runs import load_run
from oovrec.app.source import Source
from oovrec.evaluation.protocol import evaluate

KINDS = ["none", "initialise", "linear", "mlp"]
FILE = Path("results/augmentation/films/quick-train.json")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = "{shape: debug, history: 6, alpha: 0.5}"
    Path("quick.yaml").write_text(
        f"system: llama\ntokens: {{method: meta}}\nmodel: {model}\ntraining: {{epochs: 1, precision: fp32}}\n"
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, log: Path) -> list[str]:
    """Cells are filled in this process; their names, in order."""
    done: list[str] = []

    def fill_here(waiting: list[Cell], jobs: int) -> dict[str, str]:
        dataset = Source(source=str(log)).load()
        for cell in waiting:
            fill(cell, dataset)
            done.append(cell.name)
        return {}

    monkeypatch.setattr(bench, "carry_out", fill_here)
    return done


def test_kinds_are_trained_alike_and_chosen_by_validation(oovrec, log: Path, here: list[str], monkeypatch) -> None:
    words = ("bench", "augmentation", "--recipe", "quick.yaml", "--data", log)
    shown = oovrec(*words).stdout
    assert sorted(here) == sorted(f"films/quick-{kind}-train-s0" for kind in KINDS)
    written = json.loads(FILE.read_text())
    runs = {kind: load_run(f"runs/bench/films/quick-{kind}-train-s0") for kind in KINDS}
    recipes = [{**run.recipe.to_dict(), "model": {**run.recipe.model, "augmentation": ""}} for run in runs.values()]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert [run.recipe.model["augmentation"] for run in runs.values()] == KINDS
    dataset = Source(source=str(log)).load()
    for kind, run in runs.items():
        row = written["figures"][kind]["0"]
        assert row["validation"] == json.loads(json.dumps(evaluate(run.model.scores, dataset, "validation").blocks()))
        file = json.loads((FILE.parent / f"quick-{kind}-train-s0.json").read_text())
        assert (
            row["test"]["masked"] == file["masked"] == json.loads((run.folder / "metrics.json").read_text())["masked"]
        )
    ndcg = {kind: written["figures"][kind]["0"]["validation"]["masked"]["ndcg@10"] for kind in KINDS}
    assert len(set(ndcg.values())) > 1
    assert ndcg[written["chosen"]] == max(ndcg.values())
    page = FILE.with_suffix(".md").read_text()
    assert f"\n{len(dataset.evaluated_users('test')):,} users; seeds: 0.\n" in page
    (starred,) = [line for line in page.splitlines() if line.startswith("| ") and "★" in line]
    assert starred.startswith(f"| {written['chosen']} ★ | {max(ndcg.values()):.4f} [")
    assert written["chosen"] + " ★" in shown

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("was done again")

    before, _ = FILE.read_bytes(), here.clear()
    monkeypatch.setattr(ablation, "evaluate", refuse)
    oovrec(*words)
    assert not here
    assert FILE.read_bytes() == before

    FILE.unlink()
    shutil.rmtree("runs/bench/films/quick-none-train-s0")
    ended = oovrec(*words, code=2)
    assert "films/quick-none-train-s0: is gone, and with it what validation figures are made of" in ended.stderr
    assert "remove results/augmentation/films/quick-none-train-s0.json and run the same command again" in ended.stderr


def test_a_cells_process_is_given_all_that_makes_the_cell(oovrec, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words that a cell's process is started with make the same cell again."""
    started: list[list[str]] = []
    filled: list[Cell] = []

    def start(words: list[str], **_: Any) -> None:
        started.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    words = ("--recipe", "quick.yaml", "--data", log, "--seeds", 3, "--from", "all", "--set", "training.epochs=2")
    oovrec("bench", "augmentation", *words, code=130)
    monkeypatch.setattr(cells, "fill", lambda cell, _: filled.append(cell))
    monkeypatch.setattr(processes, "live_with_parent", lambda: None)
    oovrec(*started[0][3:])
    source = Source(source=str(log))
    overrides = ("training.epochs=2", f"model.augmentation={filled[0].variant}")
    found = source.found(source.load())
    out = Path("results/augmentation")
    assert filled == [Cell.of("quick.yaml", found, 3, "all", out, variant=filled[0].variant, overrides=overrides)]
    assert filled[0].run.recipe.model["augmentation"] == filled[0].variant
    assert filled[0].run.recipe.training.epochs == 2


def test_a_dry_run_does_nothing(oovrec, log: Path, here: list[str]) -> None:
    before = sorted(Path().rglob("*"))
    shown = oovrec(
        "bench", "augmentation", "--recipe", "quick.yaml", "--data", log, "--seeds", 0, 1, "--dry-run"
    ).stdout
    assert "8 of 8 cells to fill" in shown
    assert sorted(Path().rglob("*")) == before
    assert not here


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--recipe sasrec", "sasrec: the system 'sasrec' has no option 'model.augmentation'; give a recipe of a"),
        ("--recipe quick.yaml --set tokens.method=random", "tokens.method: tokens of the method 'random' have no"),
        ("--recipe quick.yaml --set seed=4", "--set seed: has an option of its own; give --seed, or --seeds"),
        (
            "--recipe quick.yaml --set model.alpha=0",
            "model.alpha: is 0, which augments nothing; set model.augmentation",
        ),
    ],
)
def test_bad_input(words: str, sentence: str, oovrec, log: Path, here: list[str]) -> None:
    ended = oovrec("bench", "augmentation", *words.split(), "--data", log, code=2)
    assert sentence in ended.stderr
    assert [path.name for path in Path().iterdir()] == ["quick.yaml"]


def test_validation_figures_are_of_the_training_that_was_tested(oovrec, log: Path, here: list[str]) -> None:
    """Another call with other settings, and another --out, has put its own runs where the first one's were."""
    words = ("bench", "augmentation", "--recipe", "quick.yaml", "--data", log)
    oovrec(*words)
    FILE.unlink()
    oovrec(*words, "--set", "model.alpha=0.7", "--out", "elsewhere")
    ended = oovrec(*words, code=2)
    folder = "runs/bench/films/quick-none-train-s0"
    assert "training.epochs=1" not in Path("elsewhere/films/quick-train.md").read_text()
    assert "; model.alpha=0.7.\n" in Path("elsewhere/films/quick-train.md").read_text()
    shown = " ".join(oovrec(*words, "--set", "model.alpha=0.6", "--out", "third", "--dry-run").stdout.split())
    assert "films/quick-mlp-train-s0 to do: runs/bench/films/quick-mlp-train-s0 holds another training" in shown
    assert f"{folder}: holds another training than results/augmentation/films/quick-none" in " ".join(
        ended.stderr.split()
    )
    assert not FILE.exists()


@pytest.mark.parametrize("text", ["[1]", '{"figures": [1]}', '{"figures": {"mlp": {"0": {"config_hash": "x"}}}}'])
def test_another_file_is_named_before_anything_is_trained(text: str, oovrec, log: Path, here: list[str]) -> None:
    FILE.parent.mkdir(parents=True)
    FILE.write_text(text)
    ended = oovrec("bench", "augmentation", "--recipe", "quick.yaml", "--data", log, code=2)
    assert f"{FILE}: holds no figures of augmentations; remove it." in ended.stderr
    assert not here


def test_what_is_compared_is_not_set(oovrec, log: Path) -> None:
    words = ("bench", "augmentation", "--recipe", "quick.yaml", "--data", log)
    for override in ("model.augmentation=mlp", "model={shape: debug, augmentation: mlp}"):
        ended = oovrec(*words, "--set", override, code=2)
        assert "--set model.augmentation: is what is compared; leave it out." in ended.output
    assert not Path("runs").exists()


@pytest.mark.parametrize(("earlier", "validation"), [("of today", "kept"), ("of old", "made anew")])
def test_validation_figures_of_an_earlier_recipe_are_made_anew(earlier: str, validation: str, monkeypatch) -> None:
    monkeypatch.setattr(ablation, "read_cell", lambda _: SimpleNamespace(config_hash="of today", blocks={}))
    monkeypatch.setattr(ablation, "_validation", lambda *_: "made anew")
    known = {"mlp": {"0": {"config_hash": earlier, "validation": "kept"}}}
    found = ablation._figures({("mlp", 0): SimpleNamespace(file=None)}, None, known)
    assert found == {"mlp": {"0": {"config_hash": "of today", "validation": validation, "test": {}}}}


def test_a_kinds_figures_are_means_over_its_seeds() -> None:
    blocks = [{name: {"hit@10": one, "ndcg@10": one / 2} for name in ("masked", "raw")} for one in (0.1, 0.3)]
    row = ablation._row([{"validation": block, "test": block} for block in blocks])
    assert {str(figure) for (*_, metric), figure in row.items() if metric == "hit@10"} == {"0.2000 ± 0.1414"}
    assert {str(figure) for (*_, metric), figure in row.items() if metric == "ndcg@10"} == {"0.1000 ± 0.0707"}
