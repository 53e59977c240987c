"""Colours of a report's charts, and what all charts have in common.

Every chart is drawn for light and for dark pages. A chart is any object with `title`,
`inches` (width, height) and `draw(axes, theme)`. On the page each is a picture of its
own, so that a phone shows them one below the other; `sheet` puts several into one file.
"""

import dataclasses
import io
import math

from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a chart; the ground is transparent."""

    text: str
    grid: str
    ours: str
    train: str
    tuned: str
    baseline: str
    chance: str
    cells: tuple  # of a confusion matrix: none of a class, and all of it


LIGHT = Theme(
    text="#1f2933",
    grid="#e3e8ee",
    ours="#1d5fd1",
    train="#a9b8cf",
    tuned="#12846b",
    baseline="#d9822b",
    chance="#7b8794",
    cells=("#ffffff", "#1d5fd1"),
)
DARK = Theme(
    text="#dde4ec",
    grid="#303b49",
    ours="#79a8ff",
    train="#566580",
    tuned="#4cc9a6",
    baseline="#e8a35c",
    chance="#93a1b1",
    cells=("#1b222b", "#79a8ff"),
)


def dress(axes, theme):
    """Ground, grid and ticks of a chart with values going up."""
    axes.set_facecolor("none")
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.text, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


def legend(axes, theme, **place):
    """A legend without a frame."""
    axes.legend(
        frameon=False,
        labelcolor=theme.text,
        fontsize=10,
        handlelength=1.4,
        columnspacing=1.2,
        **place,
    )


def png(chart, theme):
    """One chart as PNG bytes on a transparent ground."""
    figure = Figure(figsize=chart.inches, layout="constrained")
    chart.draw(figure.subplots(), theme)
    return _save(figure, transparent=True)


def sheet(charts, columns, theme=LIGHT, finish=None):
    """Several charts with their titles in one PNG on white: bytes.

    Args:
      charts: charts of one size.
      columns: at most so many beside each other.
      theme: `Theme`.
      finish: function (figure, axes of the charts, theme) for what all share, or None.
    """
    columns = min(columns, len(charts))
    rows = math.ceil(len(charts) / columns)
    width, height = charts[0].inches
    size = (width * columns, (height + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, chart in zip(grid, charts, strict=False):
        chart.draw(axes, theme)
        axes.set_title(chart.title, fontsize=11, color=theme.text, loc="left", pad=8)
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    if finish is not None:
        finish(figure, grid[: len(charts)], theme)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.08)
    return _save(figure, facecolor="white")


def _save(figure, **options):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180, **options)
    return buffer.getvalue()
