"""A run tested on what came after its log: against ranking by hand, and what it says and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from typer.testing import Result

from oovrec.app.leads import compare
from oovrec.app.pipeline import evaluate, train
from oovrec.app.runs import load_run
from oovrec.data.columns import Columns
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.evaluation.ranks import MISSED, Products

Invoke = Callable[..., Result]
DAY = 86_400
NEW = ("i5", "i13", "i21", "i29")
SMALL = ("--set", "training.epochs=1", "--set", "training.precision=fp32", "--seed", "3")
DEBUG = ("--set", "model.shape=debug", "--set", "model.user=true")


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
    small = DEBUG if request.param == "metaid-llama" else ()
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
    found = load_run(run).evaluate_later(newer)
    share = f"the run cannot name {np.mean(found.targets == -1):.1%} of {len(found.users)} users' items"
    assert f"newer.csv, after {ended_at}: {share}" in " ".join(printed.stderr.split())
    assert "by how many days after the moment of the test" in printed.output
    told = json.loads(oovrec("evaluate", run, "--later", newer, "--json").stdout)
    assert (told["dataset"], told["hold_out"], told["until"]) == ("newer", "later", "end")
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
    assert [one["retrained"] for one in told] == [True, False]
    assert not (base / "metrics.json").exists()


@pytest.mark.parametrize(("imports", "seen"), [(False, "train"), (True, "all")])
def test_all_that_a_scheme_built_tokens_from_came_before_what_is_later(
    older: Path, newer: Path, oovrec: Invoke, tmp_path: Path, imports: bool, seen: str
) -> None:
    given, data = tmp_path / "built", (older, "--k-core", 3)
    oovrec("tokens", "build", *data, "--from", "all", "--out", given)
    if imports:
        files = ("--items", given / "item_tokens.tsv", "--users", given / "user_tokens.tsv")
        oovrec("tokens", "import", *data, *files, "--out", given := tmp_path / "imported")
    oovrec("train", "metaid-llama", "--data", *data, "--tokens", given, "--out", tmp_path / "run", *SMALL, *DEBUG)
    run = load_run(tmp_path / "run")
    assert run.tokens_from_in(run.evaluate_later(newer)) == seen
    assert run.tokens_from_in(evaluate(run)) == "all"


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


@pytest.fixture(scope="module")
def popular(oovrec: Invoke, older: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickest of models."""
    out = tmp_path_factory.mktemp("popular") / "run"
    oovrec("train", "popularity", "--data", older, "--k-core", 3, "--out", out)
    return out


def test_a_newer_log_is_read_as_the_runs_was(popular: Path, older: Path, newer: Path, tmp_path: Path) -> None:
    """Its columns too, but for a data file, which says them; the run's own log may have moved since."""
    wanted = load_run(popular).evaluate_later(newer)
    names = {"user_id": "who", "item_id": "what", "timestamp": "when"}
    for path in (older, newer):
        pl.read_csv(path).rename(names).write_csv(tmp_path / path.name)
    columns = Columns(user="who", item="what", time="when")
    data = load_dataset(tmp_path / "older.csv", columns=columns, k_core=3)
    run = train("popularity", data, tmp_path / "run")
    (tmp_path / "newer.yaml").write_text(f"source: {newer}\n", encoding="utf-8")
    (tmp_path / "older.csv").rename(tmp_path / "moved.csv")
    for log in (tmp_path / "newer.csv", tmp_path / "newer.yaml"):
        found = run.evaluate_later(log, str(tmp_path / "moved.csv"))
        assert found.targets.tolist() == wanted.targets.tolist()
        assert found.masked.tolist() == wanted.masked.tolist()
    (one,) = compare([run], str(tmp_path / "moved.csv"), later=tmp_path / "newer.csv")
    assert one.figures["raw"]["hit@10"].value == pytest.approx(np.mean(wanted.raw <= 10))


def test_what_it_does_not_need_of_a_log_may_be_of_any_kind(popular: Path, newer: Path, tmp_path: Path) -> None:
    path, parts = tmp_path / "rated.parquet", pl.concat_list("item_id")
    told = {"title": parts, "summary": parts, "review": parts}
    pl.read_csv(newer).with_columns(rating=pl.lit("good"), **told).write_parquet(path)
    found, wanted = (load_run(popular).evaluate_later(log) for log in (path, newer))
    assert found.raw.tolist() == wanted.raw.tolist()


def test_a_logs_name_is_said_as_it_is(popular: Path, newer: Path, oovrec: Invoke, tmp_path: Path) -> None:
    path = shutil.copy(newer, tmp_path / "[bold]newer.csv")
    assert "[bold]newer.csv,after" in "".join(oovrec("evaluate", popular, "--later", path).stderr.split())


