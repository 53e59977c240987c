"""The locked box: cleans a foreground mask by OpenCV and takes its box (section 3.2).

`kaleido_tf.data.locked_box` finds the same box in graph; here are the masks themselves,
with small holes filled, and boxes for networks that run outside of TensorFlow.
"""

import cv2
import numpy as np

WHOLE = (0.0, 0.0, 1.0, 1.0)
_MAX_HOLE = 0.02


def main_components(mask, keep_share):
    """Takes the specks out of a mask.

    Args:
      mask: bool [h, w].
      keep_share: components with at least this share of the largest one's pixels
        stay: two shoes are one product.

    Returns:
      bool [h, w].
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros(mask.shape, bool)
    areas = stats[:, cv2.CC_STAT_AREA]
    # As in graph, float32: both sides have to round alike.
    bound = np.float32(keep_share) * np.float32(areas[1:].max())
    kept = areas.astype(np.float32) >= bound
    kept[0] = False
    return kept[labels]


def fill_holes(mask, max_hole=_MAX_HOLE):
    """Fills small holes; a large one is the shape's own, such as a bag's handle.

    Args:
      mask: bool [h, w].
      max_hole: holes of up to this share of the mask's pixels are filled.

    Returns:
      bool [h, w].
    """
    # 4-connected background: where the mask is 8-connected, they can't cross.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4
    )
    filled = stats[:, cv2.CC_STAT_AREA] <= max_hole * np.count_nonzero(mask)
    filled[[0, labels[0, 0]]] = False  # the mask itself, and what reaches the rim
    return mask | filled[labels[1:-1, 1:-1]]


def clean_mask(probabilities, rule):
    """Foreground probabilities -> mask of the dominant object.

    Args:
      probabilities: float32 or bool [h, w].
      rule: `kaleido_tf.data.locked_box.BoxRule`.

    Returns:
      bool [h, w]: without specks and small holes.
    """
    return fill_holes(main_components(probabilities >= rule.threshold, rule.keep_share))


def mask_box(mask, rule):
    """Box of a mask's main components with a margin.

    Args:
      mask: bool [h, w].
      rule: `kaleido_tf.data.locked_box.BoxRule`.

    Returns:
      float32 [4], y1, x1, y2, x2 in [0, 1]; None where the components are too small
      or fill the picture.
    """
    kept = main_components(mask, rule.keep_share)
    if not kept.any() or not rule.min_area <= kept.mean() <= rule.max_area:
        return None
    left, top, width, height = cv2.boundingRect(kept.astype(np.uint8))
    rows, columns = mask.shape
    box = np.array(
        [
            top / rows - rule.margin,
            left / columns - rule.margin,
            (top + height) / rows + rule.margin,
            (left + width) / columns + rule.margin,
        ],
        np.float32,
    )
    return np.clip(box, 0.0, 1.0)
