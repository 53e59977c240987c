"""Kaleido Patch Generator: every patch comes from its own rectangle."""

import types

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import FIXED_LEVELS, KALEIDO_LEVELS
from kaleido_tf.data import patches

# (rows, columns of the picture), box y1, x1, y2, x2 in pixels, patch size. The finest
# grid is 5: the box is shrunk, kept (at level 5), enlarged, and all of it a little.
GEOMETRIES = [
    ((90, 70), (8, 3, 86, 66), 9),
    ((80, 80), (8, 13, 68, 73), 12),
    ((50, 50), (11, 6, 41, 30), 40),
    ((64, 64), (0, 0, 64, 64), 11),
]


def fraction(size, box):
    return np.array([box], np.float32) / np.array([*size, *size], np.float32)


def position_pictures(size, count=3):
    """Red is the column, green the row, blue the picture's number (in tens)."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack(
        [np.stack([columns, rows, 0 * rows + 10 * n], axis=-1) for n in range(count)]
    )


def rectangles_by_hand(levels):
    return [
        (row / level.grid, column / level.grid, 1 / level.grid)
        for level in levels
        for row in range(level.grid)
        for column in range(level.grid)
    ]


def test_there_are_55_rectangles_in_row_major_order():
    found = patches.patch_rectangles(KALEIDO_LEVELS)
    assert found.shape == (55, 4)
    by_hand = [
        (y, x, y + side, x + side) for y, x, side in rectangles_by_hand(KALEIDO_LEVELS)
    ]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    # The second patch of level 3 lies right of the first, the fourth below it.
    np.testing.assert_allclose(found[6], [0, 1 / 3, 1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(found[8], [1 / 3, 0, 2 / 3, 1 / 3], atol=1e-6)


@pytest.mark.parametrize("levels", [KALEIDO_LEVELS, FIXED_LEVELS])
def test_locations_are_the_rectangles(levels):
    locations = patches.patch_locations(levels)
    assert locations.dtype == np.float32
    by_hand = [
        (x, x + side, y, y + side, side**2) for y, x, side in rectangles_by_hand(levels)
    ]
    np.testing.assert_allclose(locations, by_hand, atol=1e-6)


def test_level_of_patch():
    expected = [0] + [1] * 4 + [2] * 9 + [3] * 16 + [4] * 25
    assert patches.level_of_patch(KALEIDO_LEVELS).tolist() == expected


@pytest.mark.parametrize(("size", "box", "patch_size"), GEOMETRIES)
@pytest.mark.parametrize("levels", [KALEIDO_LEVELS, FIXED_LEVELS])
def test_patches_show_their_rectangles(levels, size, box, patch_size):
    pictures = position_pictures(size)
    boxes = np.repeat(fraction(size, box), len(pictures), axis=0)
    cut = patches.generate_patches(pictures, boxes, levels, patch_size)["patches"]
    by_hand = rectangles_by_hand(levels)
    assert cut.shape == (3, len(by_hand), patch_size, patch_size, 3)
    height, width = box[2] - box[0], box[3] - box[1]
    for place, (y, x, side) in enumerate(by_hand):
        column = box[1] + (x + side / 2) * width - 0.5
        row = box[0] + (y + side / 2) * height - 0.5
        for n, picture in enumerate(cut[:, place].numpy()):
            centre = picture.mean(axis=(0, 1))
            np.testing.assert_allclose(centre, [column, row, 10 * n], atol=0.5)
            # Across the patch the position grows by the patch's extent.
            grown = (picture[-1, -1] - picture[0, 0])[:2]
            extent = np.array([width, height]) * side * (1 - 1 / patch_size)
            np.testing.assert_allclose(grown, extent, rtol=0.03, atol=1)


def test_a_picture_of_the_finest_size_is_cut_without_resampling():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 3), np.uint8)
    boxes = np.tile([patches.FULL_BOX], [3, 1])
    cut = patches.generate_patches(pictures, boxes, KALEIDO_LEVELS, 12)["patches"]
    for row in range(5):
        for column in range(5):
            expected = pictures[:, 12 * row :, 12 * column :][:, :12, :12]
            found = cut[:, 30 + 5 * row + column]
            np.testing.assert_allclose(found, expected, atol=0.05)


def test_shrinking_leaves_no_pixel_out():
    """Stripes of one pixel become grey, not stripes of another width."""
    stripes = np.zeros((1, 96, 96, 3), np.uint8)
    stripes[:, :, ::2] = 200
    for levels, size in ((KALEIDO_LEVELS[:1], 20), (KALEIDO_LEVELS, 8)):
        boxes = np.array([patches.FULL_BOX])
        cut = patches.generate_patches(stripes, boxes, levels, size)["patches"]
        inner = cut[:, :1, 2:-2, 2:-2]
        np.testing.assert_allclose(inner, 100, atol=12)


def test_variants_of_level_1_and_level_4():
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    boxes = np.repeat(fraction((40, 40), (3, 5, 37, 40)), 3, axis=0)
    cut = patches.generate_patches(pictures, boxes, KALEIDO_LEVELS, 9)
    whole, level_4 = cut["patches"][:, 0].numpy(), cut["patches"][:, 14:30].numpy()
    assert cut["rotated"].shape == (3, 3, 9, 9, 3)
    for n in range(3):
        for turns in (1, 2, 3):
            turned = np.rot90(whole[n], turns)  # counter-clockwise
            np.testing.assert_array_equal(cut["rotated"][n, turns - 1], turned)
    grey = cut["grey"].numpy()
    assert grey.shape == (3, 16, 9, 9, 3)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    luma = level_4 @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], luma, atol=1e-3)


def test_fixed_arm_has_one_level_and_no_variants():
    cut = patches.generate_patches(
        position_pictures((40, 40)),
        np.tile([patches.FULL_BOX], [3, 1]),
        FIXED_LEVELS,
        5,
    )
    assert list(cut) == ["patches"]
    np.testing.assert_allclose(
        cut["patches"][2, 11], position_pictures((40, 40))[2, 5:10, 15:20], atol=1e-3
    )


def test_the_same_in_tf_data():
    size, box, patch_size = GEOMETRIES[0]
    pictures = position_pictures(size).astype(np.uint8)
    boxes = np.repeat(fraction(size, box), 3, axis=0)
    eager = patches.generate_patches(pictures, boxes, KALEIDO_LEVELS, patch_size)
    data = tf.data.Dataset.from_tensor_slices((pictures, boxes)).batch(3)
    data = data.map(
        lambda p, b: patches.generate_patches(p, b, KALEIDO_LEVELS, patch_size)
    )
    assert data.element_spec["patches"].shape.as_list() == [None, 55, 9, 9, 3]
    mapped = next(iter(data))
    assert set(mapped) == {"patches", "rotated", "grey"}
    for key, value in mapped.items():
        np.testing.assert_allclose(value, eager[key], atol=1e-3)


class MeanBackbone(types.SimpleNamespace):
    """Mean colour and first value of each patch; notes the sizes it was given."""

    def __init__(self):
        super().__init__(patch_size=7, feature_size=4, seen=[])

    def __call__(self, pixels):
        self.seen.append(tuple(pixels.shape[:2]))
        mean = tf.reduce_mean(pixels, axis=[1, 2])
        return tf.concat([mean, pixels[:, 0, 0, :1]], axis=1)


@pytest.fixture
def noise():
    """Three pictures of noise and their boxes."""
    pictures = np.random.default_rng(2).integers(0, 256, (3, 40, 40, 3), np.uint8)
    return pictures, np.repeat(fraction((40, 40), (3, 5, 37, 40)), 3, axis=0)


def assert_features(found, pixels):
    assert found.shape == (3, pixels.shape[1], 4)
    for n in range(3):
        np.testing.assert_allclose(found[n], MeanBackbone()(pixels[n]), atol=1e-3)


@pytest.mark.parametrize("coarse", [0, 5])
def test_features_keep_the_order_of_patches_and_variants(noise, coarse):
    backbone = MeanBackbone()
    features = patches.image_features(*noise, KALEIDO_LEVELS, backbone, coarse)
    assert backbone.seen == [(3 * 74, 7)]  # all together
    cut = patches.generate_patches(*noise, KALEIDO_LEVELS, 7)
    assert_features(features["patch_features"], cut["patches"])
    assert_features(features["rotated_features"], cut["rotated"])
    assert_features(features["grey_features"], cut["grey"])


def test_features_with_a_larger_patch_of_level_1(noise):
    backbone = MeanBackbone()
    features = patches.image_features(*noise, KALEIDO_LEVELS, backbone, 11)
    assert backbone.seen == [(3 * 4, 11), (3 * 70, 7)]
    coarse = patches.generate_patches(*noise, KALEIDO_LEVELS[:1], 11)
    fine = patches.generate_patches(*noise, KALEIDO_LEVELS[1:], 7)
    assert_features(features["patch_features"][:, :1], coarse["patches"])
    assert_features(features["rotated_features"], coarse["rotated"])
    assert_features(features["patch_features"][:, 1:], fine["patches"])
    assert_features(features["grey_features"], fine["grey"])


def test_features_of_the_fixed_arm(noise):
    backbone = MeanBackbone()
    features = patches.image_features(*noise, FIXED_LEVELS, backbone, 11)
    assert backbone.seen == [(3 * 64, 7)]
    cut = patches.generate_patches(*noise, FIXED_LEVELS, 7)["patches"]
    assert_features(features["patch_features"], cut)
    assert features["rotated_features"].shape == (3, 0, 4)
    assert features["grey_features"].shape == (3, 0, 4)


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((20, 40), (0.25, 0.0, 0.75, 1.0)),  # wide
        ((30, 10), (0.0, 5 / 16, 1.0, 10 / 16)),  # tall: 5 columns of 16
        ((9, 9), (0.0, 0.0, 1.0, 1.0)),  # enlarged
        ((8, 400), (7 / 16, 0.0, 8 / 16, 1.0)),  # one row is left
    ],
)
def test_canvas(shape, inside):
    picture = np.zeros([*shape, 3], np.uint8)
    picture[..., 0] = np.linspace(20, 220, shape[0])[:, None]
    picture[..., 1] = np.linspace(20, 220, shape[1])[None, :]
    canvas, found = patches.to_canvas(picture, 16)
    assert canvas.dtype == tf.uint8
    np.testing.assert_allclose(found, inside, atol=1e-6)
    top, left, bottom, right = (np.array(inside) * 16).astype(int)
    canvas = canvas.numpy().astype(int)
    # Outside of the picture its edges are repeated.
    for row in range(16):
        for column in range(16):
            near = canvas[
                np.clip(row, top, bottom - 1), np.clip(column, left, right - 1)
            ]
            np.testing.assert_array_equal(canvas[row, column], near)
    shown = canvas[top:bottom, left:right]
    for axis, length in enumerate(shown.shape[:2]):
        # Pixel centres of the canvas within the picture, whose ramp has `before` steps.
        before = shape[axis]
        places = (np.arange(length) + 0.5) * before / length - 0.5
        ramp = 20 + 200 * np.clip(places, 0, before - 1) / (before - 1)
        found = shown[..., axis].mean(axis=1 - axis)
        np.testing.assert_allclose(found, ramp, atol=6)


def test_a_box_at_the_border_has_no_black_edge():
    # Sampling beyond the last pixel by a rounding error gave black rows and columns.
    rng = np.random.default_rng(3)
    boxes = np.concatenate([rng.uniform(0, 0.5, (99, 2)), np.ones((99, 2))], axis=1)
    white = np.full((1, 256, 256, 3), 255, np.uint8)
    for side in (160, 256, 320):
        locked = patches._lock(white.repeat(99, axis=0), boxes.astype(np.float32), side)
        assert tf.reduce_min(locked) > 254.9
