"""A worded model's other tasks and wordings, from a log of reviews to tables, metrics.json and the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from oovrec.app.recipe import Recipe, read_recipe
from oovrec.app.runs import load_run
from oovrec.errors import OovrecError
from oovrec.evaluation.results import read_result
from oovrec.language.wordings import read_templates

WORDS = ("dull", "plain fine", "truly superb indeed")


@pytest.fixture(scope="module")
def reviews(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny log with a rating, a headline and a review for each interaction."""
    path, rng = tmp_path_factory.mktemp("reviews") / "reviews.csv", np.random.default_rng(0)
    with log.open() as rows, path.open("w") as out:
        writer = csv.writer(out)
        for number, row in enumerate(csv.reader(rows)):
            taste = rng.integers(3)
            more = [1 + 2 * taste, WORDS[taste], f"it was {WORDS[taste]}"]
            writer.writerow([*row, *(more if number else ["rating", "summary", "review"])])
    return path


@pytest.fixture(scope="module")
def trained(oovrec, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run, and what its evaluation printed."""
    out = tmp_path_factory.mktemp("runs") / "tasks"
    options = {"epochs": "training.epochs=1", "shape": "model.shape=debug", "words": "model.words=8"}
    weights = [f"model.tasks.{task}=0.3" for task in ("rating", "explanation", "review")]
    settings = [word for option in [*options.values(), *weights] for word in ("--set", option)]
    oovrec("train", "metaid-t5", "--data", reviews, "--out", out, *settings)
    return out, oovrec("evaluate", out)


def test_every_task_is_in_the_metrics_and_printed(trained: tuple[Path, Result]) -> None:
    folder, printed = trained
    result = read_result(folder / "metrics.json")
    ranked = {"unseen_raw", "unseen_masked"}
    assert {task: set(rows) for task, rows in result.tasks.items()} == {
        "sequential": ranked,
        "direct": ranked | {"seen_raw", "seen_masked"},
        "rating": {"seen", "unseen", "mean", "biases"},
        "explanation": {"seen", "unseen"},
        "review": {"seen", "unseen"},
    }
    for rows in result.tasks.values():
        for block in rows.values():
            assert block["users"] == result.blocks["masked"]["users"]
    assert 1 <= result.tasks["rating"]["mean"]["rmse"] <= 2  # of 1, 3 and 5, about as often
    for figure in (result.tasks["rating"]["seen"]["rmse"], result.tasks["sequential"]["unseen_masked"]["ndcg@10"]):
        assert f"{figure:.4f}" in printed.stdout
    page = (folder / "report.html").read_text()
    assert f"{result.tasks['rating']['biases']['mae']:.4f}" in page
    assert "unseen masked" in page


def test_seen_wordings_stand_beside_unseen_ones(trained: tuple[Path, Result]) -> None:
    folder, printed = trained
    table = printed.stdout[printed.stdout.index("sequential: ") :].split("\n\n")[0]
    assert all(row in table for row in ("seen raw", "seen masked", "unseen raw", "unseen masked"))
    assert f"{read_result(folder / 'metrics.json').blocks['masked']['ndcg@10']:.4f}" in table


def test_the_scale_is_kept_with_the_run(trained: tuple[Path, Result]) -> None:
    assert json.loads((trained[0] / "scale.json").read_text()) == [1, 3, 5]


def test_altered_figures_of_tasks_are_refused(trained: tuple[Path, Result], tmp_path: Path) -> None:
    flat = json.loads((trained[0] / "metrics.json").read_text())
    flat["tasks"]["rating"]["seen"]["rmse"] = 9.0
    (tmp_path / "metrics.json").write_text(json.dumps(flat))
    with pytest.raises(OovrecError, match=r"tasks, rating, seen: 'rmse' is no figure between its interval's ends"):
        read_result(tmp_path / "metrics.json")


def test_a_model_without_wordings_has_no_such_figures(finished: Path) -> None:
    assert read_result(finished / "metrics.json").tasks == {}
    assert "tasks" not in json.loads((finished / "metrics.json").read_text())


def test_tasks_that_the_data_or_the_form_lacks_are_refused(oovrec, log: Path, tmp_path: Path) -> None:
    def refused(recipe: str, option: str) -> str:
        out = tmp_path / "run"
        words = ("train", recipe, "--data", log, "--out", out, "--set", "model.shape=debug", "--set", option)
        message = oovrec(*words, code=2).stderr
        assert not out.exists()
        return " ".join(message.split())

    assert "model.tasks.rating: the data has no ratings" in refused("metaid-t5", "model.tasks.rating=1")
    assert "the data has no texts for the task" in refused("metaid-t5", "model.tasks.explanation=1")
    assert "learns to recommend and nothing else" in refused("metaid-llama", "model.tasks.explanation=1")


PROMPTS = """
sequential: {seen: ["{history}, and {user}", "{user}: {history}"], unseen: ["{user} had {history}"]}
direct: {seen: ["for {user}"], unseen: ["so {user}"]}
"""


def test_a_recipe_is_of_prompts_and_not_of_a_files_name(tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text(PROMPTS)

    def recipe() -> Recipe:
        return read_recipe("metaid-t5", [f"model.templates={path}"])

    first = recipe()
    assert first.hash != read_recipe("metaid-t5").hash
    assert first.model["templates"] == read_templates(str(path), None).to_dict()
    path.write_text(PROMPTS + "# of no account\n")
    assert recipe().hash == first.hash
    path.write_text(PROMPTS.replace("for {user}", "and for {user}"))
    assert recipe().hash != first.hash


def test_a_training_goes_on_and_is_retrained_with_the_prompts_it_was_begun_with(
    oovrec, log: Path, tmp_path: Path
) -> None:
    (path := tmp_path / "mine.yaml").write_text(PROMPTS)
    out, shape = tmp_path / "run", ("--set", "model.shape=debug", "--set", "training.epochs=1")
    words = ("train", "metaid-t5", "--data", log, "--out", out, *shape, "--set", f"model.templates={path}")
    oovrec(*words)
    path.write_text(PROMPTS.replace("so {user}", "thus {user}"))
    said = " ".join(oovrec(*words, "--resume", code=2).stderr.split())
    assert "was begun with model.templates.direct.unseen = ['so {user}'], not ['thus {user}']; give the same" in said
    path.unlink()
    oovrec("retrain", out, "--out", tmp_path / "again")
    kept = load_run(tmp_path / "again").model.templates
    assert (kept.unseen["direct"], kept.seen["direct"]) == (["so {user}"], ["for {user}"])


def test_prompts_are_checked_before_anything_is_built(oovrec, log: Path, tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text(PROMPTS)
    words = ("train", "metaid-t5", "--data", log, "--out", tmp_path / "run", "--set", f"model.templates={path}")
    said = " ".join(oovrec(*words, "--set", "model.tasks.rating=1", code=2).stderr.split())
    assert "model.templates: has no seen wordings for the task 'rating'" in said
    path.write_text(PROMPTS.replace("for {user}", "for {usr}"))
    assert f"{path}, the direct wording 'for {{usr}}'" in "".join(oovrec(*words, code=2).stderr.split("\n"))
    assert not (tmp_path / "run").exists()
