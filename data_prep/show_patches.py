"""CLI: one picture of an image, its locked box and the patches cut from it.

Shows what data preparation sees, by its own functions: the canvas with the box
(`data_prep.saliency`), the patches of every level (`kaleido_tf.data.patches`), and the
variants that two of the corruptions take from the pixels: turned and grey patches.
"""

import os

import matplotlib.patches
import numpy as np
from matplotlib.figure import Figure

from data_prep import pictures, saliency
from data_prep.shards import placing
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS, level_offsets
from kaleido_tf.data import patches

_GAP = 0.02  # of a level's side, between its patches
_PAPER = (232, 236, 240)  # under the patches: white ones must stand out from it
_BOX_COLOUR = "#e4572e"
_FONT = 11
_TURNS = (90, 180, 270)
_INCHES = 2.4  # side of one tile in the picture


def lock(picture, patch_arm, canvas_size, locker=None):
    """A picture on its canvas with its locked box there, as `ShardWriter` does it.

    Args:
      picture: uint8 [h, w, 3] RGB.
      patch_arm: key of `PATCH_ARMS`; only "kaleido+saliency" looks for the object.
      canvas_size: side of the canvas in pixels.
      locker: `saliency.Locker`; the default method's if None.

    Returns:
      (uint8 [size, size, 3], float32 [4] box y1, x1, y2, x2 in [0, 1] of the canvas,
      name of the method that found it).
    """
    locker = locker or saliency.make_locker(saliency.DEFAULT_METHOD)
    canvas, box, method = placing.place(
        picture,
        patch_arm,
        lambda image: patches.to_canvas(image, canvas_size),
        locker.lock,
    )
    return canvas, box, method or "whole"


def mosaic(tiles, grid):
    """Puts a level's patches side by side with small gaps.

    Args:
      tiles: float32 or uint8 [grid**2, s, s, 3] in 0..255, row-major.
      grid: patches along one side.

    Returns:
      uint8 [S, S, 3] with gaps in the colour of the paper.
    """
    side = tiles.shape[1]
    gap = max(1, round(_GAP * side * grid))
    step = side + gap
    board = np.full((step * grid - gap, step * grid - gap, 3), _PAPER, np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, grid)
        rows = slice(row * step, row * step + side)
        columns = slice(column * step, column * step + side)
        board[rows, columns] = np.round(np.clip(tile, 0, 255)).astype(np.uint8)
    return board


def tile_rows(cut, levels):
    """What stands in the figure beside the picture: two lists of (label, mosaic).

    Args:
      cut: dict of numpy arrays, `patches.generate_patches` for one image, its batch
        axis taken off.
      levels: table of `KaleidoLevel`.
    """
    rows = [[], []]
    for level, start in zip(levels, level_offsets(levels), strict=True):
        tiles = cut["patches"][start : start + level.num_patches]
        label = f"{level.grid} x {level.grid}"
        rows[0].append((label, mosaic(tiles, level.grid)))
        if level.task == "rotation":
            turned = zip(_TURNS, cut["rotated"], strict=True)
            rows[1] += [
                (f"{label}, turned {degrees}°", mosaic(tile[None], 1))
                for degrees, tile in turned
            ]
        elif level.task == "grey":
            rows[1].append((f"{label}, grey", mosaic(cut["grey"], level.grid)))
    return [row for row in rows if row]


def make_figure(canvas, box, rows, title):
    """Draws canvas, box and rows of mosaics: a matplotlib figure."""
    widest = max(len(row) for row in rows)
    inches = _INCHES * 2 / len(rows)  # the canvas is as high as all rows together
    figure = Figure(
        figsize=(inches * (len(rows) + widest), inches * len(rows) + 0.55),
        layout="constrained",
        facecolor=np.array(_PAPER) / 255,
    )
    grid = figure.add_gridspec(len(rows), len(rows) + widest)
    _draw_canvas(figure.add_subplot(grid[:, : len(rows)]), canvas, box, title)
    for y, row in enumerate(rows):
        for x, (label, image) in enumerate(row):
            axes = figure.add_subplot(grid[y, len(rows) + x])
            axes.imshow(image, interpolation="antialiased")
            axes.set_title(label, fontsize=_FONT)
            axes.set_axis_off()
    return figure


