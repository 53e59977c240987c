"""A report's product pictures: thumbnails, and sheets of them."""

import io
import json

import numpy as np
from PIL import Image

from kaleido_tf.report import inputs, pictures


def test_thumbnails(manifest):
    ids = ["red", "blue", "broken", "lost", "unnamed"]
    thumbnails = pictures.Thumbnails(inputs.picture_paths(str(manifest), ids), side=60)
    red = np.asarray(thumbnails.image("red"))
    assert red.shape == (60, 60, 3)
    assert (red[30, 30] == (250, 0, 0)).all()
    assert (red[10, 30] == 255).all()  # its aspect is kept, on white
    for image_id in ("broken", "lost", "unnamed"):
        grey = np.asarray(thumbnails.image(image_id))
        assert (grey[0, 0] == grey[0, 0, 0] - np.array([0, -5, -11])).all()
        assert len(np.unique(grey.reshape(-1, 3), axis=0)) > 5  # words are on it
    assert thumbnails.missing == {"broken", "lost", "unnamed"}


def test_sheet_frames_the_right_picture(manifest, retrieval):
    rows = json.loads(retrieval.read_text())["top_ranked"]["tir"][:1]
    paths = inputs.picture_paths(str(manifest), ["red", "blue"])
    thumbnails = pictures.Thumbnails(paths, side=60)
    sheet = Image.open(io.BytesIO(pictures.images_sheet(rows, thumbnails)))
    sheet = np.asarray(sheet.convert("RGB")).astype(int)
    rows_, columns = np.nonzero((sheet == pictures.RIGHT).all(axis=2))
    # Around the second tile: 60 + 12 to the right of the first, which starts at 12.
    assert columns.min() == 84 - 4 and columns.max() == 84 + 60 + 3
    assert rows_.max() - rows_.min() == 60 + 7
