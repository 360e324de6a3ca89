"""The table of results: what is skipped, done again, resumed after kill -9, expected, and written down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from oovrec.app import cells, processes
from oovrec.app.cells import Cell, fill, recipe_of
from oovrec.app.recipe import called, shipped
from oovrec.app.results_table import Published, Row, read_rows
from oovrec.app.runs import load_run
from oovrec.app.schedule import plan
from oovrec.app.source import Source
from oovrec.errors import Interrupted, OovrecError
from oovrec.evaluation.consistency import Finding, Suspect
from oovrec.evaluation.results import METRICS, Result, hardware, read_result, write_result

COMMAND = [sys.executable, "-c", "from oovrec.app.cli import app; app()", "bench", "results"]
PATIENCE = 300.0  # seconds
USERS = 60
# Of each pair of hit and ndcg, the first could be; ndcg@10 .02 is less than ndcg@5.
POSSIBLE = {"hit@5": 0.1, "ndcg@5": 0.06, "hit@10": 0.2, "ndcg@10": 0.09}
IMPOSSIBLE = {"hit@5": 0.1, "ndcg@5": 0.06, "hit@10": 0.2, "ndcg@10": 0.02}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a cell was begun")

    monkeypatch.setattr(processes, "_Process", refuse)


def block(value: float, **changes: float) -> dict[str, object]:
    """Every figure is ``value``, from .02 below to .02 above."""
    values = {**dict.fromkeys(METRICS, value), **changes}
    return {**values, "ci": {name: [one - 0.02, one + 0.02] for name, one in values.items()}, "users": USERS}


def keep(
    name: str,
    *,
    dataset: str = "films",
    seconds: float = 10.0,
    config_hash: str | None = None,
    machine: str | None = None,
    settings_hash: str = "",
    variant: str = "",
    **figures: float,
) -> Path:
    """A file of results made by hand, ``<recipe>-<tokens from>-s<seed>``, of today's recipe unless said otherwise."""
    recipe, tokens_from, seed = re.fullmatch(r"(.+)-(\w+)-s(\d+)", name).groups()
    built_from = None if tokens_from == "none" else tokens_from
    today = recipe_of(recipe, int(seed), built_from)
    path = Path("results", dataset, f"{'-'.join(filter(None, [recipe, variant, tokens_from, f's{seed}']))}.json")
    blocks = {"raw": block(0.1), "masked": block(0.3), "later_day_raw": block(0.05), "later_day_masked": block(0.07)}
    blocks["raw"] = block(0.1, **figures)
    result = Result(
        system=today.system,
        dataset=dataset,
        tokens_from=tokens_from,
        seed=int(seed),
        config_hash=config_hash or today.hash,
        commit=None,
        hardware=machine or hardware(),
        wall_seconds=seconds,
        blocks=blocks,
        settings_hash=settings_hash,
    )
    write_result(path, result)
    return path


def without_time(path: Path) -> dict[str, object]:
    """A file of results but for seconds, and for the commit, as others may commit to the checkout meanwhile."""
    values = json.loads(path.read_text())
    assert values.pop("wall_seconds") > 0
    del values["commit"]
    return values


