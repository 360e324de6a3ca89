"""Bad input gets one sentence that names the place and the remedy, exit code 2, and leaves nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from typer.testing import Result

from oovrec.errors import OovrecError
from oovrec.models.sequential.popularity import Popularity
from oovrec.models.sequential.sasrec import SASRec


def refused(result: Result, *fragments: str) -> None:
    """The command printed nothing but one sentence about what is wrong."""
    assert result.stdout == ""
    *_, sentence = result.stderr.strip().splitlines()
    assert sentence.startswith("error: ")
    assert sentence.endswith(".")
    assert "Traceback" not in result.stderr
    for fragment in fragments:
        assert fragment in result.stderr


def digest(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to spoil."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["data", "show", "ml-10k"], ["unknown dataset 'ml-10k'; did you mean 'ml-100k'"]),
        (["data", "get", "ml-10k"], ["unknown dataset 'ml-10k'; did you mean 'ml-100k'"]),
        (["data", "show", "./none.csv"], ["none.csv: no such file or folder; check the path"]),
        (["data", "show", "LOG", "--user-column", "usr_id"], ["unknown column 'usr_id'; did you mean 'user_id'"]),
        (["data", "show", "LOG", "--k-core", "50"], ["none of", "are left", "lower --k-core (k_core in a data file)"]),
        (
            ["run", "--data", "LOG", "--recipe", "metaid-lama"],
            ["unknown recipe 'metaid-lama'; did you mean 'metaid-llama'"],
        ),
        (
            ["run", "--data", "LOG", "--set", "training.epocs=3"],
            ["training: unknown key 'epocs'; did you mean 'epochs'"],
        ),
        (["run", "--data", "LOG", "--set", "model.shape=compct"], ["unknown shape 'compct'; did you mean 'compact'"]),
        (["run", "--data", "LOG", "--set", "tokens.method=mta"], ["unknown method 'mta'; did you mean 'meta'"]),
        (["run", "--data", "LOG", "--set", "tokens.cluster=3"], ["unknown key 'cluster'; did you mean 'clusters'"]),
        (["train", "sasrec", "--data", "LOG", "--set", f"model.width={10**30}"], ["give at most 2147483647"]),
        (["run", "--data", "LOG", "--set", "references=[sas]"], ["unknown recipe 'sas'"]),
        (["run", "--data", "LOG", "--resume"], ["there is no run to resume here; start without --resume"]),
        (
            ["train", "sasrec", "--data", "LOG", "--from", "all"],
            ["sasrec, tokens: name no method, and 'sasrec' does without tokens; set tokens.method"],
        ),
        (
            ["train", "metaid-t5", "--data", "LOG", "--tokens", "none"],
            ["none", "tokens.json: no such file", "tokens build"],
        ),
        (["tokens", "build", "LOG", "--method", "mta"], ["unknown method 'mta'; did you mean 'meta'"]),
        (["tokens", "build", "LOG", "--set", "clustrs=3"], ["unknown key 'clustrs'; did you mean 'clusters'"]),
        (["tokens", "build", "LOG", "--set", "clusters"], ["--set clusters: is not key=value"]),
    ],
)
def test_wrong_names_and_values(words, fragments, oovrec, log: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(log) if word == "LOG" else word for word in words]
    writes = words[0] in ("run", "train") or words[:2] == ["tokens", "build"]
    refused(oovrec(*words, *(["--out", "out"] if writes else []), code=2), *fragments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--user", "u77"], ["films: unknown user 'u77'; did you mean 'u7'"]),
        (["--history", "i1,i333"], ["unknown item 'i333'; did you mean 'i3'"]),
        (["--history", "zebra"], ["unknown item 'zebra'; choose one of: i0, i1"]),
        (["--history", ","], ["the history is empty; give at least one item id"]),
        ([], ["give a user or a history, one of the two."]),
        (["--user", "u1", "--history", "i1"], ["give a user or a history, one of the two"]),
    ],
)
def test_wrong_users_and_items(words, fragments, oovrec, finished: Path) -> None:
    refused(oovrec("recommend", finished, *words, code=2), *fragments)


@pytest.mark.parametrize("command", ["evaluate", "recommend --user u1"])
def test_a_run_of_another_dataset(command: str, oovrec, copy: Path, other_log: Path) -> None:
    before = digest(copy)
    first, *words = command.split()
    result = oovrec(first, copy, *words, "--data", other_log, code=2)
    refused(result, "other.csv: is not the dataset 'films' that the run was trained on; give --data the one")
    assert "or train again; 'recommend' takes a newer history by --history." in result.stderr
    assert digest(copy) == before


def test_data_that_changed_since(oovrec, log: Path, other_log: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copy(log, tmp_path / "mine.csv"))
    oovrec("train", "popularity", "--data", mine, "--out", tmp_path / "run")
    shutil.copy(other_log, mine)
    refused(oovrec("evaluate", tmp_path / "run", code=2), "mine.csv: is not the dataset 'mine'")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_model_beside_other_items(oovrec, copy: Path) -> None:
    lines = (copy / "items.tsv").read_text().splitlines()
    (copy / "items.tsv").write_text("\n".join([*lines[1:], lines[0]]) + "\n")
    result = oovrec("recommend", copy / "references" / "popularity", "--history", "i1")
    assert result.stdout
    refused(oovrec("recommend", copy, "--history", "i1", code=2), "was trained on other items than items.tsv lists")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)))


@pytest.mark.parametrize(
    ("name", "spoil", "fragment"),
    [
        ("model.safetensors", truncated, "is not a whole safetensors file (truncated or altered)"),
        ("model.safetensors", altered, "was altered after it was written"),
        ("model.safetensors", emptied, "is not a whole safetensors file"),
        ("model.safetensors", Path.unlink, "its training is not finished; finish it by its own command with --resume"),
        ("config.yaml", truncated, "config.yaml, data.described: string should match"),
        ("config.yaml", emptied, "config.yaml: is empty; restore the file or train again"),
        ("config.yaml", binary, "config.yaml: is not UTF-8 text"),
        ("config.yaml", Path.unlink, "holds no run; give a folder made by 'oovrec run' or 'oovrec train'"),
        ("items.tsv", emptied, "items.tsv: is empty"),
        ("tokens/tokens.json", truncated, "tokens.json, line"),
        ("tokens/item_tokens.tsv", truncated, "item_tokens.tsv, line 32"),
        ("tokens/centroids.safetensors", altered, "centroids.safetensors: was altered"),
    ],
)
def test_spoilt_files_of_a_run(name: str, spoil, fragment: str, oovrec, copy: Path) -> None:
    spoil(copy / name)
    before = digest(copy)
    refused(oovrec("recommend", copy, "--history", "i1,i2", code=2), fragment)
    refused(oovrec("evaluate", copy, code=2), fragment)
    assert digest(copy) == before


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("environment.json", "[]", "environment.json: says no times; restore the file or remove it"),
        ("environment.json", '{"seconds": "x"}', "environment.json: says no times"),
        ("tokens/tokens.json", "[]", "tokens.json"),
        ("tokens/tokens.json", '{"added": [1]}', "tokens.json"),
        ("log.jsonl", '{"epoch": 1}\nx\n', "log.jsonl, line 1: is no epoch of a training; remove the line or train"),
        ("log.jsonl", "x\n", "log.jsonl, line 1: is no epoch"),
    ],
)
def test_json_of_a_run_that_is_of_another_form(name: str, content: str, fragment: str, oovrec, copy: Path) -> None:
    (copy / name).write_text(content)
    refused(oovrec("evaluate", copy, code=2), fragment)


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        (
            "method: meta",
            "method: independent",
            "says tokens.method = independent, and the model beside it was trained",
        ),
        ("from: train", "from: all", "says tokens.from = all, and the model beside it was trained with train; restore"),
        ("alpha: 1.0", "alpha: 2.0", "says model.alpha = 2.0, and the model beside it was trained with 1.0"),
    ],
)
def test_a_recipe_that_is_not_the_models(old: str, new: str, fragment: str, oovrec, copy: Path) -> None:
    """Its name would stand beside another's figures."""
    config = (copy / "config.yaml").read_text()
    assert old in config
    (copy / "config.yaml").write_text(config.replace(old, new, 1))
    refused(oovrec("evaluate", copy, code=2), fragment)


