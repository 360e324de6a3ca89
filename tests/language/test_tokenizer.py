"""Tokenizers of folders that hold something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oovrec.errors import OovrecError
from oovrec.language.tokenizer import own_tokenizer, pretrained_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own_tokenizer(["what next", "after this"], causal=False).save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_one_is_read_as_it_was(folder: Path) -> None:
    text = "what comes after this"
    expected = own_tokenizer(["what next", "after this"], causal=False)(text)["input_ids"]
    assert pretrained_tokenizer(folder)(text)["input_ids"] == expected


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": 3}}'),
        ("tokenizer_config.json", "[1, 2]"),
        ("tokenizer_config.json", json.dumps({"tokenizer_class": 5})),
        ("tokenizer_config.json", '{"tokenizer_class": "PreTrained'),
        ("spiece.model", ""),
    ],
)
def test_a_broken_one_is_refused_in_a_sentence(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(OovrecError, match="no tokenizer can be loaded from here"):
        pretrained_tokenizer(folder)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("tokenizer_config.json", None, "/tokenizer_config.json: no such file; restore the file."),
        ("tokenizer_config.json", "", "/tokenizer_config.json: is empty; restore the file."),
        ("tokenizer_config.json", '{"a": [1]}', "/tokenizer_config.json: describes no tokenizer; restore the file."),
        ("tokenizer_config.json", "[1]", "/tokenizer_config.json: describes no tokenizer; restore the file."),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "TokenizersBackend"}',
            "/tokenizer_config.json: names no token that ends a text; restore the file.",
        ),
        ("tokenizer.json", None, "/tokenizer.json: no such file; restore the file."),
        ("tokenizer.json", "", "/tokenizer.json: is empty; restore the file."),
        ("tokenizer.json", "{\n{", "/tokenizer.json, line 2: is not valid JSON (Expecting property name enclosed in "),
        (
            "tokenizer.json",
            '{"a": [1]}',
            ": no tokenizer can be loaded from here; restore tokenizer.json and tokenizer_config.json.",
        ),
    ],
)
def test_a_runs_broken_file_is_named(folder: Path, file: str, content: str | None, sentence: str) -> None:
    assert len(pretrained_tokenizer(folder, run=True)) == len(pretrained_tokenizer(folder))
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(OovrecError) as error:
        pretrained_tokenizer(folder, run=True)
    assert str(error.value).startswith(f"{folder}{sentence}")


@pytest.mark.parametrize("kind", ["T5Tokenizer", "LlamaTokenizer", "Qwen2Tokenizer", "GemmaTokenizer"])
def test_a_run_without_the_words_of_a_kind_that_can_do_without(folder: Path, kind: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "eos_token": "</s>"}))
    with pytest.raises(OovrecError, match=r"/tokenizer\.json: no such file; restore the file\.$"):
        pretrained_tokenizer(folder, run=True)


def test_a_broken_config_beside_a_tokenizer_is_refused_too(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")  # so that the model's config is asked
    (folder / "config.json").write_text(json.dumps({"model_type": ["t5"]}))
    with pytest.raises(OovrecError, match="no tokenizer can be loaded from here"):
        pretrained_tokenizer(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # panics in Rust
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}}],
            }
        },
        {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {}}},
    ],
)
def test_what_cannot_encode_is_refused_too(folder: Path, change: dict[str, object]) -> None:
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(OovrecError, match="no tokenizer can be loaded from here"):
        pretrained_tokenizer(folder)


@pytest.mark.parametrize("kind", ["qwen2", "gemma", "t5"])
def test_a_model_without_any_file_of_its_tokenizer_is_refused(tmp_path: Path, kind: str) -> None:
    """Of some kinds transformers makes one that knows no words."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(OovrecError, match="no tokenizer can be loaded from here; give a folder with a tokenizer"):
        pretrained_tokenizer(tmp_path)
