"""A run tested on what came after its log: against ranking by hand, and what it says and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import Result

from oovrec.app.runs import load_run
from oovrec.data.histories import Histories
from oovrec.evaluation.ranks import MISSED

Invoke = Callable[..., Result]
DAY = 86_400
NEW = ("i5", "i13", "i21", "i29")
SMALL = ("--set", "training.epochs=1", "--set", "training.precision=fp32", "--seed", "3")


@pytest.fixture(scope="module")
def ended(mixed_log: Path) -> int:
    """When the older log ends."""
    return int(pl.read_csv(mixed_log)["timestamp"].quantile(0.7, "lower"))


@pytest.fixture(scope="module")
def older(mixed_log: Path, ended: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What there was until then, but for items that nobody knew yet."""
    path = tmp_path_factory.mktemp("older") / "older.csv"
    pl.read_csv(mixed_log).filter(pl.col("timestamp") <= ended, ~pl.col("item_id").is_in(NEW)).write_csv(path)
    return path


@pytest.fixture(scope="module")
def newer(mixed_log: Path, older: Path, ended: int) -> Path:
    """The whole log, with a user who is new, in another order of rows."""
    rows = pl.read_csv(mixed_log).sample(fraction=1, shuffle=True, seed=1)
    late = rows["timestamp"].max()
    new = pl.DataFrame(
        {
            "user_id": ["new"] * 3,
            "item_id": ["i1", "i2", "i3"],
            "timestamp": [ended - DAY, late, late + DAY],
            "title": [""] * 3,
        }
    )
    path = older.with_name("newer.csv")
    pl.concat([rows, new]).write_csv(path)
    return path


@pytest.fixture(scope="module", params=["sasrec", "metaid-llama"])
def run(request: pytest.FixtureRequest, oovrec: Invoke, older: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for use: it has learnt all of the older log."""
    folder = tmp_path_factory.mktemp("runs")
    base, out = folder / "base", folder / "use"
    small = ("--set", "model.shape=debug", "--set", "model.user=true") if request.param == "metaid-llama" else ()
    oovrec("train", request.param, "--data", older, "--k-core", 3, "--out", base, *SMALL, *small)
    oovrec("retrain", base, "--out", out)
    return out


def test_each_users_first_later_item_is_ranked_after_all_that_came_before(run: Path, newer: Path, ended: int) -> None:
    model = load_run(run).model
    entities, rows = model.entities, pl.read_csv(newer).sort("timestamp", maintain_order=True)
    users = {user: row for row, user in enumerate(entities.users)}
    wanted = {}
    for (user,), taken in rows.group_by("user_id", maintain_order=True):
        known = [entities.item_index[i] for i, t in taken["item_id", "timestamp"].rows() if t <= ended and i not in NEW]
        then = [i for i, t in taken["item_id", "timestamp"].rows() if t > ended]
        if not known or not then:
            continue
        if then[0] in NEW:
            wanted[user] = (-1, MISSED, MISSED)
            continue
        target = entities.item_index[then[0]]
        with torch.no_grad():
            scores = model.scores(Histories.of([known], [users.get(str(user), -1)]))[0].double().numpy()
        before = scores >= scores[target]
        unseen = np.ones(len(scores), bool)
        unseen[known] = False
        wanted[user] = (target, int(before.sum()), int((before & unseen).sum()) if unseen[target] else MISSED)
    found = load_run(run).evaluate_later(newer)
    names = pl.read_csv(newer)["user_id"].unique(maintain_order=True).to_list()
    ranks = zip(found.targets.tolist(), found.raw.tolist(), found.masked.tolist(), strict=True)
    assert dict(zip((names[user] for user in found.users), ranks, strict=True)) == wanted
    assert len(wanted) > 40
    assert "new" in wanted
    assert 0 < sum(target == -1 for target, *_ in wanted.values()) < 20
    assert found.repeat_targets == sum(masked == MISSED and target != -1 for target, _, masked in wanted.values())


def test_it_is_printed_by_days_and_kept_nowhere(run: Path, newer: Path, ended: int, oovrec: Invoke) -> None:
    before = {path.name for path in run.iterdir()}
    ended_at = str(np.datetime64(ended, "s")).replace("T", " ")
    printed = oovrec("evaluate", run, "--later", newer)
    assert f"newer.csv, after {ended_at}: the run cannot name " in " ".join(printed.stderr.split())
    assert "by how many days after the moment of the test" in printed.output
    told = json.loads(oovrec("evaluate", run, "--later", newer, "--json").stdout)
    assert (told["dataset"], told["hold_out"], told["until"]) == ("newer", "later", "end")
    found = load_run(run).evaluate_later(newer)
    assert told["masked"]["hit@10"] == pytest.approx(np.mean(found.masked <= 10))
    days = {days: row["users"] for days, row in told["by_days"]["masked"].items()}
    assert sum(days.values()) == len(found.users)
    first = pl.read_csv(newer).filter(pl.col("timestamp") > ended).group_by("user_id").agg(pl.col("timestamp").min())
    assert days["0-6"] <= (first["timestamp"] <= ended + 7 * DAY).sum()
    assert json.loads(oovrec("evaluate", run, "--later", newer, "--users", 9, "--json").stdout)["masked"]["users"] == 9
    assert {path.name for path in run.iterdir()} == before


def test_runs_are_compared_on_what_came_later(run: Path, newer: Path, oovrec: Invoke) -> None:
    base = run.with_name("base")
    told = json.loads(oovrec("compare", run, base, "--later", newer, "--json").stdout)
    use, stale = (load_run(one).evaluate_later(newer) for one in (run, base))
    mean = np.mean(use.masked <= 10) - np.mean(stale.masked <= 10)
    assert told[1]["lead"]["masked"]["hit@10"]["mean"] == pytest.approx(mean)
    assert [one["figures"]["raw"]["users"] for one in told] == [len(use.users)] * 2
    assert "retrained" in told[0]["system"]
    assert not (base / "metrics.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows, ended: rows.filter(pl.col("timestamp") <= ended), "newer log"),
        (lambda rows, ended: rows.filter(pl.col("timestamp") > ended), "has also what came before"),
        (lambda rows, _: rows.with_columns(item_id="x" + pl.col("item_id")), "a log of its catalogue"),
        (lambda rows, _: rows.drop("timestamp"), "time"),
    ],
)
def test_a_log_that_cannot_test_it_is_refused(
    change: Callable[[pl.DataFrame, int], pl.DataFrame],
    said: str,
    run: Path,
    newer: Path,
    ended: int,
    oovrec: Invoke,
    tmp_path: Path,
) -> None:
    change(pl.read_csv(newer), ended).write_csv(tmp_path / "other.csv")
    refused = " ".join(oovrec("evaluate", run, "--later", tmp_path / "other.csv", code=2).stderr.split())
    assert "other.csv" in refused
    assert said in refused


def test_validation_is_of_the_runs_own_log(run: Path, newer: Path, oovrec: Invoke) -> None:
    refused = oovrec("evaluate", run, "--later", newer, "--split", "validation", code=2)
    assert "--split: what came later is a test; give one of --split and --later." in refused.stderr
