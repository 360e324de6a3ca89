"""``oovrec items``: new items for a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oovrec.app.options import AsJson, ItemColumn, Out, RunFolder, TimeColumn, TimeFormat, TitleColumn, UserColumn

items_app = typer.Typer(help="Add new items to a trained run.", no_args_is_help=True)


@items_app.callback()
def items() -> None:
    """Add new items to a trained run."""


@items_app.command("add")
def add(
    run: RunFolder,
    out: Out,
    items: Annotated[
        Path | None,
        typer.Argument(metavar="ITEMS", help="A CSV or TSV table: item, title. Without it all unknown items of --log."),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Histories in which the new items stand beside known ones.")
    ] = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    title_column: TitleColumn = None,
    time_format: TimeFormat = "",
    json: AsJson = False,
) -> None:
    """Name new items for a trained model, which is not trained again; columns and the form of times are --log's."""
    from dataclasses import asdict

    from oovrec.app import tables
    from oovrec.app.additions import add_items
    from oovrec.app.runs import load_run
    from oovrec.data.columns import Columns

    columns = Columns(user=user_column, item=item_column, time=time_column, title=title_column, time_format=time_format)
    added, placed = add_items(load_run(run), items, out, log=log, columns=columns)
    if json:
        tables.show_json([asdict(item) for item in placed])
    else:
        tables.show(tables.placed(placed), str(added.folder))
