"""A sheet of pictures with the boxes of several methods, to look at."""

import cv2
import numpy as np

_TILE, _COLUMNS, _STRIP = 120, 20, 14
_COLOURS = ((228, 87, 46), (0, 120, 255), (20, 160, 60), (160, 40, 200), (90, 90, 90))


def draw_sheet(pictures, boxes_of, agreement, path):
    """Writes all pictures with every method's box, least agreement first.

    Args:
      pictures: list of uint8 [h, w, 3] RGB.
      boxes_of: dict of method and its boxes, in the pictures' order.
      agreement: float [N], which orders the pictures and stands under them.
      path: PNG to write.
    """
    cells = []
    for index in np.argsort(agreement, kind="stable"):
        boxes = [boxes[index] for boxes in boxes_of.values()]
        cells.append(_cell(pictures[index], boxes, f"{agreement[index]:.2f}"))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    bands = [np.hstack(cells[i : i + _COLUMNS]) for i in range(0, len(cells), _COLUMNS)]
    sheet = np.vstack([_legend(list(boxes_of), bands[0].shape[1]), *bands])
    if not cv2.imwrite(path, sheet[..., ::-1]):
        raise OSError(f"`output_dir` should be writable. Received: {path}")


def _cell(picture, boxes, text):
    """A picture on a square tile with boxes: uint8 [side + strip, side, 3]."""
    scale = _TILE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    tile = np.full((_TILE + _STRIP, _TILE, 3), 255, np.uint8)
    tile[:height, :width] = cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA
    )
    for box, colour in zip(boxes, _COLOURS, strict=False):
        y1, x1, y2, x2 = np.round(
            box * [height - 1, width - 1, height - 1, width - 1]
        ).astype(int)
        cv2.rectangle(tile, (int(x1), int(y1)), (int(x2), int(y2)), colour, 1)
    place = (3, _TILE + _STRIP - 3)
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1)
    return tile


def _legend(names, width):
    strip = np.full((22, width, 3), 255, np.uint8)
    for index, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        place = (6 + 140 * index, 16)
        cv2.putText(strip, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
    return strip
