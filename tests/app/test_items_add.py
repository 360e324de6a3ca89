"""Items added to a trained run: what stays exactly as it was, what a user sees, what bad input gets."""

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
from typer.testing import Result

from oovrec.app.additions import _larger, with_items
from oovrec.app.new_items import read_new, renumbered
from oovrec.app.runs import load_run
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError
from oovrec.evaluation.results import read_result
from oovrec.files import read_tensors
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama, LlamaOptions
from oovrec.models.generative.t5 import T5
from oovrec.tokens.cold import Around, Described
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, USERS = 13, 5
PAST = Histories.of([[1, 2, 3], [4], [7, 7, 1, 0, 12, 5], []], users=[0, 3, -1, 2])


@pytest.fixture(params=["llama-history", "llama-prompt", "t5"])
def model(request: pytest.FixtureRequest) -> GenerativeRecommender:
    """Item ``n`` is number ``n // 4`` of cluster ``n % 4``, so that cluster 0 has all four numbers there are."""
    rng = np.random.default_rng(0)
    centroids = {f"<CI{n}>": rng.normal(size=6) for n in range(4)}
    names = [(f"<CI{n % 4}>", f"<I{1001 + n // 4}>") for n in range(ITEMS)]
    items = TokenTable.of([f"i{n}" for n in range(ITEMS)], names, centroids)
    users = TokenTable.of([f"u{n}" for n in range(USERS)], [(f"<CU{n}>", "<U1001>") for n in range(USERS)])
    entities = Entities(items.ids, users.ids, None, Tokens(items, users, "meta", "train", 0))
    torch.manual_seed(0)
    if request.param == "t5":
        made: GenerativeRecommender = T5(T5.Config(shape="debug", alpha=0.7), entities)
    else:
        made = Llama(LlamaOptions(shape="debug", form=request.param.removeprefix("llama-"), alpha=0.7), entities)
    for parameter in made.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.3)
    made.module.eval()
    return made


def larger(model: GenerativeRecommender, folder: Path, near: list[int]) -> GenerativeRecommender:
    """The model with a new item near each of ``near``."""
    model.save(folder)
    ids = [f"new{len(model.entities.items) + place}" for place in range(len(near))]
    around = [Around("words", np.array([item]), np.ones(1), np.ones(len(model.entities.items))) for item in near]
    return with_items(model, folder, Described(ids), around)[0]


def test_what_adding_leaves_as_it_was(model: GenerativeRecommender, tmp_path: Path) -> None:
    """Clusters keep their probability; within one, the old items give way by one common factor, p(an old item)."""
    found = larger(model, tmp_path / "run", [1, 5, 3])
    assert [found.entities.tokens.items.words(ITEMS + place)[0] for place in range(3)] == ["<CI1>", "<CI1>", "<CI3>"]
    old, new = model.scores(PAST).double(), found.scores(PAST).double()
    torch.testing.assert_close(new.exp().sum(dim=1), torch.ones(len(PAST), dtype=torch.float64), atol=1e-5, rtol=0)
    for cluster, further in enumerate([[], [ITEMS, ITEMS + 1], [], [ITEMS + 2]]):
        members = list(range(cluster, ITEMS, 4))
        before, after = old[:, members], new[:, members]
        whole = torch.cat([after, new[:, further]], dim=1).logsumexp(dim=1)
        torch.testing.assert_close(whole, before.logsumexp(dim=1), atol=1e-5, rtol=0)
        share = torch.log1p(-(new[:, further] - whole[:, None]).exp().sum(dim=1))  # of the old ones in the cluster
        torch.testing.assert_close(after, before + share[:, None], atol=1e-5, rtol=0)
        assert further or torch.equal(old[:, members], new[:, members])


