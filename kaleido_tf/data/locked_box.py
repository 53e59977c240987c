"""Kaleido Patch Generator, its first step (section 3.2): foreground mask -> locked box.

In graph, so that data preparation and an exported signature lock the very same box.
`data_prep.saliency_parts` does the same by OpenCV for networks that run outside of
TensorFlow.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BoxRule:
    """How a foreground mask becomes the box of the dominant object.

    Attributes:
      threshold: foreground probability from which a pixel belongs to the object.
      keep_share: components with at least this share of the largest one's pixels
        belong to the product too: two shoes are one product.
      min_area, max_area: share of the picture that the kept components should cover;
        outside of it nothing was found, and the whole picture is the box.
      margin: added on each side of the box, in parts of the picture's side.
    """

    threshold: float = 0.5
    keep_share: float = 0.2
    min_area: float = 0.01
    max_area: float = 0.95
    margin: float = 0.005


def component_labels(masks):
    """Numbers the 8-connected components of masks.

    Args:
      masks: bool [B, h, w].

    Returns:
      int32 [B, h, w]: 0 outside of the masks; else 1 + the largest flat index, in
      [B, h, w], of the component's pixels.
    """
    shape = tf.shape(masks)
    numbers = tf.reshape(tf.range(1, tf.size(masks) + 1), shape)
    start = tf.where(masks, numbers, 0)

    def spread(labels, _):
        grown = tf.where(masks, _largest_of_neighbours(labels), 0)
        # A label is a pixel of the same component: taking over that pixel's label
        # doubles the reach of every round, so a spiral takes no more than a disc.
        flat = tf.concat([[0], tf.reshape(grown, [-1])], axis=0)
        jumped = tf.gather(flat, tf.gather(flat, grown))
        return jumped, tf.reduce_any(jumped != labels)

    labels, _ = tf.while_loop(
        lambda _, changed: changed, spread, (start, tf.constant(True))
    )
    return labels


def _largest_of_neighbours(labels):
    """Maximum over 3 x 3 pixels: int32 [B, h, w] of numbers from 0."""
    tall = tf.pad(labels, [[0, 0], [1, 1], [0, 0]])
    tall = tf.maximum(tf.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])
    wide = tf.pad(tall, [[0, 0], [0, 0], [1, 1]])
    return tf.maximum(tf.maximum(wide[..., :-2], wide[..., 1:-1]), wide[..., 2:])


def main_components(masks, keep_share):
    """Takes the specks out of masks.

    Args:
      masks: bool [B, h, w].
      keep_share: see `BoxRule`.

    Returns:
      bool [B, h, w], the components of at least that share of the image's largest.
    """
    labels = component_labels(masks)
    flat = tf.reshape(labels, [-1])
    areas = tf.math.unsorted_segment_sum(
        tf.cast(flat > 0, tf.int32), flat, tf.size(flat) + 1
    )
    areas = tf.gather(areas, labels)  # [B, h, w], of each pixel's component
    largest = tf.reduce_max(areas, axis=[1, 2], keepdims=True)
    bound = keep_share * tf.cast(largest, tf.float32)
    return masks & (tf.cast(areas, tf.float32) >= bound)


def lock_boxes(probabilities, insides, rule):
    """Boxes of the dominant objects on square canvases.

    Args:
      probabilities: float32 [B, s, s] of the foreground.
      insides: float32 [B, 4], each picture's own rectangle on its canvas (y1, x1, y2,
        x2 in [0, 1], see `patches.to_canvas`). What is outside of it, the repeated
        edge, doesn't count.
      rule: `BoxRule`.

    Returns:
      (float32 [B, 4] boxes y1, x1, y2, x2 in [0, 1] of the picture; bool [B], whether
      an object was found: where not, the box is the whole picture).
    """
    side = probabilities.shape[1]
    centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
    rows, columns = (
        (centres >= insides[:, None, k]) & (centres < insides[:, None, k + 2])
        for k in (0, 1)
    )  # [B, s] each
    pictures = rows[:, :, None] & columns[:, None, :]
    masks = main_components(
        (probabilities >= rule.threshold) & pictures, rule.keep_share
    )
    share = _count(masks) / tf.maximum(_count(pictures), 1.0)
    found = (share >= rule.min_area) & (share <= rule.max_area)
    top, bottom = _ends(tf.reduce_any(masks, axis=2))
    left, right = _ends(tf.reduce_any(masks, axis=1))
    boxes = tf.stack([top, left, bottom, right], axis=1)
    # [0, 1] of the canvas -> of the picture
    starts, sizes = insides[:, :2], insides[:, 2:] - insides[:, :2]
    boxes = (boxes - tf.tile(starts, [1, 2])) / tf.tile(sizes, [1, 2])
    boxes += rule.margin * tf.constant([-1.0, -1.0, 1.0, 1.0])
    whole = tf.constant([0.0, 0.0, 1.0, 1.0])
    return tf.where(found[:, None], tf.clip_by_value(boxes, 0.0, 1.0), whole), found


def _count(masks):
    return tf.reduce_sum(tf.cast(masks, tf.float32), axis=[1, 2])


def _ends(used):
    """Start and end of the used part of a line: bool [B, s] -> float32 [B] twice."""
    side = used.shape[1]
    first = tf.argmax(used, axis=1, output_type=tf.int32)
    last = tf.argmax(used[:, ::-1], axis=1, output_type=tf.int32)
    scale = np.float32(1 / side)
    return tf.cast(first, tf.float32) * scale, tf.cast(side - last, tf.float32) * scale
