"""What ``oovrec bench check`` prints."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from oovrec.app.tables import grid
from oovrec.evaluation.consistency import Consistency, Finding, Suspect

COLUMNS = {
    "row": "left",
    "cannot be right": "left",
    "beyond rounding": "right",
    "in last places": "right",
    "or else, instead": "left",
}


def consistency(report: Consistency) -> list[Table | Text]:
    """The rows that cannot be right, the figure most likely meant first, and a sentence of summary."""
    places = "no decimals" if not report.decimals else f"{report.decimals} decimals"
    summary = f"{report.rows:,} {'row' if report.rows == 1 else 'rows'} checked at {places}: "
    if not report.findings:
        return [Text(summary + "all can be right.")]
    table = grid(COLUMNS, [_row(finding, report.decimals) for finding in report.findings])
    count = len(report.findings)
    return [table, Text(f"{summary}{count:,} cannot be right.", "bold")]


def _row(finding: Finding, decimals: int) -> list[str]:
    first = finding.suspects[0] if finding.suspects else None
    excess = first.excess if first else finding.spread
    units = f"{excess * 10**decimals:,.1f}"
    others = "; ".join(_possible(suspect, decimals) for suspect in finding.suspects[1:])
    return [" / ".join(finding.place) or "the table", finding.reason, f"{excess:.{decimals + 1}f}", units, others]


def _possible(suspect: Suspect, decimals: int) -> str:
    return f"{suspect.metric} {suspect.low:.{decimals}f}–{suspect.high:.{decimals}f}"
