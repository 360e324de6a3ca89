"""``oovrec bench results``: fill the table of results, or what is missing of it, and write it down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from oovrec.app import schedule, tables
from oovrec.app.cells import Cell
from oovrec.app.facts import check_facts
from oovrec.app.figures import write_png
from oovrec.app.pipeline import warn
from oovrec.app.processes import carry_out
from oovrec.app.recipe import shipped
from oovrec.app.results_figure import chart
from oovrec.app.results_table import Published, around_table, markdown, read_rows, write_page
from oovrec.app.source import Source
from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.tokens.table import BuiltFrom

PAGE = "README.md"


def results(
    systems: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    built_from: BuiltFrom | None,
    out: Path,
    *,
    published: Path | None,
    jobs: int,
    dry_run: bool,
) -> None:
    """Fill ``<out>/<dataset>/<system>-<tokens from>-s<seed>.json``, ``<out>/README.md`` and ``<out>/table.png``.

    Args:
        systems: recipes by name or path.
        datasets: names of the catalogue, folders or files.
        seeds: of every random choice.
        built_from: what tokens are built from in place of what the recipes say.
        published: a JSON table of figures to stand beside ours.
        jobs: how many cells are filled at a time.
        dry_run: show what would be done, and do nothing.

    Raises:
        OovrecError: recipes, data or files of results are not in order (nothing is written then); cells failed.
        Interrupted: Ctrl-C; the same call goes on.
    """
    figures = Published.read(published) if published else Published()
    around_table(out / PAGE)  # not after hours of work
    found = [(data, Source(source=data).load()) for data in datasets]
    cells = _cells(systems, found, seeds, built_from, out)
    failed = fill_cells(cells, [dataset for _, dataset in found], out, jobs=jobs, dry_run=dry_run)
    if dry_run:
        return
    _write(out, {cell.system: cell.recipe for cell in cells}, figures)
    refuse_failed(failed)


def fill_cells(
    cells: Sequence[Cell], datasets: Sequence[Dataset], out: Path, *, jobs: int, dry_run: bool
) -> dict[str, str]:
    """Show what is to be done for ``cells`` and, unless ``dry_run``, do it.

    Returns:
        The sentence of each cell that failed, by its name.
    """
    interactions = {dataset.name: int(dataset.full.lengths.sum()) for dataset in datasets}
    planned = schedule.plan(cells, schedule.known_interactions(out) | interactions, out)
    tables.show(*schedule.shown(planned))
    if dry_run:
        return {}
    for dataset in datasets:
        warn(dataset)
    return carry_out([one.cell for one in planned if not one.done], jobs)


def refuse_failed(failed: dict[str, str]) -> None:
    """Raises OovrecError where cells failed."""
    if failed:
        sentences = "; ".join(f"{name} ({sentence.rstrip('.')})" for name, sentence in failed.items())
        count = "1 cell" if len(failed) == 1 else f"{len(failed)} cells"
        raise OovrecError(f"{count} failed: {sentences}", remedy="mend that and run the same command again")


def _cells(
    systems: Sequence[str],
    found: Sequence[tuple[str, Dataset]],
    seeds: Sequence[int],
    built_from: BuiltFrom | None,
    out: Path,
) -> list[Cell]:
    cells = []
    for data, dataset in found:
        check_facts(dataset, out)
        source = Source(source=data).found(dataset)
        cells += [Cell.of(recipe, source, seed, built_from, out) for recipe in systems for seed in seeds]
    for name, count in Counter(cell.name for cell in cells).items():
        if count > 1:
            remedy = "give systems and datasets of different names, each once, and each seed once"
            raise OovrecError(f"{count} cells are called '{name}'", remedy=remedy)
    return cells


def _write(out: Path, recipes: dict[str, str], published: Published) -> None:
    """The page and the chart, of all results that are there."""
    own = {name: recipe for name, recipe in recipes.items() if recipe not in shipped()}
    if rows := read_rows(out, own):
        write_page(out / PAGE, markdown(rows, published, out))
        write_png(chart(rows, published), out / "table.png")
        tables.show(f"{out / PAGE}, {out / 'table.png'}")
