"""Pictures with drawn masks -> training batches of the saliency U-Net, augmented.

Station before the shards: `data_prep.saliency_unet` trains the network that finds the
box which `data_prep.prepare` locks.
"""

import dataclasses
import math
import os
from concurrent import futures

import numpy as np
import tensorflow as tf

from data_prep import sources
from data_prep.pictures import read_picture
from kaleido_tf.data import patches
from kaleido_tf.data.manifest import field, is_utf8, read_lines

_READERS = 4
_KEYS = ("product_id", "image_id", "image", "mask", "split")
# The embedded catalogue keeps its masks out of the manifest, with the other truth.
_CATALOGUE_MASK = os.path.join("truth", "masks", "{image_id}.png")
_MAX_TURN = math.radians(12)
_MAX_SHIFT = 0.12  # of the canvas
_SCALES = (0.75, 1.4)
_MAX_STRETCH = 1.2  # of the height against the width


@dataclasses.dataclass(frozen=True)
class MaskedImage:
    """One line of a manifest with a mask: product_id, paths and split."""

    product_id: str
    image_path: str
    mask_path: str
    split: str


def read_masked_manifest(path, skipped, validation_fraction=0.1):
    """Reads the lines of a manifest that have a picture and a mask.

    A line holds `image` and `mask` (paths relative to the manifest; a mask is a grey
    picture of the image's size, above 127 where the object is). Without `mask`,
    truth/masks/<image_id>.png is taken, as the embedded catalogue has it. `product_id`
    (default: the image) and `split` are as in `sources.read_manifest`.

    Args:
      path: manifest.jsonl or .csv.
      skipped: `sources.SkipList` that takes the lines which can't be used.
      validation_fraction: share of products held back, where lines have no split.

    Returns:
      list of `MaskedImage`.

    Raises:
      FileNotFoundError: no manifest.
      ValueError: an ending that isn't .jsonl or .csv, or no line with a mask.
    """
    folder = os.path.dirname(os.path.abspath(path))
    found = []
    for number, row in _rows(path, skipped):
        masked = _masked_image(row, folder, validation_fraction)
        if masked is None or not os.path.isfile(masked.mask_path):
            where = masked.mask_path if masked else [*map(str, row)]
            skipped.add("no mask", f"no `mask` file, received {where}", line=number)
        elif masked.split not in ("train", "validation"):
            skipped.add(
                "unknown split",
                f"`split` should be train or validation, received {masked.split!r}",
                line=number,
            )
        else:
            found.append(masked)
    if not found:
        raise ValueError(
            f"{path} should have lines with `image` and `mask`. Left out: "
            f"{skipped.counts()}"
        )
    return found


def _rows(path, skipped):
    """Yields (line number, dict)."""
    for number, row in read_lines(path):
        if isinstance(row, tuple):
            skipped.add(*row, line=number)
        elif not all(is_utf8(field(row, key)) for key in _KEYS):
            skipped.add("not UTF-8", f"one of {_KEYS} isn't UTF-8", line=number)
        else:
            yield number, row


def _masked_image(row, folder, validation_fraction):
    """The `MaskedImage` of a line, or None if it has no picture."""
    image = row.get("image")
    if not isinstance(image, str) or not image:
        return None
    product_id = str(row.get("product_id") or image)
    stem = os.path.splitext(os.path.basename(image))[0]
    default = _CATALOGUE_MASK.format(image_id=row.get("image_id") or stem)
    return MaskedImage(
        product_id,
        os.path.join(folder, image),
        os.path.join(folder, str(row.get("mask") or default)),
        row.get("split") or sources.hashed_split(product_id, validation_fraction),
    )


def read_mask(path, shape):
    """Reads a mask: bool [h, w].

    Args:
      path: grey picture, above 127 where the object is.
      shape: (h, w) of the image.

    Raises:
      ValueError: unreadable, empty, or of another size.
    """
    values = read_picture(path)[..., 0]
    mask = values > 127
    if not mask.any():
        raise ValueError(
            "the mask should be above 127 where the object is, received values from "
            f"{values.min()} to {values.max()}"
        )
    if mask.shape != tuple(shape):
        raise ValueError(f"the mask should be {shape} pixels, received {mask.shape}")
    return mask


