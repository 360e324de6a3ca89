"""The table of results: our figures beside published ones, as Markdown between two marks of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from oovrec.app.cells import AGAIN, NAME, read_cells, recipe_of
from oovrec.app.facts import FACTS, read_facts
from oovrec.app.recipe import Recipe, shipped
from oovrec.errors import OovrecError
from oovrec.evaluation.consistency import Finding, check_table
from oovrec.evaluation.results import BLOCKS, Result, TokensFrom
from oovrec.files import read_json, read_text, write_text
from oovrec.models.base import system as kind

BEGIN, END = "<!-- table of 'oovrec bench results': begin -->", "<!-- table of 'oovrec bench results': end -->"
FIRST = ("hit@10", "ndcg@10")
COMPARED = (*FIRST, "hit@5", "ndcg@5")
OTHER_BLOCKS = {"masked": "masked", "later_day_raw": "later day, raw", "later_day_masked": "later day, masked"}
HEADING = "# Measured figures\n\n"
LEGEND = """\
With one seed, figures have their 95% interval over users; with several, they are means ± standard deviation over seeds.
*raw*: every item is a candidate; *masked*: the history's own items are not; *later day*: only targets of a later day
than the item before them. *tokens from* `all` saw held-out items; `none`: no tokens."""
PUBLISHED_LEGEND = """\
Published figures are raw or of unknown masking; the ratio in brackets is our raw figure over the published one. ★: the
published row's figures cannot all be true, and this is the one most likely wrong."""
STALE_LEGEND = "†: of an earlier version of the recipe."
RETRAINED_LEGEND = """\
‡: learnt from what validates too; `-retrained` for as many epochs as served the row without that best."""
APART_LEGEND = "Rows of one name and the same tokens differ in their settings."
APART = "*not comparable: their tokens have seen held-out items*"


@dataclass(frozen=True)
class Figure:
    """One figure: with one seed its 95% interval, with several the standard deviation over them."""

    value: float
    low: float
    high: float
    seeds: int = 1

    @classmethod
    def of(cls, blocks: Sequence[Mapping[str, Any]], metric: str) -> Figure:
        """From one block a seed."""
        values = [block[metric] for block in blocks]
        if len(values) == 1:
            return cls(values[0], *blocks[0]["ci"][metric])
        middle, spread = mean(values), stdev(values)
        return cls(middle, middle - spread, middle + spread, len(values))

    def __str__(self) -> str:
        if self.seeds == 1:
            return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.value:.4f} ± {self.high - self.value:.4f}"


@dataclass(frozen=True)
class Row:
    """A system's figures on a dataset.

    Attributes:
        system: the recipe's name.
        published: what its row in tables of published figures is spelled like.
        tokens_from: what its tokens were built from.
        seeds: how many were run.
        stale: they are of an earlier version of the recipe.
        blocks: figures by block and metric.
        retrained: they are of models that learnt from what validates too.
    """

    system: str
    published: str
    tokens_from: TokensFrom
    seeds: int
    stale: bool
    blocks: dict[str, dict[str, Figure]]
    retrained: bool = False

    @property
    def leaky(self) -> bool:
        """Whether its tokens have seen held-out items, so that it compares with no row whose have not."""
        return self.tokens_from == "all"


