"""The report of a run: one HTML page that needs nothing beside itself, and its figures as PNG."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from oovrec.app import figures, verdict
from oovrec.app.page import page, picture
from oovrec.app.report_data import ReportData
from oovrec.evaluation.results import METRICS
from oovrec.files import write_text

BLOCKS = {
    "masked": ("Masked", "the user's own history is not among the candidates"),
    "raw": ("Raw", "every item is a candidate"),
    "later_day_masked": ("Later day, masked", "only targets of a later day than the item before them"),
    "later_day_raw": ("Later day, raw", "the same targets, every item a candidate"),
}
LABELS = {
    "metrics": "hit@10 and ndcg@10 of each system with 95% intervals",
    "training": "training loss by epoch, with validation ndcg@10 where that was measured",
    "token_map": "clusters of items in two dimensions",
}
SHOWN_CLUSTERS = 6


def write_report(run: ReportData, folder: Path) -> Path:
    """Write ``report.html``, ``metrics.png`` and, where there are any, ``training.png`` and ``token_map.png``.

    Returns:
        The path of the page.

    Raises:
        OovrecError: a file cannot be written.
    """
    drawn = _figures(run)
    for name, figure in drawn.items():
        figures.write_png(figure, folder / f"{name}.png")
    path = folder / "report.html"
    write_text(path, _page(run, drawn))
    return path


def _figures(run: ReportData) -> dict[str, Figure]:
    drawn = {"metrics": figures.metrics(run.systems)}
    if run.training:
        drawn["training"] = figures.training(run.training, run.validated_on, run.validated_days)
    if run.tokens and run.tokens.explained is not None:
        drawn["token_map"] = figures.token_map(run.tokens.clusters)
    return drawn


def _page(run: ReportData, drawn: dict[str, Figure]) -> str:
    clusters = run.tokens.clusters if run.tokens else []
    return page(
        "report.html.j2",
        run=run,
        pictures={name: picture(figure, LABELS[name], clusters) for name, figure in drawn.items()},
        verdict=verdict,
        blocks=BLOCKS,
        metrics=METRICS,
        shown_clusters=SHOWN_CLUSTERS,
    )