def test_no_weight_changes_and_the_saved_run_is_the_same_model(model: GenerativeRecommender, tmp_path: Path) -> None:
    found = larger(model, tmp_path / "run", [1, 3])
    before, after = model.state(), found.state()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    found.save(tmp_path / "larger")
    again = load(tmp_path / "larger")
    with_new = Histories.of([[ITEMS, 2], [3, ITEMS + 1, ITEMS]], users=[0, -1])
    assert torch.equal(again.scores(with_new), found.scores(with_new))
    best = again.recommend(with_new, ITEMS - 1).items[1]  # three of the fifteen are in the history
    assert set(best.tolist()) == set(range(ITEMS + 2)) - {3, ITEMS + 1, ITEMS}


def test_a_twin_is_as_probable_as_the_number_it_copies(model: GenerativeRecommender, tmp_path: Path) -> None:
    """Cluster 0 holds items 0, 4, 8 and 12; one new item is taken as often as the third."""
    model.save(tmp_path / "run")
    usual = np.ones(ITEMS)
    usual[[0, 4, 8, 12]] = [9, 7, 5, 3]
    around = [Around("interactions", np.array([4]), np.ones(1), usual, own) for own in (5, 0)]
    found = with_items(model, tmp_path / "run", Described(["known", "unknown"]), around)[0]
    assert set(found.entities.tokens.details["twins"].values()) == {"<I1003>", "<I1004>"}
    scores = found.scores(PAST)
    torch.testing.assert_close(scores[:, ITEMS:], scores[:, [8, 12]], atol=1e-6, rtol=0)
    for name, array in model.state().items():
        grown = found.state()[name]
        assert np.array_equal(grown[: len(array)] if array.ndim else grown, array)
    as_read = [Histories.of([[item, 2]], users=[1]) for item in (ITEMS, 8)]
    torch.testing.assert_close(found.scores(as_read[0]), found.scores(as_read[1]), atol=1e-5, rtol=0)
    found.save(tmp_path / "larger")
    assert torch.equal(load(tmp_path / "larger").scores(PAST), scores)


def test_a_second_addition_knows_the_twins_of_the_first(model: GenerativeRecommender, tmp_path: Path) -> None:
    """All numbers of cluster 0 are taken: what is added to it copies item 12, its last, however often one adds."""
    once = larger(model, tmp_path / "run", [0])
    twice = larger(once, tmp_path / "once", [0])
    assert [twice.entities.tokens.items.text(ITEMS + place) for place in range(2)] == ["<CI0><I1005>", "<CI0><I1006>"]
    assert twice.entities.tokens.details["twins"] == dict.fromkeys(("<I1005>", "<I1006>"), "<I1004>")
    scores = twice.scores(PAST)
    torch.testing.assert_close(scores[:, ITEMS:], scores[:, [12, 12]], atol=1e-6, rtol=0)


def test_it_stands_beside_the_first_of_its_whole_cluster_and_the_seed_of_the_tokens_deals_equals(
    tmp_path: Path,
) -> None:
    """Two branches of two clusters each; four new items belong to the second, and chance tells them apart."""
    names = [(f"<CI{n // 6}>", f"<CI{2 + n // 3}>", f"<I{1001 + n % 3}>") for n in range(12)]
    items, orders = TokenTable.of([f"i{n}" for n in range(12)], names), set()
    around = [Around("words", np.array([4]), np.ones(1), np.ones(12))] * 4
    for seed in range(4):
        model = Llama(
            LlamaOptions(shape="debug"), Entities(items.ids, ["u"], None, Tokens(items, None, "meta", "train", seed))
        )
        model.save(tmp_path / f"{seed}")
        _, placed = with_items(model, tmp_path / f"{seed}", Described(list("abcd")), around)
        assert {item.beside for item in placed} == {"i3"}
        orders.add(tuple(item.tokens for item in placed))
    assert len(orders) > 1


