"""Data files: what they say is what the options say; ties in random order against sets by hand."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from oovrec.app.source import Source
from oovrec.data.checks import inspect
from oovrec.data.dataset import DAY, Dataset
from oovrec.data.load import Columns, load_dataset, read_all
from oovrec.errors import OovrecError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Forty users' items over four days, an item's rating its number and its user's."""
    rng = np.random.default_rng(0)
    lines = ["who,what,bought,stars"]
    for user in range(40):
        items = rng.choice(30, rng.integers(6, 15), replace=False)
        lines += [f"u{user},i{item},{(1 + rng.integers(4)) * DAY},{item + user / 100}" for item in items]
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = "columns: {user: who, item: what, time: bought, rating: stars}\n"


def data_file(log: Path, text: str, name: str = "mine.yaml") -> Path:
    path = log.with_name(name)
    path.write_text(text)
    return path


def by_time(data: Dataset) -> dict[tuple[str, int], list[tuple[str, float]]]:
    """Items and ratings by user and time, in the order of the histories."""
    found = defaultdict(list)
    assert data.times is not None
    assert data.ratings is not None
    for row, item, time, rating in zip(data.full.rows, data.full.items, data.times, data.ratings, strict=True):
        found[data.users[row], int(time)].append((data.items[item], float(rating)))
    return found