@dataclass(frozen=True)
class Published:
    """A table of published figures.

    Attributes:
        figures: by system, dataset and metric.
        findings: what of it cannot be right.
    """

    figures: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    findings: Sequence[Finding] = ()

    @classmethod
    def read(cls, path: Path) -> Published:
        """Read ``{system: {dataset: {metric: value}}}``, as it is or under ``results``.

        Raises:
            OovrecError: as :func:`check_table`; or it is nested in another way.
        """
        findings, values = check_table(path).findings, read_json(path)
        figures = inner if isinstance(inner := values.get("results"), dict) else values
        for system, datasets in figures.items():
            if isinstance(datasets, dict) and not all(isinstance(row, dict) for row in datasets.values()):
                remedy = "give a table such as {system: {dataset: {metric: value}}}"
                raise OovrecError("holds figures without a dataset", where=f"{path}, {system}", remedy=remedy)
        return cls({system: rows for system, rows in figures.items() if isinstance(rows, dict)}, findings)

    def place(self, row: Row, dataset: str) -> tuple[str, str] | None:
        """The row's system and dataset as the table spells them; None where it lacks them."""
        for system, datasets in self.figures.items():
            for name in datasets:
                if (_plain(system), name.lower()) == (_plain(row.published), dataset.lower()):
                    return system, name
        return None

    def figure(self, row: Row, dataset: str, metric: str) -> float | None:
        """The published figure, if there is one."""
        place = self.place(row, dataset)
        return self.figures[place[0]][place[1]].get(metric) if place else None

    def finding(self, row: Row, dataset: str) -> Finding | None:
        """What is wrong with the published row."""
        place = self.place(row, dataset)
        return next((finding for finding in self.findings if finding.place == place), None)

    def starred(self, row: Row, dataset: str, metric: str) -> bool:
        """Whether this figure is the one most likely wrong; where no single one can be, all of the row are."""
        finding = self.finding(row, dataset)
        return finding is not None and metric in ([one.metric for one in finding.suspects[:1]] or [metric])


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def read_rows(out: Path, recipes: Mapping[str, str]) -> dict[str, list[Row]]:
    """Every dataset's rows, the best masked ndcg@10 first; behind them those that have seen held-out items.

    Args:
        recipes: the path of each recipe that is not shipped, by the name that its files bear.

    Raises:
        OovrecError: a file is broken.
    """
    known = {**{name: name for name in shipped()}, **recipes}
    grouped: dict[tuple[str, str, TokensFrom], list[Result]] = {}
    for path, result in read_cells(out).items():
        if name := NAME.fullmatch(path.name):
            grouped.setdefault((result.dataset, name["system"], result.tokens_from), []).append(result)
    rows: dict[str, list[Row]] = {}
    for (dataset, system, _), results in grouped.items():
        rows.setdefault(dataset, []).extend(_rows(system, known.get(system.removesuffix(AGAIN)), results))
    return {
        dataset: sorted(found, key=lambda row: (row.leaky, -row.blocks["masked"]["ndcg@10"].value))
        for dataset, found in rows.items()
    }


def _rows(system: str, recipe: str | None, results: list[Result]) -> list[Row]:
    """Seeds of today's recipe as one row; where there are none, or it is a variant, those of like settings as one."""
    first = results[0]
    built_from = None if first.tokens_from == "none" else first.tokens_from
    published = None
    if recipe is not None:
        published = None if system.endswith(AGAIN) else recipe_of(recipe, 0, None).published
        if fresh := [one for one in results if _is_of(one, recipe_of(recipe, one.seed, built_from))]:
            return [_row(system, published, fresh, stale=False)]
    alike: dict[str, list[Result]] = {}
    for one in results:
        alike.setdefault(one.settings_hash, []).append(one)
    return [_row(system, published, found, stale=recipe is not None) for found in alike.values()]


def _is_of(result: Result, recipe: Recipe) -> bool:
    """Whether it is of today's recipe; retrained, for whatever number of epochs."""
    if result.until == recipe.until:
        return result.config_hash == recipe.hash
    return result.settings_hash == recipe.model_copy(update={"until": result.until}).settings_hash


def _row(system: str, published: str | None, results: list[Result], *, stale: bool) -> Row:
    """The row of results that differ in their seed alone."""
    first = results[0]
    carried = first.tokens_from != "none" and kind(first.system).token_use != "needed"  # tokens, for their vectors
    plain = not carried and first.until == "validation"
    blocks = {
        block: {metric: Figure.of([one.blocks[block] for one in results], metric) for metric in COMPARED}
        for block in BLOCKS
        if all(block in one.blocks for one in results)
    }
    spelled = published or (first.system if plain else system)
    return Row(system, spelled, first.tokens_from, len(results), stale, blocks, first.until != "validation")


def markdown(rows: Mapping[str, list[Row]], published: Published, out: Path) -> str:
    """The table: two tables a dataset, one of raw figures beside published ones, one of the other blocks."""
    legend = [LEGEND, *([PUBLISHED_LEGEND] if published.figures else [])]
    legend += [STALE_LEGEND] if any(row.stale for found in rows.values() for row in found) else []
    legend += [RETRAINED_LEGEND] if any(row.retrained for found in rows.values() for row in found) else []
    legend += [APART_LEGEND] if any(map(_split, rows.values())) else []
    parts = ["\n".join(legend), *(_section(dataset, found, published, out) for dataset, found in rows.items())]
    return "\n\n".join(parts)


