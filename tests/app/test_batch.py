"""Lists for everybody: what is in the file, what a log leaves out, and work that is broken off."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from oovrec.app import batch as module
from oovrec.app.runs import Run, load_run
from oovrec.errors import Interrupted, OovrecError

FOLDERS = [".", "references/popularity", "references/sasrec"]


@pytest.fixture(autouse=True)
def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers in float32, in which a history's scores do not depend on what is read beside it."""
    monkeypatch.setattr(Run, "arithmetic", lambda _: nullcontext())


@pytest.fixture(scope="module", params=FOLDERS)
def run(request: pytest.FixtureRequest, finished: Path) -> Run:
    return load_run(finished / request.param)


def sorted_scores(run: Run, mask_seen: bool) -> dict[str, list[tuple[str, float]]]:
    """Every user's items, by sorting what the model gives to each history alone."""
    dataset, lists = run.dataset(), {}
    for row, user in enumerate(dataset.users):
        scores = run.model.scores(dataset.full.take(slice(row, row + 1)))[0].numpy().copy()
        if mask_seen:
            scores[dataset.full[row]] = -np.inf
        best = sorted(zip(-scores, range(len(scores)), strict=True))
        lists[user] = [(dataset.items[item], -score) for score, item in best if score < np.inf]
    return lists


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("k", [3, 100])
def test_each_user_has_the_best_items_in_order(run: Run, mask_seen: bool, k: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PART", 7)
    table = pl.read_parquet(run.batch(tmp_path / "lists.parquet", k=k, mask_seen=mask_seen))
    wanted = sorted_scores(run, mask_seen)
    assert table["user"].unique(maintain_order=True).to_list() == run.dataset().users
    for (user,), rows in table.group_by("user", maintain_order=True):
        expected = wanted[user][:k]
        assert rows["rank"].to_list() == list(range(1, len(expected) + 1))
        np.testing.assert_allclose(rows["score"], [score for _, score in expected], rtol=1e-5, atol=1e-5)
        scores = dict(wanted[user])
        np.testing.assert_allclose([scores[item] for item in rows["item"]], rows["score"], rtol=1e-5, atol=1e-5)
        assert rows["item"].n_unique() == len(expected)


def test_the_command_writes_csv_too(oovrec, finished: Path, tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        out = tmp_path / f"lists.{kind}"
        assert oovrec("batch", finished, "--out", out, "-k", 4).stdout.strip() == str(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.csv", "lists.parquet"]
    read, whole = pl.read_csv(tmp_path / "lists.csv"), pl.read_parquet(tmp_path / "lists.parquet")
    assert read.columns == ["user", "rank", "item", "score"]
    assert read.drop("score").rows() == whole.drop("score").rows()
    np.testing.assert_allclose(read["score"], whole["score"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_with_brackets_is_no_pattern(run: Run, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "lists [1]"
    folder.mkdir()
    stranger = tmp_path / "lists 1" / f"lists.{kind}.parts"  # what the name matches, as a pattern
    stranger.mkdir(parents=True)
    pl.DataFrame({"user": ["another"]}).write_parquet(stranger / "000000.parquet")
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet}[kind]
    made, plain = (run.batch(out / f"lists.{kind}", k=2) for out in (folder, tmp_path))
    assert read(made, glob=False).equals(read(plain))


def test_a_folder_that_cannot_be_written_is_told_before_the_model_is_read(
    finished: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("oovrec.app.folders.os.access", lambda place, mode: mode == os.F_OK and Path(place).exists())
    run, folder = load_run(finished), tmp_path / "new"
    with pytest.raises(OovrecError, match=f"^{folder}: cannot be written to; choose another --out"):
        run.batch(folder / "lists.csv")
    assert "model" not in vars(run)
    assert not folder.exists()


def test_a_log_stands_for_the_data(oovrec, finished: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "today.csv", tmp_path / "lists.csv"
    log.write_text("who,what,when\nu1,i3,20\nnew,i4,1\nu1,i9,10\nnew,i31,2\nu1,strange,5\nlost,strange,1\n")
    columns = ("--user-column", "who", "--item-column", "what", "--time-column", "when")
    said = oovrec("batch", finished, "--out", out, "--log", log, "-k", 5, *columns).stderr
    assert "note: 2 of 6 interactions are with items that the run does not know" in said
    assert "note: 1 of 3 users have no item that the run knows, and get no list" in said
    table, known = pl.read_csv(out), load_run(finished)
    assert table["user"].unique(maintain_order=True).to_list() == ["u1", "new"]
    for user, history in (("u1", ["i9", "i3"]), ("new", ["i4", "i31"])):
        rows = table.filter(pl.col("user") == user)
        best = known.recommend(history=history, k=5)
        np.testing.assert_allclose(rows["score"], [item.score for item in best], rtol=1e-4)
        assert rows["item"].to_list() == [item.id for item in best]


def test_what_lists_do_not_need_is_not_read(oovrec, finished: Path, tmp_path: Path) -> None:
    """Ratings and titles that nobody could read change nothing; a rating column that a data file names is read."""
    table = pl.DataFrame({"user": ["u1", "u1", "new"], "item": ["i3", "i9", "i4"], "time": [2, 1, 3]})
    more = [pl.Series("rating", [None, 4.0, 1.0]), pl.Series("title", [["a"], [], []]), pl.Series("review", [b"a"] * 3)]
    table.write_parquet(tmp_path / "plain.parquet")
    table.with_columns(more).write_parquet(tmp_path / "full.parquet")
    for name in ("plain", "full"):
        oovrec("batch", finished, "--out", tmp_path / f"{name}.csv", "--log", tmp_path / f"{name}.parquet", "-k", 5)
    assert (tmp_path / "plain.csv").read_text() == (tmp_path / "full.csv").read_text()
    (tmp_path / "full.yaml").write_text("source: full.parquet\ncolumns: {rating: rating}\n")
    said = oovrec("batch", finished, "--out", tmp_path / "l.csv", "--log", tmp_path / "full.yaml", code=2).stderr
    assert "full.parquet, row 1: has no rating; fill it in or remove the line" in said


def test_what_broke_off_goes_on_to_the_same_file(finished: Path, tmp_path: Path, monkeypatch) -> None:
    run, out = load_run(finished / "references/sasrec"), tmp_path / "lists.parquet"
    monkeypatch.setattr(module, "PART", 16)
    whole = run.batch(tmp_path / "whole.parquet").read_bytes()
    asked, recommend = [], type(run.model).recommend

    def stopping(model, histories, *words, **more):
        asked.append(len(histories))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return recommend(model, histories, *words, **more)

    monkeypatch.setattr(type(run.model), "recommend", stopping)
    with pytest.raises(Interrupted, match=r"^stopped after 32 of 60 users; the same command goes on from there"):
        run.batch(out)
    assert not out.exists()
    assert run.batch(out).read_bytes() == whole
    assert asked == [16, 16, 16, 16, 12]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.parquet", "whole.parquet"]


@pytest.mark.parametrize(("at", "done"), [("part", 32), ("file", 60)])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_full_disk_is_told_and_the_same_call_goes_on(
    at: str, done: int, kind: str, oovrec, finished: Path, tmp_path: Path, monkeypatch
) -> None:
    run, out = finished / "references/popularity", tmp_path / f"lists.{kind}"
    monkeypatch.setattr(module, "PART", 16)
    oovrec("batch", run, "--out", tmp_path / f"whole.{kind}")
    write, asked = pl.DataFrame.write_parquet, []

    def full(*_: object) -> None:  # in Polars' words
        raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")

    def full_at_the_third(table: pl.DataFrame, path: Path) -> None:
        asked.append(path)
        (full if len(asked) == 3 else write)(table, path)

    with monkeypatch.context() as patch:
        if at == "part":
            patch.setattr(pl.DataFrame, "write_parquet", full_at_the_third)
        else:
            patch.setitem(module.FORMATS, f".{kind}", full)
        said = oovrec("batch", run, "--out", out, code=2).stderr
    remedy = f"free some space or choose another --out; the same command goes on from what is done ({out}.parts)."
    assert f"error: {out}: cannot write (No space left on device); {remedy}" in said
    assert not out.exists()
    assert f"{done} of 60 users are done" in oovrec("batch", run, "--out", out).stderr
    assert out.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


def test_parts_of_another_question_are_not_used(finished: Path, tmp_path: Path, monkeypatch) -> None:
    run, out = load_run(finished / "references/popularity"), tmp_path / "lists.parquet"
    monkeypatch.setattr(module, "PART", 16)
    monkeypatch.setitem(module.FORMATS, ".parquet", None)  # so that the parts stay
    with pytest.raises(TypeError):
        run.batch(out, k=3)
    monkeypatch.undo()
    assert len(list((tmp_path / "lists.parquet.parts").glob("*.parquet"))) == 4
    assert pl.read_parquet(run.batch(out, k=5)).height == 60 * 5


def test_one_call_at_a_time_writes_a_file(finished: Path, tmp_path: Path, monkeypatch) -> None:
    """A second one, whatever it asks, is told so and changes nothing."""
    run, out = load_run(finished / "references/popularity"), tmp_path / "lists.parquet"
    recommend, refused = type(run.model).recommend, []

    def meanwhile(*words, **more):
        with pytest.raises(OovrecError, match=r"lists\.parquet: another process is at it; wait for it or stop it\.$"):
            run.batch(out, k=7)
        refused.append(True)
        return recommend(*words, **more)

    monkeypatch.setattr(type(run.model), "recommend", meanwhile)
    assert pl.read_parquet(run.batch(out, k=5)).height == 60 * 5
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]


def test_a_damaged_part_is_made_anew(finished: Path, tmp_path: Path, monkeypatch) -> None:
    run, out = load_run(finished / "references/popularity"), tmp_path / "lists.parquet"
    monkeypatch.setattr(module, "PART", 16)
    whole = run.batch(tmp_path / "whole.parquet").read_bytes()
    monkeypatch.setitem(module.FORMATS, ".parquet", None)  # so that the parts stay
    with pytest.raises(TypeError):
        run.batch(out)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PART", 16)
    part = tmp_path / "lists.parquet.parts/000001.parquet"
    part.write_bytes(part.read_bytes()[:-40])
    assert run.batch(out).read_bytes() == whole


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_its_own_is_left_alone(kind: str, oovrec, finished: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "lists.csv.parts"
    if kind == "folder":
        theirs.mkdir()
    kept = theirs / "mine.txt" if kind == "folder" else theirs
    kept.write_text("mine")
    said = oovrec("batch", finished, "--out", tmp_path / "lists.csv", code=2).stderr
    assert "lists.csv.parts: is in the way, and no part of lists; move it or choose another --out." in said
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("left", [[], ["lock"]])
def test_a_call_that_was_killed_before_its_first_list_is_not_in_the_way(
    left: list[str], finished: Path, tmp_path: Path
) -> None:
    (parts := tmp_path / "lists.csv.parts").mkdir()
    for name in left:
        (parts / name).touch()
    out = load_run(finished / "references/popularity").batch(tmp_path / "lists.csv", k=2)
    assert pl.read_csv(out).height == 60 * 2
    assert not parts.exists()


def test_a_run_that_is_not_finished(oovrec, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "references/popularity", tmp_path / "run")
    (tmp_path / "run/model.safetensors").unlink()
    said = oovrec("batch", tmp_path / "run", "--out", tmp_path / "lists.csv", code=2).stderr
    assert "its training is not finished; finish it by its own command with --resume." in said
    with pytest.raises(OovrecError, match=r"^k: 0 is below 1; ask for at least one item\.$"):
        load_run(finished).batch(tmp_path / "lists.csv", k=0)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("lists.txt", [], r"lists.txt: ends in no known kind of table; end it in .parquet or .csv."),
        ("there.csv", [], r"there.csv: is there already; remove it or choose another --out."),
        ("lists.csv", ["--time-column", "when"], "a form of times are of a log, and none is given; give --log"),
        (
            "lists.csv",
            ["--log", "films.csv", "--data", "films.csv"],
            "--data: a log stands for the run's data; give",
        ),
        ("lists.csv", ["--log", "strange.csv"], "strange.csv: has no item that the run knows; give a log of its"),
        ("lists.csv", ["--log", "nowhere.csv"], "nowhere.csv: no such file"),
        ("lists.csv", ["--data", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_what_is_refused(name: str, words: list[str], says: str, oovrec, finished, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("mine")
    Path("strange.csv").write_text("user,item,time\na,x,1\na,y,2\na,z,3\n")
    assert says in oovrec("batch", finished, "--out", name, *words, code=2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strange.csv", "there.csv"]
    assert Path("there.csv").read_text() == "mine"


ROWS = "u1,i3,1\nu1,i9,2\nnew,i4,3\n"


@pytest.mark.parametrize(
    ("system", "rows", "mask_seen"),
    [
        ("popularity", ROWS, False),
        ("sasrec", ROWS, True),
        ("popularity", ROWS.replace("i9", "i8"), True),
        ("popularity", ROWS.replace("new", "newer"), True),
        ("popularity", ROWS.replace("u1,i9", "new,i9"), True),
    ],
)
def test_parts_are_gone_on_with_for_the_very_same_question(
    system: str, rows: str, mask_seen: bool, finished: Path, tmp_path: Path, monkeypatch
) -> None:
    """Of the same model, users, histories and candidates; parts of any other are made anew."""
    log, out, runs = tmp_path / "log.csv", tmp_path / "lists.csv", finished / "references"
    log.write_text(f"user,item,time\n{ROWS}")
    popular = load_run(runs / "popularity")
    with monkeypatch.context() as patch:
        patch.setitem(module.FORMATS, ".csv", None)  # so that the parts stay
        with pytest.raises(TypeError):
            popular.batch(out, k=32, log=log)
    log.write_text(f"user,item,time\n{rows}")
    run = load_run(runs / system)
    whole = run.batch(tmp_path / "whole.csv", k=32, log=log, mask_seen=mask_seen).read_text()
    assert run.batch(out, k=32, log=log, mask_seen=mask_seen).read_text() == whole


def test_users_of_a_log_whom_the_run_knows_are_told_to_the_model(finished: Path, tmp_path: Path, monkeypatch) -> None:
    run, log, asked = load_run(finished / "references/popularity"), tmp_path / "log.csv", []
    recommend = type(run.model).recommend

    def asking(model, histories, *words, **more):
        asked.extend(histories.users.tolist())
        return recommend(model, histories, *words, **more)

    monkeypatch.setattr(type(run.model), "recommend", asking)
    log.write_text("user,item,time\nu7,i3,1\nnew,i4,2\nu1,i9,3\n")
    run.batch(tmp_path / "lists.csv", log=log)
    known = run.model.entities.users.index
    assert asked == [known("u7"), -1, known("u1")]


def test_an_ending_in_capitals_is_one_too(finished: Path, tmp_path: Path) -> None:
    run = load_run(finished / "references/popularity")
    lists = [run.batch(tmp_path / name).read_text() for name in ("lists.csv", "LISTS.CSV")]
    assert lists[0] == lists[1]
