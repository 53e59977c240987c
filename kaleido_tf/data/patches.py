"""Kaleido Patch Generator, KPG (paper section 3.2): geometry and crops, in graph.

From a batch of images and their locked boxes to the patches of every level, with the
rotated and grey variants that two of the tasks need. Data preparation and serving call
the same functions.
"""

import numpy as np
import tensorflow as tf

from kaleido_tf.config import level_offsets

# Luma weights of ITU-R BT.601, as cv2.cvtColor and PIL use for grey pictures.
_LUMA = (0.299, 0.587, 0.114)
FULL_BOX = (0.0, 0.0, 1.0, 1.0)


def level_rectangles(grid):
    """Rectangles of a grid x grid level: float32 [grid**2, 4], y1, x1, y2, x2.

    Row-major, in [0, 1] of the locked box.
    """
    edges = np.arange(grid + 1, dtype=np.float32) / grid
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    return np.stack(
        [edges[rows], edges[columns], edges[rows + 1], edges[columns + 1]], axis=1
    )


def patch_rectangles(levels):
    """Rectangles of all patches in sequence order: float32 [P, 4], y1, x1, y2, x2."""
    return np.concatenate([level_rectangles(level.grid) for level in levels])


def patch_locations(levels):
    """Location input of all patches: float32 [P, 5], x1, x2, y1, y2, w*h.

    The paper's five numbers (section 3.2 and 3.5) in [0, 1] of the locked box, hence
    free of the image's scale. The release stores integers in pixels.
    """
    y1, x1, y2, x2 = patch_rectangles(levels).T
    return np.stack([x1, x2, y1, y2, (x2 - x1) * (y2 - y1)], axis=1)


