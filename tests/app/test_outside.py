"""Schemes and systems of other packages, which say by entry points what they have."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oovrec.app.cli import app
from oovrec.app.recipe import read_recipe
from oovrec.errors import OovrecError
from oovrec.models.base import own_systems, system, systems
from oovrec.tokens.build import check_options, methods
from oovrec.tokens.cold import evidence

SCHEME = """
import numpy as np
from oovrec.config import Options
from oovrec.tokens.build import Built
from oovrec.tokens.naming import two_level_names
from oovrec.tokens.table import TokenTable

class Config(Options):
    shelves: int = 4

def build(material, config, seed):
    labels = np.arange(len(material.items)) % config.shelves
    names = two_level_names("I", labels, np.zeros(len(labels)), np.random.default_rng(seed))
    return Built(TokenTable.of(material.items, names), None)
"""
BEGINNING = SCHEME.replace("return Built", "names[0] = (names[0][0],)\n    return Built")
SYSTEM = '''
from oovrec.models.sequential.popularity import Popularity

class Backwards(Popularity):
    """The least popular first."""
    name = "backwards"

    def scores(self, histories):
        return -super().scores(histories)
'''


BAD = "tokens.method=bad"
ABSTRACT = """
from oovrec.config import Options
from oovrec.models.base import Recommender

class Half(Recommender):
    name = "half"
    Config = Options
"""
# Of a package 'faulty': entry points, files, and the sentence when one of them is asked for.
IMPORTS = "mend it, install what it needs, or uninstall the package."
NAMES = "give its class that name, or rename the entry point."
NO_CONFIG = (
    "has no 'Config' derived from oovrec.config.Options; add that class, without fields if there is nothing to set."
)
SYSTEMS = {
    "lost": (
        "import nowhere",
        f"'faulty.lost' cannot be imported (ModuleNotFoundError: No module named 'nowhere'); {IMPORTS}",
    ),
    "stops": ("raise SystemExit", f"'faulty.stops' cannot be imported (SystemExit); {IMPORTS}"),
    "lines": ("raise ValueError('one\\ntwo.')", f"'faulty.lines' cannot be imported (ValueError: one two); {IMPORTS}"),
    "other": (
        SYSTEM,
        f"faulty.other: has no recommender with name = 'other', as its entry point is called; {NAMES}",
    ),
    "bare": (
        "from oovrec.models.base import Recommender\nclass Bare(Recommender):\n    name = 'bare'",
        f"faulty.bare.Bare: {NO_CONFIG}",
    ),
    "half": (
        ABSTRACT,
        "faulty.half.Half: does not define fit, load_state, scores, state; add what every system needs.",
    ),
    "partly": (
        SYSTEM.replace('name = "backwards"', 'name, token_use = "partly", "sometimes"'),
        "faulty.partly.Backwards: has token_use = 'sometimes'; set it to 'none', 'possible' or 'needed'.",
    ),
}
SCHEMES = {
    "astray": ("1 / 0", f"'faulty.astray' cannot be imported (ZeroDivisionError: division by zero); {IMPORTS}"),
    "naked": ("def build(material, config, seed): ...", f"faulty.naked: {NO_CONFIG}"),
    "plain": ("class Config: ...\ndef build(material, config, seed): ...", f"faulty.plain: {NO_CONFIG}"),
    "idle": (
        "from oovrec.config import Options as Config",
        "faulty.idle: has no function 'build'; add build(material, config, seed), which returns what it built.",
    ),
}


def install(folder: Path, name: str, files: Mapping[str, str], points: str, *, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip installs it."""
    package, about = folder / name, folder / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").touch()
    for module, text in files.items():
        (package / f"{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"{name}.{module}", raising=False)
    monkeypatch.delitem(sys.modules, name, raising=False)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(folder))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemes = "[oovrec.schemes]\nshelves = shelving.shelves\nbad = shelving.bad\n"
    points = schemes + "[oovrec.systems]\nbackwards = shelving.last\n"
    files = {"shelves": SCHEME, "bad": BEGINNING, "last": SYSTEM}
    install(tmp_path, "shelving", files, points, monkeypatch=monkeypatch)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of which nothing works."""
    lines = ["[oovrec.systems]", *(f"{name} = faulty.{name}" for name in SYSTEMS), "classy = faulty.other:Backwards"]
    lines += ["up/stairs = faulty.other"]
    lines += ["[oovrec.schemes]", *(f"{name} = faulty.{name}" for name in SCHEMES), "handy = faulty.idle:build"]
    files = {name: text for name, (text, _) in (SYSTEMS | SCHEMES).items()}
    install(tmp_path, "faulty", files, "\n".join(lines), monkeypatch=monkeypatch)


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages, which share a name with each other and two with oovrec."""
    points = (
        "[oovrec.systems]\ndouble = first.last\npopularity = first.last\n[oovrec.schemes]\nrandom = first.shelves\n"
    )
    files = {"last": SYSTEM, "shelves": SCHEME}
    install(tmp_path / "a", "first", files, points, monkeypatch=monkeypatch)
    install(tmp_path / "b", "second", files, "[oovrec.systems]\ndouble = second.last\n", monkeypatch=monkeypatch)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("installed")
