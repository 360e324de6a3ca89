"""What ``tokens audit`` prints, draws and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from oovrec.app.pipeline import warn_of_other_data
from oovrec.app.tables import grid
from oovrec.data.dataset import Dataset
from oovrec.files import write_json
from oovrec.tokens.audit import Audit, audit
from oovrec.tokens.findings import Finding
from oovrec.tokens.table import Tokens, TokenTable, read_table

if TYPE_CHECKING:  # so that a command which draws nothing does not wait for matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATISTICS = {
    "items": "items named alike",
    "users": "users named alike",
    "order": "numbers near each other",
    "next": "like the item before",
}
COLOURS = {"clean": "#0e6e6e", "leaky": "#b3402e", "undecided": "#9a9da3", "texts": "#b08a2e"}
SHOWN = ("clean", "undecided", "leaky")  # from left to right
STYLES = {"clean": "bold green", "leaky": "bold red", "undecided": "bold yellow"}
MEANING = {
    "clean": "these tokens know no more of held-out interactions than training and texts can tell",
    "leaky": "these tokens have seen held-out interactions; figures of models that use them are not comparable",
    "undecided": "on this data, clean and leaky tokens of this shape are too much alike to tell",
}


def run(dataset: Dataset, items: Path, users: Path | None = None, out: Path | None = None, seed: int = 0) -> Audit:
    """Audit token files; with ``out``, write ``audit.json`` and ``audit.png`` there.

    Args:
        items: a file, or a folder of ``tokens build``, whose vectors and user tokens are then audited too.
        users: a file; None takes those of the folder, if it is one.

    Raises:
        OovrecError: a file is missing or malformed, or lacks an item or user of the dataset.
    """
    found = audit(dataset, *_given(dataset, items, users), seed)
    if out is not None:
        from oovrec.app.figures import write_png

        write_json(out / "audit.json", found.to_json())
        write_png(figure(found), out / "audit.png")
    return found


def _given(dataset: Dataset, items: Path, users: Path | None) -> tuple[TokenTable, TokenTable | None]:
    """The tables of items and users, each in the dataset's order."""
    built = Tokens.load(items) if items.is_dir() else None
    if built:
        warn_of_other_data(built, dataset)
    of_items = (built.items if built else read_table(items)).reindexed(dataset.items)
    of_users = read_table(users) if users else built.users if built else None
    return of_items, of_users and of_users.reindexed(dataset.users)


def tables(found: Audit) -> list[Table | Text]:
    """The verdict, what it rests on, statistics of the parts, artefacts and notes."""
    parts: list[Table | Text] = [
        Text.assemble("verdict: ", (found.verdict, STYLES[found.verdict]), f" ({MEANING[found.verdict]})"),
        _findings(found),
    ]
    for title, values in (
        ("log-lift of user and item clusters", found.lift),
        ("targets' clusters seen", found.repeats),
    ):
        if values is not None:
            parts.append(_parts(title, values))
    parts += [Text(f"WARNING {sentence}", "bold red") for sentence in artefacts(found)]
    return [*parts, *(Text(f"note: {note}") for note in found.notes)]


def artefacts(found: Audit) -> list[str]:
    """A sentence for each artefact that is named."""
    return [
        f"same_day_order: in the order of the {artefact.order}, {artefact.same_day:.1%} of targets of the same day "
        f"stand after the item before them, {artefact.later_day:.1%} of those of a later day (p {artefact.p:.1g}): "
        "these tokens tell which item of a day is stored last; read the later_day figures"
        for artefact in found.artefacts
        if artefact.named
    ]


def _findings(found: Audit) -> Table:
    columns = {"statistic": "left", "split": "left", **dict.fromkeys(("excess", "if clean", "if leaky"), "right")}
    columns |= {"at probes": "right", "log10 ratio": "right", "p if clean": "right", "verdict": "left"}
    rows = [
        [
            STATISTICS[name],
            split,
            f"{finding.excess:.3f} ± {finding.deviation:.3f}",
            *(f"{value:.3f}" for value in (finding.if_clean, finding.if_leaky, finding.probe)),
            f"{finding.log10_ratio:+.1f}",
            f"{finding.p_clean:.2g}",
            Text(finding.verdict, STYLES[finding.verdict]),
        ]
        for name, findings in found.findings.items()
        for split, finding in findings.items()
    ]
    return grid(columns, rows, "knowledge of targets beyond training, in standard deviations")


