"""Masks by OpenCV: the same components and boxes as in graph; holes filled."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from data_prep.saliency_parts import saliency_masks
from kaleido_tf.data import locked_box
from kaleido_tf.data.locked_box import BoxRule

SIDE = 24
FULL = (0.0, 0.0, 1.0, 1.0)


def test_opencv_finds_the_same_boxes():
    rng = np.random.default_rng(1)
    noise = [cv2.GaussianBlur(rng.random((SIDE, SIDE)), (0, 0), 2) for _ in range(40)]
    probabilities = np.stack(noise).astype(np.float32) + 0.02
    rule = BoxRule(margin=0.03)
    boxes, found = locked_box.lock_boxes(
        tf.constant(probabilities), tf.constant([FULL] * len(noise)), rule
    )
    kept = locked_box.main_components(
        tf.constant(probabilities >= rule.threshold), rule.keep_share
    ).numpy()
    assert found.numpy().sum() > 20
    for index, picture in enumerate(probabilities):
        mask = picture >= rule.threshold
        theirs = saliency_masks.main_components(mask, rule.keep_share)
        np.testing.assert_array_equal(theirs, kept[index])
        box = saliency_masks.mask_box(mask, rule)
        assert (box is not None) == bool(found[index])
        if box is not None:
            np.testing.assert_allclose(box, boxes[index], atol=1e-6)


def test_small_holes_are_filled_but_no_bays_or_handles():
    mask = np.zeros((30, 30), bool)
    mask[2:28, 2:28] = True
    mask[8:11, 8:11] = False  # 9 of some 600 pixels: a hole
    mask[2:6, 20] = False  # a bay
    mask[14:24, 10:20] = False  # what a handle encloses
    filled = saliency_masks.fill_holes(mask)
    assert filled[8:11, 8:11].all()
    assert not filled[2:6, 20].any() and not filled[14:24, 10:20].any()
    assert filled.sum() == mask.sum() + 9
    assert saliency_masks.fill_holes(mask, max_hole=0.5)[14:24, 10:20].all()


@pytest.mark.parametrize("value", [False, True])
def test_plain_masks_stay(value):
    mask = np.full((5, 6), value)
    np.testing.assert_array_equal(saliency_masks.fill_holes(mask), mask)
    box = saliency_masks.mask_box(mask, BoxRule())
    assert box is None