def test_a_scheme_and_a_system_of_another_package(log: Path, tmp_path: Path) -> None:
    assert methods()["shelves"] == "shelving.shelves"
    assert systems()["backwards"].__module__ == "shelving.last"
    run("tokens", "build", log, "--method", "shelves", "--set", "shelves=3", "--out", tmp_path / "tokens")
    assert len({line.split("\t")[1] for line in (tmp_path / "tokens" / "item_tokens.tsv").open()}) == 3
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("system: backwards\n")
    run("train", recipe, "--data", log, "--out", tmp_path / "run")
    ours = run("recommend", tmp_path / "run", "--history", "i3", "-k", 3)
    assert ours != run("recommend", trained(log, tmp_path), "--history", "i3", "-k", 3)
    refused = CliRunner().invoke(app, ["train", "backwards", "--data", str(log), "--out", str(tmp_path / "no")])
    assert refused.exit_code == 2
    assert "write 'system: backwards' and what else it needs into a YAML file" in refused.stderr.replace("\n", " ")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "words", [["tokens", "build", "LOG", "--method", "bad"], ["train", "metaid-llama", "--data", "LOG", "--set", BAD]]
)
def test_a_scheme_whose_tokens_could_not_be_read_leaves_nothing(log: Path, tmp_path: Path, words: list[str]) -> None:
    given = [str(log) if word == "LOG" else word for word in words]
    refused = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2, refused.output
    said = refused.stderr.replace("\n", " ")
    assert re.search(r"scheme 'bad': item 'i\d+' is <CI0>, which begins another name: item 'i\d+' is <CI0><I1", said)
    assert not (tmp_path / "out").exists()


NEARBY = """NEAR = ("interactions",)

def build"""
UNNUMBERED = """letters = ["".join("abcdefghij"[int(digit)] for digit in str(n)) for n in range(len(names))]
    names = [(first, f"<{rank}>") for (first, _), rank in zip(names, letters)]
    return Built"""
PLACING = {  # schemes, and what is said of a new item that a table alone describes
    "near": (SCHEME.replace("def build", NEARBY), "tell by interactions alone where a new item belongs; give --log."),
    "texts": (
        SCHEME.replace("def build", NEARBY.replace('("interactions",)', '("interactions")')),
        "scheme 'texts': has NEAR = 'interactions'; write a tuple of some of: interactions, words.",
    ),
    "typo": (
        SCHEME.replace("def build", NEARBY.replace("interactions", "word")),
        "scheme 'typo': has NEAR = ('word',); write a tuple of some of: interactions, words.",
    ),
    "listed": (
        SCHEME.replace("def build", NEARBY.replace('"interactions"', '["words"]')),
        "scheme 'listed': has NEAR = (['words'],); write a tuple of some of: interactions, words.",
    ),
    "bare": (
        SCHEME.replace("def build", NEARBY.replace('("interactions",)', '["interactions"]')),
        "scheme 'bare': has NEAR = ['interactions']; write a tuple of some of: interactions, words.",
    ),
    "letters": (
        SCHEME.replace("def build", NEARBY.replace("interactions", "words")).replace("return Built", UNNUMBERED),
        "has no number, so nothing says what a new item's would be called; use a run whose last tokens have one",
    ),
}


