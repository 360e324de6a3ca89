"""Options and arguments that several commands have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

import typer

from oovrec.errors import OovrecError

if TYPE_CHECKING:
    from oovrec.app.source import Source

DEFAULT_DATA, DEFAULT_RECIPE = "ml-100k", "metaid-llama"
ROLES = ("user", "item", "time", "rating", "title")  # of columns that options name

DATA = "A name of the catalogue (ml-100k), a folder, a file, or a data file (.yaml) that says how to read one."
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA)]
DataOption = Annotated[str, typer.Option("--data", metavar="DATA", help=DATA)]
MovedData = Annotated[str | None, typer.Option("--data", metavar="DATA", help="Where the run's data lies now.")]
LaterLog = Annotated[str | None, typer.Option("--later", metavar="LOG", help="Test on what came later in a newer log.")]
UserColumn = Annotated[str | None, typer.Option(help="Column of the user ids, where its name is not a usual one.")]
ItemColumn = Annotated[str | None, typer.Option(help="Column of the item ids.")]
TimeColumn = Annotated[str | None, typer.Option(help="Column of the times; '' takes the rows to be in time order.")]
TimeFormat = Annotated[
    str,
    typer.Option(metavar="FORM", help="How times are written, as '%d/%m/%Y %H:%M'; without it their look tells."),
]
RatingColumn = Annotated[str | None, typer.Option(help="Column of the ratings; '' leaves them out.")]
TitleColumn = Annotated[str | None, typer.Option(help="Column of the items' titles; '' leaves them out.")]
KCore = Annotated[
    int | None,
    typer.Option(min=1, help="Keep users and items with at least this many interactions; 5 without it."),
]
Out = Annotated[Path, typer.Option("--out", help="The folder to write; must be new or empty.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change an option ('oovrec recipes RECIPE' has them); repeatable."),
]
SchemeOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change an option of the scheme, as numbers=own; repeatable."),
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
SkipUnknown = Annotated[bool, typer.Option("--skip-unknown", help="Go by the history's known items alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
From = Annotated[Literal["train", "all"] | None, typer.Option("--from", help="'all' shows the tokens held-out items.")]
GivenTokens = Annotated[
    Path | None, typer.Option("--tokens", metavar="DIR", help="Use tokens of 'tokens build' or 'tokens import'.")
]
TokensFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by 'tokens build'.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def check_given(tokens: Path | None, built_from: str | None, overrides: Sequence[str] | None) -> None:
    """That nothing else says how ``tokens`` are to be built.

    Raises:
        OovrecError: ``--from`` or ``--set`` does.
    """
    if tokens is not None and (built_from or any(change.startswith("tokens") for change in overrides or [])):
        remedy = "leave --from and --set tokens.… out, or build others"
        raise OovrecError("these tokens are built already", where=f"--tokens {tokens}", remedy=remedy)


class Reading(NamedTuple):
    """How a log is to be read, as the command line says it; None or '' where it does not."""

    user_column: UserColumn = None
    item_column: ItemColumn = None
    time_column: TimeColumn = None
    rating_column: RatingColumn = None
    title_column: TitleColumn = None
    time_format: TimeFormat = ""
    k_core: KCore = None

    def of(self, data: str) -> Source:
        """The data called so.

        Raises:
            OovrecError: a data file, and what it says given once more.
        """
        from oovrec.app.source import Source
        from oovrec.data.columns import Columns

        *names, time_format, k_core = self
        columns = Columns(**dict(zip(ROLES, names, strict=True)), time_format=time_format)
        return Source.asked_for(data, columns, k_core)


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter ``reading`` is given by an option for each field of :class:`Reading`."""
    whole = inspect.signature(command, eval_str=True)
    types = get_type_hints(Reading, include_extras=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[name])
        for name, default in Reading._field_defaults.items()
    ]
    parameters = [[one] if one.name != "reading" else options for one in whole.parameters.values()]
    told = [one for some in parameters for one in some]

    @wraps(command)
    def given(**values: Any) -> None:
        reading = Reading(**{name: values.pop(name) for name in Reading._fields})
        command(**values, reading=reading)

    given.__annotations__ = {one.name: one.annotation for one in told}
    vars(given)["__signature__"] = whole.replace(parameters=told)
    return given
