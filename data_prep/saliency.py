"""The locked box: where the dominant object of a product picture is (section 3.2).

Two methods by OpenCV, tried in this order: on a plain background, what differs from
the colour of the border; else GrabCut, started from a centred rectangle. Where neither
finds an object of sensible size the whole picture is the box.
"""

import cv2
import numpy as np

METHODS = ("plain", "grabcut", "whole")
_WORK_SIDE = 128  # GrabCut's cost grows with the pixels; a box needs no more
_PLAIN_SPREAD = 14.0  # border grey levels: more than this is no plain background
_PLAIN_DISTANCE = 16.0  # colour distance of an object's pixel from the border's colour
_MIN_AREA, _MAX_AREA = 0.01, 0.95
_MARGIN = 0.03  # of the picture's side, added around the box


def lock_box(image):
    """Finds the box of the dominant object.

    Args:
      image: uint8 [h, w, 3] RGB.

    Returns:
      (float32 [4] y1, x1, y2, x2 in [0, 1] of the image; the name out of `METHODS`
      of the method that found it).
    """
    scale = _WORK_SIDE / max(image.shape[:2])
    size = [max(8, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for name, method in (("plain", plain_mask), ("grabcut", grabcut_mask)):
        mask = method(small)
        box = None if mask is None else mask_box(mask)
        if box is not None:
            return box, name
    return np.array([0, 0, 1, 1], np.float32), "whole"


def _border(image):
    """Pixels of the frame around an image: [n, 3] float32."""
    width = max(1, round(0.02 * min(image.shape[:2])))
    parts = (image[:width], image[-width:], image[:, :width], image[:, -width:])
    return np.concatenate([p.reshape(-1, 3) for p in parts]).astype(np.float32)


def plain_mask(image):
    """Foreground before a plain background: bool [h, w], or None if it isn't plain."""
    border = _border(image)
    colour = np.median(border, axis=0)
    # The object itself may touch the frame: look at the calmer two thirds of it.
    distance = np.abs(border - colour).max(axis=1)
    if np.quantile(distance, 0.66) > _PLAIN_SPREAD:
        return None
    blurred = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32)
    return np.abs(blurred - colour).max(axis=2) > _PLAIN_DISTANCE


def grabcut_mask(image, iterations=3):
    """Foreground by GrabCut from a centred rectangle: bool [h, w], or None."""
    height, width = image.shape[:2]
    top, left = round(0.06 * height), round(0.06 * width)
    rectangle = (left, top, width - 2 * left, height - 2 * top)
    mask = np.zeros((height, width), np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            mask,
            rectangle,
            background,
            foreground,
            iterations,
            cv2.GC_INIT_WITH_RECT,
        )
    except cv2.error:  # a picture of one colour has no two models
        return None
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def mask_box(mask):
    """Box of a mask's largest component with a margin: float32 [4], or None.

    Args:
      mask: bool [h, w].

    Returns:
      y1, x1, y2, x2 in [0, 1]; None where the component is too small or fills the
      picture.
    """
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    if count < 2:
        return None
    # Two shoes are one product: keep every component of a fifth of the largest.
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = stats[1:][areas >= 0.2 * areas.max()]
    if not _MIN_AREA <= kept[:, cv2.CC_STAT_AREA].sum() / mask.size <= _MAX_AREA:
        return None
    left, top = kept[:, 0].min(), kept[:, 1].min()
    right = (kept[:, 0] + kept[:, 2]).max()
    bottom = (kept[:, 1] + kept[:, 3]).max()
    height, width = mask.shape
    box = np.array(
        [
            top / height - _MARGIN,
            left / width - _MARGIN,
            bottom / height + _MARGIN,
            right / width + _MARGIN,
        ],
        np.float32,
    )
    return np.clip(box, 0.0, 1.0)