def test_ties_are_in_the_order_that_a_data_file_asks_for(
    popular: Path, newer: Path, ended: int, tmp_path: Path
) -> None:
    """All that came later is of one moment: the first is the first of the shuffled log."""
    rows, time = pl.read_csv(newer), pl.col("timestamp")
    rows.with_columns(pl.when(time > ended).then(ended + DAY).otherwise(time).alias("timestamp")).write_csv(
        tmp_path / "ties.csv"
    )
    path = tmp_path / "ties.yaml"
    path.write_text("source: ties.csv\nk_core: 1\ntie_seed: 1\n", encoding="utf-8")
    data, run = load_dataset(path), load_run(popular)
    first = {}
    for user, item, moment in zip(data.full.rows.tolist(), data.full.items.tolist(), data.times.tolist(), strict=True):
        if moment > ended:
            first.setdefault(data.users[user], data.items[item])
    found, plain = run.evaluate_later(path), run.evaluate_later(tmp_path / "ties.csv")
    names = rows["user_id"].unique(maintain_order=True).to_list()
    wanted = [run.model.entities.item_index.get(first[names[user]], -1) for user in found.users]
    assert found.targets.tolist() == wanted
    assert found.targets.tolist() != plain.targets.tolist()


def test_an_item_that_cannot_be_named_repeats_nothing(popular: Path, newer: Path, ended: int, tmp_path: Path) -> None:
    """Whatever the user had taken before: here each has taken all that the run knows."""
    known = load_run(popular).model.entities.items
    users = pl.read_csv(newer)["user_id"].unique(maintain_order=True)
    past = users.to_frame().join(pl.DataFrame({"item_id": known}), how="cross").with_columns(timestamp=ended - DAY)
    then = users.to_frame().with_columns(item_id=pl.lit("unheard"), timestamp=ended + DAY)
    pl.concat([past, then]).write_csv(tmp_path / "all.csv")
    found = load_run(popular).evaluate_later(tmp_path / "all.csv")
    assert found.targets.tolist() == [-1] * len(users)
    assert found.repeat_targets == 0


def test_it_answers_in_the_precision_of_its_training(run: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, coarse = load_run(run), []
    training = found.recipe.training.model_copy(update={"precision": "bf16"})
    found = replace(found, recipe=found.recipe.model_copy(update={"training": training}))
    own = found.model.ranked

    def ranked(histories: Histories) -> Tensor | Products:
        coarse.append(torch.is_autocast_enabled("cpu"))
        return own(histories)

    monkeypatch.setattr(found.model, "ranked", ranked)
    found.evaluate_later(newer)
    assert set(coarse) == {found.speaks}  # any other model answers in float32


def test_a_run_whose_own_log_has_no_times_cannot_be_tested_so(
    older: Path, newer: Path, oovrec: Invoke, tmp_path: Path
) -> None:
    pl.read_csv(older).drop("timestamp").write_csv(tmp_path / "timeless.csv")
    oovrec("train", "popularity", "--data", tmp_path / "timeless.csv", "--k-core", 3, "--out", tmp_path / "run")
    refused = "".join(oovrec("evaluate", tmp_path / "run", "--later", newer, code=2).stderr.split())
    assert "timeless.csv:hasnotimes,sonothingofitislater" in refused


def test_runs_that_name_other_items_are_not_compared(run: Path, newer: Path, oovrec: Invoke, tmp_path: Path) -> None:
    """What one cannot name is asked of the other: the first later items are not the same."""
    if not load_run(run).speaks:
        pytest.skip("items are added to models that name them by tokens")
    base = run.with_name("base")
    oovrec("items", "add", base, "--log", newer, "--out", tmp_path / "all")
    for item, seed in zip(NEW[:2], (3, 4), strict=True):  # two seeds of one system, which name one new item each
        (tmp_path / "new.csv").write_text(f"item\n{item}\n")
        oovrec("items", "add", base, tmp_path / "new.csv", "--log", newer, "--out", tmp_path / item)
        config = tmp_path / item / "config.yaml"
        config.write_text(config.read_text().replace("seed: 3", f"seed: {seed}"))
    for one, other in ((base, tmp_path / "all"), (tmp_path / NEW[0], tmp_path / NEW[1])):
        refused = " ".join(oovrec("compare", one, other, "--later", newer, code=2).stderr.split())
        assert f"{other}: names other items than {one}, and so is asked for others; compare runs that" in refused


def test_a_data_files_name_is_the_logs(popular: Path, newer: Path, oovrec: Invoke, tmp_path: Path) -> None:
    (tmp_path / "log.yaml").write_text(f"source: {newer}\nname: spring\n", encoding="utf-8")
    for log, name in ((tmp_path / "log.yaml", "spring"), (newer, "newer")):
        assert json.loads(oovrec("evaluate", popular, "--later", log, "--json").stdout)["dataset"] == name