def to_canvas(image, size):
    """One image of any size onto a square canvas, its aspect kept.

    Args:
      image: uint8 [h, w, 3] RGB.
      size: side of the canvas in pixels.

    Returns:
      uint8 [size, size, 3]; what the image doesn't cover repeats its edge pixels, and
      float32 [4], the image's own rectangle (y1, x1, y2, x2) in [0, 1] of the canvas.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    scale = tf.cast(size, tf.float32) / tf.cast(tf.maximum(height, width), tf.float32)
    new_height = _scaled(height, scale, size)
    new_width = _scaled(width, scale, size)
    resized = tf.image.resize(image, [new_height, new_width], antialias=True)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    # Repeating the edge keeps a plain background plain; a black or white frame would
    # be the strongest edge in the picture.
    rows = tf.clip_by_value(tf.range(size) - top, 0, new_height - 1)
    columns = tf.clip_by_value(tf.range(size) - left, 0, new_width - 1)
    canvas = tf.gather(tf.gather(resized, rows, axis=0), columns, axis=1)
    corners = tf.stack([top, left, top + new_height, left + new_width])
    canvas = tf.cast(tf.round(tf.clip_by_value(canvas, 0.0, 255.0)), tf.uint8)
    canvas = tf.ensure_shape(canvas, [size, size, 3])
    return canvas, tf.cast(corners, tf.float32) / tf.cast(size, tf.float32)


def _scaled(length, scale, size):
    rounded = tf.cast(tf.round(tf.cast(length, tf.float32) * scale), tf.int32)
    return tf.clip_by_value(rounded, 1, size)


def _split_grid(images, grid):
    """[B, grid*s, grid*s, 3] -> [B, grid**2, s, s, 3], row-major."""
    side = images.shape[1] // grid
    cut = tf.reshape(images, [-1, grid, side, grid, side, 3])
    return tf.reshape(
        tf.transpose(cut, [0, 1, 3, 2, 4, 5]), [-1, grid * grid, side, side, 3]
    )


def _lock(images, boxes, side):
    """Crops the locked box out of each image: [B, H, W, 3] -> [B, side, side, 3]."""
    # crop_and_resize puts the box's ends onto pixel centres, so a box of n pixels
    # has to end n-1 pixels after its start for the crop to be exactly these pixels.
    size = tf.cast(tf.shape(images)[1:3], tf.float32)
    steps = tf.maximum(size - 1.0, 1.0)
    top_left = boxes[:, :2] * size / steps
    bottom_right = (boxes[:, 2:] * size - 1.0) / steps
    # Beyond the last pixel, were it by a rounding error, it would fill in black.
    top_left = tf.clip_by_value(top_left, 0.0, 1.0 - 1e-6)
    bottom_right = tf.minimum(bottom_right, 1.0 - 1e-6)
    return tf.image.crop_and_resize(
        tf.cast(images, tf.float32),
        tf.concat([top_left, tf.maximum(bottom_right, top_left)], axis=1),
        tf.range(tf.shape(images)[0]),
        [side, side],
    )


def generate_patches(images, boxes, levels, patch_size):
    """Cuts every image's locked box into the patches of all levels.

    Args:
      images: uint8 or float32 [B, H, W, 3] RGB in 0..255, all of one size.
      boxes: float32 [B, 4], locked boxes y1, x1, y2, x2 in [0, 1] of the image.
      levels: table of `KaleidoLevel`.
      patch_size: side of a patch in pixels (224 as published).

    Returns:
      dict of float32 in 0..255: `patches` [B, P, s, s, 3]; `rotated` [B, 3, s, s, 3],
      the rotation level turned by 90, 180 and 270 degrees counter-clockwise (absent
      where the table has no such level); `grey` [B, 16, s, s, 3], the grey level
      without colour (likewise).
    """
    # A crop samples single pixels: as large as the image it leaves none of the box out,
    # and what is to be smaller is shrunk below, with a filter.
    locked_side = max(*map(int, images.shape[1:3]), patch_size)
    locked = _lock(images, boxes, locked_side)
    pieces, variants = [], {}
    for level in levels:
        side = level.grid * patch_size
        # Only shrinking needs (and pays for) the antialiasing filter.
        resized = tf.image.resize(locked, [side, side], antialias=side < locked_side)
        patches = _split_grid(resized, level.grid)
        pieces.append(patches)
        if level.task == "rotation":
            turned = [tf.image.rot90(patches[:, 0], k) for k in (1, 2, 3)]
            variants["rotated"] = tf.stack(turned, axis=1)
        elif level.task == "grey":
            variants["grey"] = to_grey(patches)
    return {"patches": tf.concat(pieces, axis=1), **variants}


def to_grey(patches):
    """Takes the colour out: [..., 3] -> [..., 3] with three equal channels."""
    luma = tf.tensordot(tf.cast(patches, tf.float32), tf.constant(_LUMA), 1)
    return tf.repeat(luma[..., None], 3, axis=-1)


def level_patch_size(level, patch_size, coarse_patch_size):
    """Side of a level's patches in pixels: that of level 1 may be larger.

    Its patch is the whole object, which 64 pixels show poorly, and with its rotations
    it makes only 4 of the 74 vectors of an image. At 224, as published, all are equal.
    """
    return max(patch_size, coarse_patch_size) if level.grid == 1 else patch_size


def image_features(images, boxes, levels, backbone, coarse_patch_size=0):
    """Patches and their feature vectors for a batch of images, in graph.

    Args:
      images: uint8 [B, H, W, 3] RGB.
      boxes: float32 [B, 4], see `generate_patches`.
      levels: table of `KaleidoLevel`.
      backbone: `kaleido_tf.data.backbone.Backbone`; its `patch_size` is the patches'.
      coarse_patch_size: see `level_patch_size`.

    Returns:
      dict of float32: `patch_features` [B, P, F], `rotated_features` [B, 3 or 0, F],
      `grey_features` [B, 16 or 0, F]. All vectors of a size go through the backbone
      together.
    """
    sizes = [
        level_patch_size(lv, backbone.patch_size, coarse_patch_size) for lv in levels
    ]
    by_level, variants = {}, {}
    for size in dict.fromkeys(sizes):
        chosen = [lv for lv, its in zip(levels, sizes, strict=True) if its == size]
        cut = generate_patches(images, boxes, chosen, size)
        vectors = _vectors(cut, backbone)
        counts = [level.num_patches for level in chosen]
        parts = tf.split(vectors.pop("patches"), counts, axis=1)
        by_level.update(zip(chosen, parts, strict=True))
        variants.update(vectors)
    patch_features = tf.concat([by_level[level] for level in levels], axis=1)
    return {
        "patch_features": patch_features,
        "rotated_features": variants.get("rotated", patch_features[:, :0]),
        "grey_features": variants.get("grey", patch_features[:, :0]),
    }


def _vectors(cut, backbone):
    """Every group of patches through the backbone: [B, n, s, s, 3] -> [B, n, F]."""
    counts = [group.shape[1] for group in cut.values()]
    together = tf.concat(list(cut.values()), axis=1)
    flat = tf.reshape(together, [-1, *together.shape[2:]])
    vectors = tf.reshape(backbone(flat), [-1, sum(counts), backbone.feature_size])
    return dict(zip(cut, tf.split(vectors, counts, axis=1), strict=True))


def level_of_patch(levels):
    """Index into `levels` of every patch: int32 [P]."""
    counts = [level.num_patches for level in levels]
    return np.repeat(np.arange(len(levels), dtype=np.int32), counts)


__all__ = [
    "FULL_BOX",
    "generate_patches",
    "image_features",
    "level_of_patch",
    "level_patch_size",
    "level_offsets",
    "level_rectangles",
    "patch_locations",
    "patch_rectangles",
    "to_canvas",
    "to_grey",
]
