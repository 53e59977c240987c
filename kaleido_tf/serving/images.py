"""Served graph, station "bytes -> patch features": data preparation's own functions.

Decode, canvas, locked box, patches, backbone, float16: what `data_prep.shard_writer`
does to a file, done to the bytes of a request.
"""

import dataclasses

import tensorflow as tf

from kaleido_tf.data import patches, pictures
from kaleido_tf.serving import requests

_CHUNK = 16  # images whose patches go through the backbone together


class ImageLine(tf.Module):
    """Pictures -> patch features.

    Args:
      levels: table of `KaleidoLevel`.
      canvas_size, coarse_patch_size: as the data set was prepared with.
      backbone: `Backbone`.
      saliency: `SaliencyNet`, or None: the box is the whole picture.
      max_pixels: larger pictures are refused.
    """

    def __init__(
        self,
        levels,
        canvas_size,
        coarse_patch_size,
        backbone,
        saliency=None,
        max_pixels=pictures.MAX_PIXELS,
    ):
        super().__init__(name="image_line")
        # Without tasks there are no rotated and grey variants, which only training has.
        self._levels = tuple(
            dataclasses.replace(level, task="served") for level in levels
        )
        self.locations = patches.patch_locations(levels)
        self.num_patches, self.feature_size = len(self.locations), backbone.feature_size
        self._canvas_size = canvas_size
        self._coarse_patch_size = coarse_patch_size
        self._backbone, self._max_pixels = backbone, max_pixels
        self._saliency = saliency

    def __call__(self, image_bytes):
        """Features of a request's pictures.

        Args:
          image_bytes: string [B], JPEG, PNG or WebP files.

        Returns:
          dict: `patch_features` float32 [B, P, F]; `box` float32 [B, 4], y1, x1, y2, x2
          in [0, 1] of the picture; `box_found` bool [B], False where no object was
          found, or none looked for, and the box is the whole picture.
        """
        shapes = ([self.num_patches, self.feature_size], [4], [])
        types = (tf.float32, tf.float32, tf.bool)
        specs = tuple(
            tf.TensorSpec([None, *shape], dtype)
            for shape, dtype in zip(shapes, types, strict=True)
        )
        found = requests.in_chunks(self._chunk, (image_bytes,), _CHUNK, specs)
        return dict(zip(("patch_features", "box", "box_found"), found, strict=True))

    def _chunk(self, start, image_bytes):
        placed = self.place(image_bytes)
        with requests.require_rows("image_bytes", placed["reason"], start):
            canvases = tf.identity(placed["canvas"])
        boxes, found = self.lock(placed)
        return self.features(canvases, placed["inside"], boxes), boxes, found

    def place(self, image_bytes):
        """Decodes pictures and brings each onto its canvases.

        Returns:
          dict: `canvas` uint8 [B, S, S, 3] and `inside` float32 [B, 4], see
          `patches.to_canvas`; the same for the saliency network, `small` and
          `small_inside`; `reason` string [B], what is wrong with a picture, or empty.
        """
        small_side = self._saliency.settings.side if self._saliency else 0

        def place_one(data):
            picture, reason = pictures.decode_or_reason(data, self._max_pixels)
            canvas, inside = patches.to_canvas(picture, self._canvas_size)
            placed = {"canvas": canvas, "inside": inside, "reason": reason}
            if small_side:
                small = patches.to_canvas(picture, small_side)
                placed["small"], placed["small_inside"] = small
            return placed

        def canvas_of(side):
            return tf.TensorSpec([side, side, 3], tf.uint8)

        specs = {
            "canvas": canvas_of(self._canvas_size),
            "inside": tf.TensorSpec([4]),
            "reason": tf.TensorSpec([], tf.string),
        }
        if small_side:
            specs |= {
                "small": canvas_of(small_side),
                "small_inside": tf.TensorSpec([4]),
            }
        return tf.map_fn(place_one, image_bytes, fn_output_signature=specs)

    def lock(self, placed):
        """Boxes of placed pictures: float32 [B, 4] in [0, 1] of each, found [B]."""
        if self._saliency:
            return self._saliency.lock_canvases(placed["small"], placed["small_inside"])
        count = tf.shape(placed["inside"])[0]
        whole = tf.constant([patches.FULL_BOX], tf.float32)
        return tf.tile(whole, [count, 1]), tf.zeros([count], tf.bool)

    def features(self, canvases, insides, boxes):
        """Patch features: float32 [B, P, F], rounded as records store them."""
        starts, sides = insides[:, :2], insides[:, 2:] - insides[:, :2]
        on_canvas = tf.tile(starts, [1, 2]) + boxes * tf.tile(sides, [1, 2])
        found = patches.image_features(
            canvases, on_canvas, self._levels, self._backbone, self._coarse_patch_size
        )
        rounded = tf.cast(found["patch_features"], tf.float16)
        shape = [None, self.num_patches, self.feature_size]
        return tf.ensure_shape(tf.cast(rounded, tf.float32), shape)
