"""Aligned Kaleido Patch Modeling, AKPM (paper section 3.6): corruption and targets.

From the clean stored features of a batch to the corrupted ones with the labels of the
five level tasks, and the mismatched pairs of the matching task. Batched, in graph,
dict -> dict, with explicit seeds. Only rotation and grey need features of their own
(stored beside the clean ones); jigsaw permutes, camouflage swaps, blank zeroes.
"""

import itertools

import numpy as np
import tensorflow as tf

from kaleido_tf.config import level_offsets
from kaleido_tf.data.masking import split_seed, uniform

# Order i of the four 2x2 patches: place j shows the patch of place PERMUTATIONS[i][j].
PERMUTATIONS = np.array(list(itertools.permutations(range(4))), np.int32)
IMAGE_KEYS = ("patch_features", "patch_locations", "rotated_features", "grey_features")
TEXT_KEYS = ("input_word_ids", "input_mask", "input_type_ids")


def apply_itm(batch, seed, mismatch_rate=0.5, hard_rate=0.0):
    """Makes mismatched pairs (equation 2): the text or the image of another product.

    Args:
      batch: dict with the encoder's text inputs, `IMAGE_KEYS`; `product_ids` and
        `text_ids` int32 [B], numbers that are equal where product or wording are;
        `subcategory_ids` int32 [B] (-1: none); optionally `aligned_tokens`,
        `aligned_patches` [B, N].
      seed: int32 [2].
      mismatch_rate: share of the rows that are mismatched.
      hard_rate: of these, the share whose other product is of the same sub-category
        where the batch has one.

    Returns:
      The batch with sides exchanged and added: `itm_labels` int32 [B] (1: match),
      `pair_weights` float32 [B], `image_products` int32 [B], and for the eighth loss
      `text_groups`, `image_groups` int32 [B, 2]: product and wording that a side
      belongs to. Pairs of mismatched rows are gone. A row without another product in
      its batch stays matched.
    """
    products = batch["product_ids"]
    rows = tf.shape(products)[0]
    others, found = _draw_others(batch, seed, hard_rate)
    mismatched = found & (uniform(seed, "mismatch", [rows]) < mismatch_rate)
    swap_image = mismatched & (uniform(seed, "side", [rows]) < 0.5)
    swap_text = mismatched & ~swap_image
    own = tf.range(rows)
    image_rows = tf.where(swap_image, others, own)
    text_rows = tf.where(swap_text, others, own)

    result = dict(batch)
    for keys, source in ((IMAGE_KEYS, image_rows), (TEXT_KEYS, text_rows)):
        for key in keys:
            if key in batch:
                result[key] = tf.gather(batch[key], source)
    if "aligned_tokens" in batch:
        for key in ("aligned_tokens", "aligned_patches"):
            result[key] = tf.where(mismatched[:, None], -1, batch[key])
    result["itm_labels"] = tf.cast(~mismatched, tf.int32)
    result["pair_weights"] = tf.cast(~mismatched, tf.float32)
    result["image_products"] = tf.gather(products, image_rows)
    groups = tf.stack([products, batch["text_ids"]], axis=1)
    result["text_groups"] = tf.gather(groups, text_rows)
    result["image_groups"] = tf.gather(groups, image_rows)
    return result


def _draw_others(batch, seed, hard_rate):
    """For each row another row of another product: int32 [B], and bool [B] if any."""
    products, classes = batch["product_ids"], batch["subcategory_ids"]
    rows = tf.shape(products)[0]
    other = products[:, None] != products[None, :]
    # Another product with the very same words is no mismatch.
    other &= batch["text_ids"][:, None] != batch["text_ids"][None, :]
    hard = other & (classes[:, None] == classes[None, :]) & (classes[:, None] >= 0)
    want_hard = uniform(seed, "hard", [rows]) < hard_rate
    score = uniform(seed, "other", [rows, rows])
    score += tf.cast(hard & want_hard[:, None], tf.float32)
    score = tf.where(other, score, -1.0)
    return tf.argmax(score, axis=1, output_type=tf.int32), tf.reduce_any(other, axis=1)


