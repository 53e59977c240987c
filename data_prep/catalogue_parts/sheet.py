"""Contact sheet of a catalogue, to look at what was drawn."""

import json
import os

import cv2
import numpy as np

from data_prep.catalogue_parts.specs import GLOBAL

_COLUMNS, _PRODUCTS = 8, 40
_ZOOM = 2  # of the pictures, where the boxes are drawn
_BOX_COLOURS = (
    (0, 0, 255), (0, 160, 0), (255, 0, 0), (200, 0, 200), (0, 140, 255), (160, 160, 0),
)  # fmt: skip


def _read_lines(path: str) -> list:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _draw_boxes(picture, attributes) -> None:
    local = [
        (name, entry)
        for name, entry in sorted(attributes.items())
        if entry["parts"] and name not in GLOBAL and not name.endswith("_colour")
    ]
    for place, (name, entry) in enumerate(local):
        paint = _BOX_COLOURS[place % len(_BOX_COLOURS)]
        for box in entry["parts"]:
            x1, y1, x2, y2 = (v * _ZOOM for v in box)
            cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), paint, 1)
        x1, y1 = (v * _ZOOM for v in entry["box"][:2])
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, name, (x1, max(8, y1 - 1)), font, 0.3, paint, 1)


def _caption(picture, text: str) -> np.ndarray:
    strip = np.full((46, picture.shape[1], 3), 255, np.uint8)
    for row in range(3):
        line = text[row * 42 : row * 42 + 42]
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(strip, line, (2, 12 + 14 * row), font, 0.33, (0, 0, 0), 1)
    return np.concatenate([picture, strip])


def draw_sheet(folder: str, path: str, boxes: bool = False) -> int:
    """Writes a PNG with one view of up to 40 products spread over the catalogue.

    Args:
      folder: a finished catalogue.
      path: PNG to write.
      boxes: draws the rectangles of the located attributes too.

    Returns:
      Number of pictures on the sheet.
    """
    rows = _read_lines(os.path.join(folder, "manifest.jsonl"))
    truths = _read_lines(os.path.join(folder, "truth", "attributes.jsonl"))
    step = max(1, len(rows) // _PRODUCTS)
    cells = []
    for row, truth in list(zip(rows, truths, strict=True))[::step][:_PRODUCTS]:
        picture = cv2.imread(os.path.join(folder, row["image"]))
        if boxes:
            picture = cv2.resize(picture, None, fx=_ZOOM, fy=_ZOOM)
            _draw_boxes(picture, truth["attributes"])
        cells.append(_caption(picture, row["description"]))
    while len(cells) % _COLUMNS:
        cells.append(np.full_like(cells[0], 255))
    bands = [np.hstack(cells[i : i + _COLUMNS]) for i in range(0, len(cells), _COLUMNS)]
    if not cv2.imwrite(path, np.vstack(bands)):
        raise OSError(f"`sheet` should be a writable PNG path. Received: {path}")
    return min(len(rows[::step]), _PRODUCTS)