def test_it_says_what_options_say(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data_file(log, f"source: shop.csv\n{COLUMNS}k_core: 3\n")
    columns = Columns(user="who", item="what", time="bought", rating="stars")
    wanted = load_dataset(log, columns=columns, k_core=3)
    monkeypatch.chdir("/")  # paths begin where the data file lies
    found = load_dataset(path)
    assert (found.fingerprint, found.sha256, found.notes) == (wanted.fingerprint, wanted.sha256, wanted.notes)
    assert (found.name, found.source) == ("mine", str(path))
    assert load_dataset(path, name="hers").name == "hers"
    assert load_dataset(data_file(log, f"source: {log}\n{COLUMNS}name: ours\n", "x.yml")).name == "ours"


def test_its_dataset_can_be_read_again(log: Path) -> None:
    dataset = load_dataset(data_file(log, f"source: shop.csv\n{COLUMNS}tie_seed: 1\n"))
    source = Source.of(dataset)
    assert source.load().fingerprint == dataset.fingerprint
    assert "few interactions" in source.left_out


def test_what_parts_of_a_second_order_is_no_tie(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    times = [f"2020-01-01T00:00:00.{milliseconds:03d}" for milliseconds in (*range(20), 20, 20, 20)]
    log.write_text("user,item,time\n" + "".join(f"u,{number},{time}\n" for number, time in enumerate(times)))
    drawn = [load_dataset(log, k_core=1, tie_seed=seed).full.items.tolist() for seed in range(9)]
    assert {tuple(items[:20]) for items in drawn} == {tuple(range(20))}
    assert len({tuple(items[20:]) for items in drawn}) > 1


def test_ties_alone_are_in_random_order(log: Path) -> None:
    columns = Columns(user="who", item="what", time="bought", rating="stars")
    stored = load_dataset(log, columns=columns, k_core=2)
    drawn = [load_dataset(log, columns=columns, k_core=2, tie_seed=seed) for seed in (0, 1, 0)]
    before, after, other, again = map(by_time, (stored, *drawn))
    assert after == again
    assert after != before != other != after
    for key, pairs in before.items():
        assert sorted(after[key]) == sorted(pairs)  # each rating goes with its item
    assert list(after) == list(before)  # users and times are in the same order
    assert drawn[0].notes[-1] == "each user's items of the same time are in random order (seed 0)"
    assert drawn[0].fingerprint != stored.fingerprint
    firsts = [pairs[0] == before[key][0] for key, pairs in after.items() if len(pairs) == 2]
    assert 0.2 < np.mean(firsts) < 0.8  # either of two may be the first


def test_the_warning_says_that_the_order_was_drawn(log: Path) -> None:
    says = {}
    for seed in (None, 2):
        dataset = load_dataset(
            log, columns={"user": "who", "item": "what", "time": "bought", "rating": "stars"}, tie_seed=seed
        )
        (says[seed],) = (text for text in inspect(dataset).warnings if text.startswith("whole_days"))
    assert "not known" in says[None]
    assert "tie_seed" in says[None]
    assert says[2].endswith("so their order is drawn at random")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("k_core: 3\n", "mine.yaml: does not say its data's 'source'; give a data file, or the data itself."),
        ("- shop.csv\n", "mine.yaml: does not say its data's 'source'; give a data file, or the data itself."),
        ("source: shop.csv\nkcore: 3\n", "mine.yaml: unknown key 'kcore'; did you mean 'k_core'."),
        ("source: shop.csv\ntie_seed: -1\n", "mine.yaml, tie_seed: input should be greater than or equal to 0, not -1"),
        ("source: shop.csv\nk_core: yes\n", "mine.yaml, k_core: input should be a valid integer, not True"),
        ("source: shop.csv\nname: a/b\n", "mine.yaml, name: 'a/b' is no name; begin with a letter or digit, and leave"),
        ("source: shop.csv\nname: ..\n", "'..' is no name"),
        ("source: shop.csv\nname: ' '\n", "' ' is no name"),
        ('source: shop.csv\nname: "a\\nb"\n', r"'a\nb' is no name"),
        ("source: shop.csv\ncolumns: {usr: who}\n", "mine.yaml, columns: unknown key 'usr'; did you mean 'user'."),
        ("source: shop.csv\ncolumns: {user: 3}\n", "mine.yaml, columns.user: input should be a valid string, not 3"),
        ("source: shop.csv\ncolumns: {3: who}\n", "mine.yaml, columns: the key 3 is no name; write a name"),
        ("source: shop.csv\nyes: 3\n", "mine.yaml: the key True is no name; write a name, in quotes"),
        ("source: shop.csv\nname: 2020-02-31\n", "is not valid YAML (day"),
        ("source: ~nobody_at_all/shop.csv\n", "shop.csv: no such file or folder; check the path."),
        ("source: gone.csv\n", "gone.csv: no such file or folder; check the path."),
        ("source: mine.yaml\n", "mine.yaml, source: names another data file; give the data itself."),
        ("source: [\n", "is not valid YAML"),
        (
            "source: shop.csv\ncolumns: {user: who, item: what, time: ''}\ntie_seed: 1\n",
            "mine.yaml: the log has no times, so no ties; leave tie_seed out.",
        ),
        (
            "source: shop.csv\ncolumns: {user: who, item: what, time: ''}\nhold_out: time\n",
            "mine.yaml: the log has no times, so nothing can be held out by time; leave hold_out out.",
        ),
        ("source: shop.csv\nhold_out: first\n", "mine.yaml, hold_out: input should be 'last' or 'time', not 'first'"),
        (
            "source: same.csv\nhold_out: time\n",
            "mine.yaml: by time no user of the training part has an item to be held out for validation; leave hold_out",
        ),
    ],
)
def test_what_it_cannot_say(log: Path, text: str, sentence: str) -> None:
    rows = [f"{user},{item},{DAY}\n" for user in range(6) for item in range(6)]
    log.with_name("same.csv").write_text("user,item,time\n" + "".join(rows))
    path = data_file(log, text)
    with pytest.raises(OovrecError) as error:
        load_dataset(path)
    assert sentence in str(error.value)


@pytest.mark.parametrize("given", [{"k_core": 3}, {"columns": {"user": "who"}}, {"tie_seed": 0}, {"hold_out": "time"}])
def test_what_it_says_is_not_said_twice(log: Path, given: dict[str, object]) -> None:
    path = data_file(log, f"source: shop.csv\n{COLUMNS}")
    with pytest.raises(OovrecError, match=r"mine\.yaml: says how its data is read itself; change it there"):
        load_dataset(path, **given)