def load_canvases(images, side, skipped):
    """Reads pictures and masks onto canvases.

    Args:
      images: list of `MaskedImage`.
      side: of a canvas in pixels.
      skipped: `sources.SkipList` that takes what can't be read.

    Returns:
      uint8 [N, side, side, 4]: RGB and the mask, 0 to 255 by its share of the pixel.

    Raises:
      ValueError: nothing can be read.
    """
    place = tf.function(
        lambda image: patches.to_canvas(image, side)[0],
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    ).get_concrete_function()  # now, or each thread would trace it

    def load(image):
        picture = read_picture(image.image_path)
        mask = read_mask(image.mask_path, picture.shape[:2])
        grey = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
        placed = [place(tf.constant(pixels)).numpy() for pixels in (picture, grey)]
        return np.dstack([placed[0], placed[1][..., :1]])

    canvases = []
    with futures.ThreadPoolExecutor(_READERS) as pool:
        for image, job in [(image, pool.submit(load, image)) for image in images]:
            try:
                canvases.append(job.result())
            except ValueError as error:
                skipped.add("unreadable", str(error), image=image.image_path)
    if not canvases:
        raise ValueError(f"no picture with its mask can be read: {skipped.rows[:3]}")
    return np.stack(canvases)


def augment(canvases, seed):
    """Draws another picture out of each: flip, shift, scale, turn, colours, noise.

    Args:
      canvases: uint8 [B, s, s, 4], see `load_canvases`.
      seed: int32 [2]; the same seed gives the same pictures.

    Returns:
      (float32 [B, s, s, 3] in 0..255; float32 [B, s, s], share of foreground).
    """
    seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
    side = canvases.shape[1]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(canvases, tf.float32),
        transforms=_random_transforms(tf.shape(canvases)[0], side, seeds[0]),
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",  # a canvas repeats its edge too
    )
    return _jitter(moved[..., :3], seeds[1]), moved[..., 3] / 255.0


def _random_transforms(batch, side, seed):
    """Projective transforms, output -> input pixels: float32 [B, 8]."""
    draws = tf.random.stateless_uniform([6, batch], seed, -1.0, 1.0)
    flip = tf.where(draws[0] < 0, -1.0, 1.0)
    low, high = (math.log(scale) for scale in _SCALES)
    scale = tf.exp((low + high) / 2 + (high - low) / 2 * draws[1])
    stretch = tf.exp(math.log(_MAX_STRETCH) * draws[2])
    turn = _MAX_TURN * draws[3]
    # The input is looked up at A * (output - middle) + middle + shift.
    a, b = flip * tf.cos(turn) / scale, -flip * tf.sin(turn) / scale
    c, d = tf.sin(turn) / (scale * stretch), tf.cos(turn) / (scale * stretch)
    middle = (side - 1) / 2
    x = middle * (1 - a - b) + side * _MAX_SHIFT * draws[4]
    y = middle * (1 - c - d) + side * _MAX_SHIFT * draws[5]
    zero = tf.zeros_like(a)
    return tf.stack([a, b, x, c, d, y, zero, zero], axis=1)


def _jitter(pictures, seed):
    """Changes colours and adds noise: float32 [B, s, s, 3] in 0..255, and out again."""
    seeds = tf.unstack(tf.random.split(seed, 6))
    batch = tf.shape(pictures)[0]

    def draw(index, low, high, channels=1):
        shape = [batch, 1, 1, channels]
        return tf.random.stateless_uniform(shape, seeds[index], low, high)

    grey = tf.reduce_mean(pictures, axis=-1, keepdims=True)
    x = grey + (pictures - grey) * draw(0, 0.2, 1.5)  # saturation
    x = 128.0 + (x - 128.0) * draw(1, 0.7, 1.25)  # contrast
    x = x * draw(2, 0.88, 1.12, channels=3) + draw(3, -25.0, 25.0)  # tint, brightness
    noise = tf.random.stateless_normal(tf.shape(x), seeds[4])
    return tf.clip_by_value(x + noise * draw(5, 0.0, 8.0), 0.0, 255.0)
