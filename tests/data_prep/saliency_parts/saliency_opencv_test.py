"""The locked box: found on plain and cluttered backgrounds, whole where nothing is."""

import cv2
import numpy as np
import pytest

from data_prep.saliency_parts import saliency_masks, saliency_opencv


def iou(box, truth):
    """Of boxes y1, x1, y2, x2."""
    top_left = np.maximum(box[:2], truth[:2])
    bottom_right = np.minimum(box[2:], truth[2:])
    common = np.prod(np.maximum(bottom_right - top_left, 0))
    areas = [np.prod(np.array(b[2:]) - np.array(b[:2])) for b in (box, truth)]
    return common / (sum(areas) - common)


def fraction(box, shape):
    return np.array(box, np.float64) / np.array([*shape[:2], *shape[:2]])


def contains(box, truth):
    return (box[:2] <= truth[:2] + 1e-3).all() and (box[2:] >= truth[2:] - 1e-3).all()


def clutter(height, width, seed=0):
    """A background of many greyish shapes and noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(300):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        grey = int(rng.integers(50, 210))
        cv2.circle(picture, centre, int(rng.integers(4, 14)), (grey, grey, grey), -1)
    noise = rng.normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


BOXES = [
    ((200, 160), (40, 30, 160, 120)),
    ((150, 300), (20, 180, 110, 260)),  # a wide picture, larger than the working size
    ((90, 60), (10, 12, 40, 40)),  # smaller than it
]


@pytest.mark.parametrize(("shape", "truth"), BOXES)
@pytest.mark.parametrize("background", [255, 210, 20])
def test_plain_background(draw_picture, shape, truth, background):
    picture = draw_picture(*shape, truth, background=background)
    box, method = saliency_opencv.lock_box(picture)
    assert method == "plain"
    assert box.dtype == np.float32
    true_box = fraction(truth, shape)
    assert contains(box, true_box)
    assert iou(box, true_box) > 0.6  # it has a margin of 3 % of the picture's sides
    without_margin = box + np.array([1, 1, -1, -1]) * saliency_opencv.RULE.margin
    assert iou(without_margin, true_box) > 0.85


def test_plain_background_with_noise_and_a_gradient(draw_picture):
    shape, truth = BOXES[0]
    picture = draw_picture(*shape, truth).astype(np.float64)
    picture += np.linspace(-6, 6, shape[1])[None, :, None]
    picture += np.random.default_rng(0).normal(0, 2, picture.shape)
    box, method = saliency_opencv.lock_box(np.clip(picture, 0, 255).astype(np.uint8))
    assert method == "plain"
    assert iou(box, fraction(truth, shape)) > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_cluttered_background(seed):
    shape, truth = (200, 160), (45, 40, 160, 115)
    picture = clutter(*shape, seed)
    picture[truth[0] : truth[2], truth[1] : truth[3]] = (200, 20, 40)
    box, method = saliency_opencv.lock_box(picture)
    assert method == "grabcut"
    true_box = fraction(truth, shape)
    assert contains(box, true_box)
    assert iou(box, true_box) > 0.65


@pytest.mark.parametrize(
    "truth", [(0, 30, 150, 120), (70, 0, 180, 90), (120, 60, 200, 160)]
)
def test_object_at_the_border(draw_picture, truth):
    box, method = saliency_opencv.lock_box(draw_picture(200, 160, truth))
    true_box = fraction(truth, (200, 160))
    assert method == "plain"
    assert contains(box, true_box)
    assert iou(box, true_box) > 0.75
    assert (box >= 0).all()
    assert (box <= 1).all()


def test_object_along_more_than_a_third_of_the_frame(draw_picture):
    """No background to tell it from: never a part of it, rather the whole picture."""
    truth = (50, 0, 200, 140)
    box, _ = saliency_opencv.lock_box(draw_picture(200, 160, truth))
    assert contains(box, fraction(truth, (200, 160)))


def test_a_pair_is_one_product_and_specks_are_none(draw_picture):
    picture = draw_picture(200, 200, (80, 20, 150, 80))
    picture[90:150, 120:180] = (200, 30, 60)
    picture[5:9, 5:9] = 0
    box, _ = saliency_opencv.lock_box(picture)
    truth = fraction((80, 20, 150, 180), picture.shape)
    assert contains(box, truth)
    assert iou(box, truth) > 0.75


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("shape", [(64, 64), (8, 300), (9, 8)])
def test_blank_picture_is_taken_whole(value, shape):
    box, method = saliency_opencv.lock_box(np.full((*shape, 3), value, np.uint8))
    assert method == "whole"
    assert box.tolist() == [0, 0, 1, 1]


def test_object_that_fills_the_picture(draw_picture):
    picture = draw_picture(100, 100, (1, 1, 99, 99))
    box, _ = saliency_opencv.lock_box(picture)
    assert iou(box, np.array([0, 0, 1, 1])) > 0.75


def test_same_picture_same_box():
    picture = clutter(120, 100)
    picture[30:90, 30:70] = (20, 200, 60)
    boxes = [saliency_opencv.lock_box(picture)[0].tolist() for _ in range(2)]
    assert boxes[0] == boxes[1]


def test_mask_box():
    mask = np.zeros((100, 200), bool)
    mask[20:60, 50:110] = True
    mask[80:84, 150:154] = True  # a speck, under a fifth of the largest part
    expected = [0.2 - 0.03, 0.25 - 0.03, 0.6 + 0.03, 0.55 + 0.03]
    rule = saliency_opencv.RULE
    np.testing.assert_allclose(saliency_masks.mask_box(mask, rule), expected, atol=1e-6)
    assert saliency_masks.mask_box(np.zeros((50, 50), bool), rule) is None
    assert saliency_masks.mask_box(np.ones((50, 50), bool), rule) is None
    small = np.zeros((100, 100), bool)
    small[50:55, 50:55] = True  # 0.25 % of the picture
    assert saliency_masks.mask_box(small, rule) is None
