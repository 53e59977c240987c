"""The confusion matrix of a classifier as a picture."""

from matplotlib.figure import Figure

_INCHES_A_CLASS = 0.28
_MOST_LETTERS = 30  # of a name; the table has it whole


def shortened(name):
    """A class's name as it fits beside a picture: str."""
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def draw(names, counts, title, path):
    """Draws shares of each true class by predicted class; writes a PNG.

    Args:
      names: C names.
      counts: int [C, C], rows the truth, columns the prediction.
      title: str.
      path: of the file.
    """
    side = 3.0 + _INCHES_A_CLASS * max(len(names), 6)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / totals.clip(min=1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [shortened(name) for name in names]
    labels = [f"{n} ({t})" for n, t in zip(names, totals[:, 0], strict=True)]
    plain = {"fontsize": 7, "parse_math": False}  # a name's "$" is no formula
    axes.set_xticks(range(len(names)), names, rotation=90, **plain)
    axes.set_yticks(range(len(names)), labels, **plain)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (records)")
    axes.set_title(title, fontsize=9)
    _write_counts(axes, counts, shares)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="share of the true class")
    figure.savefig(path, dpi=110)


def _write_counts(axes, counts, shares):
    """Writes every count that isn't 0 into its cell."""
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        number = counts[row, column]
        place = {"ha": "center", "va": "center", "fontsize": 6}
        axes.text(column, row, number, color=colour, **place)
