"""Which view goes into which shard: decided once, the same for the same catalogue."""

import math
import os

import numpy as np
from absl import logging

from data_prep.sources import fashion_gen

_MOST_CHUNK = 4096  # rows: a larger chunk isn't worth a shard of its size


def shard_path(output_dir, split, index, count):
    """Path of a split's shard `index` of `count`."""
    width = max(5, len(str(count)))
    name = f"{split}-{index:0{width}d}-of-{count:0{width}d}.tfrecord"
    return os.path.join(output_dir, name)


def plan_shards(products, split, images_per_shard, output_dir, seed=0):
    """Deals the views of a split into shards.

    Views with picture files are dealt at random. Views whose pixels are rows of a file
    stay in the file's order: a shard then reads its rows in slices.

    Args:
      products: list of `sources.Product`.
      split: "train" or "validation".
      images_per_shard: upper bound (but see `_row_blocks`).
      output_dir: where the shards go.
      seed: of the one shuffle that decides which view goes where.

    Returns:
      list of (path, list of Product), the same for the same arguments.
    """
    chosen = [p for p in products if p.split == split]
    if any(product.row is not None for product in chosen):
        parts = _row_blocks(chosen, images_per_shard)
    else:
        order = np.random.default_rng([seed, 7]).permutation(len(chosen))
        count = max(1, math.ceil(len(chosen) / images_per_shard))
        parts = [[chosen[i] for i in p] for p in np.array_split(order, count)]
    return [
        (shard_path(output_dir, split, i, len(parts)), part)
        for i, part in enumerate(parts)
    ]


def _row_blocks(chosen, images_per_shard):
    """Cuts views, in their file's order, where its chunks end.

    A chunk that two shards share would be unpacked twice; one that is larger than a
    shard makes the shard larger.
    """
    parts, key_before = [], None
    sizes = {path: _block(path, images_per_shard) for path in _paths(chosen)}
    for product in chosen:
        key = product.image_path, product.row // sizes[product.image_path]
        if key != key_before:
            parts.append([])
        parts[-1].append(product)
        key_before = key
    return parts


def _paths(chosen):
    return dict.fromkeys(product.image_path for product in chosen)


def _block(path, images_per_shard):
    """Rows of a file for one shard: int."""
    chunk = fashion_gen.rows_per_chunk(path)
    if chunk <= images_per_shard:
        return images_per_shard // chunk * chunk
    if chunk <= _MOST_CHUNK:
        logging.info("%s: shards of %d rows, as its chunks", path, chunk)
        return chunk
    logging.warning(
        "%s: a chunk holds %d rows and is unpacked for every shard of %d anew; rewrite "
        "the file with smaller chunks (h5repack) if reading is what takes the time",
        path,
        chunk,
        images_per_shard,
    )
    return images_per_shard
