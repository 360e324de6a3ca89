"""The figures that the pages state are those of the files under results/, with as many seeds as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oovrec.app.results_table import Row, read_rows
from oovrec.evaluation.results import read_result

ROOT = Path(__file__).parents[1]
# A table's label, without bold and seeds, by the row of results/ that it is.
SYSTEMS = {
    "BSARec whose items carry metavec's vectors, titles in their walks": "metavec-bsarec",
    "SASRec whose items carry metavec's vectors, titles in their walks": "metavec-sasrec",
    "metavec on a compact LLaMA, titles in its walks": "metavec-llama",
    "metavec on a compact LLaMA": "metavec-llama",
    "metavec": "metavec-llama",
    "metavec, honest tokens": "metavec-llama",
    "SASRec, histories thinned too": "sasrec-skipped",
    "metavec from interactions alone": "metavec-llama-interactions",
    "BSARec, nothing of its attention's weights dropped": "bsarec-attention",
    "SASRec trained five times as long, as published for Beauty (`sasrec-long`)": "sasrec-long",
    "SASRec, five times as long": "sasrec-long",
    "SASRec, its epoch chosen by all users, as metavec's": "sasrec-all-users",
    "SASRec, histories thinned as metavec's": "sasrec-skipped",
    "META ID on a compact LLaMA, a number of its own for each item": "metaid-llama",
    "META ID on a LLaMA, numbers and walks as in the paper": "metaid-llama-paper",
    "META ID on a compact T5, 15 epochs": "metaid-t5",
    "CoVE's form on a compact LLaMA": "cove",
    "SASRec with metavec's vectors (`metavec-sasrec`, ten minutes of a core)": "metavec-sasrec",
    "BSARec with them (`metavec-bsarec`)": "metavec-bsarec",
    "SASRec with metavec's vectors": "metavec-sasrec",
    "BSARec with metavec's vectors": "metavec-bsarec",
    **{name: name.lower() for name in ("BSARec", "SASRec", "eSASRec", "CL4SRec", "FDSA", "HGN", "GRU4Rec", "BERT4Rec")},
    "S3-Rec": "s3rec",
    "TIGER": "tiger",
    "Caser": "caser",
    "popularity": "popularity",
    "popularity of the last 14 days": "popularity-14-days",
    "META ID the same, epochs chosen by the first 14 days": "metaid-llama-early",
}
OTHERS = ("*not comparable", "CID, a token an item, SID, RID")  # what is no system's row
BEAUTY = "| system | tokens from | hit@10 | ndcg@10 | ndcg@10, later day |"
DATASETS = "| system | Beauty | Toys | Sports | ml-100k |"


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str, bool], Row]:
    """By dataset, system and whether its tokens have seen held-out items."""
    found = read_rows(ROOT / "results", {})
    return {(dataset, row.system, row.leaky): row for dataset, some in found.items() for row in some}


def table(page: str, head: str, *, plain: bool = True) -> list[tuple[str, list[str]]]:
    """The label and the other cells of each row of a page's table; what is bold plainly, unless told otherwise."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = text.replace("**", "") if plain else text
    body = text.split(head + "\n")[1].split("\n\n")[0].splitlines()[1:]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in body]
    return [(label, cells) for label, *cells in lines if not label.startswith(OTHERS)]


def seeds(text: str) -> tuple[str, int]:
    """What stands before ``×3``, and the 3; 1 where nothing says how many."""
    plain, _, count = text.partition(" ×")
    return plain, int(count or 1)


def stated(row: Row, *places: tuple[str, str]) -> list[str]:
    return [f"{row.blocks[block][metric].value:.4f}".lstrip("0") for block, metric in places]


MASKED = ("masked", "hit@10"), ("masked", "ndcg@10")


@pytest.mark.parametrize("page", ["README.md", "docs/honest-figures.md"])
def test_beautys_table_is_of_the_results(page: str, rows: dict[tuple[str, str, bool], Row]) -> None:
    lines = table(page, BEAUTY)
    assert len(lines) > 10
    for label, (origin, *figures) in lines:
        name, count = seeds(label)
        row = rows["beauty", SYSTEMS[name], origin == "all"]
        assert (figures, count) == (stated(row, *MASKED, ("later_day_masked", "ndcg@10")), row.seeds), label
        assert origin == ("" if row.tokens_from == "none" else row.tokens_from), label


def test_the_readmes_table_of_datasets_is_of_the_results(rows: dict[tuple[str, str, bool], Row]) -> None:
    lines = table("README.md", DATASETS)
    assert len(lines) > 4
    for label, cells in lines:
        for dataset, cell in zip(("beauty", "toys", "sports", "ml-100k"), cells, strict=True):
            row = rows.get((dataset, SYSTEMS[label], False))
            figures, count = seeds(cell)
            assert (figures.split(), count) == ((stated(row, *MASKED), row.seeds) if row else ([], 1)), (label, dataset)


BESIDE = "| data | metavec, honest tokens | SASRec | SASRec, histories thinned too | SASRec, five times as long "
LATER = "| data, targets of a later day | metavec | SASRec, five times as long "


