"""The locked box without a network: plain backgrounds and GrabCut (section 3.2).

Two methods by OpenCV, tried in this order: on a plain background, what differs from
the colour of the border; else GrabCut, started from a centred rectangle. Where neither
finds an object of sensible size the whole picture is the box.
"""

import cv2
import numpy as np

from data_prep.saliency_parts import saliency_masks
from kaleido_tf.data.locked_box import BoxRule

METHODS = ("plain", "grabcut", "whole")
# The margin is wide, as these masks are rough.
RULE = BoxRule(keep_share=0.2, min_area=0.01, max_area=0.95, margin=0.03)
_WORK_SIDE = 128  # GrabCut's cost grows with the pixels; a box needs no more
_PLAIN_SPREAD = 14.0  # border grey levels: more than this is no plain background
_PLAIN_DISTANCE = 16.0  # colour distance of an object's pixel from the border's colour


def lock_box(image):
    """Finds the box of the dominant object.

    Args:
      image: uint8 [h, w, 3] RGB.

    Returns:
      (float32 [4] y1, x1, y2, x2 in [0, 1] of the image; the name out of `METHODS`
      of the method that found it).
    """
    _, box, method = find_mask(image)
    return box, method


def find_mask(image):
    """The box with the mask that it was taken from.

    Args:
      image: uint8 [h, w, 3] RGB.

    Returns:
      (bool [h', w'] at a working size, or None where the method is "whole"; box and
      method as in `lock_box`).
    """
    scale = _WORK_SIDE / max(image.shape[:2])
    size = [max(8, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for name, method in (("plain", plain_mask), ("grabcut", grabcut_mask)):
        mask = method(small)
        mask = None if mask is None else smooth(mask)
        box = None if mask is None else saliency_masks.mask_box(mask, RULE)
        if box is not None:
            return mask, box, name
    return None, np.array(saliency_masks.WHOLE, np.float32), "whole"


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


def smooth(mask):
    """Takes thin lines off a mask and closes small gaps: bool [h, w] both."""
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    return cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
