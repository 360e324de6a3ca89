"""``tokens import``: files that somebody else made, as tokens to train on, and what the figures then say of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from oovrec.app.runs import load_run
from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.tokens.build import build_tokens
from oovrec.tokens.imported import import_tokens
from oovrec.tokens.table import Tokens


@pytest.fixture(scope="module")
def data(log: Path) -> Dataset:
    return load_dataset(log)


@pytest.fixture
def files(data: Dataset, tmp_path: Path) -> tuple[Path, Path]:
    """Items in the published form, last one first, with one that the data lacks; users in ours."""
    items, users = tmp_path / "items.txt", tmp_path / "users.tsv"
    lines = [f"{item} <CT{place % 4}><{1001 + place}>" for place, item in enumerate(data.items)]
    items.write_text("\n".join(["of elsewhere\t<CT9><1>", *reversed(lines)]) + "\n")
    users.write_text("".join(f"{user}\t<CU{place % 3}>\t<U{place}>\n" for place, user in enumerate(data.users)))
    return items, users


def test_each_id_has_the_tokens_of_its_line(data: Dataset, files: tuple[Path, Path]) -> None:
    tokens = import_tokens(data, *files)
    assert tokens.items.ids == data.items
    assert [tokens.items.text(row) for row in range(3)] == ["<CT0><1001>", "<CT1><1002>", "<CT2><1003>"]
    assert tokens.users is not None
    assert (tokens.users.ids, tokens.users.text(4)) == (data.users, "<CU1><U4>")
    assert "<CT9>" not in tokens.items.vocabulary
    assert tokens.details["left_out"] == {"items": 1, "users": 0}
    assert tokens.config == {
        kind: hashlib.sha256(path.read_bytes()).hexdigest()
        for kind, path in zip(("items", "users"), files, strict=True)
    }


def test_users_whose_clusters_are_numbered_like_the_items_are_told_apart(
    data: Dataset, files: tuple[Path, Path]
) -> None:
    items, users = files
    users.write_text(users.read_text().replace("<CU", "<CT"))
    tokens = import_tokens(data, items, users)
    assert tokens.users is not None
    assert (tokens.items.text(1), tokens.users.text(1)) == ("<CT1><1002>", "<UCT1><UU1>")
    assert not {*tokens.items.vocabulary} & {*tokens.users.vocabulary}


def test_what_a_folder_of_tokens_holds_comes_back(data: Dataset, tmp_path: Path) -> None:
    built = build_tokens(data, "random", seed=5)
    built.save(tmp_path)
    again = import_tokens(data, tmp_path / "item_tokens.tsv", tmp_path / "user_tokens.tsv", "train", "mine")
    assert [again.items.words(row) for row in range(len(data.items))] == [
        built.items.words(row) for row in range(len(data.items))
    ]
    assert (again.method, again.built_from) == ("mine", "train")


def test_a_model_learns_them_and_its_figures_say_that_they_may_have_seen_the_answers(
    oovrec, log: Path, files: tuple[Path, Path], tmp_path: Path
) -> None:
    items, users = files
    folder, run = tmp_path / "tokens", tmp_path / "run"
    printed = oovrec("tokens", "import", log, "--items", items, "--users", users, "--out", folder)
    assert "1 of the items: left out" in " ".join(printed.stderr.split())
    assert "imported tokens, built from all: 32 items" in printed.stdout
    assert Tokens.load(folder).users is not None
    quick = ("--set", "training.epochs=1", "--set", "model.shape=debug")
    oovrec("train", "metaid-llama", "--data", log, "--tokens", folder, "--out", run, *quick)
    assert json.loads(oovrec("evaluate", run, "--json").stdout)["tokens_from"] == "all"
    first = load_run(run).recommend(history=["i3", "i5"], k=1)[0]
    assert first.tokens.startswith("<CT")
    assert (load_run(run).recipe.tokens.options) == Tokens.load(folder).config  # other files are another system


def test_a_row_of_the_table_can_be_of_them(oovrec, log: Path, files: tuple[Path, Path], tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    oovrec("tokens", "import", log, "--items", files[0], "--out", "tokens", "--from", "train")
    words = ("bench", "cell", "metaid-llama", "--data", log, "--tokens", "tokens")
    assert "--tokens: makes it another than the recipe" in oovrec(*words, code=2).stderr
    named = (*words, "--variant", "theirs", "--set", "training.epochs=1", "--set", "model.shape=debug")
    assert "--tokens tokens: these tokens are built already" in oovrec(*named, "--from", "train", code=2).stderr
    assert not Path("results").exists()
    oovrec(*named)
    file = Path("results/films/metaid-llama-theirs-train-s0.json")
    first = json.loads(file.read_text())
    assert (first["tokens_from"], first["system"]) == ("train", "llama")
    run = load_run(Path("runs/bench/films/metaid-llama-theirs-train-s0"))
    assert run.recipe.tokens.options == Tokens.load(Path("tokens")).config
    (run.folder / "mark").touch()
    oovrec(*named)  # is there already
    assert (run.folder / "mark").exists()
    assert json.loads(file.read_text()) == first


@pytest.mark.parametrize(
    ("harm", "method", "says"),
    [
        (lambda lines: lines[:-1], "mine", r"items.txt: has no tokens for '[^']+'; "),
        (lambda lines: [*lines, lines[-1]], "mine", r"items.txt, line 34: repeats the id of line 33"),
        (lambda lines: lines, "meta", r"method: 'meta' is a scheme of its own; call tokens"),
        (lambda lines: lines, "a/b", r"method: 'a/b' is no name; begin with a letter or digit"),
    ],
)
def test_what_is_refused(harm, method: str, says: str, data: Dataset, files: tuple[Path, Path]) -> None:
    items, users = files
    items.write_text("\n".join(harm(items.read_text().splitlines())) + "\n")
    with pytest.raises(OovrecError, match=says):
        import_tokens(data, items, users, method=method)


def test_a_source_that_is_none_is_refused(data: Dataset, files: tuple[Path, Path]) -> None:
    with pytest.raises(OovrecError, match=r"built_from: unknown source of tokens 'test'"):
        import_tokens(data, files[0], built_from="test")  # type: ignore[arg-type]


def test_nothing_is_left_of_what_was_refused(oovrec, log: Path, tmp_path: Path) -> None:
    words = ("tokens", "import", log, "--items", tmp_path / "no.tsv", "--out", tmp_path / "tokens")
    assert "no.tsv: no such file; give a file of ids and their tokens" in oovrec(*words, code=2).stderr
    assert not (tmp_path / "tokens").exists()
