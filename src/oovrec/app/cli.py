"""The command line. Rooms are imported inside the commands, so that ``--help`` comes at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from oovrec import __version__
from oovrec.app.bench_cli import bench_app
from oovrec.app.exits import Commands
from oovrec.app.items_cli import items_app
from oovrec.app.options import (
    DEFAULT_DATA,
    DEFAULT_RECIPE,
    AsJson,
    Backbone,
    DataArgument,
    DataOption,
    From,
    GivenTokens,
    HowMany,
    ItemColumn,
    LaterLog,
    MaskSeen,
    MovedData,
    Out,
    Overrides,
    Reading,
    Resume,
    RunFolder,
    Seed,
    SkipUnknown,
    TimeColumn,
    TimeFormat,
    UserColumn,
    check_given,
    reads_data,
)
from oovrec.app.tokens_cli import tokens_app
from oovrec.app.waiting import spin_briefly
from oovrec.memory import keep_freed

if TYPE_CHECKING:
    from oovrec.app.recipe import Recipe

spin_briefly()
keep_freed()

ID = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|\Z)')  # of a list, in quotes or bare

app = typer.Typer(
    cls=Commands,
    help="Recommendations by a language model whose vocabulary has words for every user and item.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Look at data, or fetch a named dataset.", no_args_is_help=True)
model_app = typer.Typer(help="Fetch a pretrained language model.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")
app.add_typer(tokens_app, name="tokens")
app.add_typer(items_app, name="items")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Options that stand before any command."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
@reads_data
def run(
    data: DataOption = DEFAULT_DATA,
    out: Out = Path("runs/run"),
    recipe: Annotated[str, typer.Option(help="Of 'oovrec recipes', or a YAML file.")] = DEFAULT_RECIPE,
    built_from: From = None,
    backbone: Backbone = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = False,
    *,
    reading: Reading,
) -> None:
    """The main job: tokens, a model, baselines, honest figures, a report."""
    from oovrec.app import tables
    from oovrec.app.comparison import compare
    from oovrec.app.verdict import headline, verdict

    source = reading.of(data)
    report = compare(_recipe(recipe, overrides, seed, built_from, backbone), source, out, resume=resume)
    tables.show(*tables.metrics(report.systems), *map(tables.example, report.examples))
    tables.show(" ".join([headline(report), verdict(report)]).strip(), f"report: {out / 'report.html'}")


@app.command()
def recipes(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Its options in full.")] = None,
    overrides: Overrides = None,
) -> None:
    """The shipped recipes, or one with every option that --set may change, in the form of a recipe file."""
    import yaml

    from oovrec.app import tables
    from oovrec.app.recipe import explained, read_recipe, shipped

    if recipe is None:
        tables.show(tables.grid({"recipe": "left", "what": "left"}, [(name, explained(name)) for name in shipped()]))
    else:
        typer.echo(yaml.safe_dump(read_recipe(recipe, overrides or []).in_full(), sort_keys=False), nl=False)


@app.command()
@reads_data
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Of 'oovrec recipes', or a YAML file.")],
    out: Out,
    data: DataOption = DEFAULT_DATA,
    tokens: GivenTokens = None,
    built_from: From = None,
    backbone: Backbone = None,
    seed: Seed = None,
    overrides: Overrides = None,
    resume: Resume = False,
    *,
    reading: Reading,
) -> None:
    """Train one recipe's model and keep it in a run folder."""
    from oovrec.app import pipeline

    check_given(tokens, built_from, overrides)
    source = reading.of(data)
    chosen = _recipe(recipe, overrides, seed, built_from, backbone)
    trained = pipeline.train(chosen, source, out, tokens=tokens, resume=resume)
    typer.echo(trained.folder)