def cells_of(text: str, system: str) -> list[list[str]]:
    """The cells of a system's lines of the page."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if f"`{system}`" in line]


def test_what_is_done_is_skipped(oovrec, log: Path, no_processes: None) -> None:
    done = [keep(name).read_bytes() for name in ("popularity-none-s0", "popularity-none-s2", "sasrec-none-s0")]
    done.append(keep("sasrec-none-s2").read_bytes())
    shown = oovrec("bench", "results", "--systems", "popularity", "sasrec", "--datasets", log, "--seeds", 0, 2).stdout
    assert "0 of 4 cells to fill." in shown
    assert [path.read_bytes() for path in sorted(Path("results/films").glob("*-s*.json"))] == done
    assert Path("results/table.png").read_bytes()[1:4] == b"PNG"
    assert not Path("runs").exists()


def test_another_recipe_is_done_again_and_a_cell_that_fails_leaves_the_others(oovrec, log: Path) -> None:
    old = keep("popularity-none-s0", config_hash="0123456789ab")
    Path("hot.yaml").write_text("system: sasrec\ntraining: {epochs: 2, learning_rate: 1.0e30, clip_norm: 0}\n")
    words = ("--systems", "hot.yaml", "popularity", "--datasets", log, "--jobs", 2)
    ended = oovrec("bench", "results", *words, code=2)
    assert "to do again: its recipe has changed since" in ended.stdout
    *_, sentence = ended.stderr.strip().splitlines()
    assert sentence.startswith("error: 1 cell failed: films/hot-none-s0 (row 0 of the batch: the model gives NaN")
    assert sentence.endswith("lower training.learning_rate); mend that and run the same command again.")
    assert not Path("results/films/hot-none-s0.json").exists()

    oovrec("train", "popularity", "--data", log, "--out", "alone")
    oovrec("evaluate", "alone")
    assert without_time(old) == without_time(Path("alone/metrics.json"))
    assert cells_of(Path("results/README.md").read_text(), "popularity")
    facts = json.loads(Path("results/films/dataset.json").read_text())
    lines = log.read_text().splitlines()[1:]
    assert facts["interactions"] == len(lines)
    assert facts["users"] == len({line.split(",")[0] for line in lines})


def test_a_killed_cell_goes_on_to_the_very_same_file(oovrec, log: Path) -> None:
    recipe = Path("long.yaml")
    recipe.write_text(
        "system: sasrec\nmodel: {width: 16}\ntraining: {epochs: 150, validate_every: 50, precision: fp32}\n"
    )
    finished = keep("popularity-none-s0")
    kept = finished.read_bytes()
    words = ["--systems", "popularity", str(recipe), "--datasets", str(log)]
    run, file = Path("runs/bench/films/long-none-s0"), Path("results/films/long-none-s0.json")

    process = subprocess.Popen([*COMMAND, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE
    while not (run / "log.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with FileLock(f"{run}.lock", timeout=PATIENCE):  # the cell's own process ends with the one that was killed
        assert not file.exists()
        assert not (run / "model.safetensors").exists()
        epochs = (run / "log.jsonl").read_text().splitlines()

    oovrec("bench", "results", *words)
    assert finished.read_bytes() == kept
    assert (run / "log.jsonl").read_text().splitlines()[: len(epochs)] == epochs  # their seconds too: not run again
    assert len(epochs) < 150
    whole = Cell.of(str(recipe), found(log), 0, None, Path("whole"))
    Path("runs").rename("resumed")
    fill(whole, Source(source=str(log)).load())
    assert without_time(file) == without_time(whole.file)


def test_a_single_cell_needs_no_terminal(log: Path) -> None:
    """Nobody's process, with nothing to read, as under nohup or cron."""
    words = [*COMMAND[:-1], "cell", "popularity", "--data", str(log)]
    subprocess.run(words, stdin=subprocess.DEVNULL, check=True)
    assert read_result(Path("results/films/popularity-none-s0.json")).system == "popularity"


def test_a_row_is_not_another_recipes(oovrec, log: Path) -> None:
    words = ("bench", "cell", "popularity", "--data", log, "--set", "training.epochs=2")
    sentence = "--set training.epochs=2: makes it another than the recipe, whose results it would replace; name the row"
    assert sentence in oovrec(*words, code=2).stderr
    own = Path("sasrec.yaml")
    own.write_text("system: popularity\n")
    sentence = "sasrec.yaml: bears the name of the shipped recipe 'sasrec', whose results it would replace; give the"
    assert sentence in oovrec("bench", "results", "--systems", own, "--datasets", log, code=2).stderr
    assert not Path("results").exists()
    assert called(shipped()["sasrec"]) == "sasrec"


def found(log: Path) -> Source:
    source = Source(source=str(log))
    return source.found(source.load())


def test_a_run_folder_of_another_training_is_begun_anew(oovrec, log: Path) -> None:
    cell = Cell.of("popularity", found(log), 0, None, Path("results"))
    folder = cell.run.folder
    oovrec("train", "popularity", "--data", log, "--out", folder, "--seed", 5)
    dataset = Source(source=str(log)).load()
    assert fill(cell, dataset).seed == 0
    for spoilt in ("", "system: popularity\n"):
        (folder / "config.yaml").write_text(spoilt)
        (folder / "metrics.json").write_text("of another run")
        assert fill(cell, dataset) == read_result(cell.file)