def apply_akpm(batch, levels, tasks, seed):
    """Corrupts the patch features of a batch for the level tasks.

    Args:
      batch: dict with `patch_features` float32 [B, P, F], `rotated_features`
        [B, 3, F], `grey_features` [B, 16, F], all clean; `image_products` int [B];
        the positions chosen by AGM, int32: `camouflage_positions` [B, 1],
        `grey_positions` [B, 2], `blank_positions` [B, 3]. Variants and positions are
        needed for the tasks that are applied.
      levels: table of `KaleidoLevel`.
      tasks: names of the tasks to apply; the others' levels stay clean.
      seed: int32 [2].

    Returns:
      The batch with `patch_features` corrupted and, for each applied task, its labels:
      `rotation_labels`, `jigsaw_labels`, `camouflage_labels` int32 [B] (camouflage -1:
      no other product in the batch, nothing swapped); `grey_targets` float32
      [B, 2, F], `blank_targets` float32 [B, 3, F]. The variants' features and
      `camouflage_positions`, which no model reads, are dropped.

    Raises:
      KeyError: what a task needs isn't in the batch.
    """
    result = dict(batch)
    parts = []
    for level, start in zip(levels, level_offsets(levels), strict=True):
        clean = batch["patch_features"][:, start : start + level.num_patches]
        if level.task in tasks:
            clean, labels = _CORRUPTIONS[level.task](batch, clean, seed)
            result.update(labels)
        parts.append(clean)
    result["patch_features"] = tf.concat(parts, axis=1)
    for key in ("rotated_features", "grey_features", "camouflage_positions"):
        result.pop(key, None)
    return result


def _draw(seed, name, rows, limit):
    return tf.random.stateless_uniform(
        [rows], split_seed(seed, name), maxval=limit, dtype=tf.int32
    )


def _rotate(batch, clean, seed):
    """Task I (equation 3): level 1 by 0, 90, 180 or 270 degrees counter-clockwise."""
    labels = _draw(seed, "rotation", tf.shape(clean)[0], 4)
    variants = tf.concat([clean, batch["rotated_features"]], axis=1)
    rotated = tf.gather(variants, labels[:, None], batch_dims=1)
    return rotated, {"rotation_labels": labels}


def _shuffle(batch, clean, seed):
    """Task II (equation 4): the four patches of level 2 in one of 24 orders."""
    labels = _draw(seed, "jigsaw", tf.shape(clean)[0], len(PERMUTATIONS))
    order = tf.gather(tf.constant(PERMUTATIONS), labels)
    return tf.gather(clean, order, batch_dims=1), {"jigsaw_labels": labels}


def _camouflage(batch, clean, seed):
    """Task III (equation 5): one level 3 patch from another product of the batch."""
    rows, places = tf.shape(clean)[0], clean.shape[1]
    products = batch["image_products"]
    other = products[:, None] != products[None, :]
    score = tf.where(other, uniform(seed, "donor", [rows, rows]), -1.0)
    donor = tf.argmax(score, axis=1, output_type=tf.int32)
    found = tf.reduce_any(other, axis=1)
    donor_place = _draw(seed, "donor place", rows, places)
    foreign = tf.gather(tf.gather(clean, donor), donor_place, batch_dims=1)
    place = batch["camouflage_positions"][:, 0]
    swapped = tf.one_hot(place, places, True, False) & found[:, None]
    corrupted = tf.where(swapped[:, :, None], foreign[:, None, :], clean)
    return corrupted, {"camouflage_labels": tf.where(found, place, -1)}


def _replaced(clean, replacement, positions):
    """Takes `replacement` at `positions` [B, n], `clean` elsewhere."""
    hot = tf.reduce_any(tf.one_hot(positions, clean.shape[1], True, False), axis=1)
    return tf.where(hot[:, :, None], replacement, clean)


def _grey(batch, clean, seed):
    """Task IV (equation 6): two level 4 patches as their grey images' features."""
    del seed
    positions = batch["grey_positions"]
    corrupted = _replaced(clean, batch["grey_features"], positions)
    return corrupted, {"grey_targets": tf.gather(clean, positions, batch_dims=1)}


def _blank(batch, clean, seed):
    """Task V (equation 7): three level 5 patches' features set to zero."""
    del seed
    positions = batch["blank_positions"]
    corrupted = _replaced(clean, tf.zeros_like(clean), positions)
    return corrupted, {"blank_targets": tf.gather(clean, positions, batch_dims=1)}


_CORRUPTIONS = {
    "rotation": _rotate,
    "jigsaw": _shuffle,
    "camouflage": _camouflage,
    "grey": _grey,
    "blank": _blank,
}