def _draw_canvas(axes, canvas, box, title):
    size = canvas.shape[0]
    axes.imshow(canvas, interpolation="antialiased")
    top, left, bottom, right = box * size - 0.5  # pixel centres are at integers
    outline = matplotlib.patches.Rectangle(
        (left, top),
        right - left,
        bottom - top,
        fill=False,
        edgecolor=_BOX_COLOUR,
        linewidth=2.5,
        clip_on=False,
    )
    axes.add_patch(outline)
    axes.set_title(title, fontsize=_FONT, parse_math=False)  # "$" is no formula
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")


def show_patches(
    image,
    output,
    patch_arm,
    patch_size,
    canvas_size,
    saliency_method=saliency.DEFAULT_METHOD,
    saliency_weights=None,
):
    """Writes the picture.

    Args: as the flags of the same names (`--help`); `patch_arm` is `--patches`,
      `saliency_method` is `--saliency`.

    Returns:
      (box float32 [4] in [0, 1] of the canvas, the method that found it).

    Raises:
      ValueError: an image that can't be read, an output that is no .png, or weights
        that don't fit the method.
      FileNotFoundError: no such weights.
    """
    if not output.lower().endswith(".png"):
        raise ValueError(f"`output` should end with .png. Received: {output!r}")
    locker = saliency.make_locker(saliency_method, saliency_weights)
    try:
        picture = pictures.read_picture(image)
    except ValueError as error:
        raise ValueError(
            f"`image` should be a readable JPEG, PNG or WebP file. Received: {image}: "
            f"{error}"
        ) from error
    levels = PATCH_ARMS[patch_arm]
    canvas, box, method = lock(picture, patch_arm, canvas_size, locker)
    cut = patches.generate_patches(canvas[None], box[None], levels, patch_size)
    rows = tile_rows({key: value[0].numpy() for key, value in cut.items()}, levels)
    height, width = picture.shape[:2]
    title = f"{os.path.basename(image)}\n{width} x {height} pixels, box: {method}"
    if folder := os.path.dirname(output):
        os.makedirs(folder, exist_ok=True)
    make_figure(canvas, box, rows, title).savefig(output, dpi=120)
    return box, method


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Draws an image's locked box and its patches at every scale.")
    page.heading("Files")
    page.string("image", None, "JPEG, PNG or WebP file.", required=True)
    page.string("output", None, "PNG file to write.", required=True)
    page.heading("Patches")
    page.enum(
        "patches",
        "kaleido+saliency",
        list(PATCH_ARMS),
        "fixed: one 8 x 8 grid over the picture. kaleido: 55 patches at five scales. "
        "kaleido+saliency: the same within the locked box of the object.",
    )
    page.integer("patch_size", 96, "Side of a patch, pixels.", lower_bound=8)
    page.integer(
        "canvas_size",
        256,
        "Side that the picture is brought to first, pixels.",
        lower_bound=32,
    )
    page.heading("Locked box")
    page.enum(
        "saliency",
        saliency.DEFAULT_METHOD,
        list(saliency.METHODS),
        "What finds the object, with kaleido+saliency; see data_prep.prepare.",
    )
    page.string(
        "saliency_weights",
        None,
        "Its network, if not the packaged U-Net: folder or file.",
    )
    return page


def main(settings):
    """Draws with a dict of flags; prints where the box is."""
    settings["patch_arm"] = settings.pop("patches")
    settings["saliency_method"] = settings.pop("saliency")
    box, method = show_patches(**settings)
    corners = ", ".join(f"{value:.3f}" for value in box)
    print(f"box (y1, x1, y2, x2 of the canvas) {corners}, found by: {method}")
    print(f"Written to {settings['output']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
