"""The project's promises: what the README says can be typed, the sizes of files, no format that can carry code."""

from __future__ import annotations

import importlib
import re
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from typer.testing import CliRunner

import oovrec
from oovrec.app.cli import app
from oovrec.app.waiting import WAITING

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "results").rglob("*.md")),
]
TRAINING = ["--set", "training.epochs=1"]
SMALL = ["--set", "model.shape=debug"]


def commands(page: Path) -> list[list[str]]:
    """The words of every ``$`` line in the console blocks of a page."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line[:2] == "$ "]


def recipe_of(target: str) -> list[list[str]]:
    """The oovrec commands behind a make target."""
    makefile = (ROOT / "Makefile").read_text()
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
    assert lines, f"the Makefile has no target '{target}'"
    plain = re.sub(r"\$\((if|wildcard)[^\n]*", "", lines[1]).replace("$(BIN)/", "")
    return [words for line in plain.splitlines() if (words := shlex.split(line)) and words[0] == "oovrec"]


def readme_commands() -> list[list[str]]:
    """The README's oovrec commands, those behind its make targets included."""
    found = []
    for words in commands(ROOT / "README.md"):
        found += recipe_of(words[1]) if words[0] == "make" else [words]
    return [words[1:] for words in found if Path(words[0]).name == "oovrec"]


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_find_what_they_import(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are run by hand, so nothing else says when what they measure has moved."""
    monkeypatch.syspath_prepend(str(script.parent))
    if "from gensim" in script.read_text():
        pytest.importorskip("gensim", reason="gensim is not installed")
    for name, value in WAITING.items():  # which they set for good
        monkeypatch.setenv(name, value)
    importlib.import_module(script.stem)


def ids_after(option: str) -> list[str]:
    lines = [words[words.index(option) + 1] for words in readme_commands() if option in words]
    return sorted({name for line in lines for name in line.split(",")})


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log with the users and items that the README names."""
    rng = np.random.default_rng(0)
    items = sorted({*ids_after("--history"), *(f"{n}" for n in range(9000, 9020))})
    lines = ["user_id,item_id,timestamp,rating,title"]
    for user in [*ids_after("--user"), *(f"{n}" for n in range(8000, 8030))]:
        for item in rng.choice(items, 12, replace=False):
            lines.append(f"{user},{item},{1_000_000 + 90_000 * len(lines)},{rng.integers(1, 6)},Film {item}")
    path = tmp_path_factory.mktemp("films") / "films.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_commands_of_the_readme_run(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """In order, in one folder, on a small log in place of the named dataset, with small models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)  # it would serve until Ctrl-C
    assert len(readme_commands()) > 5
    for words in readme_commands():
        changed = [str(films) if word == "ml-100k" else word for word in words]
        if words[0] in ("run", "train"):
            changed += TRAINING + (SMALL if "sasrec" not in words else [])
            changed += [] if "--data" in words else ["--data", str(films)]
        with subtests.test(" ".join(words)):
            result = CliRunner().invoke(app, changed)
            assert result.exit_code == 0, result.output
            assert result.stdout


def test_the_code_of_the_python_page_runs(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but for a small log and a small model."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace('"ml-100k"', f'"{films}"').replace('["training.', '["model.shape=debug", "training.')
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"ndcg@10 0\.\d{4}, between \[.*\], of \d+ users", printed[0])
    assert [line.split()[0] for line in printed[1:6]] == list("12345")
    assert (tmp_path / "runs" / "python-plain" / "config.json").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_links_of_a_page_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "make":
            assert recipe_of(words[1]) is not None
    for link, place in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not place or place in places(target), f"{link}#{place}"


def places(page: Path) -> set[str]:
    """What a link can name of a page: its headings, as GitHub writes them."""
    heads = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_ci_does_what_make_test_does() -> None:
    assert (ROOT / ".ci" / "run").read_text().strip().endswith("make test")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_version_is_one() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == oovrec.__version__
    assert oovrec.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not [path.name for path, length in lengths.items() if length > 400]
    assert statistics.median(lengths.values()) < 200


def test_nothing_is_unpickled_and_no_device_is_fixed() -> None:
    forbidden = re.compile(r"\bpickle\b|torch\.(load|save)\(|allow_pickle|joblib|\.cuda\(|device=[\"']cuda")
    found = {path.name: match[0] for path in SOURCES if (match := forbidden.search(path.read_text(encoding="utf-8")))}
    assert not found
