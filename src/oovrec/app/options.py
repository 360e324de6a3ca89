"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from oovrec.app.source import Source

DEFAULT_DATA, DEFAULT_RECIPE = "ml-100k", "metaid-llama"

DATA = "A name of the catalogue (ml-100k), a folder, a file, or a data file (.yaml) that says how to read one."
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA)]
DataOption = Annotated[str, typer.Option("--data", metavar="DATA", help=DATA)]
MovedData = Annotated[str | None, typer.Option("--data", metavar="DATA", help="Where the run's data lies now.")]
UserColumn = Annotated[str | None, typer.Option(help="Column of the user ids, where its name is not a usual one.")]
ItemColumn = Annotated[str | None, typer.Option(help="Column of the item ids.")]
TimeColumn = Annotated[str | None, typer.Option(help="Column of the times; '' takes the rows to be in time order.")]
RatingColumn = Annotated[str | None, typer.Option(help="Column of the ratings; '' leaves them out.")]
TitleColumn = Annotated[str | None, typer.Option(help="Column of the items' titles; '' leaves them out.")]
KCore = Annotated[
    int | None,
    typer.Option(min=1, help="Keep users and items with at least this many interactions; 5 without it."),
]
Out = Annotated[Path, typer.Option("--out", help="The folder to write; must be new or empty.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change an option; as often as you like.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random choice; without it the recipe's.")]
Backbone = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of 'model get', a shape to train from scratch, a folder or a hub name."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out where it stopped.")]
HowMany = Annotated[int, typer.Option("-k", min=1, help="How many.")]
MaskSeen = Annotated[
    bool, typer.Option("--mask-seen/--no-mask-seen", help="Leave the history's own items out, or not.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
From = Annotated[Literal["train", "all"] | None, typer.Option("--from", help="'all' shows the tokens held-out items.")]
TokensFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by 'tokens build'.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def source_of(
    data: str,
    user: str | None,
    item: str | None,
    time: str | None,
    rating: str | None,
    title: str | None,
    k_core: int | None,
) -> Source:
    """The data that these options speak of.

    Raises:
        OovrecError: a data file, and what it says given once more.
    """
    from oovrec.app.source import Source
    from oovrec.data.columns import Columns

    return Source.asked_for(data, Columns(user=user, item=item, time=time, rating=rating, title=title), k_core)
