"""Schemes and systems of other packages, which say by entry points what they have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oovrec.app.cli import app
from oovrec.models.base import systems
from oovrec.tokens.build import methods

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


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as pip installs it."""
    package, about = tmp_path / "shelving", tmp_path / "shelving-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").touch()
    (package / "shelves.py").write_text(SCHEME)
    (package / "bad.py").write_text(BEGINNING)
    (package / "last.py").write_text(SYSTEM)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelving\nVersion: 1.0\n")
    schemes = "[oovrec.schemes]\nshelves = shelving.shelves\nbad = shelving.bad\n"
    points = schemes + "[oovrec.systems]\nbackwards = shelving.last\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("shelving", "shelving.shelves", "shelving.bad", "shelving.last"):
        monkeypatch.delitem(sys.modules, name, raising=False)


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


def trained(log: Path, tmp_path: Path) -> Path:
    run("train", "popularity", "--data", log, "--out", tmp_path / "popularity")
    return tmp_path / "popularity"
