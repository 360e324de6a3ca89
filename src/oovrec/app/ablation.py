"""``oovrec bench augmentation``: one recipe with each kind of representation augmentation, all else the same.

Writes ``<out>/<dataset>/<recipe>-<kind>-<tokens from>-s<seed>.json`` (test figures, as ``bench results``), and of all
of them ``<recipe>-<tokens from>.json`` and ``.md``: validation figures, by which a kind is chosen, beside the test's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

from oovrec.app import tables
from oovrec.app.bench import fill_cells, refuse_failed
from oovrec.app.cells import Cell, read_cell
from oovrec.app.facts import check_facts
from oovrec.app.pipeline import evaluate
from oovrec.app.recipe import Recipe, called, read_recipe, sets
from oovrec.app.results_table import Figure, table
from oovrec.app.runs import load_run
from oovrec.app.source import Source
from oovrec.data.dataset import Dataset, Split
from oovrec.errors import OovrecError
from oovrec.files import read_json, write_json, write_text
from oovrec.models.base import system
from oovrec.models.generative.augmentation import Augmentation
from oovrec.tokens.build import build_tokens
from oovrec.tokens.table import BuiltFrom

COMPARED = "model.augmentation"
SHOWN = list(product(("validation", "test"), ("masked", "raw"), ("ndcg@10", "hit@10")))
CHOSEN_BY: tuple[Split, str, str] = ("validation", "masked", "ndcg@10")
LEGEND = """\
★: the best by masked ndcg@10 on validation; test figures choose nothing. With one seed, figures have their 95% interval
over users; with several, they are means ± standard deviation over seeds."""

Figures = dict[str, dict[str, dict[str, Any]]]  # by kind and seed: config_hash, and the blocks of validation and test


def augmentation(
    recipe: str,
    data: str,
    seeds: Sequence[int],
    built_from: BuiltFrom | None,
    out: Path,
    *,
    overrides: tuple[str, ...],
    jobs: int,
    dry_run: bool,
) -> None:
    """Train and score ``recipe`` with every kind of augmentation, or what is missing of that, and write it down.

    Args:
        recipe: of a language model, by name or path.
        data: a name of the catalogue, a folder or a file.
        built_from: what tokens are built from in place of what the recipe says.
        overrides: further changes of the recipe, the same for all.
        jobs: how many runs at a time.
        dry_run: show what would be done, and do nothing.

    Raises:
        OovrecError: recipe, data or ``overrides`` are not in order (nothing is written then); runs failed.
        Interrupted: Ctrl-C; the same call goes on.
    """
    _check_comparable(recipe, overrides)
    dataset = Source(source=data).load()
    check_facts(dataset, out)
    source, kinds = Source(source=data).found(dataset), get_args(Augmentation)
    changes = {kind: (*overrides, f"{COMPARED}={kind}") for kind in kinds}
    cells = {
        (kind, seed): Cell.of(recipe, source, seed, built_from, out, variant=kind, overrides=changes[kind])
        for kind in kinds
        for seed in dict.fromkeys(seeds)
    }
    first = next(iter(cells.values())).run
    first.recipe.check_held_out(CHOSEN_BY[0])
    name = f"{called(recipe)}-{first.tokens_from}"
    file = out / dataset.name / f"{name}.json"
    known = _known(file)  # not after hours of work
    if not dry_run and not all(cell.done for cell in cells.values()):
        _check_centroids(first.recipe, dataset)
    failed = fill_cells(list(cells.values()), [dataset], out, jobs=jobs, dry_run=dry_run)
    if dry_run:
        return
    refuse_failed(failed)
    figures = _figures(cells, dataset, known)
    rows = {kind: _row(list(figures[kind].values())) for kind in kinds}
    chosen = max(kinds, key=lambda kind: rows[kind][CHOSEN_BY].value)
    about = {"recipe": name, "dataset": dataset.name, "overrides": list(overrides), "chosen": chosen}
    write_json(file, {**about, "figures": figures})
    heads = ["augmentation", *(f"{metric}, {split}, {block}" for split, block, metric in SHOWN)]
    lines = [[kind + (" ★" if kind == chosen else ""), *map(str, row.values())] for kind, row in rows.items()]
    users = len(dataset.evaluated_users("test"))
    settings = "; ".join([f"{users:,} users", f"seeds: {', '.join(map(str, dict.fromkeys(seeds)))}", *overrides])
    text = f"# {name} on {dataset.name}\n\n{settings}.\n\n{table(heads, lines)}\n\n{LEGEND}\n"
    write_text(file.with_suffix(".md"), text)
    tables.show(tables.grid(dict.fromkeys(heads, "left"), lines), LEGEND, str(file.with_suffix(".md")))


def _check_comparable(recipe: str, overrides: Sequence[str]) -> None:
    """Make sure that the recipe's system has kinds of augmentation, and that ``overrides`` name none.

    Raises:
        OovrecError: it does not, or they do not.
    """
    name = read_recipe(recipe, overrides).system
    if COMPARED.removeprefix("model.") not in system(name).Config.model_fields:
        what = f"the system '{name}' has no option '{COMPARED}'"
        raise OovrecError(what, where=recipe, remedy="give a recipe of a language model, such as metaid-llama")
    if sets(overrides, COMPARED):
        raise OovrecError("is what is compared", where=f"--set {COMPARED}", remedy="leave it out")


def _check_centroids(recipe: Recipe, dataset: Dataset) -> None:
    """Make sure, before hours of work, that tokens stand for vectors: without any, all kinds are the same.

    They are built for that, which may take too long for a dry run.

    Raises:
        OovrecError: they have none.
    """
    assert recipe.tokens is not None
    told = recipe.tokens
    data = dataset.learnt_until(recipe.until)
    made = build_tokens(data, told.method, told.built_from, recipe.seed, told.options)
    if all(table is None or table.centroids is None for table in (made.items, made.users)):
        what = f"tokens of the method '{told.method}' have no centroids, so nothing would differ"
        raise OovrecError(what, where="tokens.method", remedy="compare by others, such as meta")


def _figures(cells: Mapping[tuple[str, int], Cell], dataset: Dataset, known: Figures) -> Figures:
    """The blocks of every cell; validation figures that are known of the same recipe are not made again."""
    figures: Figures = {}
    for (kind, seed), cell in cells.items():
        held = known.get(kind, {}).get(str(seed), {})
        result = read_cell(cell.file)
        fresh = held.get("config_hash") == result.config_hash
        validation = held["validation"] if fresh else _validation(cell, dataset)
        row = {"config_hash": result.config_hash, "validation": validation, "test": result.blocks}
        figures.setdefault(kind, {})[str(seed)] = row
    return figures


def _validation(cell: Cell, dataset: Dataset) -> dict[str, Any]:
    folder, remedy = cell.run.folder, f"remove {cell.file} and run the same command again"
    if not (folder / "model.safetensors").exists():
        raise OovrecError("is gone, and with it what validation figures are made of", where=folder, remedy=remedy)
    run = load_run(folder)
    if run.recipe.hash != cell.run.recipe.hash:
        raise OovrecError(f"holds another training than {cell.file}", where=folder, remedy=remedy)
    return evaluate(run, "validation", dataset).blocks()


def _known(file: Path) -> Figures:
    """Figures of an earlier call."""
    if not file.exists():
        return {}
    try:
        figures: Figures = read_json(file)["figures"]
        for seeds in figures.values():
            _row(list(seeds.values()))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OovrecError("holds no figures of augmentations", where=file, remedy="remove it") from error
    return figures


def _row(seeds: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Figure]:
    return {
        (split, block, metric): Figure.of([one[split][block] for one in seeds], metric)
        for split, block, metric in SHOWN
    }
