"""Scores of masks and boxes against drawn truth, for `benchmarks.saliency`."""

import cv2
import numpy as np

_PLAIN_SPREAD = 4.0  # grey levels along a row of the background; drawn ones: <1 or >8
_SHADOW = 0.08  # of the side: what is nearer to the object may hold its shadow


def is_plain(picture, mask):
    """Whether the background is paper or a soft gradient from top to bottom.

    Args:
      picture: uint8 [h, w, 3].
      mask: bool [h, w], the object.
    """
    reach = 2 * round(_SHADOW * max(mask.shape)) + 1
    kernel = np.ones((reach, reach), np.uint8)
    outside = cv2.dilate(mask.astype(np.uint8), kernel) == 0
    rows = [
        pixels[seen].astype(np.float32).std(axis=0).max()
        for pixels, seen in zip(picture, outside, strict=True)
        if seen.sum() > 20
    ]
    return bool(rows) and float(np.mean(rows)) < _PLAIN_SPREAD


def box_iou(box, other):
    """Intersection over union of two boxes y1, x1, y2, x2: float."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    common = np.prod(np.maximum(high - low, 0.0))
    areas = [np.prod(b[2:] - b[:2]) for b in (box, other)]
    return float(common / (sum(areas) - common))


def mask_iou(mask, truth):
    """Intersection over union: bool [h', w'] and bool [h, w] -> float.

    A method that found nothing takes the whole picture.
    """
    if mask is None:
        return float(truth.mean())
    if mask.shape != truth.shape:
        size = truth.shape[::-1]
        grown = cv2.resize(
            mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR
        )
        mask = grown >= 0.5
    either = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / either if either else 1.0


def true_box(mask):
    """Bounds of a mask: bool [h, w] -> float32 [4], y1, x1, y2, x2 in [0, 1]."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    size = np.array(mask.shape * 2, np.float32)
    return np.array([top, left, top + height, left + width], np.float32) / size