@pytest.mark.parametrize(("head", "part"), [(BESIDE, "masked"), (LATER, "later_day_masked")])
def test_tables_with_a_line_a_dataset_are_of_the_results(
    head: str, part: str, rows: dict[tuple[str, str, bool], Row]
) -> None:
    head = f"{head}| BSARec |"
    systems = [SYSTEMS[name.strip()] for name in head.strip("| ").split("|")[1:]]
    for data, cells in table("docs/honest-figures.md", head):
        for system, cell in zip(systems, cells, strict=True):
            row = rows.get((data.lower(), system, False))
            figures, count = seeds(cell)
            wanted = stated(row, (part, "hit@10"), (part, "ndcg@10")) if row else []
            assert figures.split() == wanted, (data, system)
            assert part != "masked" or row is None or count == row.seeds, (data, system)


TIMED = ("Beauty", "Toys", "Sports")
BY_TIME = f"| held out by time | tokens from | {' | '.join(f'{name} | {name}, retrained' for name in TIMED)} |"
COLUMNS = [(f"{name.lower()}-time", again) for name in TIMED for again in ("", "-retrained")]


def test_the_table_of_what_is_held_out_by_time_is_of_the_results() -> None:
    found = read_rows(ROOT / "results" / "time", {})
    rows = {(dataset, row.system, row.leaky): row for dataset, some in found.items() for row in some}
    lines = table("docs/honest-figures.md", BY_TIME)
    for label, (origin, *cells) in lines:
        for (dataset, again), cell in zip(COLUMNS, cells, strict=True):
            row = rows.pop((dataset, SYSTEMS[label] + again, origin == "all"), None)
            figures, count = seeds(cell)
            wanted = (stated(row, *MASKED), row.seeds) if row else ([], 1)
            assert (figures.split(), count) == wanted, (label, dataset, again)
    assert not rows


LEADS = f"| masked, ahead of SASRec | {' | '.join(f'{name}, hit@10 | ndcg@10' for name in TIMED)} |"


def lead(dataset: str, one: str, other: str) -> dict[str, tuple[float, float, float]]:
    """How far ``one`` is ahead of ``other``, and from where to where that may be; empty if they were not compared."""
    for path in (ROOT / "results" / "time").glob(f"compared-{dataset}-*.json"):
        rows = json.loads(path.read_text())
        first, *others = [row["runs"]["0"].split("/")[-1].rsplit("-", 2)[0] for row in rows]
        for name, row in zip(others, rows[1:], strict=True):
            found = {metric: (value["mean"], *value["interval"]) for metric, value in row["lead"]["masked"].items()}
            if (first, name) == (one, other):
                return found
            if (name, first) == (one, other):
                return {metric: (-mean, -high, -low) for metric, (mean, low, high) in found.items()}
    return {}


def told(mean: float, low: float, high: float) -> str:
    """A lead, bold where the interval leaves zero out."""
    text = [f"{number:.4f}".replace("0.", ".", 1) for number in (mean, low, high)]
    said = "{} ({} to {})".format(*text)
    return f"**{said}**" if round(low, 4) > 0 or round(high, 4) < 0 else said


def test_the_table_of_leads_over_time_is_of_the_comparisons() -> None:
    lines = table("docs/honest-figures.md", LEADS, plain=False)
    assert len(lines) > 8
    for label, cells in lines:
        name, again, _ = label.partition(", retrained")
        system, again = SYSTEMS[name], again and "-retrained"
        wanted: list[str] = []
        for dataset in TIMED:
            found = lead(dataset.lower(), system + again, "sasrec" + again)
            wanted += [told(*found[metric]) for metric in ("hit@10", "ndcg@10")] if found else ["", ""]
        assert cells == wanted, label


PAIRS = ["SASRec", "metavec on a compact LLaMA", "META ID", "popularity of 14 days"]
BY_DAYS = "| days after the test began | users | " + "".join(f"{name} | retrained | " for name in PAIRS).rstrip()
ACROSS = [("sasrec", "none"), ("metavec-llama", "train"), ("metaid-llama", "train"), ("popularity-14-days", "none")]


def test_the_table_of_days_after_the_test_began_is_of_the_results() -> None:
    lines = table("docs/honest-figures.md", BY_DAYS)
    assert len(lines) > 10
    for label, (users, *cells) in lines:
        dataset, days = label.replace(" to ", "-").split(", ")
        folder = ROOT / "results" / "time" / f"{dataset.lower()}-time"
        wanted = []
        for system, origin in ACROSS:
            for again in ("", "-retrained"):
                results = [read_result(path) for path in folder.glob(f"{system}{again}-{origin}-s?.json")]
                rows = [result.by_days["masked"][days] for result in results]
                assert {f"{row['users']:,}" for row in rows} <= {users}, label
                mean = sum(row["hit@10"] for row in rows) / len(rows) if rows else None
                wanted.append("" if mean is None else f"{mean:.4f}".lstrip("0"))
        assert cells == wanted, label


def test_results_of_todays_recipes_are_still_called_so(rows: dict[tuple[str, str, bool], Row]) -> None:
    """An option that came later, or one that is beside a training, has not changed the hash they were filed under."""
    page = (ROOT / "results/README.md").read_text(encoding="utf-8")
    stale = {system for (_, system, _), row in rows.items() if row.stale}
    assert stale == {system for _, system, _ in rows if f"`{system}`†" in page}
