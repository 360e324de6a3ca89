from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from oovrec.app.cli import app
from oovrec.app.recipe import TokenRecipe, parse_recipe, read_recipe, shipped
from oovrec.app.source import Source
from oovrec.errors import OovrecError
from oovrec.tokens.build import build_tokens


def test_the_same_method_in_other_words_keeps_its_options() -> None:
    for method in ("meta", '"meta"', "meta  # the default"):
        assert read_recipe("metaid-llama", [f"tokens.method={method}"]) == read_recipe("metaid-llama")


def test_another_scheme_of_tokens_comes_without_the_old_ones_options() -> None:
    recipe = read_recipe("metaid-llama", ["tokens.depth=2", "tokens.method=random"])
    assert recipe.tokens is not None
    assert (recipe.tokens.method, recipe.tokens.options) == ("random", {"depth": 2})
    assert read_recipe("metaid-llama", ["tokens.method=meta"]) == read_recipe("metaid-llama")
    assert read_recipe("metaid-llama", ["tokens.clusters=7"]).tokens.options == {"numbers": "own", "clusters": 7}


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_survives_being_written_down_and_read(name: str) -> None:
    recipe = read_recipe(name)
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_dict())), name) == recipe


def test_recipes_are_listed_and_told_in_full(oovrec, tmp_path: Path) -> None:
    listed = oovrec("recipes").stdout
    assert all(name in listed for name in shipped())
    assert "SASRec with a softmax over the catalogue: the baseline that figures stand beside" in listed
    told = oovrec("recipes", "metavec-llama", "--set", "training.epochs=7", "--set", "tokens.words=0").stdout
    mine = tmp_path / "mine.yaml"
    mine.write_text(told)
    recipe, plain = read_recipe(mine), read_recipe("metavec-llama")
    assert recipe.training == plain.training.model_copy(update={"epochs": 7})
    assert recipe.tokens.options["words"] == 0
    assert recipe.tokens.options["newest"] == 3  # which the recipe leaves to the scheme
    assert (recipe.system, recipe.model) == (plain.system, plain.model)


@pytest.mark.parametrize("name", shipped())
def test_the_header_of_a_shipped_recipe_gives_commands_that_exist(name: str) -> None:
    commands = re.findall(r"^#   oovrec (.+)$", shipped()[name].read_text(), re.MULTILINE)
    assert any(command.split()[:2] == ["train", name] for command in commands)
    for command in commands:
        first, *words = command.split()
        typer.main.get_command(app).commands[first].make_context(first, words)


def test_the_main_job_is_metaid_beside_sasrec_and_popularity() -> None:
    recipe = read_recipe("metaid-llama")
    assert (recipe.system, recipe.tokens.method, recipe.tokens.built_from) == ("llama", "meta", "train")
    assert recipe.references == ("sasrec", "popularity")


def test_overrides_are_typed_and_the_last_one_wins() -> None:
    changes = ["training.learning_rate=5e-4", "model.backbone=null", "tokens.clusters=7", "seed=1", "seed=2"]
    recipe = read_recipe("metaid-llama", changes)
    assert recipe.training.learning_rate == 5e-4
    assert recipe.model["backbone"] is None
    assert recipe.tokens.options == {"numbers": "own", "clusters": 7}
    assert recipe.seed == 2