def test_a_test_kept_from_before_is_not_that_of_another_recipe(oovrec, copy: Path) -> None:
    """Though its ranks are there: whoever compares runs reads what config.yaml says of their tokens."""
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("from: train", "from: all", 1))
    refused(oovrec("compare", copy, copy / "references" / "sasrec", code=2), "says tokens.from = all, and the model")


def swaps_two_items(tokens: Path) -> None:
    path = tokens / "item_tokens.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows[3][1:], rows[5][1:] = rows[5][1:], rows[3][1:]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


def calls_leaky_tokens_honest(tokens: Path) -> None:
    about = json.loads((tokens / "tokens.json").read_text())
    other = {"train": "all", "all": "train"}[about["built_from"]]
    (tokens / "tokens.json").write_text(json.dumps({**about, "built_from": other}))


@pytest.mark.parametrize("change", [swaps_two_items, calls_leaky_tokens_honest])
def test_other_tokens_than_the_weights_were_trained_with(change, oovrec, copy: Path) -> None:
    change(copy / "tokens")
    sentence = "model.safetensors: was trained with other tokens than tokens/ holds; take both from one run"
    refused(oovrec("recommend", copy, "--user", "u1", code=2), sentence)


def test_another_systems_weights(oovrec, copy: Path) -> None:
    shutil.copy(copy / "references" / "sasrec" / "model.safetensors", copy)
    refused(
        oovrec("evaluate", copy, code=2),
        "model.safetensors: was trained with no tokens, and the folder has 'meta' tokens",
    )