def test_where_names_are_written_in_pieces_a_new_item_gets_a_number_that_is_free(tmp_path: Path) -> None:
    """However often it was taken: a twin would have no row of its own that could be a copy."""
    items = TokenTable.of(
        [f"i{n}" for n in range(ITEMS)], [(f"<CI{n % 4}>", f"<I{1001 + n // 4}>") for n in range(ITEMS)]
    )
    entities = Entities(items.ids, ["u"], None, Tokens(items, None, "meta", "train", 0))
    model = Llama(LlamaOptions(shape="debug", spelling="pieces"), entities)
    model.save(tmp_path / "run")
    around = Around("interactions", np.array([1]), np.ones(1), np.full(ITEMS, 5.0), own=9)
    found, placed = with_items(model, tmp_path / "run", Described(["new"]), [around])
    assert (placed[0].tokens, found.entities.tokens.details["twins"]) == ("<CI1><I1004>", {})


def test_an_item_that_stands_alone_points_where_those_near_it_do(tmp_path: Path) -> None:
    """Read and written: its embedding, map of the vector included, is a mean of theirs, and as long as others'."""
    rng = np.random.default_rng(0)
    names = [(f"<I{1001 + n}>",) for n in range(ITEMS)]
    items = TokenTable.of([f"i{n}" for n in range(ITEMS)], names, {name: rng.normal(size=6) for (name,) in names})
    entities = Entities(items.ids, ["u"], None, Tokens(items, None, "metavec", "train", 0))
    model = Llama(LlamaOptions(shape="debug"), entities)
    for parameter in model.module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save(tmp_path / "run")
    around = Around("interactions", np.array([7, 2]), np.array([2.0, 3.0]), np.where(np.arange(ITEMS) == 7, 4.0, 1.0))
    found, placed = with_items(model, tmp_path / "run", Described(["new"]), [around])
    rows = found.module.rows(torch.from_numpy(found.vocabulary.items[:, 0]))
    mean, length = 3 * rows[2] + 2 * rows[7], rows[:ITEMS].norm(dim=1).quantile(0.1)
    torch.testing.assert_close(rows[ITEMS], mean * length / mean.norm())
    old, new = model.scores(PAST), found.scores(PAST)
    torch.testing.assert_close(old, new[:, :ITEMS].log_softmax(dim=1), atol=1e-5, rtol=0)
    assert (placed[0].tokens, placed[0].beside) == ("<I1014>", "i2")
    found.save(tmp_path / "larger")
    with_new = Histories.of([[ITEMS, 2]])
    assert torch.equal(load(tmp_path / "larger").scores(with_new), found.scores(with_new))


