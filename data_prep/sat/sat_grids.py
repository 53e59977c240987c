"""Show, Attend and Tell's input: locked images as grids of CNN features, kept on disk.

The CNN stays frozen, so an image's grid is computed once, as float16, and every epoch
reads it from there. The locked image is the 1 x 1 patch of the patch generator, so the
grid and the patches of every level lie on the same picture: [0, 1] of the locked box.
"""

import hashlib
import json
import os
import time
from concurrent import futures

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import pictures, saliency
from data_prep.shards import placing
from kaleido_tf import files
from kaleido_tf.config import KaleidoLevel
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import patches

IMAGE_SIDE = 224
GRID = IMAGE_SIDE // backbone_lib.GRID_STRIDE
_WHOLE = (KaleidoLevel(level=1, grid=1, task="", masked=0),)
_CHUNK = 256  # images a file: what a stop loses at most
_BATCH = 16
_READERS = 4  # threads that decode pictures and lock boxes


class GridExtractor:
    """Images with their locked boxes -> grids of features.

    Args:
      backbone: "efficientnet_lite0" or "resnet50".
      weights: see `backbone.build_backbone`.

    Attributes:
      backbone: the `Backbone`.
      channels: C, numbers in a cell.
    """

    def __init__(self, backbone="efficientnet_lite0", weights=None):
        self.backbone = backbone_lib.build_backbone(backbone, IMAGE_SIDE, weights)
        self.channels = backbone_lib.GRID_SIZES[backbone]
        self._by_side = {}  # functions that compute, by the canvases' side

    def _grids(self, images, boxes):
        locked = patches.generate_patches(images, boxes, _WHOLE, IMAGE_SIDE)
        return tf.cast(self.backbone.grid(locked["patches"][:, 0]), tf.float16)

    def __call__(self, images, boxes):
        """Grids of a batch.

        Args:
          images: uint8 [B, S, S, 3] canvases, RGB.
          boxes: float32 [B, 4], locked boxes y1, x1, y2, x2 in [0, 1] of the canvas.

        Returns:
          float16 [B, 14, 14, C].
        """
        side = images.shape[1]
        if side not in self._by_side:
            shapes = [
                tf.TensorSpec([None, side, side, 3], tf.uint8),
                tf.TensorSpec([None, 4], tf.float32),
            ]
            self._by_side[side] = tf.function(self._grids, shapes)
        return self._by_side[side](images, np.asarray(boxes, np.float32))


class Placer:
    """Brings pictures onto canvases and locks their boxes, as data preparation does.

    Args:
      patch_arm: key of `PATCH_ARMS`; only "kaleido+saliency" looks for the object.
      canvas_size: side of the canvas in pixels.
      method, weights: see `saliency.make_locker`.
    """

    def __init__(
        self,
        patch_arm="kaleido+saliency",
        canvas_size=256,
        method=saliency.DEFAULT_METHOD,
        weights=None,
    ):
        self._arm, self._size = patch_arm, canvas_size
        locks = patch_arm == "kaleido+saliency"
        self._locker = saliency.make_locker(method, weights) if locks else None
        self._to_canvas = tf.function(
            lambda image: patches.to_canvas(image, canvas_size),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )

    def describe(self):
        """See `placing.describe`."""
        return placing.describe(self._arm, self._size, self._locker)

    def __call__(self, picture):
        """Picture uint8 [h, w, 3] -> (canvas uint8 [S, S, 3], box float32 [4])."""
        lock = self._locker and self._locker.lock
        return placing.place(picture, self._arm, self._to_canvas, lock)[:2]


class Grids:
    """The grids of a list of products, row by row, from files.

    Attributes:
      bad: dict row -> why its picture can't be read; such a row holds zeros.
    """

    def __init__(self, arrays, bad):
        self._arrays = arrays
        self.bad = bad

    def take(self, rows):
        """float16 [n, G, G, C] of some rows."""
        return np.stack([self._arrays[r // _CHUNK][r % _CHUNK] for r in rows])

    def statistics(self, rows):
        """Mean and standard deviation of every channel over some rows: float32 [C]."""
        values = self.take(rows).astype(np.float64)
        spread = values.std(axis=(0, 1, 2))
        mean = values.mean(axis=(0, 1, 2))
        return mean.astype(np.float32), np.maximum(spread, 1e-6).astype(np.float32)


def cached_grids(products, folder, place, extractor):
    """Computes the grids of products, or finds them in a folder.

    Args:
      products: list of `sources.Product`.
      folder: for the files, 44 KB an image with EfficientNet-Lite0. A run that was
        stopped goes on with what is missing; files of other pictures, boxes or weights
        are replaced.
      place: `Placer`.
      extractor: `GridExtractor`.

    Returns:
      `Grids`, one row a product.
    """
    os.makedirs(folder, exist_ok=True)
    made_by = json.dumps([place.describe(), extractor.backbone.describe()])
    arrays, bad, start = [], {}, time.time()
    for first in range(0, len(products), _CHUNK):
        chunk = products[first : first + _CHUNK]
        path = os.path.join(folder, f"grids-{first // _CHUNK:05d}.npy")
        source = made_by + placing.source_sha256(chunk)
        identity = hashlib.sha256(source.encode()).hexdigest()
        found = _chunk_bad(path, identity)
        if found is None:
            found = _write_chunk(path, identity, chunk, place, extractor)
            done = first + len(chunk)
            rate = done / (time.time() - start)
            logging.info(
                "grids of %d of %d images, %.1f images/s", done, len(products), rate
            )
        arrays.append(np.load(path, mmap_mode="r"))
        bad.update({first + int(row): reason for row, reason in found.items()})
    return Grids(arrays, bad)


def _chunk_bad(path, identity):
    """Unreadable rows of a whole chunk with this identity, or None."""
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            receipt = json.load(file)
        whole = receipt["identity"] == identity
        whole = whole and receipt["bytes"] == os.path.getsize(path)
        refused = (pictures.REFUSED in reason for reason in receipt["bad"].values())
        whole = whole and not any(refused)  # they may be there now
    except (OSError, ValueError, KeyError):
        return None
    return receipt["bad"] if whole else None


def _write_chunk(path, identity, products, place, extractor):
    """Computes one file and its receipt; gives its unreadable rows."""
    shape = (len(products), GRID, GRID, extractor.channels)
    values, bad, batch = np.zeros(shape, np.float16), {}, []
    with futures.ThreadPoolExecutor(_READERS) as pool:
        placed = [
            pool.submit(lambda read: place(read()), read)
            for _, read in pictures.pictures_of(products)
        ]
        for row, result in enumerate(placed):
            try:
                batch.append((row, *result.result()))
            except ValueError as error:
                bad[row] = f"{products[row].image_path}: {error}"
            if len(batch) == _BATCH or row == len(products) - 1:
                _fill(values, batch, extractor)
                batch = []
            placed[row] = None  # lets go of the picture
    if os.path.exists(f"{path}.json"):
        os.remove(f"{path}.json")
    with files.whole(path, "wb") as file:
        np.save(file, values)
    receipt = {"identity": identity, "bytes": os.path.getsize(path), "bad": bad}
    files.write_json(receipt, f"{path}.json", indent=None)
    return bad


def _fill(values, batch, extractor):
    """Computes a batch of (row, canvas, box) into its rows."""
    if not batch:
        return
    rows, canvases, boxes = zip(*batch, strict=True)
    values[list(rows)] = extractor(np.stack(canvases), np.stack(boxes)).numpy()
