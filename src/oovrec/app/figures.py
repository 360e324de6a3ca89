"""The pages' figures, each drawn once and kept as PNG and as SVG that follows the page's colours."""

from __future__ import annotations

import colorsys
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from oovrec.app.report_data import SystemRow
from oovrec.app.token_facts import Cluster
from oovrec.files import atomic
from oovrec.training.checkpoint import best_epoch

INK, MUTED, RULE, ACCENT, PAPER = "#1d1f22", "#6a6e75", "#dcdcd7", "#0e6e6e", "#fffffe"
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", PAPER: "--paper"}
# Fonts with ideographs, as systems have them: matplotlib's own has none. A page is drawn by its reader's fonts.
IDEOGRAPHS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC"),
    *("Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS"),
)
FONTS = ["sans-serif", *sorted({*IDEOGRAPHS} & {*get_font_names()}, key=IDEOGRAPHS.index)]
TITLE: Any = {"loc": "left", "fontsize": 8.5, "color": INK, "fontfamily": FONTS}
WIDTH = 4.6  # inches
DPI = 200  # twice a screen's; texts are also measured at it, as at fewer they are up to 8% narrower than drawn
STYLE: Any = {"font.size": 8.5, "svg.fonttype": "none"}
LABELS = 12  # clusters that the map names, at most
BARS = 24  # of a histogram, at most
LABEL_LENGTH = 26
GOLDEN_ANGLE = 137.508  # degrees; neighbouring numbers get colours far apart


def hue(cluster: int) -> float:
    """A cluster's colour, in degrees: the same on the map and beside its items."""
    return round(cluster * GOLDEN_ANGLE % 360, 1)


def token_map(clusters: Sequence[Cluster], size: tuple[float, float] = (WIDTH, 3.9), labels: int = LABELS) -> Figure:
    """Item clusters at their places, areas by number of items; the largest bear their best-known title.

    Args:
        size: width and height in inches.
        labels: clusters to be named, at most.
    """
    placed = [cluster for cluster in clusters if cluster.position is not None]
    largest = max(cluster.size for cluster in placed)
    figure, (axes,) = panels(size[1], 1, width=size[0])
    areas = {cluster.number: 14 + 266 * cluster.size / largest for cluster in placed}  # square points
    for cluster in placed:
        x, y = cluster.position or (0.0, 0.0)
        colour = colorsys.hls_to_rgb(hue(cluster.number) / 360, 0.42, 0.5)
        dot = axes.scatter(x, y, s=areas[cluster.number], color=colour, alpha=0.6, linewidths=0)
        dot.set_gid(f"cluster-{cluster.number}")
    axes.margins(0.1, 0.06)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    radii = {number: (area / math.pi) ** 0.5 for number, area in areas.items()}
    with _any_script():
        _label(figure, axes, placed, radii, labels)
    return figure


def cluster_sizes(sizes: Sequence[int]) -> Figure:
    """How many clusters have how many items: a histogram with bars of equal, whole width."""
    step = max(1, math.ceil((max(sizes) - min(sizes) + 1) / BARS))
    edges = np.arange(min(sizes), max(sizes) + step + 1, step) - 0.5
    figure, (axes,) = panels(1.7, 1)
    axes.hist(sizes, bins=edges.tolist(), color=ACCENT, rwidth=0.86)
    axes.set_xlabel("items in a cluster")
    axes.set_title("clusters", **TITLE)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    return figure


def _label(figure: Figure, axes: Axes, clusters: Sequence[Cluster], radii: dict[int, float], most: int) -> None:
    """Name the largest clusters first; a name that would cover another, a dot or the frame is left out."""
    figure.draw_without_rendering()  # lays the axes out, so that extents are final
    frame, pixels = axes.get_window_extent(), figure.dpi / 72
    centres = {cluster.number: axes.transData.transform(cluster.position or (0.0, 0.0)) for cluster in clusters}
    dots = {number: _square(centre, radii[number] * pixels) for number, centre in centres.items()}
    named: list[Bbox] = []
    for cluster in clusters:
        others = [*named, *(dot for number, dot in dots.items() if number != cluster.number)]
        for direction in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            label = _name(axes, cluster, direction, radii[cluster.number] + 2)
            box = label.get_window_extent()
            if frame.contains(*box.min) and frame.contains(*box.max) and not box.count_overlaps(others):
                named.append(box.padded(2))
                break
            label.remove()
        if len(named) == most:
            return


def _square(centre: np.ndarray, radius: float) -> Bbox:
    return Bbox([centre - radius, centre + radius])