@pytest.fixture(scope="module")
def newer(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of the main job and what users of the first taste took since: two new films and a film of theirs."""
    lines = log.read_text().splitlines()
    for turn, user in enumerate(range(0, 60, 4)):
        for place, item in enumerate(("n1", f"i{turn % 8}", f"n{2 - turn % 2}")):
            lines.append(f"u{user},{item},{1_500_000_000 + 10 * turn + place},Film {item}")
    path = tmp_path_factory.mktemp("newer") / "films.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def added(oovrec, finished: Path, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("added") / "run"
    return out, oovrec("items", "add", finished, "--log", newer, "--out", out, "--json")


def test_a_data_file_tells_of_a_log(oovrec, finished: Path, newer: Path, added, tmp_path: Path) -> None:
    told = tmp_path / "newer.yaml"
    told.write_text(f"source: {newer}\nk_core: 99\n")  # a k-core would leave out what is new
    result = oovrec("items", "add", finished, "--log", told, "--out", tmp_path / "run", "--json")
    assert result.stdout == added[1].stdout


def test_ratings_of_a_log_are_not_read_and_titles_can_be_named(
    oovrec, finished: Path, newer: Path, added, tmp_path: Path
) -> None:
    lines = [f"{line},{'' if number % 2 else number}" for number, line in enumerate(newer.read_text().splitlines())]
    head = "user_id,item_id,timestamp,label,rating"
    log = table(tmp_path / "rated.csv", head, *lines[1:])
    result = oovrec(
        "items", "add", finished, "--log", log, "--title-column", "label", "--out", tmp_path / "run", "--json"
    )
    assert result.stdout == added[1].stdout
    assert "Film n1" in result.stdout
    bare = oovrec("items", "add", finished, "--log", log, "--title-column", "", "--out", tmp_path / "bare", "--json")
    assert "Film n1" not in bare.stdout


def test_of_a_log_beside_a_table_only_the_items_of_the_table_are_taken(
    oovrec: Callable[..., Result], finished: Path, newer: Path, tmp_path: Path
) -> None:
    """Rows of other new items are as if they were not there, and those that are taken are placed by the log."""
    only = table(tmp_path / "new.csv", "item,title", "n1,Film n1")
    without = table(
        tmp_path / "less.csv", *(line for line in newer.read_text().splitlines() if line.split(",")[1] != "n2")
    )
    placed = [
        oovrec("items", "add", finished, *words, "--out", tmp_path / f"run{number}", "--json").stdout
        for number, words in enumerate([(only, "--log", newer), (only, "--log", without), ("--log", without)])
    ]
    assert placed[0] == placed[1] == placed[2]
    assert [(item["id"], item["by"]) for item in json.loads(placed[0])] == [("n1", "interactions")]


def test_a_log_is_put_into_positions_of_the_catalogue_without_what_that_lacks() -> None:
    log = Histories.of([[0, 1, 2], [1], [2, 2, 1]], users=[4, 1, 0])
    moved = renumbered(log, ["a", "other", "b"], ["b", "c", "a"])
    assert [row.tolist() for row in moved] == [[2, 0], [], [0, 0]]
    assert moved.users.tolist() == [4, 1, 0]


def test_a_table_tells_titles_and_attributes_and_ids_without_blanks_around_them(tmp_path: Path) -> None:
    path = table(tmp_path / "new.csv", "attributes,item,title", "3 12, x1 ,One", "", ",x2,", "7,x3,Three", "")
    new, histories = read_new(["i1"], path, None)
    assert (new.ids, new.titles) == (["x1", "x2", "x3"], ["One", "", "Three"])
    assert (new.attributes, histories) == ([(3, 12), (), (7,)], None)


def test_attributes_are_found_however_they_are_written_and_by_nothing_but_their_name(tmp_path: Path) -> None:
    path = table(tmp_path / "new.csv", "attributes_2020,item, Attributes ", "8,x1,3", "9,x2,")
    assert read_new([], path, None)[0].attributes == [(3,), ()]
    bare = table(tmp_path / "bare.csv", "item,attributes_2020", "x1,8")
    assert read_new([], bare, None)[0].attributes is None


def test_new_items_are_counted_on_after_the_known_in_their_own_order(tmp_path: Path) -> None:
    taken = {"u": ["x2", "b", "x9", "a"], "v": ["x1", "x9", "x2"]}
    lines = [f"{user},{item},{time}" for user, items in taken.items() for time, item in enumerate(items)]
    log = table(tmp_path / "log.csv", "user,item,time", *lines)
    for items in (None, table(tmp_path / "new.csv", "item", "x9", "x1", "x2")):
        new, histories = read_new(["a", "b"], items, log)
        catalogue = ["a", "b", *new.ids]
        assert [[catalogue[item] for item in history] for history in histories] == list(taken.values())


def test_what_is_not_needed_of_a_log_may_be_of_any_kind(newer: Path, tmp_path: Path) -> None:
    path, parts = tmp_path / "told.parquet", pl.concat_list("item_id")
    pl.read_csv(newer).with_columns(rating=pl.lit("good"), summary=parts, review=parts).write_parquet(path)
    (new, histories), (wanted, others) = (read_new(["i1", "i2"], None, log) for log in (path, newer))
    assert new == wanted
    assert [*map(np.ndarray.tolist, histories)] == [*map(np.ndarray.tolist, others)]


def digest(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_new_items_join_the_cluster_of_those_taken_with_them(added: tuple[Path, Result]) -> None:
    placed = json.loads(added[1].stdout)
    assert [item["id"] for item in placed] == ["n1", "n2"]
    assert {item["by"] for item in placed} == {"interactions"}
    tokens = Tokens.load(added[0] / "tokens").items
    for item in placed:
        cluster = item["tokens"].partition("><")[0] + ">"
        members = [tokens.ids[row] for row in range(32) if tokens.words(row)[0] == cluster]
        assert np.mean([int(name[1:]) < 8 for name in members]) > 0.5  # of the first taste


def test_the_new_run_reads_and_recommends_them(oovrec, added: tuple[Path, Result], finished: Path) -> None:
    folder = added[0]
    assert json.loads((folder / "environment.json").read_text())["seconds"] == 0  # nothing was trained
    answer = json.loads(oovrec("recommend", folder, "--history", "i1,n1,i2", "-k", 40, "--json").stdout)
    assert {item["id"] for item in answer} == {f"i{n}" for n in range(32)} - {"i1", "i2"} | {"n2"}
    assert next(item["title"] for item in answer if item["id"] == "n2") == "Film n2"
    assert "n2" in {
        item["id"] for item in json.loads(oovrec("recommend", folder, "--user", "u4", "-k", 40, "--json").stdout)
    }
    before, after = (read_tensors(run / "model.safetensors")[0] for run in (finished, folder))
    assert all(np.array_equal(before[name], after[name][: len(before[name])]) for name in before)


def test_its_results_say_that_items_were_added(
    oovrec, added: tuple[Path, Result], finished: Path, log: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(added[0], tmp_path / "copy"))
    shown = oovrec("evaluate", folder).stdout
    assert "META ID (Llama) + 2 new" in shown  # the table breaks the line
    kept, original = read_result(folder / "metrics.json"), read_result(finished / "metrics.json")
    assert (kept.added, original.added) == ({"interactions": 2}, {})
    assert "added" not in json.loads((finished / "metrics.json").read_text())
    assert "META ID (Llama) + 2 new items" in (folder / "report.html").read_text()
    model, data = load(folder), load_dataset(log)
    assert model.entities.items == [*data.items, "n1", "n2"]
    scores, targets = model.scores(data.histories("test")).numpy(), data.targets("test")
    before = (scores > np.take_along_axis(scores, targets[:, None], axis=1)).sum(axis=1)
    assert kept.blocks["raw"]["hit@10"] == pytest.approx((before < 10).mean())  # the same targets, more rivals


def test_items_can_be_added_again_and_the_first_run_stays(oovrec, added: tuple[Path, Result], tmp_path: Path) -> None:
    before = digest(added[0])
    more = table(tmp_path / "more.tsv", "id\ttitle\tattributes", "m1\tfilm [3]\t", "m2\tN1\t")
    shown = oovrec("items", "add", added[0], more, "--out", tmp_path / "out").stdout
    assert "2 items added" in shown
    assert "words" in shown
    assert load_run(tmp_path / "out").added == {"interactions": 2, "words": 2}
    assert load(tmp_path / "out").entities.items[-4:] == ["n1", "n2", "m1", "m2"]
    assert digest(added[0]) == before


def test_python_does_the_same(added: tuple[Path, Result], finished: Path, newer: Path, tmp_path: Path) -> None:
    run = load_run(finished).add_items(None, tmp_path / "run", log=newer)
    assert run.model.entities.tokens.items.ids[-2:] == ["n1", "n2"]
    made, wanted = digest(run.folder), digest(added[0])
    assert made.keys() == wanted.keys()
    same = {name for name in made if made[name] == wanted[name]}
    assert made.keys() - same <= {"environment.json", "model.safetensors"}  # the order of a header's keys is chance's
    ours, theirs = (read_tensors(folder / "model.safetensors")[0] for folder in (run.folder, added[0]))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_what_cannot_be_placed_is_left_out_and_named(oovrec, finished: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "new.csv", "item,title,attributes", "x0,,", "x1,Film 1,7", "x2,,", "x3,Film 2,")
    done = oovrec("items", "add", finished, path, "--out", tmp_path / "run", "--json")
    assert [item["id"] for item in json.loads(done.stdout)] == ["x1", "x3"]
    notes = "".join(done.stderr.split())
    said = (
        "note: nothing tells where 2 of the 4 new items belong, 'x0' first, and these are left out; give each a title"
    )
    assert said.replace(" ", "") in notes
    unread = f"note: {finished} knows no attributes, so those of the new items say nothing"
    assert unread.replace(" ", "") in notes
    table(path, "item,title,attributes", "x1,Film 1,")
    assert "attributes" not in oovrec("items", "add", finished, path, "--out", tmp_path / "other").stderr
    entities = load(tmp_path / "run").entities
    assert entities.items[-2:] == ["x1", "x3"]
    assert entities.titles[-2:] == ["Film 1", "Film 2"]


def test_items_of_which_nothing_was_known_tell_nothing_of_new_ones(finished: Path, tmp_path: Path) -> None:
    """Those of one cluster have no vector and a word of their own, which the new item has too."""
    shutil.copytree(finished, tmp_path / "run")
    known = load(finished).entities
    items, centroids = known.tokens.items, known.tokens.items.centroids.copy()
    closed = items.codes[:, 0] == items.codes[0, 0]
    centroids[items.codes[0, 0]] = 0
    titles = ["Grue" if row else "Film" for row in closed]
    replace(known, titles=titles, tokens=replace(known.tokens, items=replace(items, centroids=centroids))).save(
        tmp_path / "run"
    )
    path = table(tmp_path / "new.csv", "item,title", "x1,Grue", "x2,Film")
    added = load_run(tmp_path / "run").add_items(path, tmp_path / "out")
    assert added.model.entities.items == [*known.items, "x2"]


@pytest.mark.parametrize(
    ("titled", "described", "remedy"),
    [
        (True, False, "give each a title that shares a word with a known item's, or a --log"),
        (False, True, "give each attributes that it shares with a known item's, or a --log"),
        (
            True,
            True,
            "give each a title that shares a word or attributes that it shares with a known item's, or a --log",
        ),
        (False, False, "give a --log"),
    ],
)
def test_the_remedy_is_what_could_tell_of_the_items_of_this_run(
    titled: bool, described: bool, remedy: str, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    known = load(finished).entities
    attributes = [(number % 3,) for number in range(len(known.items))] if described else None
    replace(known, titles=known.titles if titled else None, attributes=attributes).save(tmp_path / "run")
    with pytest.raises(OovrecError, match=rf"^nothing tells where 1 of .* belong; {remedy} in which known items stand"):
        load_run(tmp_path / "run").add_items(table(tmp_path / "new.csv", "item,title", "x1,Zebra"), tmp_path / "out")


@pytest.mark.parametrize(
    ("lines", "fragment"),
    [
        (["item,title", "x1,Film 1", "i3,Film 3"], "new.csv, line 3: the run knows the item 'i3' already; mend the"),
        (["item,title", "x1,Film 1", "x1,Film 2"], "new.csv, line 3: repeats the item of line 2"),
        (["item,title", ",Film 1"], "new.csv, line 2: has no item"),
        (["item,title", "x1,Zebra"], "nothing tells where 1 of the 1 new items belong"),
        (["thing,title", "x1,Film"], "no column looks like the item among: thing, title"),
        (["item,attributes", "x1,3 a"], "new.csv, line 2: '3 a' are not attribute numbers; write numbers"),
        (["item,attributes", "x1," + "3" * 5000], "new.csv, line 2: '" + "3" * 200 + "…' are not attribute numbers"),
        (["item"], "new.csv: has a header but no rows; give a row for each new item"),
        (["item", "x1", "x1"], "new.csv, line 3: repeats the item of line 2"),
        (["item,title", 'x1,"Film', '1"', "i3,Film 3"], "new.csv, line 4: the run knows the item 'i3' already"),
        (["item,title", "x1,Film 1", " i3 ,Film 3"], "new.csv, line 3: the run knows the item 'i3' already"),
        (["item", "x1", "x2", "x2"], "new.csv, line 4: repeats the item of line 3"),
        (["item\ttitle", "x1\tFilm 1", '"x\t2"\tFilm 2'], "new.csv, line 3: has a tab or line break in the item id"),
        (["item,attributes", "x1,3", "x2,3 a"], "new.csv, line 3: '3 a' are not attribute numbers"),
        (["item,attributes", "", "x1,3", "", "x2,3 a"], "new.csv, line 5: '3 a' are not attribute numbers"),
        (["item,attributes", "x1,3 ²"], "new.csv, line 2: '3 ²' are not attribute numbers"),
        (["item,title", "x1,Film 1", "", ",Film 2"], "new.csv, line 4: has no item"),
    ],
)
def test_bad_tables_of_items(lines: list[str], fragment: str, oovrec, finished: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "new.csv", *lines)
    result = oovrec("items", "add", finished, path, "--out", tmp_path / "out", code=2)
    assert fragment in result.stderr
    assert result.stdout == ""
    assert [kept.name for kept in tmp_path.iterdir()] == ["new.csv"]


def test_other_bad_input(oovrec, finished: Path, log: Path, newer: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        return str(oovrec("items", "add", *words, code=2).stderr)

    out, before = tmp_path / "out", digest(finished)
    assert "nothing says which items are new; give a table of them, or --log" in refused(finished, "--out", out)
    assert "none is given; give --log" in refused(finished, log, "--out", out, "--time-format", "%Y")
    assert "has no item that the run does not know" in refused(finished, "--log", log, "--out", out)
    assert "none.csv: no such file" in refused(finished, tmp_path / "none.csv", "--out", out)
    sasrec = finished / "references" / "sasrec"
    assert "the system 'sasrec' names items by no tokens" in refused(sasrec, "--log", newer, "--out", out)
    assert "already holds a run; choose another --out." in refused(finished, "--log", newer, "--out", finished)
    dealt, small = tmp_path / "dealt", ("--set", "model.shape=debug", "--set", "training.epochs=1")
    oovrec("train", "metaid-llama", "--data", log, "--set", "tokens.method=random", *small, "--out", dealt)
    assert "tokens of the method 'random' do not stand for like items" in refused(dealt, "--log", newer, "--out", out)
    assert not out.exists()
    assert digest(finished) == before


def test_nothing_is_left_when_writing_fails(finished: Path, newer: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for part in ("app.additions.begin", "files.save_file"):  # a file that is written whole has a name of its own
        monkeypatch.setattr(f"oovrec.{part}", full)
        with pytest.raises(OovrecError, match=rf"^{tmp_path}/run: cannot write \(No space left on device\); free some"):
            load_run(finished).add_items(None, tmp_path / "run", log=newer)
        assert not list(tmp_path.iterdir())


def test_a_run_with_new_items_is_another_system_on_the_same_data(finished: Path, added: tuple[Path, Result]) -> None:
    run = load_run(added[0])
    assert run.common != load_run(finished).common
    data = run.dataset()
    assert run.dataset(data) is data
    other = replace(data, full=replace(data.full, items=data.full.items[::-1].copy()))
    with pytest.raises(OovrecError):
        run.dataset(other)


def test_titles_and_attributes_of_new_items_stand_behind_those_of_the_known() -> None:
    known = Entities(["a", "b"], [], None, None, attributes=[(1,), (2, 3)])
    told = _larger(known, Described(["c"], ["C"], [(4,)]), None)
    assert (told.items, told.titles, told.attributes) == (["a", "b", "c"], ["", "", "C"], [(1,), (2, 3), (4,)])
    bare = _larger(replace(known, titles=["A", "B"]), Described(["c"]), None)
    assert (bare.titles, bare.attributes) == (["A", "B", ""], [(1,), (2, 3), ()])
