"""What a record is made from: a picture on its canvas with its locked box, and a hash.

Shards and the captioner's grids go through here, so that heat maps lie on the very
image that the patches are cut from.
"""

import dataclasses
import hashlib
import json
import os

import numpy as np


def place(picture, patch_arm, to_canvas, lock):
    """Brings a picture onto its canvas and locks its box there.

    Args:
      picture: uint8 [h, w, 3] RGB.
      patch_arm: key of `PATCH_ARMS`; only "kaleido+saliency" looks for the object.
      to_canvas: `patches.to_canvas` with its size, a function of the picture.
      lock: `saliency.Locker.lock`, a function of the picture; other arms don't call it.

    Returns:
      (uint8 [size, size, 3], float32 [4] box y1, x1, y2, x2 in [0, 1] of the canvas,
      name of the method that found it or None).
    """
    canvas, inside = (t.numpy() for t in to_canvas(picture))
    if patch_arm != "kaleido+saliency":
        return canvas, inside, None
    box, method = lock(picture)
    side = inside[2:] - inside[:2]
    return canvas, np.tile(inside[:2], 2) + box * np.tile(side, 2), method


def describe(patch_arm, canvas_size, locker):
    """What decides where `place` puts boxes: plain JSON values, weights by their hash.

    Args:
      patch_arm, canvas_size: see `place`.
      locker: `saliency.Locker`, or None where the arm locks no boxes.
    """
    return {
        "patch_arm": patch_arm,
        "canvas_size": canvas_size,
        "saliency": locker and locker.describe(),
    }


def source_sha256(products):
    """Hash of what a shard is made from: manifest lines, the pictures' sizes and times.

    A text or a picture that was changed since makes another one. It decides whether a
    shard is written again, nothing in the shard: where only the time is another (a copy
    of the catalogue), the same bytes are written.
    """
    digest = hashlib.sha256()
    for product in products:
        try:
            status = os.stat(product.image_path)
            file = [status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):
            file = None
        row = [*dataclasses.astuple(product), file]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
