"""CLI: one picture of how an image's words and patches are aligned (figure 4).

The locked image, and for each word that the captioner says and the text says too: the
word's heat map over the image and the patches of levels 3, 4 and 5 that are aligned
with it, found by the functions that data preparation calls.
"""

import dataclasses
import math
import os
import textwrap

import cv2
import matplotlib.patches
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from data_prep import alignment, pictures
from data_prep.sat import sat_grids, sat_words
from kaleido_tf import cli
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import patches

_COLUMNS = 5
_INCHES = 2.3  # side of a tile
_PIXELS = 336  # of a tile's picture
_FONT = 11
_PAPER = "#e8ecf0"
_COLOURS = {3: "#e4572e", 4: "#17bebb", 5: "#ffc914"}  # of a level's patch
_LEVELS = tuple(level for level in KALEIDO_LEVELS if level.masked)


@dataclasses.dataclass(frozen=True)
class AlignedWord:
    """A word of the text with its heat map.

    Attributes:
      word: str.
      attention: float32 [G * G].
      gate: how much the image counted for it, 0 to 1.
      pairs: list of (level number, rectangle y1, x1, y2, x2 in [0, 1], score).
    """

    word: str
    attention: np.ndarray
    gate: float
    pairs: list


def find_words(description, written, min_lift):
    """What `alignment` finds at levels 3, 4 and 5, with the heat maps.

    Args:
      description: `alignment.Description`.
      written: the text's words, list of str.
      min_lift: see `alignment.Aligner`.

    Returns:
      list of `AlignedWord` in the text's order: all words that description and text
      share, those without pairs too; of a word that comes twice, the first.
    """
    rectangles = patches.patch_rectangles(_LEVELS)
    level_of = patches.level_of_patch(_LEVELS)
    found = {}
    for place, said, pairs in alignment.aligned_words(
        description, written, _LEVELS, min_lift
    ):
        word = AlignedWord(
            written[place],
            description.attention[said],
            float(description.gates[said]),
            [(_LEVELS[level_of[p]].level, rectangles[p], score) for p, score in pairs],
        )
        found.setdefault(word.word, word)
    return list(found.values())


def heat_picture(locked, attention):
    """The locked image under a heat map: uint8 [S, S, 3].

    Args:
      locked: uint8 [S, S, 3] RGB.
      attention: float32 [G * G]; the colour tells its share of the map's maximum.
    """
    side = locked.shape[0]
    grid = int(round(math.sqrt(len(attention))))
    heat = attention.reshape(grid, grid) / max(float(attention.max()), 1e-12)
    heat = cv2.resize(
        heat.astype(np.float32), (side, side), None, 0, 0, cv2.INTER_CUBIC
    )
    heat = np.clip(heat, 0.0, 1.0)[..., None]
    colours = cv2.applyColorMap(
        np.round(heat[..., 0] * 255).astype(np.uint8), cv2.COLORMAP_TURBO
    )[..., ::-1]
    # The image stays to be seen where there is no attention, in grey.
    grey = np.repeat(locked.mean(axis=2, keepdims=True), 3, axis=2)
    shown = grey * (1 - 0.65 * heat) + colours * 0.65 * heat
    return np.round(shown).astype(np.uint8)


def make_figure(canvas, box, locked, description, text, words):
    """Draws it all: a matplotlib figure.

    Args:
      canvas: uint8 [S, S, 3]; box: float32 [4] on it; locked: uint8 [s, s, 3].
      description: `alignment.Description`.
      text: str, the product's own.
      words: list of `AlignedWord`.
    """
    count = len(words) + 1
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(
        figsize=(_INCHES * max(columns, 3), (_INCHES + 0.45) * rows + 1.3),
        layout="constrained",
        facecolor=_PAPER,
    )
    figure.suptitle(_caption(description, text, words, 24 * max(columns, 3)), **_TITLE)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    _show(axes[0], canvas, "image and locked box")
    _outline(axes[0], box, canvas.shape[0], "#333333")
    for place, word in enumerate(words, 1):
        picture = heat_picture(locked, word.attention)
        _show(axes[place], picture, f"{word.word}  (gate {word.gate:.2f})")
        for level, rectangle, _ in word.pairs:
            _outline(axes[place], rectangle, len(picture), _COLOURS[level])
    for empty in axes[count:]:
        empty.set_axis_off()
    handles = [
        matplotlib.patches.Patch(
            facecolor="none", edgecolor=colour, linewidth=2.5, label=f"level {level}"
        )
        for level, colour in _COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=3, fontsize=_FONT)
    return figure