def test_paths_begin_where_a_link_to_it_lies(log: Path, tmp_path: Path) -> None:
    (there := tmp_path / "there").mkdir()
    (there / "mine.yaml").write_text(f"source: shop.csv\n{COLUMNS}")
    link = tmp_path / "link.yaml"
    link.symlink_to(there / "mine.yaml")
    dataset = load_dataset(link)
    source = Source(source=str(link)).found(dataset)
    assert source.load().fingerprint == dataset.fingerprint


def test_only_another_is_where_data_lie_now_that_it_told_of(log: Path) -> None:
    source = Source(source=str(data_file(log, f"source: shop.csv\n{COLUMNS}k_core: 3\n")))
    with pytest.raises(OovrecError, match=r"shop\.csv: is no data file, as '.*mine\.yaml' is, which said how to read"):
        source.found(source.load()).moved(str(log))


def test_it_can_be_where_data_lie_now_that_were_read_by_options(log: Path) -> None:
    columns = Columns(user="who", item="what", time="bought", rating="stars")
    by_options = Source(source=str(log), columns=columns, k_core=3)
    found = by_options.found(by_options.load())
    told = data_file(log, f"source: shop.csv\n{COLUMNS}k_core: 3\n")
    assert found.moved(str(told)).load().fingerprint == found.fingerprint
    with pytest.raises(OovrecError, match="is not the dataset 'shop' that the run was trained on"):
        found.moved(str(data_file(log, f"source: shop.csv\n{COLUMNS}k_core: 3\ntie_seed: 0\n"))).load()


def test_what_was_asked_for_by_options() -> None:
    what = Columns(item="what")
    assert Source.asked_for("log.csv", what, None) == Source(source="log.csv", columns=what)
    assert Source.asked_for("mine.yaml", Columns(), None) == Source(source="mine.yaml")
    for columns, k_core in ((Columns(), 5), (Columns(user=""), None)):
        with pytest.raises(OovrecError, match=r"mine\.yaml: says how its data is read itself"):
            Source.asked_for("mine.yaml", columns, k_core)


def test_all_interactions_of_its_log(log: Path) -> None:
    path = data_file(log, f"source: shop.csv\n{COLUMNS}k_core: 30\n")
    assert len(read_all(path).frame) == len(log.read_text().splitlines()) - 1
    with pytest.raises(OovrecError, match="says how its data"):
        read_all(path, Columns(user="who"))


def test_columns_that_nobody_asks_for(log: Path) -> None:
    (plain := log.with_name("plain.csv")).write_text("user,item,time,rating,title\na,x,1,,X\na,y,2,5,Y\n")
    read = read_all(plain, unused=("rating", "review"))
    assert (read.frame.columns, read.titles) == (["user", "item", "time"], {"x": "X", "y": "Y"})
    for columns in (None, Columns(rating="rating")):
        with pytest.raises(OovrecError, match=r"plain\.csv, line 2: has no rating; fill it in"):
            read_all(plain, columns, unused=("rating",) if columns else ())
    (folder := log.with_name("p5")).mkdir()
    (folder / "user_sequence.txt").write_text("u a b c\n")  # whose columns are fixed
    assert read_all(folder, unused=("rating", "title")).frame.height == 3


def test_ties_need_times(log: Path) -> None:
    columns = {"user": "who", "item": "what", "time": ""}
    with pytest.raises(OovrecError, match=r"shop\.csv: the log has no times, so no ties; leave tie_seed out\.$"):
        load_dataset(log, columns=columns, tie_seed=0)


@pytest.mark.parametrize(
    ("seed", "sentence"), [(-1, "-1 is below 0"), (1.5, "1.5 is no whole number"), ("1", "'1' is no whole number")]
)
def test_a_tie_seed_is_a_whole_number(log: Path, seed: object, sentence: str) -> None:
    with pytest.raises(OovrecError, match=f"^tie_seed: {sentence}; give a number from 0"):
        load_dataset(log, k_core=1, tie_seed=seed)  # type: ignore[arg-type]


def test_one_that_is_not_there() -> None:
    with pytest.raises(OovrecError, match=r"gone\.yaml: no such file or folder; check the path"):
        load_dataset("gone.yaml")
