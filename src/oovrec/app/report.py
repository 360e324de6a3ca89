"""The report of a run: one HTML page that needs nothing beside itself, and its figures as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oovrec.app import figures, verdict
from oovrec.app.report_data import Cluster, ReportData
from oovrec.evaluation.results import METRICS
from oovrec.files import write_text

BLOCKS = {
    "masked": ("Masked", "the user's own history is not among the candidates"),
    "raw": ("Raw", "every item is a candidate"),
    "later_day_masked": ("Later day, masked", "only targets of a later day than the item before them"),
    "later_day_raw": ("Later day, raw", "the same targets, every item a candidate"),
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


def _figures(run: ReportData) -> dict[str, Any]:
    drawn = {"metrics": figures.metrics(run.systems)}
    if run.training:
        drawn["training"] = figures.training(run.training)
    if run.tokens and run.tokens.explained is not None:
        drawn["token_map"] = figures.token_map(run.tokens.clusters)
    return drawn


def _page(run: ReportData, drawn: dict[str, Any]) -> str:
    labels = {
        "metrics": "hit@10 and ndcg@10 of each system with 95% intervals",
        "training": "training loss and validation ndcg@10 by epoch",
        "token_map": "clusters of items in two dimensions",
    }
    tips = {f"cluster-{cluster.number}": _tip(cluster) for cluster in run.tokens.clusters} if run.tokens else {}
    pictures = {name: Markup(figures.inline_svg(figure, labels[name], tips)) for name, figure in drawn.items()}
    loader = PackageLoader("oovrec", "app")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["hue"] = figures.hue
    environment.filters["duration"] = _duration
    template = environment.get_template("report.html.j2")
    return template.render(
        run=run, pictures=pictures, verdict=verdict, blocks=BLOCKS, metrics=METRICS, shown_clusters=SHOWN_CLUSTERS
    )


def _tip(cluster: Cluster) -> str:
    return f"{cluster.token}, {cluster.size} items: {'; '.join(cluster.titles)}"


def _duration(seconds: float) -> str:
    """Seconds as people say them: ``48 s``, ``6 min 12 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