@pytest.fixture(scope="module")
def tokens(oovrec, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "built"
    oovrec("tokens", "build", log, "--method", "random", "--out", folder)
    return folder


def lacks_an_item(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def repeats_a_tuple(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[4] = "\t".join([lines[4].split("\t")[0], *lines[2].split("\t")[1:]])
    path.write_text("\n".join(lines) + "\n")


def repeats_an_id(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[4] = "\t".join([lines[2].split("\t")[0], *lines[4].split("\t")[1:]])
    path.write_text("\n".join(lines) + "\n")


def lacks_tokens(path: Path) -> None:
    path.write_text(re.sub(r"\t.*", "\tword", path.read_text(), count=1))


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (lacks_an_item, "item_tokens.tsv: has 31 lines where tokens.json counts 32; build the tokens again"),
        (repeats_a_tuple, "item_tokens.tsv, line 5: repeats the token tuple of line 3; keep one of the two"),
        (repeats_an_id, "item_tokens.tsv, line 5: repeats the id of line 3; keep one of the two"),
        (lacks_tokens, "item_tokens.tsv, line 1: is not an id followed by <tokens>"),
        (emptied, "item_tokens.tsv: is empty"),
        (Path.unlink, "item_tokens.tsv: no such file"),
    ],
)
def test_spoilt_tokens(spoil, fragment: str, oovrec, log: Path, tokens: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(tokens, tmp_path / "spoilt")
    spoil(spoilt / "item_tokens.tsv")
    out = tmp_path / "out"
    refused(oovrec("train", "metaid-llama", "--data", log, "--tokens", spoilt, "--out", out, code=2), fragment)
    assert not out.exists()
    refused(oovrec("tokens", "score", spoilt, log, code=2), fragment)


def test_tokens_of_another_dataset(oovrec, tokens: Path, tmp_path: Path, log: Path) -> None:
    stranger = tmp_path / "strange.csv"
    stranger.write_text(re.sub(r",i(\d)", r",j\1", log.read_text()))
    result = oovrec("train", "metaid-llama", "--data", stranger, "--tokens", tokens, "--out", tmp_path / "out", code=2)
    refused(result, "item_tokens.tsv: has no tokens for '", "' and 31 more; build or import tokens")
    assert not (tmp_path / "out").exists()


def test_tokens_of_the_same_items_in_other_histories(oovrec, tokens: Path, tmp_path: Path, other_log: Path) -> None:
    """What these were built from may be what is held out here, and no page would say so."""
    result = oovrec("train", "metaid-llama", "--data", other_log, "--tokens", tokens, "--out", tmp_path / "out", code=2)
    refused(result, "were built from other data than 'other', perhaps from what is held out here", "build tokens from")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [("--from", "all"), ("--set", "tokens.clusters=9")])
def test_tokens_that_are_built_already(change, oovrec, tokens: Path, tmp_path: Path, log: Path) -> None:
    given = ("--tokens", tokens, *change, "--out", tmp_path / "out")
    refused(oovrec("train", "metaid-llama", "--data", log, *given, code=2), "these tokens are built already; leave")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        ('{"model_type": "llama"}', "is a model of type 'llama', and this system needs one of the types t5, mt5"),
        ("{}", "config.json: names no model_type"),
        ('{"model_type": "t5", "d_model": "wide"}', "config.json: describes no model"),
    ],
)
def test_a_backbone_is_refused_before_tokens_are_built(
    oovrec, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, config: str, fragment: str
) -> None:
    def building(*_: object) -> None:
        raise AssertionError("tokens are being built")

    monkeypatch.setattr("oovrec.app.pipeline.build_tokens", building)
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "config.json").write_text(config)
    given = ("--backbone", tmp_path / "backbone", "--out", tmp_path / "out")
    refused(oovrec("train", "metaid-t5", "--data", log, *given, code=2), fragment)
    assert not (tmp_path / "out").exists()


