"""What commands print on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # so that commands which need no model do not wait for torch
    from oovrec.app.additions import Placed
    from oovrec.app.leads import Contender
    from oovrec.app.report_data import ExampleUser, SystemRow
    from oovrec.app.runs import Recommended
    from oovrec.data.checks import Report, SplitReport
    from oovrec.data.dataset import Dataset
    from oovrec.tokens.quality import Quality
    from oovrec.tokens.table import Tokens

SHOWN = 10  # items whose tokens are shown
WITH_INTERVAL = ("hit@10", "ndcg@10")
METRICS = (*WITH_INTERVAL, "hit@5", "ndcg@5", "mrr", "coverage@10")
PLAIN_WIDTH = 132  # columns where standard output is no terminal
BLOCKS = {
    "masked": "without the history's own items",
    "raw": "every item a candidate",
    "later_day_masked": "masked, targets of a later day only",
    "later_day_raw": "raw, targets of a later day only",
}
BY_DAYS = "masked, by how many days after the moment of the test the item was taken"
# Why a figure of tokens may be missing.
UNDEFINED = {
    "lift": "needs tokens of users and items that tell which are alike",
    **dict.fromkeys(("memorisation", "diversity"), "needs tokens that stand for a place"),
}


def show(*parts: Table | Text | str) -> None:
    """Print to standard output."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for part in parts:
        console.print(part)


def show_json(value: Any) -> None:
    """Print JSON and nothing else."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def grid(columns: Mapping[str, str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A table; ``columns`` maps headings to ``left`` or ``right``."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in columns.items():
        table.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def metrics(systems: Sequence[SystemRow]) -> list[Table]:
    """A table a block: systems down, figures with 95% intervals across, the best in bold; by days; other tasks'."""
    blocks = [_block(name, about, systems) for name, about in BLOCKS.items() if name in systems[0].blocks]
    return [*blocks, *_by_days(systems), *(table for system in systems for table in _tasks(system))]


def _by_days(systems: Sequence[SystemRow]) -> list[Table]:
    """Where targets were held out by time: a row for each system and its days."""
    rows = [
        [system.label, days, f"{block['users']:,}", *(_with_interval(block, metric) for metric in WITH_INTERVAL)]
        for system in systems
        for days, block in system.by_days.get("masked", {}).items()
    ]
    return _dated(rows)


def _dated(rows: Sequence[Sequence[object]]) -> list[Table]:
    """A table of rows by days; none where nothing was held out by time."""
    columns = {"system": "left", "days": "right", "users": "right", **dict.fromkeys(WITH_INTERVAL, "right")}
    return [grid(columns, rows, BY_DAYS)] if rows else []


def _block(name: str, about: str, systems: Sequence[SystemRow]) -> Table:
    from oovrec.app.verdict import is_best

    def figure(system: SystemRow, metric: str) -> Text:
        block = system.blocks[name]
        text = _with_interval(block, metric) if metric in WITH_INTERVAL else f"{block[metric]:.4f}"
        best = metric != "coverage@10" and is_best(system, systems, metric, name)
        return Text(text, "bold" if best else "")

    rows = [[one.label, _origin(one.tokens_from), *(figure(one, metric) for metric in METRICS)] for one in systems]
    columns = {"system": "left", "tokens from": "left", **dict.fromkeys(METRICS, "right")}
    return grid(columns, rows, f"{name}: {about}; {systems[0].blocks[name]['users']:,} users")


def _with_interval(block: Mapping[str, Any], metric: str) -> str:
    low, high = block["ci"][metric]
    return f"{block[metric]:.4f} [{low:.3f}, {high:.3f}]"


def _tasks(system: SystemRow) -> list[Table]:
    """A table a task: wordings and references down, figures with their 95% intervals across."""
    return [_task(task, rows, system.label) for task, rows in system.task_tables().items() if rows]


def _task(task: str, rows: Mapping[str, Mapping[str, Any]], label: str) -> Table:
    first = next(iter(rows.values()))
    names = [name for name in first if name not in ("ci", "users")]
    shown = METRICS if set(METRICS) <= set(names) else names
    cells = []
    for row, block in rows.items():
        cells.append([row.replace("_", " "), *(_with_interval(block, name) for name in shown)])
    columns = {"wordings": "left", **dict.fromkeys(shown, "right")}
    return grid(columns, cells, f"{task}: {label}; {first['users']:,} users")


def leads(contenders: Sequence[Contender], notes: Sequence[str]) -> list[Table | Text]:
    """A table a block, systems down and figures over seeds across; the first one's leads; then notes."""
    first = contenders[0]
    blocks = [_contest(name, about, contenders) for name, about in BLOCKS.items() if name in first.figures]
    rows = [
        [one.label, targets, *(_lead(lead[metric]) for metric in WITH_INTERVAL)]
        for one in contenders
        for targets, lead in _leads(one)
    ]
    columns = {"over": "left", "targets": "left", **dict.fromkeys(WITH_INTERVAL, "right")}
    title = f"lead of {first.label}, by resampling users, with 95% intervals"
    ahead = [grid(columns, rows, title)] if rows else []
    return [*blocks, *_contest_by_days(contenders), *ahead, *(Text(f"note: {note}") for note in notes)]


def _leads(one: Contender) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the first system has over this one, by which targets: a block's, or of some days."""
    yield from ((name.replace("_", " "), one.lead[name]) for name in BLOCKS if one.lead and name in one.lead)
    yield from ((f"masked, days {days}", lead) for days, lead in one.lead_by_days.get("masked", {}).items())


