"""Recommending from a run: how histories are given, what is left out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from oovrec.app.leads import compare
from oovrec.app.recipe import read_recipe
from oovrec.app.runs import Run, load_run
from oovrec.errors import OovrecError

ITEMS = 32


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return load_run(finished)


@pytest.mark.parametrize(
    ("row", "ids"),
    [
        ("50,181,172", ["50", "181", "172"]),
        (" 50 , 181,,", ["50", "181"]),
        ('"01,x",b', ["01,x", "b"]),
        ('b, " a b " ,"01,x"', ["b", " a b ", "01,x"]),
        ('"say ""hi""",5" disk', ['say "hi"', '5" disk']),
        (",", []),
    ],
)
def test_a_history_is_a_row_of_ids(row: str, ids: list[str], oovrec, finished: Path, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(Run, "recommend", lambda _, **words: given.append(words["history"]) or [])
    oovrec("recommend", finished, "--history", row)
    assert given == [ids]


@pytest.mark.parametrize("folder", [".", "references/popularity"])
def test_what_the_history_has_is_left_out_unless_told(folder: str, oovrec, finished: Path) -> None:
    words = ("recommend", finished / folder, "--history", "i3", "-k", ITEMS, "--json")
    lacked, every = (json.loads(oovrec(*words, *more).stdout) for more in ([], ["--no-mask-seen"]))
    assert len(lacked) == ITEMS - 1
    assert "i3" not in {item["id"] for item in lacked}
    assert [item["id"] for item in every if item["id"] != "i3"] == [item["id"] for item in lacked]
    assert len(every) == ITEMS


def test_ids_that_are_numbers_are_taken_for_their_strings(oovrec, log: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    header, *rows = log.read_text().splitlines()
    bare.write_text("\n".join([header, *(row[1:].replace(",i", ",") for row in rows)]))
    oovrec("train", "popularity", "--data", bare, "--out", tmp_path / "run")
    numbered = load_run(tmp_path / "run")
    assert numbered.recommend(user=7, k=3) == numbered.recommend(user="7", k=3)
    wanted = numbered.recommend(history=["3", "14"], k=3)
    assert numbered.recommend(history=[3, 14], k=3) == wanted
    assert numbered.recommend(history=np.array([3, 14]), k=3) == wanted


def test_unknown_items_of_a_history_can_be_skipped(oovrec, finished: Path, run: Run) -> None:
    words = ("recommend", finished, "--history", "new,i3,i5,newer", "-k", 3, "--json")
    assert "unknown item 'new'" in oovrec(*words, code=2).stderr
    skipped = json.loads(oovrec(*words, "--skip-unknown").stdout)
    assert skipped == json.loads(oovrec("recommend", finished, "--history", "i3,i5", "-k", 3, "--json").stdout)
    with pytest.raises(OovrecError, match="history: the run knows none of its items; give one"):
        run.recommend(history=["new", "newer"], skip_unknown=True)


@pytest.mark.parametrize("history", ["i1", "i1,i2", b"i1", 50])
def test_a_history_that_is_no_list_is_refused(history, run: Run) -> None:
    with pytest.raises(OovrecError, match=rf"^history: {history!r} is no list of item ids; give a list of them\.$"):
        run.recommend(history=history)


@pytest.mark.parametrize("k", [2.0, True, "3", None])
def test_a_count_that_is_no_whole_number_is_refused(k, run: Run) -> None:
    with pytest.raises(OovrecError, match=rf"^k: {k!r} is no whole number; ask for at least one item\.$"):
        run.recommend(history=["i3"], k=k)


def test_one_name_where_several_are_meant_is_refused() -> None:
    with pytest.raises(OovrecError, match=r"^runs: 'runs/a' is no list of runs; give a list of them"):
        compare("runs/a")
    with pytest.raises(OovrecError, match=r"^overrides: 'seed=1' is no list of overrides; give a list of them"):
        read_recipe("sasrec", "seed=1")


def test_ids_that_the_k_core_lacks(oovrec, log: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text(log.read_text() + "lonely,rare,1400000000,Rare\n")
    core, whole = tmp_path / "core", tmp_path / "whole"
    oovrec("train", "popularity", "--data", more, "--out", core)
    oovrec("train", "popularity", "--data", more, "--out", whole, "--k-core", 1)
    hint = "; users and items with fewer than 5 interactions are left out."
    for words in (("--user", "lonely"), ("--history", "rare")):
        assert oovrec("recommend", core, *words, code=2).stderr.strip().endswith(hint)
        oovrec("recommend", whole, *words)
    assert "left out" not in oovrec("recommend", whole, "--user", "nobody", code=2).stderr
