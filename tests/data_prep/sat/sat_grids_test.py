"""Tests of the captioner's grids of features and how they are kept on disk."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from data_prep import sources
from data_prep.sat import sat_grids
from kaleido_tf.data.backbone import GRID_SIZES, build_backbone


@pytest.fixture(scope="module")
def extractor():
    return sat_grids.GridExtractor()


def _products(manifest):
    return sources.read_manifest(manifest, sources.SkipList())


def test_cached_grids_are_fresh_ones(catalogue, extractor, tmp_path, monkeypatch):
    monkeypatch.setattr(sat_grids, "_CHUNK", 3)
    products = _products(catalogue)
    cv2.imwrite(products[1].image_path, np.zeros((4, 4, 3), np.uint8))  # too small
    place = sat_grids.Placer(canvas_size=64)
    grids = sat_grids.cached_grids(products, tmp_path / "grids", place, extractor)
    assert list(grids.bad) == [1] and "under 8 x 8" in grids.bad[1]
    rows = [0, 2, 3, 7]
    placed = [place(cv2.imread(products[r].image_path)[..., ::-1].copy()) for r in rows]
    canvases, boxes = (np.stack(part) for part in zip(*placed, strict=True))
    fresh = extractor(canvases, boxes).numpy()
    taken = grids.take(rows)
    assert taken.dtype == np.float16 and taken.shape == (4, 14, 14, 112)
    np.testing.assert_allclose(taken, fresh, rtol=2e-2, atol=2e-2)
    assert np.std(fresh.astype(float)) > 0.1
    mean, spread = grids.statistics(rows)
    np.testing.assert_allclose(mean, taken.astype(float).mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(spread, taken.astype(float).std((0, 1, 2)), rtol=1e-3)


def test_cached_grids_are_kept(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(sat_grids, "_CHUNK", 3)
    products, folder = _products(catalogue), tmp_path / "grids"

    class Counting:
        channels, calls = 2, 0

        class backbone:
            describe = staticmethod(lambda: {"name": "counting"})

        def __call__(self, images, boxes):
            self.calls += 1
            return tf.ones([len(images), 14, 14, 2], tf.float16)

    extractor, place = Counting(), sat_grids.Placer(canvas_size=64)
    sat_grids.cached_grids(products, folder, place, extractor)
    assert extractor.calls == 3  # files of 3, 3 and 2 images
    sat_grids.cached_grids(products, folder, place, extractor)
    assert extractor.calls == 3
    (folder / "grids-00001.npy.json").unlink()  # as if it had been stopped there
    sat_grids.cached_grids(products, folder, place, extractor)
    assert extractor.calls == 4
    sat_grids.cached_grids(products, folder, sat_grids.Placer("kaleido"), extractor)
    assert extractor.calls == 7  # other boxes


def test_grid_follows_the_picture(extractor):
    rng = np.random.default_rng(4)
    small = rng.integers(0, 256, (1, 60, 60, 3)).astype(np.uint8)
    wide = np.full((1, 224, 224, 3), 128, np.uint8)
    moved = wide.copy()
    wide[:, 64:124, 64:124] = small
    moved[:, 96:156, 80:140] = small  # two cells down, one to the right
    before, after = (extractor.backbone.grid(x).numpy()[0] for x in (wide, moved))
    assert before.shape == (14, 14, 112)
    # Not the same to the last digit: a cell's field reaches the picture's borders.
    there = before[3:9, 3:9]
    moved_on = np.abs(after[5:11, 4:10] - there).mean()
    assert moved_on < 0.1 * np.abs(after[3:9, 3:9] - there).mean()


def test_grid_of_resnet50():
    backbone = build_backbone("resnet50", 32, weights="random")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    grid = backbone.grid(images)
    assert grid.shape == (2, 4, 4, GRID_SIZES["resnet50"])
    # The layers after the grid make the feature vector of it.
    model = backbone._network._model
    rest = tf_keras.Model(model.get_layer("conv4_block6_out").output, model.output)
    np.testing.assert_allclose(rest(grid), backbone(images), rtol=1e-4, atol=1e-5)