def _name(axes: Axes, cluster: Cluster, direction: tuple[int, int], distance: float) -> Annotation:
    text = cluster.titles[0] if cluster.titles else cluster.token
    text = text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1].rstrip() + "…"
    label = axes.annotate(
        text,
        cluster.position or (0.0, 0.0),
        (direction[0] * distance, direction[1] * distance),
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[direction[0]],
        va={1: "bottom", 0: "center", -1: "top"}[direction[1]],
        fontsize=7.5,
        fontfamily=FONTS,
        color=INK,
        annotation_clip=False,
    )
    label.set_parse_math(False)  # a title may hold dollar signs
    return label


def training(log: Sequence[dict[str, Any]], validated_on: str, days: int = 0) -> Figure:
    """Training loss and, below it, validation ndcg@10 by epoch; the epoch that was kept is marked.

    Where nothing was validated there is nothing below. With ``days`` only targets of so many were.
    """
    kept = best_epoch(log)
    figure, panes = panels(3.6, 2) if kept else panels(1.9, 1)
    above, below = panes[0], panes[-1]
    above.plot([entry["epoch"] for entry in log], [entry["loss"] for entry in log], color=MUTED, linewidth=1.6)
    above.set_title("training loss", **TITLE)
    if kept:
        validated = [(entry["epoch"], entry["ndcg"]) for entry in log if entry["ndcg"] is not None]
        below.plot(*zip(*validated, strict=True), color=ACCENT, linewidth=1.8)
        below.plot(kept["epoch"], kept["ndcg"], "o", color=ACCENT, markersize=6)
        on = f"{validated_on}, first {days:,} days" if days else validated_on
        below.set_title(f"validation ndcg@10, {on}: {kept['ndcg']:.4f} at epoch {kept['epoch']}", **TITLE)
        above.set_xticklabels([])
    below.set_xlabel("epoch")
    for axes in dict.fromkeys((above, below)):
        axes.set_xlim(log[0]["epoch"] - 0.5, log[-1]["epoch"] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", color=RULE, linewidth=0.6)
    return figure


def metrics(systems: Sequence[SystemRow]) -> Figure:
    """Hit@10 and ndcg@10 of every system with 95% intervals: filled masked, hollow raw."""
    figure, both = panels(0.95 + 0.42 * len(systems), 1, 2)
    rows = range(len(systems))
    for axes, metric in zip(both, ("hit@10", "ndcg@10"), strict=True):
        for block, shift, fill in (("masked", -0.12, ACCENT), ("raw", 0.16, PAPER)):
            for row, system in zip(rows, systems, strict=True):
                values, height = system.blocks[block], row + shift
                axes.plot(values["ci"][metric], [height, height], color=ACCENT, linewidth=1.4, solid_capstyle="round")
                axes.plot(values[metric], height, "o", color=ACCENT, markerfacecolor=fill, markersize=5.5)
        axes.set_title(metric, **TITLE)
        label_rows(axes, [system.label for system in systems])
    both[1].set_yticklabels([])
    return figure


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a panel of figures, the first at the top; the scale of the figures begins at 0."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set(ylim=(len(labels) - 0.5, -0.5))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def panels(height: float, rows: int, columns: int = 1, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure of ``height`` × ``width`` inches and its axes, row after row, in the pages' style."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
        drawn = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in drawn:
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(RULE)
        axes.tick_params(colors=MUTED, length=2)
        axes.xaxis.label.set_color(MUTED)
        axes.yaxis.label.set_color(MUTED)
    return figure, drawn


@contextmanager
def _any_script() -> Iterator[None]:
    """Texts of a script that no font here has are boxes in a PNG, without a warning a character."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def write_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` at twice the size of a screen, atomically."""
    with atomic(path) as temporary, _any_script():
        figure.savefig(temporary, format="png", dpi=DPI)


def inline_svg(figure: Figure, label: str, tips: dict[str, str] | None = None) -> str:
    """``figure`` as SVG for a page: its colours are the page's variables, its font the page's.

    Args:
        label: what it shows, for those who cannot see it.
        tips: texts shown on hovering, by group id; ids are ``cluster-<number>``.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": label}), _any_script():  # ids of two figures on a page differ
        figure.savefig(file, format="svg", transparent=True)
    head, _, body = file.getvalue().partition("<svg")[2].partition(">")
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    for name, tip in (tips or {}).items():
        body = _with_tip(body, name, tip)
    box = re.search(r'viewBox="[^"]+"', head)
    body = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", body)
    return f'<svg {box and box.group()} role="img" aria-label="{escape(label)}">{body}'


def _with_tip(body: str, name: str, tip: str) -> str:
    start = f'<g id="{name}">'
    before, found, after = body.partition(start)
    if not found:
        return body
    number = name.rpartition("-")[2]
    coloured = re.sub(r"fill: #[0-9a-f]{6}", "fill: oklch(var(--light) 0.12 var(--hue))", after, count=1)
    opened = f'<g data-cluster="{number}" style="--hue: {hue(int(number))}">'
    return f"{before}{opened}<title>{escape(tip)}</title>{coloured}"
