"""Charts of a report: recalls of retrieval, as groups of bars."""

import dataclasses

from kaleido_tf.report import theme as themes
from kaleido_tf.report.inputs import DIRECTIONS, RECALLS

DIRECTION_TITLES = {"itr": "Image to text (ITR)", "tir": "Text to image (TIR)"}
# Label of an arm -> field of `Theme` with its colour.
_COLOURS = {
    "this run": "ours",
    "zero-shot": "ours",
    "fine-tuned": "tuned",
    "baseline": "baseline",
    "chance": "chance",
}


@dataclasses.dataclass(frozen=True)
class Bars:
    """Recalls of one direction.

    Attributes:
      direction: "itr" or "tir".
      rows: list of (label, three recalls in percent, three deviations or None).
    """

    direction: str
    rows: list

    inches = (4.4, 2.8)

    @property
    def title(self):
        return DIRECTION_TITLES[self.direction]

    def draw(self, axes, theme):
        """Grouped bars Rank@1, 5, 10 with their values."""
        width = 0.8 / len(self.rows)
        for index, (label, values, deviations) in enumerate(self.rows):
            places = [group - 0.4 + width * (index + 0.5) for group in range(3)]
            axes.bar(
                places,
                values,
                width * 0.92,
                yerr=deviations,
                ecolor=theme.text,
                error_kw={"elinewidth": 1},
                color=getattr(theme, _COLOURS[label]),
                label=label,
            )
            self._tell(axes, theme, places, values, deviations or (0, 0, 0))
        axes.set_xticks(range(len(RECALLS)), [key.capitalize() for key in RECALLS])
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)])
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12)}
        themes.legend(axes, theme, ncols=len(self.rows), **place)
        themes.dress(axes, theme)

    def _tell(self, axes, theme, places, values, deviations):
        # Many arms make narrow bars: no decimals there.
        small = 1 if len(self.rows) < 4 else 0
        for place, value, deviation in zip(places, values, deviations, strict=True):
            axes.annotate(
                f"{value:.0f}" if value >= 10 else f"{value:.{small}f}",
                (place, value + deviation),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=theme.text,
            )


def recall_bars(arms):
    """`Bars` of both directions in the sampled protocol, chance last.

    Args:
      arms: dict label -> results of retrieval, in order.
    """
    result = []
    for direction in DIRECTIONS:
        rows = []
        for label, results in arms.items():
            figures = [results["sampled"][direction][key] for key in RECALLS]
            means = [one["mean"] for one in figures]
            rows.append((label, means, [one["std"] for one in figures]))
        first = next(iter(arms.values()))
        chance = first["sampled"][direction]["chance"]
        rows.append(("chance", [chance[key] for key in RECALLS], None))
        result.append(Bars(direction, rows))
    return result