# A text's "$" is no formula.
_TITLE = {"x": 0.01, "ha": "left", "fontsize": _FONT, "parse_math": False}


def _caption(description, text, words, width):
    """Both texts; words that are aligned stand in capitals."""
    aligned = {word.word for word in words if word.pairs}
    lines = []
    for name, said in (
        ("text", sat_words.split_texts([text])[0]),
        ("generated", description.words),
    ):
        shown = [word.upper() if word in aligned else word for word in said]
        lines += textwrap.wrap(f"{name}: {' '.join(shown)}", width)
    return "\n".join(lines)


def _show(axes, picture, title):
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(title, fontsize=_FONT, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")


def _outline(axes, rectangle, side, colour):
    top, left, bottom, right = np.asarray(rectangle) * side - 0.5
    axes.add_patch(
        matplotlib.patches.Rectangle(
            (left, top),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            linewidth=2.5,
        )
    )


def show_alignments(
    image,
    text,
    sat,
    output,
    min_lift=alignment.MIN_LIFT,
    saliency=None,
    saliency_weights=None,
    backbone_weights=None,
):
    """Writes the picture.

    Args: as the flags of the same names, see their help.

    Returns:
      list of `AlignedWord`.

    Raises:
      ValueError: an image that can't be read, an output that is no .png, or a network
        that locks boxes otherwise than the captioner's.
      FileNotFoundError: no trained captioner in `sat`.
    """
    if not output.lower().endswith(".png"):
        raise ValueError(f"`output` should end with .png. Received: {output!r}")
    try:
        picture = pictures.read_picture(image)
    except ValueError as error:
        raise ValueError(
            f"`image` should be a readable JPEG, PNG or WebP file. Received: {image}: "
            f"{error}"
        ) from error
    aligner = alignment.Aligner(
        sat, min_lift=min_lift, backbone_weights=backbone_weights
    )
    place = _placer(aligner.captioner.placing, saliency, saliency_weights)
    _check_placing(place, aligner.captioner.placing, saliency)
    canvas, box = place(picture)
    description = aligner.describe(canvas[None], box[None])[0]
    words = find_words(description, sat_words.split_texts([text])[0], min_lift)
    locked = patches.generate_patches(
        tf.constant(canvas[None]), box[None].astype(np.float32), _WHOLE, _PIXELS
    )["patches"][0, 0]
    locked = np.round(np.clip(locked, 0, 255)).astype(np.uint8)
    if folder := os.path.dirname(output):
        os.makedirs(folder, exist_ok=True)
    figure = make_figure(canvas, box, locked, description, text, words)
    figure.savefig(output, dpi=100)
    return words


_WHOLE = KALEIDO_LEVELS[:1]


def _placer(placing, method, weights):
    """The `sat_grids.Placer` by which a captioner's images were placed, or another."""
    trained = (placing["saliency"] or {}).get("method", "none")
    return sat_grids.Placer(
        placing["patch_arm"], placing["canvas_size"], method or trained, weights
    )


def _check_placing(place, placing, method):
    """Raises ValueError where boxes aren't locked as the captioner's, unless asked."""
    if method is None and place.describe() != placing:
        raise ValueError(
            "The box should be locked as the captioner's training pictures were: "
            f"{placing['saliency']}. Received: {place.describe()['saliency']} (name "
            "its network by --saliency_weights, or a method of your own by --saliency)"
        )


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Draws the heat maps of an image's words and their patches.")
    page.heading("Files")
    page.string("image", None, "JPEG, PNG or WebP file.", required=True)
    page.string("text", None, "What the product's text says.", required=True)
    page.string(
        "sat",
        None,
        "Folder of a trained captioner (data_prep.show_attend_tell).",
        required=True,
    )
    page.string("output", None, "PNG file to write.", required=True)
    page.heading("Alignment")
    page.float(
        "min_lift",
        alignment.MIN_LIFT,
        "Least weight in a patch, in multiples of what an even heat map gives it.",
        lower_bound=0.0,
    )
    page.string("saliency", None, "As for data_prep.prepare; default: the captioner's.")
    page.string("saliency_weights", None, "As for data_prep.prepare.")
    page.string("backbone_weights", None, "As for data_prep.show_attend_tell.")
    return page


def main(settings):
    """Draws with a dict of flags; prints what is aligned."""
    words = show_alignments(**settings)
    for word in words:
        where = ", ".join(f"level {level}: {mass:.2f}" for level, _, mass in word.pairs)
        print(f"{word.word}: {where} (gate {word.gate:.2f})")
    print(f"{len(words)} words aligned; written to {settings['output']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
