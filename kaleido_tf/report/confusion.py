"""Charts of a report: the confusion matrix of a classifier."""

import dataclasses

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from kaleido_tf.tasks import classification_metrics
from kaleido_tf.tasks.confusion_picture import shortened

_MOST = 24  # classes shown; the rest goes into one row and column
_MOST_NUMBERS = 15  # classes up to which every cell carries its count


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Shares of each true class by predicted class.

    Attributes:
      title: str.
      names: list of C names, most frequent first.
      counts: int [C, C], rows the truth, columns the prediction.
    """

    title: str
    names: list
    counts: np.ndarray

    @classmethod
    def of(cls, title, results):
        """Of the content of category.json or subcategory.json."""
        truth, predicted = [], []
        right = {row["name"]: row["support"] for row in results["classes"]}
        for true, given, count in results["confusions"]:
            truth += [true] * count
            predicted += [given] * count
            right[true] -= count
        for name, count in right.items():
            truth += [name] * count
            predicted += [name] * count
        return cls(
            title, *classification_metrics.confusion_matrix(truth, predicted, _MOST)
        )

    @property
    def inches(self):
        side = 2.4 + 0.26 * max(len(self.names), 6)
        return side + 0.4, side

    def draw(self, axes, theme):
        """A square of cells; in a small one each carries its count."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares = self.counts / totals.clip(min=1)
        colours = LinearSegmentedColormap.from_list("cells", theme.cells)
        axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
        places = range(len(self.names))
        names = [shortened(name) for name in self.names]
        labels = [f"{n} ({t})" for n, t in zip(names, totals[:, 0], strict=True)]
        # A name's "$" is no formula.
        axes.set_xticks(places, names, rotation=90, parse_math=False)
        axes.set_yticks(places, labels, parse_math=False)
        axes.set_xlabel("predicted", color=theme.text, fontsize=9)
        axes.set_ylabel("true (records)", color=theme.text, fontsize=9)
        axes.tick_params(colors=theme.text, labelsize=8, length=0)
        for spine in axes.spines.values():
            spine.set_color(theme.grid)
        if len(self.names) <= _MOST_NUMBERS:
            self._write_counts(axes, shares, theme)

    def _write_counts(self, axes, shares, theme):
        for row, column in zip(*self.counts.nonzero(), strict=True):
            colour = theme.cells[0] if shares[row, column] > 0.5 else theme.text
            place = {"ha": "center", "va": "center", "fontsize": 7}
            axes.text(column, row, int(self.counts[row, column]), color=colour, **place)