def _split(rows: list[Row]) -> bool:
    """Whether a system has several rows."""
    return len({(row.system, row.tokens_from) for row in rows}) < len(rows)


def _section(dataset: str, rows: list[Row], published: Published, out: Path) -> str:
    facts = out / dataset / FACTS
    counts = [str(read_facts(facts))] if facts.exists() else []
    findings = {row.system: finding for row in rows if (finding := published.finding(row, dataset))}
    notes = [f"★ {finding.place[0]}: {finding.reason}." for finding in findings.values()]
    parts = [f"### {dataset}", *counts, _raw(dataset, rows, published), *dict.fromkeys(notes), _others(rows)]
    return "\n\n".join(parts)


def _raw(dataset: str, rows: list[Row], published: Published) -> str:
    heads, lines = ["system", "tokens from", "seeds"], []
    compared = any(published.place(row, dataset) for row in rows)
    for metric in COMPARED:
        heads += [f"{metric}, raw", *(["published, raw or unknown masking"] if compared else [])]
    for row in rows:
        cells = _names(row)
        for metric in COMPARED:
            cells += [str(row.blocks["raw"][metric])]
            cells += [_beside(row, dataset, metric, published)] if compared else []
        lines.append(cells)
    return table(heads, _set_apart(rows, lines))


def _beside(row: Row, dataset: str, metric: str, published: Published) -> str:
    """The published figure, its star and the ratio."""
    figure = published.figure(row, dataset, metric)
    if figure is None:
        return ""
    star = " ★" if published.starred(row, dataset, metric) else ""
    return f"{figure:.4f}{star}" + (f" ({row.blocks['raw'][metric].value / figure:.2f}×)" if figure else "")


def _others(rows: list[Row]) -> str:
    blocks = [block for block in OTHER_BLOCKS if any(block in row.blocks for row in rows)]
    heads = [f"{metric}, {OTHER_BLOCKS[block]}" for block in blocks for metric in FIRST]
    lines = [
        [
            *_names(row),
            *(str(row.blocks[block][metric]) if block in row.blocks else "" for block in blocks for metric in FIRST),
        ]
        for row in rows
    ]
    return table(["system", "tokens from", "seeds", *heads], _set_apart(rows, lines))


def _set_apart(rows: list[Row], lines: list[list[str]]) -> list[list[str]]:
    """The lines of ``rows``, with one before those that compare with none of the others."""
    first = next((place for place, row in enumerate(rows) if row.leaky), None)
    if first is None:
        return lines
    return [*lines[:first], [APART, *("" for _ in lines[first][1:])], *lines[first:]]


def _names(row: Row) -> list[str]:
    marks = ("†" if row.stale else "") + ("‡" if row.retrained else "")
    return [f"`{row.system}`{marks}", row.tokens_from, str(row.seeds)]


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; from the third column on it holds figures."""
    rule = ["---", "---", *("--:" for _ in heads[2:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines])


def around_table(path: Path) -> tuple[str, str]:
    """What stands before and after the table in a page; without marks it has its place at the end.

    Raises:
        OovrecError: one of the two marks is missing or they stand twice.
    """
    text = read_text(path) if path.exists() else HEADING
    if (text.count(BEGIN), text.count(END)) not in ((0, 0), (1, 1)) or text.find(BEGIN) > text.find(END):
        what = f"does not have '{BEGIN}' and then '{END}', once each"
        raise OovrecError(what, where=path, remedy="restore the two lines or remove both")
    before, _, rest = text.partition(BEGIN)
    return before, rest.partition(END)[2]


def write_page(path: Path, table: str) -> None:
    """Put ``table`` between the marks of a page; the rest of it stays as it is. A missing page is begun.

    Raises:
        OovrecError: as :func:`around_table`.
    """
    before, after = around_table(path)
    write_text(path, f"{before.rstrip()}\n\n{BEGIN}\n\n{table}\n\n{END}" + (after or "\n"))
