"""Charts of a report: losses and accuracies over the steps of a run."""

import dataclasses

from matplotlib.ticker import MaxNLocator, PercentFormatter

from kaleido_tf.report import theme as themes
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

    inches = (3.4, 2.2)

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

    def draw(self, axes, theme):
        """Validation as a line with its last value told, training lightly behind."""
        if self.train:
            line = {"color": theme.train, "linewidth": 1.3, "label": "training"}
            axes.plot(*zip(*self.train, strict=True), **line)
        line = {"color": theme.ours, "linewidth": 2, "label": "validation"}
        line |= {"marker": "o" if len(self.validation) < 3 else None, "markersize": 4}
        axes.plot(*zip(*self.validation, strict=True), **line)
        if self.chance is not None:
            dashes = {"color": theme.chance, "linestyle": (0, (5, 4))}
            axes.axhline(self.chance, label="chance", **dashes)
        axes.plot(*self.end, "o", color=theme.ours, markersize=5)
        self._tell_end(axes, theme)
        if self.kind == "accuracy":
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        themes.dress(axes, theme)

    def _tell_end(self, axes, theme):
        value = self.end[1]
        axes.annotate(
            f"{value:.1%}" if self.kind == "accuracy" else _short(value),
            self.end,
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=theme.ours,
            fontweight="bold",
        )


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


def _short(value):
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def sheet(charts, columns=3):
    """The panels of a kind in one PNG: bytes."""

    def finish(figure, grid, theme):
        figure.supxlabel("step", fontsize=10, color=theme.text)
        # One legend for all: in the first panel that has every kind of line.
        known = [chart.chance is not None for chart in charts]
        place = known.index(True) if any(known) else 0
        themes.legend(grid[place], theme, loc="best")

    return themes.sheet(charts, columns, finish=finish)