def test_other_titles_are_other_data(oovrec, log: Path, tmp_path: Path) -> None:
    """The same interactions: a run on what was said of them before is not gone on with, nor its figures kept."""
    words = ("bench", "results", "--systems", "popularity", "--datasets")
    oovrec(*words, log)
    retold = tmp_path / "retold" / log.name
    retold.parent.mkdir()
    retold.write_text(log.read_text().replace("Film", "Movie"))
    refused = oovrec(*words, retold, code=2)
    assert "holds results of other data called 'films'" in refused.stderr
    before = {path: path.read_bytes() for path in Path("results").rglob("*.json")}
    refused = oovrec("bench", "cell", "popularity", "--data", retold, "--seed", 1, code=2)
    assert "results/films: holds results of other data called 'films'" in refused.stderr
    assert before == {path: path.read_bytes() for path in Path("results").rglob("*.json")}


def test_a_finished_run_on_other_data_is_set_aside(log: Path, other_log: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other" / log.name).parent.mkdir()
    other.write_bytes(other_log.read_bytes())
    for number, path in enumerate((log, other, log)):
        cell = Cell.of("popularity", found(path), 0, None, Path(f"results{number}"))
        fill(cell, Source(source=str(path)).load())
    folder = cell.run.folder
    assert {path.name for path in folder.parent.iterdir() if path.is_dir()} == {
        folder.name,
        *(f"{folder.name}.{n}" for n in (1, 2)),
    }
    sources = [load_run(folder.with_name(folder.name + end)).data.source for end in (".1", ".2", "")]
    assert sources == [str(log), str(other), str(log)]
    assert read_result(Path("results0/films/popularity-none-s0.json")).blocks == read_result(cell.file).blocks


@pytest.mark.parametrize("variant", ["a/b", "../mine", ""])
def test_a_variant_is_a_name(variant: str, oovrec, log: Path) -> None:
    words = ("bench", "cell", "popularity", "--data", log, "--set", "training.epochs=2", "--variant", variant)
    said = f"--variant: '{variant}' is no name; begin with" if variant else "name the row by --variant"
    assert said in oovrec(*words, code=2).stderr
    assert not Path("results").exists()


def test_what_is_to_be_done_and_how_long_it_takes_comes_before_anything(oovrec, log: Path, no_processes: None) -> None:
    interactions = len(log.read_text().splitlines()) - 1
    facts = {"users": 9, "items": 9, "interactions": 3 * interactions, "fingerprint": "another"}
    Path("results/large").mkdir(parents=True)
    Path("results/large/dataset.json").write_text(json.dumps(facts))
    keep("sasrec-none-s0", dataset="large", seconds=600.0)  # a third of it on films: 200 s
    keep("sasrec-none-s1", dataset="large", seconds=9.0, machine="a faster one")
    keep("hgn-none-s0", dataset="elsewhere")  # nobody knows how many interactions it has
    keep("metaid-llama-train-s0", seconds=7200.0)
    keep("popularity-none-s7", seconds=3.0)
    keep("popularity-none-s9", seconds=5.0)
    keep("popularity-none-s8", dataset="large", seconds=600.0)  # goes after those on films
    keep("caser-none-s3", seconds=5.0, machine="a faster one")
    before = sorted(path for path in Path().rglob("*"))
    systems = ("hgn", "metaid-llama", "sasrec", "popularity", "caser")
    words = ("--systems", *systems, "--datasets", log, "--from", "train", "--dry-run", "--seeds", 1)
    *_, table = oovrec("bench", "results", *words).stdout.partition("expected")
    rows = [line.split() for line in table.splitlines() if line.startswith(" films/")]
    assert [row[0] for row in rows] == [
        "films/popularity-none-s1",
        "films/caser-none-s1",
        "films/sasrec-none-s1",
        "films/metaid-llama-train-s1",
        "films/hgn-none-s1",
    ]
    expected = ["4 s", "5 s (on other hardware)", "3 min 20 s", "2 h 0 min", "not known"]
    assert [" ".join(row[3:]) for row in rows] == expected
    assert "5 of 5 cells to fill: 2 h 3 min one after another, and 1 whose time is not known." in table
    assert sorted(path for path in Path().rglob("*")) == before


def published(path: Path, **rows: dict[str, float]) -> Path:
    names = {"sasrec": "SAS-Rec", "llama": "META ID (L)"}
    path.write_text(json.dumps({"results": {names[name]: {"Films": row} for name, row in rows.items()}}))
    return path


def test_the_page_sets_figures_beside_published_ones(oovrec, log: Path, no_processes: None) -> None:
    Path("results").mkdir()
    Path("results/README.md").write_text("# Mine\n\nBy hand, above.\n")
    keep("sasrec-none-s0", **{"hit@10": 0.25})
    keep("metaid-llama-all-s0", **{"hit@10": 0.10, "ndcg@10": 0.03})
    keep("metaid-llama-all-s1", **{"hit@10": 0.16, "ndcg@10": 0.05})
    keep("metaid-llama-all-s2", config_hash="of old", **{"hit@10": 0.9})  # an earlier recipe's: not in the mean
    keep("popularity-none-s0", config_hash="of old")
    keep("metavec-sasrec-train-s0", **{"hit@10": 0.3})
    table = published(Path("table.json"), sasrec=POSSIBLE, llama=IMPOSSIBLE)
    words = ("--systems", "sasrec", "--datasets", log, "--published", table)
    oovrec("bench", "results", *words)
    page = Path("results/README.md").read_text()
    raw, others = cells_of(page, "sasrec")
    assert raw[:3] == ["`sasrec`", "none", "1"]
    assert raw[3:7] == ["0.2500 [0.2300, 0.2700]", "0.2000 (1.25×)", "0.1000 [0.0800, 0.1200]", "0.0900 (1.11×)"]
    assert (
        others[3:]
        == ["0.3000 [0.2800, 0.3200]"] * 2 + ["0.0500 [0.0300, 0.0700]"] * 2 + ["0.0700 [0.0500, 0.0900]"] * 2
    )
    raw, _ = cells_of(page, "metaid-llama")
    # standard deviations by hand: .06 / √2 and .02 / √2
    assert raw[1:7] == ["all", "2", "0.1300 ± 0.0424", "0.2000 (0.65×)", "0.0400 ± 0.0141", "0.0200 ★ (2.00×)"]
    bodies = re.findall(r"\| --: \|\n((?:\|.*\n)+)", page)
    assert len(bodies) == 2
    for lines in (body.splitlines() for body in bodies):  # it does not stand among those that have seen no such item
        first = [line.split(" | ")[0] for line in lines]
        assert first[-2:] == ["| *not comparable: their tokens have seen held-out items*", "| `metaid-llama`"]
        assert len({line.count("|") for line in lines}) == 1
    assert page.count("★") == 3  # the figure, its reason, the legend
    assert "★ META ID (L): ndcg@10 is 0.02; the others allow at least" in page
    raw, _ = [line for line in page.splitlines() if "`popularity`†" in line]
    assert "×" not in raw  # the table has no such row
    raw, _ = cells_of(page, "metavec-sasrec")
    assert raw[3:5] == ["0.3000 [0.2800, 0.3200]", ""]  # SASRec's published figures are of SASRec without vectors
    assert "†: of an earlier version of the recipe." in page
    assert "published, raw or unknown masking" in page

    Path("results/README.md").write_text(page + "\nBy hand, below.\n")
    (Path("results/films/popularity-none-s0.json")).unlink()
    oovrec("bench", "results", *words)
    again = Path("results/README.md").read_text()
    assert again.startswith("# Mine\n\nBy hand, above.\n")
    assert again.endswith("-->\n\nBy hand, below.\n")
    assert "popularity" not in again
    assert "†" not in again
    assert again.count("### films") == 1


def test_seeds_of_variants_of_other_settings_are_not_averaged(oovrec, log: Path, no_processes: None) -> None:
    keep("caser-none-s0", variant="wide", settings_hash="wide", **{"hit@10": 0.1})
    keep("caser-none-s1", variant="wide", settings_hash="wide", **{"hit@10": 0.2})
    keep("caser-none-s2", variant="wide", settings_hash="wider", **{"hit@10": 0.3})
    keep("popularity-none-s0")
    oovrec("bench", "results", "--systems", "popularity", "--datasets", log)
    page = Path("results/README.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if "`caser-wide`" in line]
    assert [row[2:4] for row in rows[:2]] == [["2", "0.1500 ± 0.0707"], ["1", "0.3000 [0.2800, 0.3200]"]]
    assert "Rows of one name and the same tokens differ in their settings." in page


def wrong_seed() -> None:
    keep("popularity-none-s0").rename("results/films/popularity-none-s4.json")


def other_data() -> None:
    Path("results/films").mkdir(parents=True)
    Path("results/films/dataset.json").write_text('{"users": 1, "items": 1, "interactions": 1, "fingerprint": "x"}')


def no_counts() -> None:
    other_data()
    Path("results/more").mkdir()
    Path("results/films/dataset.json").rename("results/more/dataset.json").write_text('{"users": 1}')


def one_mark() -> None:
    keep("popularity-none-s0")
    Path("results/README.md").write_text("# Mine\n<!-- table of 'oovrec bench results': begin -->\n")


def flat_table() -> None:
    Path("table.json").write_text('{"results": {"SASRec": {"hit@10": 0.1}}}')


def cut_off() -> None:
    path = keep("popularity-none-s0")
    path.write_text(path.read_text()[:300])


def no_table() -> None:
    Path("table.json").write_text('{"results": {"SASRec": {"films": {"hit@10": "high"}}}}')


@pytest.mark.parametrize(
    ("words", "prepare", "sentence"),
    [
        ("--systems sasrek", None, "unknown recipe 'sasrek'; did you mean 'sasrec'"),
        ("--systems popularity --datasets none.csv", None, "none.csv: no such file or folder; check the path"),
        ("--systems popularity popularity", None, "2 cells are called 'films/popularity-none-s0'; give systems and"),
        ("--systems popularity --seeds 0 1 1", None, "2 cells are called 'films/popularity-none-s1'"),
        ("--systems popularity", wrong_seed, "popularity-none-s4.json: says dataset films, tokens from none, seed 0,"),
        ("--systems popularity", cut_off, "; restore the file, or remove it and run the same command again"),
        ("--systems popularity", other_data, "results/films: holds results of other data called 'films'; give another"),
        ("--systems popularity", no_counts, "dataset.json: does not count users, items and interactions; remove it"),
        ("--systems popularity", one_mark, "README.md: does not have '<!-- table of"),
        ("--systems popularity --published table.json", None, "table.json: no such file"),
        ("--systems popularity --published table.json", flat_table, "table.json, SASRec: holds figures without a"),
        ("--systems popularity --published table.json", no_table, "'hit@10' is \"high\", which is no number"),
    ],
)
def test_bad_input(words: str, prepare, sentence: str, oovrec, log: Path, no_processes: None) -> None:
    if prepare:
        prepare()
    data = [] if "--datasets" in words else ["--datasets", log]
    ended = oovrec("bench", "results", *words.split(), *data, code=2)
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not Path("runs").exists()


def test_data_told_by_a_data_file_fill_a_folder_of_their_own(log: Path, tmp_path: Path) -> None:
    Path("films-ties0.yaml").write_text(f"source: {log}\ntie_seed: 0\n")
    Path("dated.yaml").write_text(f"source: {log}\nk_core: 6\n")
    command = [*COMMAND, "--systems", "popularity", "--datasets", "films-ties0.yaml", "dated.yaml"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    for name in ("films-ties0", "dated"):
        assert read_result(Path("results", name, "popularity-none-s0.json")).dataset == name
    assert json.loads(Path("results/films-ties0/dataset.json").read_text())["tie_seed"] == 0
    assert "tie_seed" not in json.loads(Path("results/dated/dataset.json").read_text())
    config = Path("runs/bench/films-ties0/popularity-none-s0/config.yaml").read_text()
    assert f"source: {tmp_path / 'films-ties0.yaml'}" in config


def test_why_a_cell_failed_is_told_whoever_else_writes_there() -> None:
    """Two commands at the same cell share the file that its process writes what it says into."""
    log, process = Path("cell.log"), processes._Process.__new__(processes._Process)
    log.write_text("error: of a time before.\n")
    process.cell, process.process = SimpleNamespace(name="films/cell"), SimpleNamespace(returncode=2)
    process.log, process.begin = log, log.stat().st_size
    with log.open("a") as file:
        file.write("error: films/cell: another process is at it.\ntraining: 3/9 batches\n")
    assert process.outcome() == {"films/cell": "films/cell: another process is at it."}
    log.write_text(log.read_text().replace("error: films", "films"))
    process.begin = 0
    assert process.outcome() == {"films/cell": "of a time before."}


def test_the_best_masked_stand_first_and_what_saw_held_out_items_last() -> None:
    for name, value in (("sasrec-none-s0", 0.2), ("popularity-none-s0", 0.3), ("metaid-llama-all-s0", 0.4)):
        path = keep(name, **{"ndcg@10": 0.9 - value})  # raw, the other way round
        path.write_text(json.dumps(json.loads(path.read_text()) | {"masked": block(value)}))
    rows = read_rows(Path("results"), {})["films"]
    assert [row.system for row in rows] == ["popularity", "sasrec", "metaid-llama"]


def test_of_a_row_that_cannot_be_the_likeliest_figure_is_starred_or_all() -> None:
    row = Row("sasrec", "sasrec", "none", 1, False, {})
    for suspects, starred in ((["ndcg@10", "hit@5"], ["ndcg@10"]), ([], list(POSSIBLE))):
        found = [Suspect(metric, 0.1, 0.2, 0.3, 0.1, 1.0) for metric in suspects]
        table = Published({"SASRec": {"films": POSSIBLE}}, [Finding(("SASRec", "films"), "", found, 0.1)])
        assert [metric for metric in POSSIBLE if table.starred(row, "films", metric)] == [
            metric for metric in POSSIBLE if metric in starred
        ]


def test_seed_and_source_of_tokens_are_the_cells() -> None:
    with pytest.raises(OovrecError, match="--set seed: has an option of its own; give --seed"):
        recipe_of("sasrec", 3, None, ["training.epochs=1", " seed =7"])
    with pytest.raises(OovrecError, match=r"--set tokens\.from: has an option of its own; give --from"):
        recipe_of("metaid-llama", 0, "all", ["tokens.from=train"])
    with pytest.raises(OovrecError, match=r"--set tokens\.from: has an option of its own; give --from"):
        recipe_of("metaid-llama", 0, None, ["tokens={method: meta, from: all}"])
    assert recipe_of("metaid-llama", 0, "all", ["tokens.clusters=3"]).tokens.built_from == "all"


def test_a_block_that_one_seed_lacks_is_left_out() -> None:
    keep("sasrec-none-s0")
    path = keep("sasrec-none-s1")
    values = json.loads(path.read_text())
    del values["later_day_raw"]
    path.write_text(json.dumps(values))
    (row,) = read_rows(Path("results"), {})["films"]
    assert (row.seeds, set(row.blocks)) == (2, {"raw", "masked", "later_day_masked"})


def test_a_cell_that_was_tested_is_not_tested_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where its file of results is gone."""
    cell, dataset = Cell.of("popularity", found(log), 0, None, Path("results")), Source(source=str(log)).load()
    first = fill(cell, dataset)
    cell.file.unlink()
    monkeypatch.setattr(cells, "evaluate", None)
    assert fill(cell, dataset) == first == read_result(cell.file)


def test_where_no_times_are_known_fewer_epochs_come_first_and_models_with_tokens_last(log: Path) -> None:
    systems = ["popularity", "sasrec", "sasrec-long", "metaid-llama"]
    asked = [Cell.of(name, found(log), 0, None, Path("results")) for name in reversed(systems)]
    assert [one.cell.system for one in plan(asked, {"films": 100}, Path("results"))] == systems


def test_where_no_times_are_known_what_learns_in_no_epochs_comes_first_and_then_less_data(
    log: Path, other_log: Path
) -> None:
    Path("quick.yaml").write_text("system: sasrec\ntraining: {epochs: 1}\n")
    every = [(recipe, found(path)) for recipe in ("quick.yaml", "popularity") for path in (log, other_log)]
    asked = [Cell.of(recipe, source, 0, None, Path("results")) for recipe, source in every]
    planned = plan(asked, {"films": 100, "other": 10}, Path("results"))
    assert [one.cell.name.removesuffix("-none-s0") for one in planned] == [
        "films/popularity",
        "other/popularity",
        "other/quick",
        "films/quick",
    ]


def test_what_is_begun_is_gone_on_with_and_what_is_spoilt_is_done_anew(log: Path) -> None:
    cell, dataset = Cell.of("popularity", found(log), 0, None, Path("results")), Source(source=str(log)).load()

    def state() -> str:
        (one,) = plan([cell], {"films": 100}, Path("results"))
        return one.state

    cell.run.folder.mkdir(parents=True)
    assert state() == "to do"
    fill(cell, dataset)
    assert state() == "done"
    cell.file.unlink()
    assert state() == "to go on with"
    config = cell.run.folder / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 5"))
    assert state() == f"to do: {cell.run.folder} holds another training"
    config.write_text("of no use")
    assert state().startswith("to do anew, as ")


# What cells' processes do in place of filling them; each has its seed, which names its files, among its words.
SIDE_BY_SIDE = """
import os, pathlib, sys, time
seed, deadline = sys.argv[sys.argv.index("--seed") + 1], time.monotonic() + 20
begun = time.monotonic()
pathlib.Path(f"begun-{seed}").touch()
while len(list(pathlib.Path().glob("begun-*"))) < 2 and time.monotonic() < deadline:  # another one is at work too
    time.sleep(0.01)
time.sleep(0.2)
threads = [os.environ[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")]
own = os.getsid(0) == os.getpid()  # so that Ctrl-C in a terminal is not sent to it
pathlib.Path(f"told-{seed}").write_text(" ".join(map(str, [begun, time.monotonic(), *threads, own])))
"""
KEEPS_A_STATE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # heeded as in a training, whatever started the tests
seed = sys.argv[sys.argv.index("--seed") + 1]
try:
    pathlib.Path(f"begun-{seed}").touch()
    time.sleep(20)
except KeyboardInterrupt:
    time.sleep(0.2)
    pathlib.Path(f"kept-{seed}").touch()
"""


def popular(log: Path, count: int) -> list[Cell]:
    return [Cell.of("popularity", found(log), seed, None, Path("results")) for seed in range(count)]


@pytest.mark.parametrize(("threads", "each"), [(5, "2"), (1, "1")])
def test_so_many_cells_as_there_are_jobs_are_filled_at_a_time_and_share_the_threads(
    threads: int, each: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "COMMAND", SIDE_BY_SIDE)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    processes.carry_out(popular(log, 4), 2)
    told = [Path(f"told-{seed}").read_text().split() for seed in range(4)]
    begun, ended = ([float(row[place]) for row in told] for place in (0, 1))
    at_once = [sum(one <= moment < other for one, other in zip(begun, ended, strict=True)) for moment in begun]
    assert max(at_once) == 2
    assert {tuple(row[2:]) for row in told} == {(each, each, "True")}


def test_ctrl_c_lets_the_cells_that_are_being_filled_keep_their_states(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(seconds: float) -> None:
        if all(Path(f"begun-{seed}").exists() for seed in (0, 1)):
            raise KeyboardInterrupt
        time.sleep(seconds)

    monkeypatch.setattr(processes, "COMMAND", KEEPS_A_STATE)
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=look))
    with pytest.raises(Interrupted, match="the same command goes on from there"):
        processes.carry_out(popular(log, 3), 2)
    assert sorted(path.name for path in Path().glob("*-?")) == ["begun-0", "begun-1", "kept-0", "kept-1"]


def test_a_second_ctrl_c_ends_a_cell_at_once() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    process, asked = processes._Process.__new__(processes._Process), []
    kill = partial(asked.append, signal.SIGKILL)
    process.process = SimpleNamespace(send_signal=asked.append, wait=interrupted, kill=kill)
    process.stop()
    assert asked == [signal.SIGINT, signal.SIGKILL]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("print('error: no memory.'); raise SystemExit(2)", "no memory."),
        ("raise ValueError('of no use')", "ValueError: of no use"),  # the last line of the traceback
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it was killed."),
    ],
)
def test_a_cell_that_fails_is_not_done_by_the_results_it_was_to_replace(
    program: str, sentence: str, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    keep("popularity-none-s0", config_hash="of old")
    asked, before = popular(log, 1), "error: of a time before.\n"
    told = Path(f"{asked[0].run.folder}.log")
    told.parent.mkdir(parents=True)
    told.write_text(before)
    monkeypatch.setattr(processes, "COMMAND", program)
    assert processes.carry_out(asked, 1) == {"films/popularity-none-s0": sentence}
    assert told.read_text().startswith(before)
    assert f"films/popularity-none-s0 failed: {sentence}" in " ".join(capsys.readouterr().err.split())


def test_figures_of_a_cell_that_was_filled_are_said(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    keep("popularity-none-s0", seconds=100.0)
    monkeypatch.setattr(processes, "COMMAND", "")
    assert processes.carry_out(popular(log, 1), 1) == {}
    said = " ".join(capsys.readouterr().err.split())
    assert "films/popularity-none-s0: ndcg@10 0.1000 raw, 0.3000 masked; 1 min 40 s" in said
