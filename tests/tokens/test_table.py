"""Token files: kept whole, read as published, and refused with the line when broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.tokens.build import build_tokens
from oovrec.tokens.table import Tokens, TokenTable, read_table, write_table


@pytest.fixture
def folder(planted: Dataset, tmp_path: Path) -> Path:
    build_tokens(planted, options={"epochs": 1, "walks": 1}).save(tmp_path)
    return tmp_path


def test_a_saved_folder_loads_unchanged(planted: Dataset, tmp_path: Path) -> None:
    for method, options in (("meta", {"epochs": 1, "walks": 1}), ("random", {})):
        tokens = build_tokens(planted, method, seed=7, options=options)
        tokens.save(tmp_path / method)
        loaded = Tokens.load(tmp_path / method)
        assert loaded.summary() == tokens.summary()
        assert loaded.users is not None
        assert tokens.users is not None
        for ours, theirs in ((tokens.items, loaded.items), (tokens.users, loaded.users)):
            assert theirs.ids == ours.ids
            assert np.array_equal(theirs.codes, ours.codes)
            assert theirs.vocabulary == ours.vocabulary
            assert (theirs.centroids is None) == (ours.centroids is None)
            assert ours.centroids is None or np.array_equal(theirs.centroids, ours.centroids)


def test_published_tokens_are_read(shared: Path) -> None:
    table = read_table(shared / "reference" / "published_tokens_beauty" / "item_tokens.txt")
    assert (len(table), table.depth) == (12_101, 2)
    assert table.text(table.ids.index("B007ZBUQ1A")) == "<CT79><1220>"
    assert table.centroids is None


def test_levels_stand_in_order_and_sorted_by_number() -> None:
    table = TokenTable.of(["a", "b", "c"], [("<C10>", "<I1>"), ("<C2>", "<I10>"), ("<C2>", "<I9>")])
    assert table.vocabulary == ["<C2>", "<C10>", "<I1>", "<I9>", "<I10>"]
    assert [level.tolist() for level in table.levels] == [[0, 1], [2, 3, 4]]


def test_ids_of_different_lengths_are_kept(tmp_path: Path) -> None:
    table = TokenTable.of(["a", "b", "c"], [("<A>", "<B>", "<I1>"), ("<B>",), ("<A>", "<I1>")])
    assert table.depth == 3
    assert [table.text(row) for row in range(3)] == ["<A><B><I1>", "<B>", "<A><I1>"]
    write_table(tmp_path / "items.tsv", table)
    assert (tmp_path / "items.tsv").read_text() == "a\t<A>\t<B>\t<I1>\nb\t<B>\nc\t<A>\t<I1>\n"
    again = read_table(tmp_path / "items.tsv")
    assert again.vocabulary == table.vocabulary
    assert np.array_equal(again.codes, table.codes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\t<C1>\t<I1>\nb\n", r"line 2: is not an id followed by <tokens>; write id"),
        ("a\t<C1>\t<I1>\nb\t<C1> I2\n", r"line 2: is not an id followed by <tokens>"),
        ("a\t<C1>\t<I1>\nb\t<C2>\nc <C1>\n", r"line 3: is the beginning of the tuple of line 1; give it"),
        ("a\t<C1>\t<end>\n", r"line 1: is not an id followed by <tokens>"),
        ("a <C1><I1>\n\nb <C1><I1>\n", r"line 3: repeats the token tuple of line 1; keep one"),
        ("\t<C1>\t<I1>\n", r"line 1: is not an id followed by <tokens>"),
        ("a\t<C1>\t<I1>\na \t<C1>\t<I2>\n", r"line 2: repeats the id of line 1; keep one"),
        ("a\t<C1>\t<I1>\na\t<C1>\t<I2>\n", r"line 2: repeats the id of line 1; keep one"),
        ("\n", r"is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "items.tsv").write_text(text)
    with pytest.raises(OovrecError, match=message):
        read_table(tmp_path / "items.tsv")


def test_ids_without_tokens_are_named() -> None:
    table = TokenTable.of(["a", "b"], [("<A>",), ("<B>",)])
    assert table.reindexed(["b", "a"]).codes.tolist() == [[1], [0]]
    with pytest.raises(OovrecError, match="has no tokens for 'c' and 1 more; build or import tokens"):
        table.reindexed(["a", "c", "d"])


def test_repeated_tuples_cannot_be_made() -> None:
    with pytest.raises(OovrecError, match="<A><B> names both 'x' and 'z'"):
        TokenTable.of(["x", "y", "z"], [("<A>", "<B>"), ("<A>", "<C>"), ("<A>", "<B>")])


def test_tokens_that_do_not_say_of_which_data_they_are_may_be_of_any(folder: Path) -> None:
    tokens = Tokens.load(folder)
    mine = tokens.details["dataset"]["fingerprint"]
    assert (tokens.of_other_data(mine), tokens.of_other_data("another")) == (False, True)
    for silent in ({}, {"dataset": {"name": "some"}}, {"dataset": "some"}):
        tokens.details.clear()
        tokens.details.update(silent)
        assert not tokens.of_other_data("another")


def drop_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def edit(path: Path, key: str) -> None:
    about = json.loads(path.read_text())
    del about[key]
    path.write_text(json.dumps(about))


def one_more(path: Path) -> None:
    about = json.loads(path.read_text())
    about["vocabulary"]["item"].append("<more>")
    path.write_text(json.dumps(about))


def say_built_from(path: Path, value: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"built_from": value}))


def rename_token(path: Path) -> None:
    about = json.loads(path.read_text())
    about["vocabulary"]["item"][0] = "<other>"
    path.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda folder: drop_line(folder / "item_tokens.tsv"),
            r"item_tokens\.tsv: has 79 lines where tokens\.json counts 80",
        ),
        (lambda folder: edit(folder / "tokens.json", "seed"), r"tokens\.json: lacks 'seed'; build the tokens again"),
        (lambda folder: edit(folder / "tokens.json", "vocabulary"), r"tokens\.json: lacks 'vocabulary'"),
        (lambda folder: rename_token(folder / "tokens.json"), r"has the token <CI0>, which tokens\.json does not list"),
        (lambda folder: (folder / "tokens.json").write_text("[1, 2]"), r"tokens\.json: lacks .*build the tokens again"),
        (lambda folder: (folder / "tokens.json").write_text('{"method": '), r"tokens\.json, line 1: is not valid JSON"),
        (lambda folder: (folder / "tokens.json").unlink(), r"tokens\.json: no such file; give a folder made by"),
        (lambda folder: (folder / "user_tokens.tsv").unlink(), r"user_tokens\.tsv: no such file"),
        (
            lambda folder: (folder / "centroids.safetensors").write_bytes(b"x" * 99),
            r"centroids\.safetensors: is not a whole",
        ),
        (lambda folder: one_more(folder / "tokens.json"), r"centroids\.safetensors: does not fit tokens\.json"),
        (
            lambda folder: say_built_from(folder / "tokens.json", "tran"),
            r"tokens\.json: unknown source of tokens 'tran'",
        ),
    ],
)
def test_a_harmed_folder_is_refused(folder: Path, harm: object, message: str) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises(OovrecError, match=message):
        Tokens.load(folder)


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path: Path) -> None:
    (path := tmp_path / "items.tsv").write_text("\ufeff242\t<CI1>\t<I1>\n7\t<CI1>\t<I2>\n", encoding="utf-8")
    assert read_table(path).ids == ["242", "7"]


def test_blanks_around_an_id_are_no_part_of_it(tmp_path: Path) -> None:
    """As in logs. Within, they are."""
    (path := tmp_path / "items.tsv").write_text(" a b \t<CI1> \t<I1>\n\u2003c <CI1><I2> \n \n")
    assert read_table(path).ids == ["a b", "c"]
