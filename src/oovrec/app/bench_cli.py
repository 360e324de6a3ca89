"""The commands of ``oovrec bench``. Rooms are imported inside, as in :mod:`oovrec.app.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oovrec.app.options import (
    DATA,
    DEFAULT_DATA,
    DEFAULT_RECIPE,
    AsJson,
    DataOption,
    From,
    GivenTokens,
    Overrides,
    check_given,
)
from oovrec.app.words import Spread

bench_app = typer.Typer(help="Fill the table of results; check reported figures.", no_args_is_help=True)


@bench_app.command("results", cls=Spread)
def bench_results(
    systems: Annotated[list[str] | None, typer.Option(help="Recipes; without it all that are shipped.")] = None,
    datasets: Annotated[list[str], typer.Option(metavar="DATA", help=DATA)] = [DEFAULT_DATA],  # noqa: B006
    seeds: Annotated[list[int], typer.Option(min=0, help="Seeds of every random choice.")] = [0],  # noqa: B006
    built_from: From = None,
    out: Annotated[Path, typer.Option(help="The folder of results.")] = Path("results"),
    published: Annotated[
        Path | None, typer.Option(metavar="TABLE.json", help="Figures as {system: {dataset: {metric: value}}}.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many runs at a time; threads are divided among them.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done and how long it takes.")] = False,
) -> None:
    """Fill results/: what is done is skipped, what broke off goes on; then the table and its chart."""
    from oovrec.app.bench import results
    from oovrec.app.recipe import shipped

    results(
        systems or list(shipped()), datasets, seeds, built_from, out, published=published, jobs=jobs, dry_run=dry_run
    )


@bench_app.command("cell")
def bench_cell(
    recipe: Annotated[str, typer.Argument(help="Its name, or a file.")],
    data: DataOption = DEFAULT_DATA,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of results.")] = Path("results"),
    built_from: From = None,
    tokens: GivenTokens = None,
    variant: Annotated[
        str, typer.Option(help="Names the row, where --set or --tokens makes it another than the recipe's.")
    ] = "",
    overrides: Overrides = None,
    retrained: Annotated[
        bool, typer.Option("--retrained", help="And that of the same run, retrained until the test.")
    ] = False,
) -> None:
    """Fill one cell of the table, of a recipe or a variant of it, as 'bench results' does for each."""
    from oovrec.app.cells import Cell, fill
    from oovrec.app.processes import live_with_parent
    from oovrec.app.source import Source
    from oovrec.tokens.table import Tokens

    live_with_parent()
    check_given(tokens, built_from, overrides)
    given = None if tokens is None else Tokens.load(tokens)
    source = Source(source=data)
    dataset = source.load()
    changes, source = tuple(overrides or ()), source.found(dataset)
    cell = Cell.of(recipe, source, seed, built_from, out, variant=variant, overrides=changes, tokens=given)
    if retrained:
        cell.run.recipe.check_held_out("validation")  # by which it is told how long
    fill(cell, dataset)
    if retrained:
        fill(cell.retrained(), dataset)


@bench_app.command("augmentation", cls=Spread)
def bench_augmentation(
    recipe: Annotated[str, typer.Option(help="A recipe of a language model.")] = DEFAULT_RECIPE,
    data: DataOption = DEFAULT_DATA,
    seeds: Annotated[list[int], typer.Option(min=0, help="Seeds of every random choice.")] = [0],  # noqa: B006
    built_from: From = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The folder of results.")] = Path("results/augmentation"),
    jobs: Annotated[int, typer.Option(min=1, help="How many runs at a time; threads are divided among them.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done and how long it takes.")] = False,
) -> None:
    """Train a recipe with each kind of augmentation; what is done is skipped, what broke off goes on."""
    from oovrec.app.ablation import augmentation

    changes = tuple(overrides or ())
    augmentation(recipe, data, seeds, built_from, out, overrides=changes, jobs=jobs, dry_run=dry_run)


@bench_app.command("tune", cls=Spread)
def bench_tune(
    recipes: Annotated[list[str], typer.Option(help="Recipes with a 'search' section.")],
    datasets: Annotated[list[str], typer.Option(metavar="DATA", help=DATA)] = [DEFAULT_DATA],  # noqa: B006
    trials: Annotated[int, typer.Option(min=1, help="Trainings of each, the recipe as it is included.")] = 12,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each and of what is kept; else the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of the searches' logs.")] = Path("results/tuning"),
) -> None:
    """Search a recipe's settings by validation figures alone; an interrupted search goes on."""
    from oovrec.app.tuning import tune

    tune(recipes, datasets, trials, epochs, seed, out)


@bench_app.command("check")
def bench_check(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE.json", help="Figures as {system: {dataset: {metric: value}}}.")
    ],
    json: AsJson = False,
) -> None:
    """Name reported hit@k and ndcg@k that cannot all be right."""
    from oovrec.app import tables
    from oovrec.app.consistency_table import consistency
    from oovrec.evaluation.consistency import check_table

    report = check_table(table)
    if json:
        tables.show_json(report.to_json())
    else:
        tables.show(*consistency(report))