def _contest(name: str, about: str, contenders: Sequence[Contender]) -> Table:
    rows = [
        [one.label, _origin(one.tokens_from), len(one.runs), *(one.figures[name][m] for m in WITH_INTERVAL)]
        for one in contenders
    ]
    columns = {"system": "left", "tokens from": "left", "seeds": "right", **dict.fromkeys(WITH_INTERVAL, "right")}
    return grid(columns, rows, f"{name}: {about}; {contenders[0].users[name]:,} users")


def _contest_by_days(contenders: Sequence[Contender]) -> list[Table]:
    rows = [
        [one.label, days, f"{one.users_by_days[days]:,}", *(figures[metric] for metric in WITH_INTERVAL)]
        for one in contenders
        for days, figures in one.by_days.get("masked", {}).items()
    ]
    return _dated(rows)


def _origin(tokens_from: str) -> Text:
    return Text("all: saw held-out items", "bold red") if tokens_from == "all" else Text(tokens_from)


def _lead(found: Mapping[str, Any]) -> Text:
    """A difference with its interval, in bold where that leaves 0 out."""
    low, high = found["interval"]
    sure = "bold" if low > 0 or high < 0 else ""
    return Text(f"{found['mean']:+.4f} [{low:+.4f}, {high:+.4f}]", sure)


def example(user: ExampleUser) -> Table:
    """A user's newest items and the best ten, the held-out one marked."""
    past = [*(["…"] if user.earlier else []), *(item.title for item in user.history)]
    answers = [f"{'→ ' if place == user.hit else ''}{item.title}" for place, item in enumerate(user.recommended)]
    if user.hit is None:
        place = f"at rank {user.rank:,}" if user.rank else "which the history has already"
        answers.append(f"(held out, {place}: {user.target.title})")
    tokens = [item.tokens for item in user.recommended]
    rows = list(zip_longest(past, answers, tokens, fillvalue=""))
    columns = {"took, oldest first": "left", "recommended (→ held out)": "left", "in the model's words": "left"}
    return grid(columns, rows, f"user {user.id} {user.tokens}".rstrip())


def recommendations(items: Sequence[Recommended]) -> Table:
    """A list of items, best first."""
    rows = [[item.rank, item.id, item.title, f"{item.score:.4f}"] for item in items]
    return grid({"rank": "right", "item": "left", "title": "left", "score": "right"}, rows)


def placed(items: Sequence[Placed]) -> Table:
    """The names of new items, and a known item of each one's cluster, or the nearest."""
    rows = [[item.id, item.title, item.tokens, item.by, item.beside] for item in items[:SHOWN]]
    kind = "item" if len(items) == 1 else "items"
    title = f"{len(items):,} {kind} added" + (f", the first {SHOWN} of them" if len(items) > SHOWN else "")
    columns = dict.fromkeys(("item", "title", "tokens", "placed by", "beside"), "left")
    return grid(columns, rows, title)


def dataset(report: Report) -> list[Table | Text]:
    """Counts, splits and warnings of a dataset."""
    dates = "not known" if report.dates is None else " to ".join(report.dates)
    lengths = ", ".join(f"{name} {value:g}" for name, value in report.lengths.items())
    facts = [
        ["users", f"{report.users:,}"],
        ["items", f"{report.items:,}"],
        ["interactions", f"{report.interactions:,}"],
        ["density", f"{report.density:.3%}"],
        ["dates", dates],
        ["history lengths", f"mean {report.mean_length:.1f}; {lengths}"],
        ["items without training", f"{report.items_without_training:,}"],
        ["repeated interactions", f"{report.repeats:.2%}"],
        ["adjacent ids ascending", f"{report.ascending:.1%}"],
        ["SHA-256", report.sha256],
    ]
    counted = ("histories", "interactions", "targets", "unseen", "repeated", "same day", "training later")
    columns = dict.fromkeys(("split", *counted), "right")
    splits = [
        [name, f"{part.histories:,}", f"{part.interactions:,}", *_targets(part)] for name, part in report.splits.items()
    ]
    notes = [Text(f"note: {note}") for note in report.notes]
    warnings = [Text(f"WARNING {warning}", "bold red") for warning in report.warnings]
    return [grid({report.name: "left", "": "left"}, facts), grid(columns, splits), *notes, *warnings]


def _targets(part: SplitReport) -> list[str]:
    if not part.targets:
        return ["", "", "", "", ""]
    dated = ["not known" if share is None else f"{share:.1%}" for share in (part.same_day, part.from_later)]
    return [f"{part.targets:,}", f"{part.unseen_targets:,}", f"{part.repeated_targets:.1%}", *dated]


def tokens(built: Tokens, dataset: Dataset) -> Table:
    """The names of the most popular items."""
    counts = np.bincount(dataset.histories("train").items, minlength=len(dataset.items))
    popular = np.argsort(-counts, kind="stable")[:SHOWN]
    titles = dataset.titles or [""] * len(dataset.items)
    rows = [[dataset.items[item], titles[item], built.items.text(item), f"{counts[item]:,}"] for item in popular]
    title = f"{built.method} tokens, built from {built.seen}: {len(built.items):,} items"
    title += f", {len(built.users):,} users" if built.users else ""
    return grid({"item": "left", "title": "left", "tokens": "left", "taken (training)": "right"}, rows, title)


def quality(report: Quality, built_from: str) -> Table:
    """Scores of tokens, a row a figure."""
    rows = [
        [name, UNDEFINED.get(name, "not defined") if value is None else f"{value:.4f}"]
        for name, value in _flat(report.to_json())
    ]
    return grid({"figure": "left", "value": "right"}, rows, f"tokens from: {built_from}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            yield from _flat({f"level {level}": figure for level, figure in enumerate(value, 1)}, f"{prefix}{name} ")
        elif value is None or isinstance(value, float):
            yield prefix + name, value
