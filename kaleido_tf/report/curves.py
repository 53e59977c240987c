"""Charts of a report: losses, accuracies and recalls, as PNG bytes or files.

Every chart is drawn for light and for dark pages. On the page each panel is a picture
of its own, so that a phone shows them one below the other; `sheet` puts the panels of a
kind into one file.
"""

import dataclasses
import io
import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kaleido_tf.report.inputs import DIRECTIONS, RECALLS
from kaleido_tf.training.metrics import chance_level

TITLES = {
    "mlm": "Masked words (AMLM)",
    "itm": "Matching (ITM)",
    "rotation": "I Rotation",
    "jigsaw": "II Jigsaw",
    "camouflage": "III Camouflage",
    "grey": "IV Grey to colour",
    "blank": "V Blank to colour",
    "contrastive": "Alignment before fusion",
    "total": "Total",
}
DIRECTION_TITLES = {"itr": "Image to text (ITR)", "tir": "Text to image (TIR)"}


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a chart; the ground is transparent."""

    text: str
    grid: str
    ours: str
    train: str
    baseline: str
    chance: str


LIGHT = Theme("#1f2933", "#e3e8ee", "#1d5fd1", "#a9b8cf", "#d9822b", "#7b8794")
DARK = Theme("#dde4ec", "#303b49", "#79a8ff", "#566580", "#e8a35c", "#93a1b1")


@dataclasses.dataclass(frozen=True)
class Panel:
    """One loss or accuracy over the steps.

    Attributes:
      name: as in metrics.jsonl, without "loss/" or "accuracy/".
      kind: "loss" or "accuracy".
      validation, train: lists of (step, value).
      chance: accuracy of guessing, or None.
    """

    name: str
    kind: str
    validation: list
    train: list
    chance: float | None = None

    @property
    def title(self):
        return TITLES.get(self.name, self.name)

    @property
    def start(self):
        """(step, value) of the first validation."""
        return self.validation[0]

    @property
    def end(self):
        return self.validation[-1]


def panels(run, kind):
    """The `Panel`s of a run, in the paper's order.

    Args:
      run: `inputs.Run`.
      kind: "loss" or "accuracy".
    """
    prefix = f"{kind}/"
    names = {
        key[len(prefix) :]
        for row in run.validation
        for key in row
        if key.startswith(prefix)
    }
    order = list(TITLES)
    names = sorted(names, key=lambda n: (order.index(n) if n in order else 99, n))
    return [
        Panel(
            name,
            kind,
            _series(run.validation, prefix + name),
            _round_means(run.train, prefix + name),
            _chance(run, name) if kind == "accuracy" else None,
        )
        for name in names
    ]


def _series(rows, key):
    return [(row["step"], row[key]) for row in rows if key in row]


def _round_means(rows, key):
    """Training values are means over a round: they stand in its middle."""
    before, points = 0, []
    for row in rows:
        if key in row:
            points.append(((before + row["step"]) / 2, row[key]))
        before = row["step"]
    return points


def _chance(run, name):
    """Accuracy of guessing; of matching pairs by the more frequent answer."""
    if name == "itm":
        rate = run.flags.get("mismatch_rate", 0.5)
        return max(rate, 1 - rate)
    return chance_level(name)


def draw_panel(axes, panel, theme):
    """Validation as a line with its last value told, training lightly behind."""
    if panel.train:
        axes.plot(
            *zip(*panel.train, strict=True),
            color=theme.train,
            linewidth=1.3,
            label="training",
        )
    marker = "o" if len(panel.validation) < 3 else None
    axes.plot(
        *zip(*panel.validation, strict=True),
        color=theme.ours,
        linewidth=2,
        marker=marker,
        markersize=4,
        label="validation",
    )
    if panel.chance is not None:
        axes.axhline(
            panel.chance, color=theme.chance, linestyle=(0, (5, 4)), label="chance"
        )
    axes.plot(*panel.end, "o", color=theme.ours, markersize=5)
    accuracy = panel.kind == "accuracy"
    value = f"{panel.end[1]:.1%}" if accuracy else _short(panel.end[1])
    axes.annotate(
        value,
        panel.end,
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=theme.ours,
        fontweight="bold",
    )
    if accuracy:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _dress(axes, theme)


def _short(value):
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _dress(axes, theme):
    axes.set_facecolor("none")
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.text, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


@dataclasses.dataclass(frozen=True)
class Bars:
    """Recalls of one direction.

    Attributes:
      direction: "itr" or "tir".
      rows: list of (label, three recalls in percent, three deviations or None).
    """

    direction: str
    rows: list

    @property
    def title(self):
        return DIRECTION_TITLES[self.direction]


def recall_bars(retrieval, baseline):
    """`Bars` of both directions in the sampled protocol; `baseline` may be None."""
    result = []
    for direction in DIRECTIONS:
        rows = []
        for label, results in (("this run", retrieval), ("baseline", baseline)):
            if results is not None:
                figures = [results["sampled"][direction][key] for key in RECALLS]
                means = [one["mean"] for one in figures]
                rows.append((label, means, [one["std"] for one in figures]))
        chance = retrieval["sampled"][direction]["chance"]
        rows.append(("chance", [chance[key] for key in RECALLS], None))
        result.append(Bars(direction, rows))
    return result


def draw_bars(axes, bars, theme):
    """Grouped bars Rank@1, 5, 10 with their values."""
    colours = {
        "this run": theme.ours,
        "baseline": theme.baseline,
        "chance": theme.chance,
    }
    width = 0.8 / len(bars.rows)
    for index, (label, values, deviations) in enumerate(bars.rows):
        places = [group - 0.4 + width * (index + 0.5) for group in range(len(RECALLS))]
        axes.bar(
            places,
            values,
            width * 0.92,
            yerr=deviations,
            ecolor=theme.text,
            error_kw={"elinewidth": 1},
            color=colours[label],
            label=label,
        )
        tops = [v + (deviations[i] if deviations else 0) for i, v in enumerate(values)]
        for place, value, top in zip(places, values, tops, strict=True):
            axes.annotate(
                f"{value:.0f}" if value >= 10 else f"{value:.1f}",
                (place, top),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=theme.text,
            )
    axes.set_xticks(range(len(RECALLS)), [key.capitalize() for key in RECALLS])
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
    _legend(axes, theme, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    _dress(axes, theme)


def _legend(axes, theme, **place):
    axes.legend(
        frameon=False,
        labelcolor=theme.text,
        fontsize=10,
        handlelength=1.4,
        columnspacing=1.2,
        **place,
    )


def draw(axes, chart, theme):
    """Draws a `Panel` or `Bars`."""
    (draw_bars if isinstance(chart, Bars) else draw_panel)(axes, chart, theme)


def _inches(chart):
    return (4.4, 2.8) if isinstance(chart, Bars) else (3.4, 2.2)


def png(chart, theme):
    """One chart as PNG bytes on a transparent ground."""
    figure = Figure(figsize=_inches(chart), layout="constrained")
    draw(figure.subplots(), chart, theme)
    return _save(figure, transparent=True)


def sheet(charts, columns, theme=LIGHT):
    """Several charts with their titles in one PNG on white: bytes."""
    columns = min(columns, len(charts))
    rows = math.ceil(len(charts) / columns)
    width, height = _inches(charts[0])
    size = (width * columns, (height + 0.3) * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, chart in zip(grid, charts, strict=False):
        draw(axes, chart, theme)
        axes.set_title(chart.title, fontsize=11, color=theme.text, loc="left", pad=8)
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    if isinstance(charts[0], Panel):
        figure.supxlabel("step", fontsize=10, color=theme.text)
        # One legend for all: in the first panel that has every kind of line.
        known = [chart.chance is not None for chart in charts]
        place = known.index(True) if any(known) else 0
        _legend(grid[place], theme, loc="best")
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.08)
    return _save(figure, facecolor="white")


def _save(figure, **options):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180, **options)
    return buffer.getvalue()