@app.command()
def retrain(
    run: RunFolder,
    out: Out,
    until: Annotated[
        Literal["test", "end"], typer.Option(help="The 'end' is for use; what learns until the 'test' can be tested.")
    ] = "end",
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="A newer log, of the same form as the run's.")
    ] = None,
    resume: Resume = False,
) -> None:
    """Train a run's recipe anew on what was held out too, for as many epochs as validation chose."""
    from oovrec.app.retraining import retrain

    typer.echo(retrain(run, out, until=until, data=data, resume=resume).folder)


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[Literal["validation", "test"], typer.Option(help="Which held-out items.")] = "test",
    data: MovedData = None,
    users: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of so many users, drawn at random, and not kept; all, for 0 or where there are no more.",
            show_default=False,
        ),
    ] = 0,
    later: LaterLog = None,
    json: AsJson = False,
) -> None:
    """Rank every user's held-out item among the whole catalogue."""
    from oovrec.app import pipeline, tables
    from oovrec.app.comparison import report
    from oovrec.app.report_data import SystemRow
    from oovrec.app.runs import load_run
    from oovrec.errors import OovrecError

    if later is not None and split == "validation":
        raise OovrecError("what came later is a test", where="--split", remedy="give one of --split and --later")
    trained = load_run(run)
    if later is None:
        dataset = trained.dataset(data).sampled(users)
        name, said = dataset.name, [trained.recipe.notice]
        evaluation = pipeline.evaluate(trained, split, dataset)
        if split == "test" and not dataset.sample:
            report(trained, dataset)
            said.append(f"report: {run / 'report.html'}")
    else:
        from oovrec.app.later import log_name

        evaluation = trained.evaluate_later(later, data, users)
        name, said = log_name(later), []
    if json:
        tables.show_json({**pipeline.result(trained, evaluation).flat(), "dataset": name})
    else:
        shown = tables.metrics([SystemRow.of(trained.label, trained.tokens_from_in(evaluation), evaluation)])
        tables.show(*shown, *filter(None, said))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Finished runs of one dataset.")],
    data: MovedData = None,
    later: LaterLog = None,
    json: AsJson = False,
) -> None:
    """Runs side by side, seeds of a system as one, and the first system's lead over each other, user by user."""
    from oovrec.app import leads, tables

    contenders = leads.compare(runs, data, later=later)
    if json:
        tables.show_json([contender.to_json() for contender in contenders])
    else:
        tables.show(*tables.leads(contenders, leads.notes(contenders)))


@app.command()
def recommend(
    run: RunFolder,
    user: Annotated[str | None, typer.Option(help="A user of the run's data.")] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="I,I,...", help='Item ids, oldest first; one with commas or outer spaces in "quotes".'),
    ] = None,
    k: HowMany = 10,
    data: MovedData = None,
    mask_seen: MaskSeen = True,
    skip_unknown: SkipUnknown = False,
    json: AsJson = False,
) -> None:
    """The next items for a user, or after a history given by hand (which needs no data)."""
    from dataclasses import asdict

    from oovrec.app import tables
    from oovrec.app.runs import load_run

    ids = None if history is None else _ids(history)
    best = load_run(run).recommend(
        user=user, history=ids, k=k, data=data, mask_seen=mask_seen, skip_unknown=skip_unknown
    )
    if json:
        tables.show_json([asdict(item) for item in best])
    else:
        tables.show(tables.recommendations(best))


@app.command()
def batch(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The new file, .parquet or .csv.")],
    k: HowMany = 10,
    log: Annotated[
        str | None,
        typer.Option(metavar="LOG", help="Histories to go by in place of the run's data; their users may be new."),
    ] = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = "",
    data: MovedData = None,
    mask_seen: MaskSeen = True,
) -> None:
    """The next items for everybody, into a file; what broke off goes on."""
    from oovrec.app.batch import batch as write
    from oovrec.app.runs import load_run
    from oovrec.data.columns import Columns

    columns = Columns(user=user_column, item=item_column, time=time_column, time_format=time_format)
    typer.echo(write(load_run(run), out, k=k, log=log, columns=columns, data=data, mask_seen=mask_seen))


@app.command()
def serve(
    run: RunFolder,
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 is every one of the machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    data: MovedData = None,
) -> None:
    """Recommendations over HTTP, and a page to try them."""
    from oovrec.app.runs import load_run
    from oovrec.app.serve import serve as listen

    listen(load_run(run), host, port, data)


@app.command()
def export(run: RunFolder, out: Out) -> None:
    """A language model's run as a plain transformers checkpoint and tokenizer."""
    from oovrec.app.export import export as write

    typer.echo(write(run, out))


@data_app.command("show")
@reads_data
def data_show(
    data: DataArgument,
    *,
    reading: Reading,
    json: AsJson = False,
) -> None:
    """Counts, dates, splits, and what in the data would make figures mislead."""
    from oovrec.app import tables
    from oovrec.data.checks import inspect

    report = inspect(reading.of(data).load())
    if json:
        tables.show_json(report.to_json())
    else:
        tables.show(*tables.dataset(report))


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue.")]) -> None:
    """Fetch a named dataset into the cache and print where it is."""
    from oovrec.data import catalog

    typer.echo(catalog.get(name))


@model_app.command("get")
def model_get(name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue.")]) -> None:
    """Fetch a named language model into the cache, as a folder for transformers, and print where it is."""
    from oovrec.models import backbones

    typer.echo(backbones.get(name))


def _ids(row: str) -> list[str]:
    """The ids of a row of CSV; spaces around one are not its own unless they are in its quotes."""
    ids = ((quoted or "").replace('""', '"') or bare for quoted, bare in ID.findall(row))
    return [name for name in ids if name]


def _recipe(
    name: str, overrides: list[str] | None, seed: int | None, built_from: str | None, backbone: str | None
) -> Recipe:
    """The recipe with what the command line changes; options of their own come after ``--set``."""
    from oovrec.app.recipe import read_recipe

    own = [f"seed={seed}"] if seed is not None else []
    own += [f"tokens.from={built_from}"] if built_from is not None else []
    return read_recipe(name, [*(overrides or []), *own], backbone)
