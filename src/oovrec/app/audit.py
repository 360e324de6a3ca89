"""What ``tokens audit`` prints, draws and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from oovrec.app.tables import grid
from oovrec.data.dataset import Dataset
from oovrec.files import write_json
from oovrec.tokens.audit import Audit, audit
from oovrec.tokens.table import read_table

if TYPE_CHECKING:  # so that a command which draws nothing does not wait for matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATISTICS = {"items": "items named alike", "users": "users named alike", "order": "numbers near each other"}
COLOURS = {"clean": "#0e6e6e", "leaky": "#b3402e", "undecided": "#9a9da3", "texts": "#b08a2e"}
STYLES = {"clean": "bold green", "leaky": "bold red", "undecided": "bold yellow"}
MEANING = {
    "clean": "these tokens know no more of held-out interactions than training and texts can tell",
    "leaky": "these tokens have seen held-out interactions; figures of models that use them are not comparable",
    "undecided": "on this data, clean and leaky tokens of this shape are too much alike to tell",
}


def run(dataset: Dataset, items: Path, users: Path | None = None, out: Path | None = None, seed: int = 0) -> Audit:
    """Audit token files; with ``out``, write ``audit.json`` and ``audit.png`` there.

    Raises:
        OovrecError: a file is missing or malformed, or lacks an item or user of the dataset.
    """
    found = audit(dataset, read_table(items), None if users is None else read_table(users), seed)
    if out is not None:
        from oovrec.app.figures import write_png

        write_json(out / "audit.json", found.to_json())
        write_png(figure(found), out / "audit.png")
    return found


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
    from oovrec.app.figures import INK, TITLE, panels

    drawn, axes = panels(0.4 + 2.2 * len(found.findings), len(found.findings), 2, width=6.2)
    for row, (name, findings) in enumerate(found.findings.items()):
        for column, (split, finding) in enumerate(findings.items()):
            panel = axes[2 * row + column]
            for kind, runs in found.references[name].items():
                panel.plot(
                    [run[0] for run in runs], [run[1 + column] for run in runs], "o", color=COLOURS[kind], label=kind
                )
            for kind, share in (("clean", finding.if_clean), ("leaky", finding.if_leaky)):
                panel.plot([0, finding.probe], [0, share], color=COLOURS[kind], linewidth=0.8)
            error = 2 * finding.deviation
            panel.errorbar(finding.probe, finding.excess, error, fmt="D", color=INK, capsize=3, label="these tokens")
            panel.set_title(f"{split}, {STATISTICS[name]}: {finding.verdict}", **TITLE)
            panel.set_xlabel("excess at probes")
    axes[0].set_ylabel("excess at targets")
    axes[0].legend(frameon=False, fontsize=7)
    return drawn


def calibration(studies: Sequence[Mapping[str, Any]]) -> Figure:
    """Verdicts on tables of known origin, a bar a dataset, kind of tokens and truth."""
    from oovrec.app.figures import INK, TITLE, panels

    drawn, axes = panels(0.7 + 0.55 * len(studies), 1, 2)
    for panel, truth in zip(axes, ("clean", "leaky"), strict=True):
        labels: list[str] = []
        for study in studies:
            for tokens, groups in study["rates"].items():
                counts = groups["every table"].get(truth, {})
                _bar(panel, len(labels), counts)
                labels.append(f"{study['dataset']}, {tokens} ({sum(counts.values())})")
        panel.set_title(f"{truth} tables, share called", **TITLE)
        panel.set_yticks(range(len(labels)), labels if truth == "clean" else [""] * len(labels), color=INK, fontsize=7)
        panel.set(xlim=(0, 1), ylim=(len(labels) - 0.4, -0.6))
    axes[1].legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=7, loc="lower left")
    return drawn


def _bar(panel: Axes, row: int, counts: Mapping[str, int]) -> None:
    left, total = 0.0, max(sum(counts.values()), 1)
    for verdict in ("clean", "undecided", "leaky"):
        share = counts.get(verdict, 0) / total
        panel.barh(row, share, left=left, color=COLOURS[verdict], label=verdict if row == 0 else None, height=0.7)
        left += share