def test_tokens_for_a_system_that_reads_none(oovrec, tokens: Path, tmp_path: Path, log: Path) -> None:
    result = oovrec("train", "popularity", "--data", log, "--tokens", tokens, "--out", tmp_path / "out", code=2)
    refused(result, "'popularity' reads no tokens", "train without them")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["run --data LOG", "train sasrec --data LOG", "tokens build LOG"])
def test_folders_in_use(command: str, oovrec, log: Path, copy: Path, tmp_path: Path) -> None:
    words = [str(log) if word == "LOG" else word for word in command.split()]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("text")
    before = digest(tmp_path)
    resumes = "give --resume to go on with it, or another --out"
    remedy = "choose another --out" if words[0] == "tokens" else resumes
    refused(oovrec(*words, "--out", copy, code=2), f"already holds a run; {remedy}.")
    refused(oovrec(*words, "--out", other, code=2), "other: is there already and is not empty; choose another --out")
    refused(oovrec(*words, "--out", file, code=2), "file: is there already and is not empty; choose another --out")
    assert digest(tmp_path) == before


def test_resuming_with_other_settings(oovrec, copy: Path, log: Path, other_log: Path) -> None:
    before = digest(copy)
    same = ("--out", copy, "--resume", "--set", "model.shape=debug", "--seed", 3)
    result = oovrec("run", "--data", log, *same, "--set", "training.epochs=5", code=2)
    refused(
        result, "was begun with training.epochs = 2, not 5; give the same settings, or another --out without --resume"
    )
    result = oovrec("run", "--data", other_log, *same, "--set", "training.epochs=2", code=2)
    refused(result, "was begun with", "fingerprint" if "fingerprint" in result.stderr else "sha256")
    assert digest(copy) == before


@pytest.mark.parametrize("recipe", ["popularity", "sasrec"])
def test_a_full_disk(recipe: str, oovrec, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if Path(target).suffix == ".safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Path(source).rename(target)

    monkeypatch.setattr("oovrec.files.os.replace", full)
    out = tmp_path / "out"
    refused(oovrec("train", recipe, "--data", log, "--out", out, code=2), "No space left", "free some space")
    assert not out.exists()


@pytest.mark.parametrize("out", [".", "link"])
def test_a_folder_that_was_there_stays(out: str, oovrec, log: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise OovrecError("something is wrong", remedy="mend it")

    monkeypatch.setattr(Popularity, "fit", broken)
    empty, link = tmp_path / "empty", tmp_path / "link"
    empty.mkdir()
    link.symlink_to(empty)
    inode = empty.stat().st_ino
    monkeypatch.chdir(empty if out == "." else tmp_path)
    refused(oovrec("train", "popularity", "--data", log, "--out", out, code=2), "error: something is wrong; mend it.")
    assert link.is_symlink()
    assert (empty.stat().st_ino, list(empty.iterdir())) == (inode, [])


@pytest.mark.parametrize("command", ["train popularity --data LOG", "tokens build LOG"])
def test_a_folder_that_cannot_be_written(command: str, oovrec, log: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("oovrec.app.folders.os.access", lambda place, mode: mode == os.F_OK and Path(place).exists())
    words = [str(log) if word == "LOG" else word for word in command.split()]
    out = tmp_path / "new" / "run"
    refused(oovrec(*words, "--out", out, code=2), f"error: {out}: cannot be written to; choose another --out.")
    assert not list(tmp_path.iterdir())


def test_want_of_memory(oovrec, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> NoReturn:
        np.empty(2**62, np.int8)
        raise AssertionError("so much memory there was")

    monkeypatch.setattr(Popularity, "fit", greedy)
    out = tmp_path / "out"
    result = oovrec("train", "popularity", "--data", log, "--out", out, code=2)
    refused(result, "out of memory; lower training.batch_size, model.history or model.length with --set, or")
    assert not out.exists()


def test_a_defect_keeps_its_traceback(oovrec, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr(SASRec, "fit", broken)
    with pytest.raises(RuntimeError, match="a defect of ours"):
        oovrec("train", "sasrec", "--data", log, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
