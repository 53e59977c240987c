"""Frozen examples: pre-training inputs that were masked and corrupted before.

The original release stored its inputs in this form: pairs, masks and corruptions were
drawn once, when its files were made. A frozen example is a record (`records.py`, whose
keys it has; its text is what the masks hid) with what the pre-trainer reads besides:

| key | type | what |
|---|---|---|
| input_word_ids, input_mask, input_type_ids | int64 list | [T], masked |
| masked_lm_positions, masked_lm_ids | int64 list | [M] |
| masked_lm_weights | float32 list | [M], 0 pads |
| itm_labels, rotation_labels, jigsaw_labels, camouflage_labels | int64 | classes |
| grey_positions | int64 list | [2], within level 4 |
| blank_positions | int64 list | [3], within level 5 |
| grey_targets | float16 bytes | [2, F], features of the patches in colour |

`patch_features` are corrupted but for the blank patches, which are as they were: they
are their own targets, and the reader blanks them.
"""

import numpy as np
import tensorflow as tf
from absl import logging

from kaleido_tf.data import kaleido_tasks, records

LABELS = ("itm_labels", "rotation_labels", "jigsaw_labels", "camouflage_labels")
_TARGET_TYPE = np.float16


def _lists(sizes, levels):
    """Length of each list: dict."""
    masked = {level.task: level.masked for level in levels}
    lengths = dict.fromkeys(
        ("input_word_ids", "input_mask", "input_type_ids"), sizes["text_length"]
    )
    lengths |= dict.fromkeys(
        ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"),
        sizes["max_predictions"],
    )
    return lengths | {f"{t}_positions": masked[t] for t in ("grey", "blank")}


def encode_example(example, shapes, sizes, levels):
    """A frozen example as serialized tf.train.Example.

    Args:
      example: dict with the keys of a record and of the table above.
      shapes: `RecordShapes`.
      sizes: dict with `text_length` T and `max_predictions` M.
      levels: table of `KaleidoLevel`.

    Returns:
      bytes.

    Raises:
      ValueError: as `records.encode_record`; a list of another length.
    """
    features = records.record_features(example, shapes)
    for key, length in _lists(sizes, levels).items():
        values = np.asarray(example[key])
        if values.shape != (length,):
            raise ValueError(
                f"`{key}` should have {length} numbers. Received: shape {values.shape} "
                f"(image {example['image_id']})"
            )
        features[key] = _list_feature(key, values)
    for key in LABELS:
        features[key] = _list_feature(key, np.array([example[key]]))
    targets = np.asarray(example["grey_targets"], _TARGET_TYPE)
    features["grey_targets"] = tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[targets.tobytes()])
    )
    return records.serialize(features)


def _list_feature(key, values):
    if key == "masked_lm_weights":
        return tf.train.Feature(
            float_list=tf.train.FloatList(value=values.astype(float).tolist())
        )
    return tf.train.Feature(
        int64_list=tf.train.Int64List(value=values.astype(int).tolist())
    )


def read_batch(serialized, info, config):
    """Serialized frozen examples [B] -> what the pre-trainer and its losses read.

    Nothing is drawn. A matched pair's two sides belong together, all others don't:
    the files don't say which product a side is of.

    Args:
      serialized: string [B].
      info: `DatasetInfo` of frozen examples.
      config: `KaleidoConfig`.

    Returns:
      dict of tensors [B, ...] with the keys of `input_pipeline.input_names` and
      `label_names`, and those of a record.
    """
    logging.log_first_n(
        logging.INFO,
        "Frozen examples: pairs, masks and corruptions are those of the files; "
        "masking, mismatch_rate and hard_rate do nothing",
        1,
    )
    batch = records.decode_records(serialized, info.shapes)
    batch.update(_decode(serialized, info, config.levels))
    batch["pair_weights"] = tf.cast(batch["itm_labels"], tf.float32)
    batch["text_groups"] = _numbers(batch["image_id"], "")
    image_groups = _numbers(batch["image_id"], "/image")
    matched = batch["itm_labels"][:, None] > 0
    batch["image_groups"] = tf.where(matched, batch["text_groups"], image_groups)
    blank = [task for task in config.active_tasks if task == "blank"]
    # Blanking needs no chance: the positions are given.
    return kaleido_tasks.apply_akpm(
        batch, config.levels, blank, tf.zeros([2], tf.int32)
    )


def _decode(serialized, info, levels):
    lengths = _lists(info.frozen, levels)
    spec = {key: tf.io.FixedLenFeature([n], tf.int64) for key, n in lengths.items()}
    spec["masked_lm_weights"] = tf.io.FixedLenFeature(
        [lengths["masked_lm_weights"]], tf.float32
    )
    spec |= {key: tf.io.FixedLenFeature([], tf.int64) for key in LABELS}
    spec["grey_targets"] = tf.io.FixedLenFeature([], tf.string)
    batch = tf.io.parse_example(serialized, spec)
    targets = tf.io.decode_raw(batch.pop("grey_targets"), tf.as_dtype(_TARGET_TYPE))
    shape = [tf.shape(serialized)[0], lengths["grey_positions"], info.feature_size]
    found = {
        key: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
        for key, value in batch.items()
    }
    return {**found, "grey_targets": tf.cast(tf.reshape(targets, shape), tf.float32)}


def _numbers(names, ending):
    """A number for each name, in two columns: string [B] -> int32 [B, 2]."""
    hashed = tf.strings.to_hash_bucket_fast(names + ending, 2**31 - 1)
    return tf.tile(tf.cast(hashed, tf.int32)[:, None], [1, 2])
