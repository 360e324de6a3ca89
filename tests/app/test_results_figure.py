"""The chart of the table of results."""

from __future__ import annotations

from matplotlib.colors import to_hex

from oovrec.app.figures import ACCENT, MUTED
from oovrec.app.results_figure import chart
from oovrec.app.results_table import FIRST, Figure, Published, Row


def row(system: str, tokens_from: str, value: float) -> Row:
    figures = {metric: Figure(value, value - 0.01, value + 0.01) for metric in FIRST}
    return Row(system, system, tokens_from, 1, False, {"raw": figures, "masked": figures})


def colours(rows: list[Row]) -> list[set[str]]:
    """Of what is drawn of each row, in hit@10's panel."""
    panel, _ = chart({"films": rows}, Published()).axes
    lines = [line for line in panel.lines if len(line.get_xdata())]
    return [{to_hex(line.get_color()) for line in lines if round(line.get_ydata()[0]) == n} for n in range(len(rows))]


def test_what_has_seen_held_out_items_has_another_colour() -> None:
    assert colours([row("sasrec", "none", 0.1), row("metaid-llama", "train", 0.2)]) == [{ACCENT}, {ACCENT}]
    assert colours([row("sasrec", "none", 0.1), row("metaid-llama", "all", 0.2)]) == [{ACCENT}, {MUTED}]


def test_the_legend_names_it_where_there_is_some() -> None:
    honest, leaky = row("metaid-llama", "train", 0.2), row("metaid-llama", "all", 0.2)
    for rows, names in (([honest], ["masked", "raw"]), ([leaky], ["masked", "raw", "tokens saw held-out items"])):
        (legend,) = chart({"films": rows}, Published()).legends
        assert [text.get_text() for text in legend.get_texts()] == names
