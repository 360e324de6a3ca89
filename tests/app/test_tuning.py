"""The search for settings: what is tried, what is kept, how it goes on after it was interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from oovrec.app import tuning
from oovrec.app.recipe import read_recipe, shipped
from oovrec.app.source import Source
from oovrec.app.tuning import Study, Trial
from oovrec.errors import OovrecError

SEARCH = {"model.dropout": [0.1, 0.5], "training.learning_rate": [0.001, 0.01, 0.1]}
PAIRS = {(dropout, rate) for dropout in SEARCH["model.dropout"] for rate in SEARCH["training.learning_rate"]}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_recipe(search: object = SEARCH) -> str:
    training = {"epochs": 2, "batch_size": 64}
    recipe = {"system": "sasrec", "model": {"width": 8}, "training": training, "search": search}
    Path("mine.yaml").write_text(yaml.safe_dump(recipe))
    return "mine.yaml"


def pair(settings: dict[str, float]) -> tuple[float, float]:
    return settings["model.dropout"], settings["training.learning_rate"]


def best_figure(run: str) -> float:
    return max(json.loads(line)["ndcg"] for line in (Path(run) / "log.jsonl").read_text().splitlines())


def test_each_setting_is_tried_once_and_the_recipe_as_it_is_first(oovrec, log):
    oovrec("bench", "tune", "--recipes", write_recipe(), "--datasets", log, "--trials", 9, "--out", "logs")
    kept = json.loads((Path("logs") / "films" / "mine.json").read_text())
    tried = [pair(trial["settings"]) for trial in kept["trials"]]
    assert tried[0] == (0.5, 0.001)
    assert sorted(tried) == sorted(PAIRS)  # six settings, though nine trials were allowed
    assert kept["best"]["ndcg"] == max(trial["ndcg"] for trial in kept["trials"])
    assert not list(Path("runs").rglob("model.safetensors"))


def test_options_that_a_recipe_leaves_to_the_scheme_are_searched_too():
    """And numbers that YAML takes for texts are numbers."""
    recipe = {"system": "llama", "tokens": {"method": "random"}, "training": {"learning_rate": 0.001}}
    search = "search: {tokens.depth: [2, 1], training.learning_rate: [1e-3, 3e-3]}\n"
    Path("mine.yaml").write_text(yaml.safe_dump(recipe) + search)
    study = Study.of("mine.yaml", Source(source="films"), None, 0)
    assert study.base.search["training.learning_rate"] == [0.001, 0.003]
    assert study.own() == {"tokens.depth": 2, "training.learning_rate": 0.001}
    tried = study.with_settings({"tokens.depth": 1, "training.learning_rate": 0.003})
    assert (tried.tokens.options, tried.training.learning_rate) == ({"depth": 1}, 0.003)


def test_null_is_a_value_to_try():
    """Such as of the number of clusters, which the scheme then chooses itself, as the shipped recipes leave it to."""
    search = "search: {tokens.clusters: [null, 9]}\n"
    Path("mine.yaml").write_text("system: llama\ntokens: {method: meta}\n" + search)
    study = Study.of("mine.yaml", Source(source="films"), None, 0)
    assert study.own() == {"tokens.clusters": None}
    assert study.with_settings({"tokens.clusters": None}).tokens.options == {"clusters": None}
    assert study.with_settings({"tokens.clusters": 9}).tokens.options["clusters"] == 9


def test_a_trial_is_the_training_of_its_settings(oovrec, log):
    recipe = write_recipe()
    oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, "--trials", 2, "--out", "logs", "--seed", 5)
    kept = json.loads((Path("logs") / "films" / "mine.json").read_text())
    settings = [word for key, value in kept["trials"][1]["settings"].items() for word in ("--set", f"{key}={value}")]
    oovrec("train", recipe, "--data", log, "--out", "alone", "--seed", 5, *settings)
    assert kept["trials"][1]["ndcg"] == best_figure("alone")
    oovrec("train", Path("logs") / "films" / "mine-tuned.yaml", "--data", log, "--out", "tuned")  # its seed too
    assert kept["best"]["ndcg"] == best_figure("tuned")


def test_an_interrupted_search_goes_on_to_the_same_log(oovrec, log):
    words = ("bench", "tune", "--recipes", write_recipe(), "--datasets", log)
    oovrec(*words, "--trials", 4, "--out", "whole")
    for trials in (1, 3, 4):
        oovrec(*words, "--trials", trials, "--out", "parts")
    whole, parts = (json.loads((Path(name) / "films" / "mine.json").read_text()) for name in ("whole", "parts"))
    for kept in (whole, parts):
        for trial in kept["trials"]:
            del trial["seconds"]
    assert whole["trials"] == parts["trials"]


def test_what_did_well_is_tried_more_often(log):
    """One of six values does well: drawn by chance, a sixth of the trials would have it."""
    path = write_recipe({"training.warmup_steps": list(range(6)), "model.layers": list(range(1, 20))})
    data = Source(source=str(log))
    study, done = Study.of(path, data.found(data.load()), None, 0), list[Trial]()
    while len(done) < 40:
        settings = tuning.propose(study, done)
        assert settings is not None
        done.append(Trial(len(done), settings, 0.9 if settings["training.warmup_steps"] == 4 else 0.1, 1, 1.0))
    assert sum(trial.ndcg > 0.5 for trial in done) > 13


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({}, "has no 'search'"),
        ({"model.dropout": [0.1, 0.2]}, "own value 0.5 of 'model.dropout' is not among those to try"),
        ({"model.dropuot": [0.5]}, "unknown key 'model.dropuot'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(search, sentence, oovrec, log):
    found = oovrec("bench", "tune", "--recipes", write_recipe(search), "--datasets", log, code=2)
    assert sentence in " ".join(found.output.split())
    assert not Path("results").exists()


def test_the_log_of_another_search_is_not_overwritten(oovrec, log):
    words = ("bench", "tune", "--recipes", write_recipe(), "--datasets", log, "--trials", 1, "--out", "logs")
    oovrec(*words)
    before = (Path("logs") / "films" / "mine.json").read_bytes()
    found = oovrec(*words, "--seed", 1, code=2)
    assert "holds another search: " in " ".join(found.output.split())
    assert (Path("logs") / "films" / "mine.json").read_bytes() == before


@pytest.mark.parametrize("held", [{}, [], {"trials": 3}, {"trials": [{"number": 0}]}])
def test_what_is_no_log_of_a_search_is_left_alone(held, oovrec, log):
    data = Source(source=str(log))
    known = Study.of(write_recipe(), data.found(data.load()), None, 0).about()
    (path := Path("logs/films/mine.json")).parent.mkdir(parents=True)
    path.write_text(before := json.dumps({**known, **held} if "trials" in held else held))
    ended = oovrec("bench", "tune", "--recipes", "mine.yaml", "--datasets", log, "--out", "logs", code=2)
    assert "mine.json: is not the log of a search; remove it or give another --out." in " ".join(ended.output.split())
    assert path.read_text() == before


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_search_around_their_own_settings(name, log):
    if not read_recipe(name).search:
        pytest.skip("declares no search")
    data = Source(source=str(log))
    study = Study.of(name, data.found(data.load()), None, 0)
    for key, values in study.base.search.items():
        for value in values:
            study.run(0, {key: value})


def test_without_optuna_the_sentence_names_the_extra(log, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    data = Source(source=str(log))
    study = Study.of(write_recipe(), data.found(data.load()), None, 0)
    with pytest.raises(OovrecError, match=r"oovrec\[tune\]"):
        tuning.propose(study, [Trial(0, study.own(), 0.1, 1, 1.0)])


def test_a_trial_that_was_begun_on_another_budget_is_begun_anew(oovrec, log, monkeypatch):
    words = ("bench", "tune", "--recipes", write_recipe(), "--datasets", log, "--trials", 1, "--out", "logs")
    with monkeypatch.context() as patch:
        patch.setattr("oovrec.models.base.NeuralRecommender.save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(["mine.yaml"], [str(log)], 1, None, 0, Path("logs"))
    assert Path("runs/tuning/films/mine-s0/0/config.yaml").exists()
    oovrec(*words, "--epochs", 1)
    kept = json.loads((Path("logs") / "films" / "mine.json").read_text())
    assert (kept["epochs"], kept["best"]["epoch"]) == (1, 1)
    assert "in trainings of 1 epochs" in (Path("logs") / "films" / "mine-tuned.yaml").read_text()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_trial_that_diverges_is_the_worst_and_the_search_goes_on(oovrec, log):
    recipe = write_recipe({"training.learning_rate": [0.001, 1e38, 0.01]})
    said = oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, "--trials", 3, "--out", "logs").output
    assert "the loss is no longer a number" in " ".join(said.split())
    kept = json.loads((Path("logs") / "films" / "mine.json").read_text())
    figures = {trial["settings"]["training.learning_rate"]: (trial["ndcg"], trial["epoch"]) for trial in kept["trials"]}
    assert figures.pop(1e38) == (0, 0)
    assert len(figures) == 2
    assert min(figures.values()) > (0, 0)
    alone = {"epochs": 2, "batch_size": 64, "learning_rate": 1e38}
    Path(recipe).write_text(
        yaml.safe_dump(
            {
                **yaml.safe_load(Path(recipe).read_text()),
                "training": alone,
                "search": {"training.learning_rate": [1e38]},
            }
        )
    )
    ended = oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, "--out", "other", code=2)
    assert "mine: the loss of no trial was a number to the end" in " ".join(ended.output.split())
    assert not Path("other/films/mine-tuned.yaml").exists()


def test_what_learns_in_no_epochs_has_nothing_to_tune(oovrec, log):
    Path("known.yaml").write_text("system: popularity\nsearch: {training.epochs: [30, 20]}\n")
    ended = oovrec("bench", "tune", "--recipes", "known.yaml", "--datasets", log, code=2)
    assert "known.yaml: 'popularity' learns in no epochs; tune another system." in " ".join(ended.output.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("until", "sentence"), [("test", "from what would validate it"), ("end", "nothing is held out")]
)
def test_what_learns_from_what_would_validate_it_is_not_searched(until, sentence, oovrec, log):
    recipe = Path(write_recipe())
    recipe.write_text(f"until: {until}\n{recipe.read_text()}")
    ended = oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, code=2)
    assert sentence in " ".join(ended.output.split())
    assert not Path("runs").exists()


def test_a_trial_says_when_it_was_best(oovrec, log):
    recipe = write_recipe()
    oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, "--trials", 1, "--out", "logs", "--seed", 5)
    oovrec("train", recipe, "--data", log, "--out", "alone", "--seed", 5)
    epochs = [json.loads(line) for line in Path("alone/log.jsonl").read_text().splitlines()]
    kept = json.loads(Path("logs/films/mine.json").read_text())
    assert kept["best"]["epoch"] == max(epochs, key=lambda epoch: epoch["ndcg"])["epoch"]


def test_of_equal_trials_the_earliest_is_best():
    assert tuning.best([Trial(number, {}, ndcg, 1, 1.0) for number, ndcg in enumerate((0.1, 0.2, 0.2))]).number == 1


def test_another_seed_tries_other_settings(log):
    data = Source(source=str(log))
    studies = [Study.of(write_recipe(), data.found(data.load()), None, seed) for seed in range(8)]
    drawn = [tuning.propose(study, [Trial(0, study.own(), 0.1, 1, 1.0)]) for study in studies]
    assert len({pair(settings) for settings in drawn}) > 1


def test_any_seed_of_a_training_is_one_of_a_search(log):
    data = Source(source=str(log))
    study = Study.of(write_recipe(), data.found(data.load()), None, 2**63 - 1)
    assert pair(tuning.propose(study, [Trial(0, study.own(), 0.1, 1, 1.0)])) in PAIRS


@pytest.mark.parametrize("key", ["config_hash", "fingerprint", "search"])
def test_trials_of_another_recipe_or_of_other_data_are_not_counted_in(key, oovrec, log, other_log):
    words = ("bench", "tune", "--recipes", write_recipe(), "--trials", 1, "--out", "logs", "--datasets")
    oovrec(*words, log)
    if key == "config_hash":
        Path("mine.yaml").write_text(Path("mine.yaml").read_text().replace("width: 8", "width: 16"))
    elif key == "search":
        write_recipe({"model.dropout": [0.3, 0.5]})
    else:
        log = Path(shutil.copy(other_log, log.name))
    found = oovrec(*words, log, code=2)
    assert f"holds another search: {key} is " in " ".join(found.output.split())


def test_a_search_can_train_for_shorter_and_validate_seldom(oovrec, log):
    recipe = Path(write_recipe())
    recipe.write_text(recipe.read_text().replace("epochs: 2", "epochs: 5\n  validate_every: 2"))
    words = ("--trials", 1, "--epochs", 3, "--out", "logs")
    oovrec("bench", "tune", "--recipes", recipe, "--datasets", log, *words)
    kept = json.loads(Path("logs/films/mine.json").read_text())
    assert kept["epochs"] == 3
    assert kept["best"]["epoch"] in (2, 3)
    assert not read_recipe(Path("logs/films/mine-tuned.yaml")).search  # it is no recipe to be tuned


def test_trials_are_shown_the_best_first(log):
    data = Source(source=str(log))
    study = Study.of(write_recipe(), data.found(data.load()), None, 0)
    trials = [Trial(number, study.own(), ndcg, 1, 1.0) for number, ndcg in enumerate((0.1, 0.3, 0.2))]
    _, table = tuning.shown(study, trials)
    assert [str(cell) for cell in table.columns[0].cells] == ["1", "2", "0"]


def test_a_trial_is_kept_as_soon_as_it_is_done(log, monkeypatch):
    propose = tuning.propose

    def stopped(study, done):
        return propose(study, done) if len(done) < 2 else interrupt()

    monkeypatch.setattr(tuning, "propose", stopped)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune([write_recipe()], [str(log)], 4, None, 0, Path("logs"))
    assert len(json.loads(Path("logs/films/mine.json").read_text())["trials"]) == 2
    assert not Path("logs/films/mine-tuned.yaml").exists()
