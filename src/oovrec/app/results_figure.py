"""The chart of the table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from oovrec.app.figures import ACCENT, INK, MUTED, PAPER, TITLE, label_rows, panels
from oovrec.app.results_table import FIRST, Published, Row

SHIFTS = {"masked": -0.14, "raw": 0.14}  # how far from the row's middle; raw figures are hollow
WIDTH, ROW, MARGIN = 8.2, 0.36, 0.62  # inches


def chart(rows: Mapping[str, Sequence[Row]], published: Published) -> Figure:
    """Hit@10 and ndcg@10 of every system, a row of panels a dataset: filled masked, hollow raw, crosses published.

    Bars are the intervals of the table; a star in place of a cross is a published figure that cannot be right. What has
    seen held-out items is grey.
    """
    heights = [MARGIN + ROW * len(found) for found in rows.values()]
    figure, axes = panels(sum(heights) + 0.3, len(rows), len(FIRST), WIDTH)
    if grid := axes[0].get_gridspec():
        grid.set_height_ratios(heights)
    for place, (dataset, found) in enumerate(rows.items()):
        for metric, panel in zip(FIRST, axes[2 * place : 2 * place + 2], strict=True):
            _draw(panel, dataset, found, metric, published)
        axes[2 * place + 1].set_yticklabels([])
    _legend(figure, rows, published)
    return figure


def _draw(axes: Axes, dataset: str, rows: Sequence[Row], metric: str, published: Published) -> None:
    for place, row in enumerate(rows):
        colour = MUTED if row.leaky else ACCENT
        for block, shift in SHIFTS.items():
            ours, height = row.blocks[block][metric], place + shift
            fill = PAPER if block == "raw" else colour
            axes.plot([ours.low, ours.high], [height, height], color=colour, linewidth=1.4, solid_capstyle="round")
            axes.plot(ours.value, height, "o", color=colour, markerfacecolor=fill, markersize=5)
        if (figure := published.figure(row, dataset, metric)) is not None:
            star = published.starred(row, dataset, metric)
            axes.plot(figure, place + SHIFTS["raw"], "*" if star else "x", color=INK, markersize=8 if star else 5.5)
    axes.set_title(f"{dataset}, {metric}", **TITLE)
    label_rows(axes, [_label(row) for row in rows])


def _label(row: Row) -> str:
    origin = "" if row.tokens_from == "none" else f" ({row.tokens_from})"
    return f"{row.system}{origin}{'†' if row.stale else ''}"


def _legend(figure: Figure, rows: Mapping[str, Sequence[Row]], published: Published) -> None:
    axes = figure.axes[0]
    handles = [
        axes.plot([], [], "o", color=ACCENT, label="masked")[0],
        axes.plot([], [], "o", color=ACCENT, markerfacecolor=PAPER, label="raw")[0],
    ]
    if any(row.leaky for found in rows.values() for row in found):
        handles += axes.plot([], [], "o", color=MUTED, label="tokens saw held-out items")
    beside = [(row, dataset) for dataset, found in rows.items() for row in found if published.place(row, dataset)]
    if beside:
        handles += axes.plot([], [], "x", color=INK, label="published, raw or unknown masking")
    if any(published.starred(*one, metric) for one in beside for metric in FIRST):
        handles += axes.plot([], [], "*", color=INK, label="published, cannot be right")
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8, labelcolor=INK
    )