def _parts(title: str, values: Mapping[str, Mapping[str, float]]) -> Table:
    columns = {title: "left", **dict.fromkeys(values["given"], "right")}
    names = {"given": "these tokens", "clean": "clean references", "leaky": "leaky references"}
    rows = [[names[name], *(f"{value:.3f}" for value in row.values())] for name, row in values.items()]
    return grid(columns, rows)


def figure(found: Audit) -> Figure:
    """Excess at held-out targets against that at the probes: these tokens among the references."""
    from oovrec.app.figures import TITLE, panels

    drawn, axes = panels(0.7 + 2.1 * len(found.findings), len(found.findings), 2, width=6.2)
    for row, (name, findings) in enumerate(found.findings.items()):
        for column, (split, finding) in enumerate(findings.items()):
            panel = axes[2 * row + column]
            _among(panel, finding, found.references[name], 1 + column)
            panel.set_title(f"{split}, {STATISTICS[name]}: {finding.verdict}", **TITLE)
            panel.set_xlabel("excess at probes")
        axes[2 * row].set_ylabel("excess at targets")
    _legend(drawn, *axes[0].get_legend_handles_labels())
    return drawn


def _among(panel: Axes, finding: Finding, references: Mapping[str, list[list[float]]], column: int) -> None:
    """The references as dots; what clean and leaky tokens would have as lines; these tokens, ± 2 deviations."""
    from oovrec.app.figures import INK

    for kind, runs in references.items():
        if runs:
            places = [run[0] for run in runs], [run[column] for run in runs]
            panel.plot(*places, "o", color=COLOURS[kind], label=f"{kind} references")
    for kind, expected in (("clean", finding.if_clean), ("leaky", finding.if_leaky)):
        panel.plot([0, finding.probe], [0, expected], color=COLOURS[kind], linewidth=0.8)
    error = 2 * finding.deviation
    panel.errorbar(finding.probe, finding.excess, error, fmt="D", color=INK, capsize=3, label="these tokens")


def _legend(drawn: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    from oovrec.app.figures import INK

    style: dict[str, Any] = {"ncols": len(labels), "frameon": False, "labelcolor": INK, "fontsize": 8}
    drawn.legend(handles, labels, loc="outside lower center", **style)


def calibration(studies: Sequence[Mapping[str, Any]]) -> Figure:
    """Verdicts on tables of known origin: a bar for every dataset, kind of tokens and truth."""
    from oovrec.app.figures import INK, TITLE, panels

    rows = [(study, tokens) for study in studies for tokens in sorted(study["rates"], reverse=True)]
    drawn, axes = panels(0.9 + 0.24 * len(rows), 1, 2, width=6.2)
    for panel, truth in zip(axes, ("clean", "leaky"), strict=True):
        for row, (study, tokens) in enumerate(rows):
            _bar(panel, row, study["rates"][tokens]["every table"].get(truth, {}))
        panel.set_title(f"{truth} tables are called", **TITLE)
        panel.set_yticks(range(len(rows)), [f"{study['dataset']}, {tokens}" for study, tokens in rows])
        panel.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xticks=[0, 0.5, 1], xticklabels=["0", "50%", "100%"])
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0, labelcolor=INK)
    axes[1].set_yticklabels([])
    _legend(drawn, [axes[0].barh(0, 0, color=COLOURS[verdict]) for verdict in SHOWN], SHOWN)
    return drawn


def _bar(panel: Axes, row: int, counts: Mapping[str, int]) -> None:
    """Shares of the verdicts, each with its count."""
    left, total = 0.0, max(sum(counts.values()), 1)
    for verdict in SHOWN:
        count = counts.get(verdict, 0)
        panel.barh(row, count / total, left=left, color=COLOURS[verdict], height=0.7)
        if count:
            panel.text(left + count / total / 2, row, str(count), ha="center", va="center", color="white", fontsize=7)
        left += count / total
