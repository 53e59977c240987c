"""Mask -> locked box in graph: the same components and boxes as by OpenCV."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.data import locked_box
from kaleido_tf.data.locked_box import BoxRule

SIDE = 24
FULL = (0.0, 0.0, 1.0, 1.0)
RULE = BoxRule(margin=0.0)


@pytest.fixture(scope="module")
def labels_of():
    """`component_labels`, traced once for all sizes: -> numpy."""
    traced = tf.function(
        locked_box.component_labels,
        input_signature=[tf.TensorSpec([None, None, None], tf.bool)],
    )
    return lambda masks: traced(tf.constant(masks)).numpy()


@pytest.mark.parametrize("share", [0.2, 0.4, 0.45, 0.6])
def test_components_are_those_of_opencv(labels_of, share):
    masks = np.random.default_rng(0).random((3, 31, 17)) < share
    labels = labels_of(masks)
    for mask, its in zip(masks, labels, strict=True):
        count, expected = cv2.connectedComponents(mask.astype(np.uint8))
        pairs = set(zip(its.ravel(), expected.ravel(), strict=True))
        # A one-to-one map between their numbers and ours, background to background.
        assert len(pairs) == count == len({ours for ours, _ in pairs})
        assert (0, 0) in pairs


def test_component_of_a_long_snake_has_one_label(labels_of):
    mask = np.zeros((1, 33, 33), bool)
    mask[0, ::2] = True
    for row in range(1, 33, 2):
        mask[0, row, 32 if row % 4 == 1 else 0] = True
    labels = labels_of(mask)
    assert set(np.unique(labels)) == {0, labels.max()}
    # The label is the largest flat index of its pixels, plus 1.
    assert labels.max() == 1 + np.flatnonzero(mask).max()


def test_components_of_neighbours_in_a_batch_stay_apart(labels_of):
    labels = labels_of(np.ones((2, 3, 3), bool))
    assert set(labels[0].ravel()) == {9} and set(labels[1].ravel()) == {18}


def test_empty_masks(labels_of):
    assert not labels_of(np.zeros((2, 4, 5), bool)).any()


def lock(probabilities, inside=FULL, rule=RULE):
    boxes, found = locked_box.lock_boxes(
        tf.constant(probabilities[None], tf.float32), tf.constant([inside]), rule
    )
    return boxes[0].numpy(), bool(found[0])


def draw(*boxes):
    """Probabilities 0.9 in rectangles y1, x1, y2, x2, else 0.1: [SIDE, SIDE]."""
    probabilities = np.full((SIDE, SIDE), 0.1, np.float32)
    for y1, x1, y2, x2 in boxes:
        probabilities[y1:y2, x1:x2] = 0.9
    return probabilities


def test_box_of_one_object():
    box, found = lock(draw((6, 3, 18, 12)))
    assert found
    np.testing.assert_allclose(box, [0.25, 0.125, 0.75, 0.5], atol=1e-6)
    box, _ = lock(draw((6, 0, 18, 12)), rule=BoxRule(margin=0.05))
    np.testing.assert_allclose(box, [0.2, 0.0, 0.8, 0.55], atol=1e-6)


def test_specks_are_dropped_and_the_second_shoe_is_kept():
    shoes = (4, 2, 12, 8), (6, 14, 14, 20)
    box, _ = lock(draw(*shoes, (22, 22, 24, 24)))
    np.testing.assert_allclose(box * SIDE, [4, 2, 14, 20], atol=1e-5)


def test_threshold_decides():
    probabilities = draw((6, 6, 18, 18))
    assert lock(probabilities, rule=BoxRule(threshold=0.95))[1] is False
    probabilities[6:18, 18:20] = 0.5  # at the threshold belongs to the object
    np.testing.assert_allclose(lock(probabilities)[0] * SIDE, [6, 6, 18, 20], atol=1e-5)


@pytest.mark.parametrize(
    "boxes", [(), ((0, 0, SIDE, SIDE),), ((0, 0, 1, 1),)], ids=["none", "all", "dot"]
)
def test_whole_picture_where_nothing_is_found(boxes):
    box, found = lock(draw(*boxes))
    assert not found and box.tolist() == list(FULL)


def test_box_is_of_the_picture_and_not_of_its_canvas():
    # A picture twice as wide as high: it takes the middle half of the canvas.
    inside = (0.25, 0.0, 0.75, 1.0)
    object_and_repeated_edge = draw((9, 6, SIDE, 12))
    box, found = lock(object_and_repeated_edge, inside)
    assert found
    np.testing.assert_allclose(box, [0.25, 0.25, 1.0, 0.5], atol=1e-6)
    # What is beside the picture is no object.
    box, found = lock(draw((0, 6, 5, 12)), inside)
    assert not found and box.tolist() == list(FULL)
    # 95 % is of the picture's own pixels, half of the canvas's.
    assert not lock(draw((0, 0, SIDE, SIDE)), inside)[1]