def test_the_hash_tells_trainings_apart_and_nothing_else() -> None:
    plain = read_recipe("metaid-llama")
    assert plain.hash == read_recipe("metaid-llama", ["references=[]", "training.compile=true"]).hash
    changed = ["seed=1", "training.epochs=3", "model.augmentation=none", "tokens.from=all", "tokens.clusters=3"]
    assert len({plain.hash, *(read_recipe("metaid-llama", [change]).hash for change in changed)}) == 1 + len(changed)


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("system: sasrec\nmodel: {width: 16}\n")
    assert read_recipe(path).model["width"] == 16
    assert read_recipe(path).model["layers"] == read_recipe("sasrec").model["layers"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("trainin.epochs=3", "metaid-llama: unknown key 'trainin'; did you mean 'training'."),
        ("training.epochz=3", "metaid-llama, training: unknown key 'epochz'; did you mean 'epochs'."),
        ("model.shap=x", "metaid-llama, model: unknown key 'shap'; did you mean 'shape'."),
        ("training.epochs=many", "metaid-llama, training.epochs: input should be a valid integer"),
        (
            "model.alpha=0",
            "metaid-llama, model.alpha: is 0, which augments nothing; set model.augmentation=none to go without.",
        ),
        ("training.epochs=0", "metaid-llama, training.epochs: input should be greater than or equal to 1, not 0"),
        ("training=3", "metaid-llama: 'training' has no keys; set one of its keys: training.key=value."),
        ("training", "--set training: is not key=value; write --set section.key=value."),
        (".epochs=3", "--set .epochs=3: is not key=value"),
        ("seed.x=3", "metaid-llama, seed: input should be a valid integer"),
        ("system.x=3", "--set system.x=3: 'system' has no keys of its own; check the key."),
        ("training.epochs=[", "--set training.epochs=[: has no YAML value; put the value in quotes."),
        ("system=saserc", "metaid-llama: unknown system 'saserc'; did you mean 'sasrec'."),
        ("tokens.from=tset", "metaid-llama, tokens: unknown source of tokens 'tset'; choose one of: all, train."),
        ("tokens=null", "metaid-llama: 'llama' needs tokens; add 'tokens: {method: meta, from: train}'."),
        ("tokens.method=mta", "metaid-llama, tokens: unknown method 'mta'; did you mean 'meta'."),
        ("tokens.clustrs=3", "metaid-llama, tokens: unknown key 'clustrs'; did you mean 'clusters'."),
        ("tokens.clusters=many", "metaid-llama, tokens.clusters: input should be a valid integer"),
        ("model.lora={ranks: 1}", "metaid-llama, model.lora: unknown key 'ranks'; did you mean 'rank'."),
        ("model={1: 2}", "metaid-llama, model: the key 1 is no name; write a name, in quotes if YAML"),
        ("training={on: 2}", "metaid-llama, training: the key True is no name; write a name"),
        ("search={model.shap: [compact]}", "metaid-llama, search: unknown key 'model.shap'; did you mean"),
        ("seed=99999999999999999999", "metaid-llama, seed: input should be less than 9223372036854775808, not 999"),
        ("references=[sasre]", "metaid-llama, references: unknown recipe 'sasre'; did you mean 'sasrec'."),
    ],
)
def test_a_bad_override_names_its_place_and_remedy(change: str, sentence: str) -> None:
    with pytest.raises(OovrecError) as caught:
        read_recipe("metaid-llama", [change])
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("sasre", None, "unknown recipe 'sasre'; did you mean 'sasrec'."),
        ("mine.yaml", None, "mine.yaml: no such file; give a recipe as YAML."),
        ("mine.yaml", "", "mine.yaml: is empty; give a recipe as YAML."),
        ("mine.yaml", "- a\n", "mine.yaml: is not a list of 'key: value'; give a recipe as YAML."),
        ("mine.yaml", "system: t5\nmodel: [\n", "mine.yaml, line 3: is not valid YAML"),
        ("mine.yaml", "system: t5\nmodel: {}\nmodel: {}\n", "mine.yaml, line 3: is not valid YAML (the key 'model' is"),
        ("mine.yaml", "system: t5\n~: 3\n", "mine.yaml: the key None is no name; write a name"),
        ("mine.yaml", "model: {}\n", "mine.yaml, system: is missing; add it."),
        (
            "mine.yaml",
            "system: popularity\ntokens: {method: meta}\n",
            "mine.yaml: 'popularity' reads no tokens; leave 'tokens' and --from out.",
        ),
    ],
)
def test_a_bad_recipe_names_its_place_and_remedy(
    name: str, text: str | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(OovrecError) as caught:
        read_recipe(name)
    assert str(caught.value).startswith(sentence)


def test_another_scheme_of_tokens_sees_what_the_old_one_saw(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("system: llama\ntokens: {method: meta, from: all, clusters: 7}\n")
    for override in ("tokens.method=random", "tokens.method = random"):
        tokens = read_recipe(path, [override]).tokens
        assert (tokens.method, tokens.built_from, tokens.options) == ("random", "all", {})


def test_trainings_on_tokens_that_are_there_are_told_apart_by_the_tokens_options(log: Path) -> None:
    data, hashes = Source(source=str(log)).load(), set()
    for clusters in (5, 7):
        tokens = TokenRecipe.of(build_tokens(data, "random", "train", 0, {"clusters": clusters}))
        hashes.add(read_recipe("metaid-llama").model_copy(update={"tokens": tokens}).hash)
    assert len(hashes) == 2


def test_a_recipe_that_says_nothing_of_until_keeps_the_hash_of_results_that_are_there() -> None:
    plain = read_recipe("popularity")
    assert plain.hash == read_recipe("popularity", ["until=validation", "training.stop_after=0"]).hash == "f0b6496735d7"
    changed = {
        read_recipe("popularity", [change]).hash for change in ("until=test", "until=end", "training.stop_after=3")
    }
    assert len(changed - {plain.hash}) == 3
