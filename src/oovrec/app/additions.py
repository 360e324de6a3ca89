"""New items for a trained language model, which learns nothing anew: its run with their names, in another folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from rich.markup import escape

from oovrec.app.folders import begin, check_free
from oovrec.app.new_items import read_new
from oovrec.app.runs import Run, load_run
from oovrec.data.columns import Columns
from oovrec.errors import OovrecError, within
from oovrec.files import atomic_folder
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.growth import grown
from oovrec.progress import say
from oovrec.tokens.build import check_scheme
from oovrec.tokens.cold import Around, Described, Evidence, blended, evidence, extended, in_place, surroundings
from oovrec.tokens.table import Tokens


@dataclass(frozen=True)
class Placed:
    """A new item and the name it got.

    Attributes:
        id, title: the item's.
        tokens: its name.
        by: what told where it belongs.
        beside: the first known item of its cluster; of an item that stands alone the nearest.
    """

    id: str
    title: str
    tokens: str
    by: Evidence
    beside: str


def add_items(
    run: Run,
    items: str | Path | None,
    out: str | Path,
    *,
    log: str | Path | None = None,
    columns: Columns | None = None,
) -> tuple[Run, list[Placed]]:
    """Name new items for the run's model, and keep the model with them as a run of its own.

    Nothing is trained: weights and the names there are stay as they are. Results of the new run say how many items
    were added, and how. Items of which nothing tells where they belong are left out, with a note.

    Args:
        items: a table of the new items, as :func:`oovrec.app.new_items.read_items` takes it; None takes every
            item of ``log`` that the run lacks.
        out: the new run's folder.
        log: histories, new and known items together, in any form that data may have.
        columns: which column of ``log`` is what, where the names are not usual ones.

    Raises:
        OovrecError: an item that the run knows, or no item that can be placed; a file that is broken; a model without
            tokens, or whose tokens do not stand for like items or are of a scheme that is not installed; the folder is
            in use. Nothing is written then.
    """
    folder = Path(out)
    check_free(folder)
    model = run.model
    known = model.entities
    if not isinstance(model, GenerativeRecommender) or known.tokens is None:
        what = f"the system '{model.name}' names items by no tokens, so none can be added to it"
        raise OovrecError(what, where=run.folder, remedy="train it again with the new items")
    method = known.tokens.method
    with within(run.folder):
        check_scheme(known.tokens)
        kinds = evidence(method)
    new, histories = read_new(known.items, items, log, columns)
    described = Described(known.items, known.titles, known.attributes)
    told_of = in_place(known.tokens.items)
    if any(new.attributes or []) and known.attributes is None:
        say(escape(f"note: {run.folder} knows no attributes, so those of the new items say nothing"))
    with within(run.folder):
        near = surroundings(method, described, new, histories, told_of)
    new, around = _placeable(new, near, described if "words" in kinds else None)
    with within(run.folder):
        served, placed = with_items(model, run.folder, new, around)
    with atomic_folder(folder) as temporary:
        served.save(temporary)
        begin(replace(run, folder=temporary), 0.0)
    return load_run(folder), placed


def _placeable(new: Described, around: list[Around | None], known: Described | None) -> tuple[Described, list[Around]]:
    """The new items of which it is known where they belong; says which is the first that is left out.

    Args:
        known: the run's items, where what they are called tells anything.

    Raises:
        OovrecError: there is none.
    """
    rows = [row for row, one in enumerate(around) if one is not None]
    lost = [item for item, one in zip(new.ids, around, strict=True) if one is None]
    what = f"nothing tells where {len(lost):,} of the {len(new.ids):,} new items belong" if lost else ""
    titles = "a title that shares a word" if known and any(known.titles or []) else ""
    attributes = "attributes that it shares" if known and any(known.attributes or []) else ""
    texts = " or ".join(filter(None, [titles, attributes]))
    shared = f"give each {texts} with a known item's, or " if texts else "give "
    remedy = f"{shared}a --log in which known items stand near it"
    if not rows:
        raise OovrecError(what, remedy=remedy)
    if lost:
        say(escape(f"note: {what}, '{lost[0]}' first, and these are left out; {remedy}"))
    return new.take(rows), [one for one in around if one is not None]


def with_items(
    model: GenerativeRecommender, folder: Path, new: Described, around: list[Around]
) -> tuple[GenerativeRecommender, list[Placed]]:
    """The same model over a larger catalogue.

    Args:
        folder: of the model's run.
        new: the items to add; they come after those there are.
        around: what surrounds each.
    """
    known = model.entities
    assert known.tokens is not None
    if model.config.spelling == "pieces":  # a twin has no row of its own that could be a copy
        around = [replace(part, own=0) for part in around]
    details, named = known.tokens.details, known.tokens.items
    twins: dict[str, str] = {}
    if named.depth == 1 and named.stands_alone:
        table, shares = blended(named, new.ids, around, model.item_rows()[:, 0])
    else:
        table, twins = extended(named, new.ids, around, known.tokens.seed, details.get("twins"))
        shares = {twin: {number: 1.0} for twin, number in twins.items()}
    told = Counter(part.by for part in around) + Counter(details.get("added", {}))
    tokens = replace(known.tokens, items=table, details={**details, "added": dict(told), "twins": twins})
    larger = grown(model, _larger(known, new, tokens), folder, shares)
    return larger, [_placed(larger.entities, len(known.items) + row, part) for row, part in enumerate(around)]


def _larger(known: Entities, new: Described, tokens: Tokens) -> Entities:
    titles, attributes = known.titles, known.attributes
    if titles is not None or new.titles is not None:
        titles = [*(titles or [""] * len(known.items)), *(new.titles or [""] * len(new.ids))]
    if attributes is not None:
        attributes = [*attributes, *(tuple(numbers) for numbers in new.attributes or [()] * len(new.ids))]
    items = [*known.items, *new.ids]
    return replace(known, items=items, titles=titles, attributes=attributes, tokens=tokens)


def _placed(entities: Entities, item: int, around: Around) -> Placed:
    assert entities.tokens is not None
    table, titles = entities.tokens.items, entities.titles or [""] * len(entities.items)
    path = len(table.words(item)) - 1
    if path:
        first = int((table.codes[:, :path] == table.codes[item, :path]).all(axis=1).argmax())
    else:
        first = int(around.items[around.weights.argmax()])
    return Placed(
        entities.items[item], titles[item], table.text(item), around.by, titles[first] or entities.items[first]
    )
