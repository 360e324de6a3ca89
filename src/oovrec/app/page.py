"""What the pages share: how a template is filled in, and figures inside it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from oovrec.app import figures
from oovrec.app.token_facts import Cluster


def page(template: str, **values: Any) -> str:
    """A template of this room with ``values`` in it; whatever is not marked as markup is escaped."""
    environment = Environment(
        loader=PackageLoader("oovrec", "app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["hue"] = figures.hue
    environment.filters["duration"] = duration
    return environment.get_template(template).render(**values)


def picture(figure: Figure, label: str, clusters: list[Cluster] | None = None) -> Markup:
    """A figure to stand in a page; ``clusters`` are told by hovering."""
    tips = {f"cluster-{cluster.number}": _tip(cluster) for cluster in clusters or []}
    return Markup(figures.inline_svg(figure, label, tips))


def _tip(cluster: Cluster) -> str:
    items = "1 item" if cluster.size == 1 else f"{cluster.size:,} items"
    return f"{cluster.token}, {items}: {'; '.join(cluster.titles)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``48 s``, ``6 min 12 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
