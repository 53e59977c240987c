"""The one record schema, both directions: image with its text <-> tf.train.Example.

Data preparation writes records, the input pipeline reads them; the names and types
of what a record holds stand here and nowhere else. Beside the shards lies
`dataset_info.json` (see `dataset_info.py`) with all that is the same for every record.

| key | type | what |
|---|---|---|
| product_id, image_id | bytes | UTF-8 |
| category, subcategory, text | bytes | UTF-8, may be empty |
| token_ids | int64 list | word pieces of the text, without [CLS] and [SEP] |
| patch_features | float16 bytes | [P, F], clean, level order, row-major |
| patch_locations | float32 bytes | [P, 5], x1, x2, y1, y2, w*h, in [0, 1] of the box |
| rotated_features | float16 bytes | [3, F], level 1 turned 90, 180, 270 degrees |
| grey_features | float16 bytes | [16, F], level 4 without colour |
| box | float32 list | the locked box y1, x1, y2, x2 in [0, 1] of the square canvas |
| aligned_tokens, aligned_patches | int64 list | pairs: index into token_ids, patch |
| aligned_scores | float32 list | their scores |

Frozen examples, which were masked and corrupted before, hold more: `frozen.py`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

SCHEMA_VERSION = 1

_STRINGS = ("product_id", "image_id", "category", "subcategory", "text")
_INT_LISTS = ("token_ids", "aligned_tokens", "aligned_patches")
_FLOAT_LISTS = ("aligned_scores",)
_PAIRS = ("aligned_tokens", "aligned_patches", "aligned_scores")
_ARRAYS = {  # key -> stored type
    "patch_features": np.float16,
    "patch_locations": np.float32,
    "rotated_features": np.float16,
    "grey_features": np.float16,
}


@dataclasses.dataclass(frozen=True)
class RecordShapes:
    """Array shapes of a data set's records, from its `dataset_info.json`.

    Attributes:
      num_patches: P.
      feature_size: F.
      num_rotated: rotated variants stored (3, or 0 where no level is rotated).
      num_grey: grey variants stored (16, or 0).
    """

    num_patches: int
    feature_size: int
    num_rotated: int
    num_grey: int

    @property
    def arrays(self):
        """Shape of each array of a record, by key."""
        return {
            "patch_features": (self.num_patches, self.feature_size),
            "patch_locations": (self.num_patches, 5),
            "rotated_features": (self.num_rotated, self.feature_size),
            "grey_features": (self.num_grey, self.feature_size),
        }


def _bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def encode_record(record, shapes):
    """A record as serialized tf.train.Example.

    Args:
      record: dict with the keys of the table above; arrays are anything that numpy
        converts; the aligned lists may be absent, all three of them.
      shapes: `RecordShapes` that every array must have.

    Returns:
      bytes.

    Raises:
      ValueError: an array of another shape, or one that its stored type cannot hold;
        aligned lists that don't fit each other, the tokens or the patches.
    """
    return serialize(record_features(record, shapes))


def serialize(features):
    """dict name -> tf.train.Feature as serialized tf.train.Example."""
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # The order of a map's entries would differ from one process to the next.
    return example.SerializeToString(deterministic=True)


def record_features(record, shapes):
    """The features of a record by name, checked: see `encode_record`."""
    _check_lists(record, shapes)
    features = {key: _bytes_feature(record[key].encode()) for key in _STRINGS}
    for key in _ARRAYS:
        features[key] = _bytes_feature(_checked_array(record, key, shapes).tobytes())
    for key in _INT_LISTS:
        values = [int(v) for v in record.get(key, ())]
        features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    for key in (*_FLOAT_LISTS, "box"):
        values = [float(v) for v in record.get(key, ())]
        features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return features


def _checked_array(record, key, shapes):
    """An array of a record in its stored type."""
    dtype = _ARRAYS[key]
    with np.errstate(over="ignore"):  # is said below, with the image's name
        array = np.asarray(record[key], dtype)
    if array.shape != shapes.arrays[key]:
        raise ValueError(
            f"`{key}` should have shape {shapes.arrays[key]}. "
            f"Received: {array.shape} (image {record['image_id']})"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{key}` should be finite in {dtype.__name__}. Received: NaN or "
            f"infinity (image {record['image_id']})"
        )
    return array


def _check_lists(record, shapes):
    if len(record["box"]) != 4:
        raise ValueError(
            "`box` should be y1, x1, y2, x2. Received: "
            f"{list(record['box'])} (image {record['image_id']})"
        )
    pairs = [list(record.get(key, ())) for key in _PAIRS]
    limits = (len(record["token_ids"]), shapes.num_patches)
    fits = len({len(values) for values in pairs}) == 1 and all(
        0 <= value < limit
        for values, limit in zip(pairs[:2], limits, strict=True)
        for value in values
    )
    if not fits:
        raise ValueError(
            f"{', '.join(f'`{key}`' for key in _PAIRS)} should be of one length, the "
            f"indices below {limits[0]} tokens and {limits[1]} patches. Received: "
            f"{pairs} (image {record['image_id']})"
        )


def decode_records(serialized, shapes):
    """Parses a batch of records, in graph.

    Args:
      serialized: string [B].
      shapes: `RecordShapes`.

    Returns:
      dict: strings [B]; arrays float32 [B, ...] by `shapes`; `box` float32 [B, 4];
      `token_ids`, `aligned_tokens`, `aligned_patches` int32 ragged [B, None];
      `aligned_scores` float32 ragged.
    """
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in (*_STRINGS, *_ARRAYS)}
    spec |= {key: tf.io.RaggedFeature(tf.int64) for key in _INT_LISTS}
    spec |= {key: tf.io.RaggedFeature(tf.float32) for key in _FLOAT_LISTS}
    spec["box"] = tf.io.FixedLenFeature([4], tf.float32)
    batch = tf.io.parse_example(serialized, spec)
    for key, dtype in _ARRAYS.items():
        flat = tf.io.decode_raw(batch[key], tf.as_dtype(dtype))
        # The number of rows is said, not left to `reshape`: an empty array ("fixed"
        # has no variants) doesn't tell it, and a wrong feature size would change it.
        rows = tf.shape(serialized)[0]
        array = tf.reshape(flat, [rows, *shapes.arrays[key]])
        batch[key] = tf.cast(array, tf.float32)
    for key in _INT_LISTS:
        batch[key] = tf.cast(batch[key], tf.int32)
    return batch


def read_shard(path, shapes=None, expected=None):
    """Every record of one shard, checked: for tools and tests, not for training.

    Args:
      path: a TFRecord file.
      shapes: `RecordShapes` to decode with; None yields the serialized bytes.
      expected: how many records the shard should hold, or None.

    Yields:
      dict of numpy arrays (or bytes) per record.

    Raises:
      ValueError: a truncated or corrupted record; names the file and the record.
      FileNotFoundError: no such file.
    """
    count = 0
    iterator = iter(tf.data.TFRecordDataset(path))
    while True:
        try:
            serialized = next(iterator)
        except StopIteration:
            break
        except tf.errors.NotFoundError as error:
            raise FileNotFoundError(
                f"{path} should exist: run data preparation again, which rewrites what "
                "is missing"
            ) from error
        except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
            raise ValueError(damaged_message(path, count, error.message)) from error
        if shapes is None:
            yield serialized.numpy()
        else:
            try:
                batch = decode_records(serialized[None], shapes)
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(damaged_message(path, count, error.message)) from error
            yield {key: value[0].numpy() for key, value in batch.items()}
        count += 1
    if expected is not None and count != expected:
        raise ValueError(
            damaged_message(path, count, f"it should hold {expected} records")
        )


def damaged_message(path, index, reason):
    """What to say, and to do, about a shard that can't be read to its end."""
    return (
        f"{path}: record {index} can't be read ({reason}). The file is truncated or "
        "damaged: delete it and run data preparation again, which rewrites only what "
        "is missing"
    )