@pytest.fixture
def placing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "\n".join(["[oovrec.schemes]", *(f"{name} = placing.{name}" for name in PLACING)])
    install(tmp_path, "placing", {name: text for name, (text, _) in PLACING.items()}, points, monkeypatch=monkeypatch)


def speaking(scheme: str, log: Path, tmp_path: Path) -> Path:
    """A small language model on such tokens."""
    small = ("--set", "training.epochs=1", "--set", "model.shape=debug", "--set", "model.augmentation=none")
    words = ("--data", log, "--set", f"tokens={{method: {scheme}}}", *small)
    run("train", "metaid-llama", *words, "--out", tmp_path / scheme)
    return tmp_path / scheme


@pytest.mark.usefixtures("placing")
@pytest.mark.parametrize("scheme", PLACING)
def test_where_a_scheme_does_not_say_how_a_new_item_is_placed(scheme: str, log: Path, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("item,title\nx1,Film 1\n")
    trained = speaking(scheme, log, tmp_path)
    refused = sentence("items", "add", trained, table, "--out", tmp_path / "added")
    assert refused.startswith(str(trained))
    assert PLACING[scheme][1] in refused
    assert not (tmp_path / "added").exists()


@pytest.mark.usefixtures("placing")
def test_tokens_of_a_scheme_that_is_gone_are_not_taken_for_imported(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = speaking("near", log, tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(tmp_path)])
    said = f"{trained}: its tokens were made by the scheme 'near', which is not installed here; install the package"
    for words in (("retrain", trained), ("retrain", trained, "--data", log), ("items", "add", trained, "--log", log)):
        assert sentence(*words, "--out", tmp_path / "new").startswith(said)
        assert not (tmp_path / "new").exists()


def trained(log: Path, tmp_path: Path) -> Path:
    run("train", "popularity", "--data", log, "--out", tmp_path / "popularity")
    return tmp_path / "popularity"


def sentence(*words: object) -> str:
    """Of a refusal, in one line."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split()).partition("error: ")[2]


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_broken_system_is_refused_when_it_is_asked_for(name: str) -> None:
    said = SYSTEMS[name][1]
    place = f"entry point '{name}' (oovrec.systems) of 'faulty': " if said.startswith("'") else ""
    with pytest.raises(OovrecError) as refused:
        system(name)
    assert str(refused.value) == place + said


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("name", SCHEMES)
def test_a_broken_scheme_is_refused_when_it_is_asked_for(name: str) -> None:
    said = SCHEMES[name][1]
    place = f"entry point '{name}' (oovrec.schemes) of 'faulty': " if said.startswith("'") else ""
    for ask in (lambda: check_options(name, {}, where="tokens"), lambda: evidence(name)):
        with pytest.raises(OovrecError) as refused:
            ask()
        assert str(refused.value) == place + said


@pytest.mark.usefixtures("faulty")
def test_an_entry_point_names_a_module_alone(log: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("system: classy\n")
    cure = "into the package's pyproject.toml and install it again."
    said = f"'faulty.other:Backwards' is more than a module's name; write classy = \"faulty.other\" {cure}"
    place = "entry point 'classy' (oovrec.systems) of 'faulty'"
    assert sentence("train", recipe, "--data", log, "--out", tmp_path / "run") == f"{recipe}, {place}: {said}"
    said = f"'faulty.idle:build' is more than a module's name; write handy = \"faulty.idle\" {cure}"
    refused = sentence("tokens", "build", log, "--method", "handy", "--out", tmp_path / "tokens")
    assert refused == f"entry point 'handy' (oovrec.schemes) of 'faulty': {said}"


@pytest.mark.usefixtures("faulty")
def test_an_entry_point_is_called_as_a_folder_may_be() -> None:
    with pytest.raises(OovrecError) as refused:
        system("up/stairs")
    assert str(refused.value) == (
        "entry point 'up/stairs' (oovrec.systems) of 'faulty': 'up/stairs' is no name; "
        "begin with a letter or digit, and leave slashes out, for results are kept under it."
    )


@pytest.mark.usefixtures("faulty")
def test_nothing_else_imports_what_is_broken(log: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("system: populariti\n")
    refused = sentence("train", recipe, "--data", log, "--out", tmp_path / "run")
    assert refused == f"{recipe}: unknown system 'populariti'; did you mean 'popularity'."
    refused = sentence("bench", "results", "--systems", recipe, "--datasets", log, "--out", tmp_path / "results")
    assert "unknown system 'populariti'" in refused
    assert "'shelves'; choose one of: astray, " in sentence(
        "tokens", "build", log, "--method", "shelves", "--out", tmp_path / "tokens"
    )
    refused = sentence("export", trained(log, tmp_path), "--out", tmp_path / "out")
    assert "is no language model, so transformers cannot load it; export a run of cove or " in refused
    assert not any(name.startswith("faulty") for name in sys.modules)
    assert systems() == own_systems()


@pytest.mark.usefixtures("installed", "twins")
def test_a_name_that_two_have_is_refused_for_what_is_new(log: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "out"
    recipe.write_text("system: backwards\nreferences: [popularity]\n")
    cure = "so nobody could tell whose figures these are; rename the entry point or uninstall the package."
    said = f"entry point 'popularity' (oovrec.systems) of 'first': oovrec has a 'popularity' of its own, {cure}"
    assert sentence("train", "popularity", "--data", log, "--out", out) == f"popularity, {said}"
    told = CliRunner().invoke(app, ["run", "--recipe", str(recipe), "--data", str(log), "--out", str(out)])
    assert told.exit_code == 0
    assert f"note: popularity is left out: popularity, {said}" in " ".join(told.stderr.split())
    said = f"entry point 'random' (oovrec.schemes) of 'first': oovrec has a 'random' of its own, {cure}"
    assert sentence("tokens", "build", log, "--method", "random", "--out", tmp_path / "tokens") == said
    with pytest.raises(OovrecError) as refused:
        system("double")
    place = "entry point 'double' (oovrec.systems) of 'first' and 'second'"
    assert str(refused.value) == f"{place}: is in several packages; uninstall all of them but one."


def test_a_run_of_oovrec_itself_is_read_beside_a_system_of_its_name(
    log: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = trained(log, tmp_path)
    before = run("recommend", folder, "--history", "i3", "-k", 3)
    request.getfixturevalue("twins")
    assert run("recommend", folder, "--history", "i3", "-k", 3) == before
    assert systems()["popularity"] is own_systems()["popularity"]


def test_a_list_is_made_of_a_score_for_every_item(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SYSTEM.replace("backwards", "short").replace(
        "-super().scores(histories)", "super().scores(histories)[:, 3:]"
    )
    points = "[oovrec.systems]\nshort = scant.short\n"
    install(tmp_path / "site", "scant", {"short": text}, points, monkeypatch=monkeypatch)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("system: short\n")
    run("train", recipe, "--data", log, "--out", tmp_path / "run")
    for ask in (["evaluate", tmp_path / "run"], ["recommend", tmp_path / "run", "--history", "i3"]):
        refused = sentence(*ask)
        assert refused.startswith("the system's scores: have the shape (")
        assert refused.endswith("items; give a row for each history, a column for each item.")


def test_what_a_schemes_options_were_is_part_of_the_recipe(installed: None) -> None:
    """Its defaults may be others in the package's next version; those of oovrec's own schemes are oovrec's matter."""
    shelves = ["tokens.method=shelves"]
    plain, told = read_recipe("metaid-llama", shelves), read_recipe("metaid-llama", [*shelves, "tokens.shelves=7"])
    assert plain.tokens is not None
    assert plain.tokens.options == {"shelves": 4}
    assert plain.hash != told.hash
    assert read_recipe("metaid-llama", [*shelves, "tokens.shelves=4"]).hash == plain.hash
    own = read_recipe("metaid-llama", ["tokens.method=random"]).tokens
    assert own is not None
    assert own.options == {}
