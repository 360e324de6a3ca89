"""The commands of ``oovrec tokens``. Rooms are imported inside, as in :mod:`oovrec.app.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from oovrec.app.options import (
    AsJson,
    DataArgument,
    Out,
    Reading,
    SchemeOptions,
    TokensFolder,
    reads_data,
)

tokens_app = typer.Typer(help="Build, judge, audit and draw out-of-vocabulary tokens.", no_args_is_help=True)


@tokens_app.command("build")
@reads_data
def tokens_build(
    data: DataArgument,
    out: Out,
    method: Annotated[str, typer.Option(help="The scheme: meta, metavec, random, semantic, …")] = "meta",
    built_from: Annotated[Literal["train", "all"], typer.Option("--from", help="'all' sees held-out items.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    overrides: SchemeOptions = None,
    *,
    reading: Reading,
) -> None:
    """Build a folder of tokens: item_tokens.tsv, user_tokens.tsv, tokens.json."""
    from oovrec.app import pipeline, tables
    from oovrec.app.recipe import apply_override

    options: dict[str, Any] = {}
    for override in overrides or []:
        apply_override(options, override)
    source = reading.of(data)
    tokens, dataset = pipeline.build(source, out, method, built_from, seed, options)
    tables.show(tables.tokens(tokens, dataset))


@tokens_app.command("import")
@reads_data
def tokens_import(
    data: DataArgument,
    items: Annotated[Path, typer.Option(metavar="FILE", help="Item tokens: a line an id.")],
    out: Out,
    users: Annotated[Path | None, typer.Option(metavar="FILE", help="User tokens, if there are any.")] = None,
    built_from: Annotated[
        Literal["train", "all"], typer.Option("--from", help="'train' says that they saw no held-out item.")
    ] = "all",
    method: Annotated[str, typer.Option(help="What to call them.")] = "imported",
    *,
    reading: Reading,
) -> None:
    """Make a folder of tokens of files that somebody else made, to train on."""
    from oovrec.app import pipeline, tables

    tokens, dataset = pipeline.take_in(reading.of(data), out, items, users, built_from, method)
    tables.show(tables.tokens(tokens, dataset))


@tokens_app.command("score")
@reads_data
def tokens_score(
    tokens: TokensFolder,
    data: DataArgument,
    *,
    reading: Reading,
    json: AsJson = False,
) -> None:
    """How well tokens keep what the interactions say (MS, DS, lift on held-out items)."""
    from oovrec.app import pipeline, tables
    from oovrec.tokens.quality import score
    from oovrec.tokens.table import Tokens

    built = Tokens.load(tokens)
    dataset = reading.of(data).load()
    pipeline.warn_of_other_data(built, dataset)
    quality = score(built, dataset)
    if json:
        tables.show_json({"tokens_from": built.seen, **quality.to_json()})
    else:
        tables.show(tables.quality(quality, built.seen))


@tokens_app.command("audit")
@reads_data
def tokens_audit(
    data: DataArgument,
    items: Annotated[
        Path, typer.Option(metavar="FILE", help="Item tokens: a line an id, or a whole folder of 'tokens build'.")
    ],
    users: Annotated[Path | None, typer.Option(metavar="FILE", help="User tokens, if there are any.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write audit.json and audit.png to this new folder.")] = None,
    *,
    reading: Reading,
    json: AsJson = False,
) -> None:
    """Did tokens, whoever made them, see held-out interactions? The exit code is 0 either way."""
    from oovrec.app import audit, tables
    from oovrec.app.folders import check_free

    if out is not None:
        check_free(out)
    dataset = reading.of(data).load()
    found = audit.run(dataset, items, users, out)
    if json:
        tables.show_json(found.to_json())
    else:
        tables.show(*audit.tables(found))


@tokens_app.command("report")
@reads_data
def tokens_report(
    tokens: TokensFolder,
    data: DataArgument,
    out: Out,
    *,
    reading: Reading,
) -> None:
    """Draw tokens: a page with a map of the clusters, their items and what is near them."""
    from oovrec.app.folders import check_free
    from oovrec.app.tokens_report import write_tokens_report
    from oovrec.tokens.table import Tokens

    check_free(out)
    built = Tokens.load(tokens)
    dataset = reading.of(data).load()
    typer.echo(write_tokens_report(built, dataset, out))
