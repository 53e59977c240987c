"""Tests of the captioner's grids of features and how they are kept on disk."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from data_prep import sat_grids, sources


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
