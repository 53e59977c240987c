"""The record schema: what goes in comes out, and what is damaged says so."""

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import FIXED_LEVELS, KALEIDO_LEVELS
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import record_shapes

SHAPES = record_shapes(KALEIDO_LEVELS, feature_size=5)


def make_record(seed=0, shapes=SHAPES, **changes):
    rng = np.random.default_rng(seed)
    arrays = {key: rng.normal(size=shape) for key, shape in shapes.arrays.items()}
    return {
        "product_id": f"p{seed}",
        "image_id": f"i{seed}",
        "category": "tops",
        "subcategory": "",
        "text": "Café – naïve 中文",
        "token_ids": [7, 3, 9, 4],
        "box": [0.1, 0.2, 0.7, 1.0],
        "aligned_tokens": [0, 3],
        "aligned_patches": [54, 5],
        "aligned_scores": [0.25, 0.75],
        **arrays,
        **changes,
    }


def decode(*rows, shapes=SHAPES):
    serialized = [records.encode_record(row, shapes) for row in rows]
    return records.decode_records(tf.constant(serialized), shapes)


def test_shapes_of_the_arms():
    arrays = SHAPES.arrays
    assert arrays["patch_features"] == (55, 5)
    assert arrays["patch_locations"] == (55, 5)
    assert arrays["rotated_features"] == (3, 5)
    assert arrays["grey_features"] == (16, 5)
    assert record_shapes(FIXED_LEVELS, 7) == records.RecordShapes(64, 7, 0, 0)


def test_every_key_comes_back():
    rows = [
        make_record(0),
        make_record(1, token_ids=[], text="", aligned_tokens=[], aligned_patches=[]),
        make_record(2, token_ids=[1]),
    ]
    rows[1]["aligned_scores"] = []
    rows[2].update(aligned_tokens=[0], aligned_patches=[30], aligned_scores=[1.5])
    batch = decode(*rows)
    keys = {"aligned_tokens", "aligned_patches", "aligned_scores", "token_ids"}
    assert set(batch) == set(rows[0])
    for n, row in enumerate(rows):
        for key in ("product_id", "image_id", "category", "subcategory", "text"):
            assert batch[key][n].numpy().decode() == row[key]
        for key in keys:
            assert batch[key][n].numpy().tolist() == row[key]
        for key in ("patch_features", "rotated_features", "grey_features"):
            stored = row[key].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(batch[key][n], stored)
        np.testing.assert_array_equal(
            batch["patch_locations"][n], row["patch_locations"].astype(np.float32)
        )
        np.testing.assert_allclose(batch["box"][n], row["box"])


def test_types_and_static_shapes_in_tf_data():
    serialized = [records.encode_record(make_record(n), SHAPES) for n in range(3)]
    data = tf.data.Dataset.from_tensor_slices(serialized).batch(2)
    data = data.map(lambda batch: records.decode_records(batch, SHAPES))
    spec = data.element_spec
    assert spec["patch_features"] == tf.TensorSpec([None, 55, 5], tf.float32)
    assert spec["grey_features"] == tf.TensorSpec([None, 16, 5], tf.float32)
    assert spec["box"].shape.as_list() == [None, 4]
    for key in ("token_ids", "aligned_tokens", "aligned_patches"):
        assert spec[key].dtype == tf.int32
        assert spec[key].ragged_rank == 1
    eager = records.decode_records(tf.constant(serialized[2:]), SHAPES)
    last = list(data)[1]
    for key, value in eager.items():
        np.testing.assert_array_equal(last[key][0], value[0])


def test_absent_alignments_and_an_arm_without_variants():
    shapes = record_shapes(FIXED_LEVELS, feature_size=3)
    rows = [make_record(n, shapes) for n in range(2)]
    for row in rows:
        for key in ("aligned_tokens", "aligned_patches", "aligned_scores"):
            del row[key]
    batch = decode(*rows, shapes=shapes)
    assert batch["patch_features"].shape == [2, 64, 3]
    assert batch["rotated_features"].shape == [2, 0, 3]
    assert batch["grey_features"].shape == [2, 0, 3]
    assert batch["aligned_patches"].to_list() == [[], []]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"patch_features": np.zeros([54, 5])},
            r"`patch_features` should have shape \(55, 5\). Received: \(54, 5\) "
            r"\(image i0\)",
        ),
        (
            {"grey_features": np.full([16, 5], np.nan)},
            "`grey_features` should be finite in float16. .*image i0",
        ),
        (
            {"rotated_features": np.full([3, 5], 1e6)},
            "`rotated_features` should be finite in float16. .*infinity",
        ),
        ({"box": [0, 0, 1]}, r"`box` should be y1, x1, y2, x2. Received: \[0, 0, 1\]"),
        ({"aligned_patches": [54]}, r"one length, .*\[0, 3\], \[54\]"),
        ({"aligned_scores": []}, "`aligned_scores` should be of one length"),
        ({"aligned_tokens": [0, 4]}, "below 4 tokens and 55 patches"),
        ({"aligned_patches": [55, 0]}, "below 4 tokens and 55 patches"),
        ({"aligned_patches": [-1, 0]}, "below 4 tokens and 55 patches"),
    ],
)
def test_wrong_records(changes, message):
    with pytest.raises(ValueError, match=message):
        records.encode_record(make_record(0, **changes), SHAPES)


def test_another_feature_size_is_an_error():
    # 3 rows of 5 numbers would also be 1 row of 15: that must not pass in silence.
    serialized = [records.encode_record(make_record(n), SHAPES) for n in range(3)]
    wrong = record_shapes(KALEIDO_LEVELS, feature_size=15)
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        records.decode_records(tf.constant(serialized), wrong)


@pytest.fixture
def shard(tmp_path):
    path = str(tmp_path / "train-00001.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for n in range(4):
            writer.write(records.encode_record(make_record(n), SHAPES))
    return path


def damage(path, change):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    with open(path, "wb") as file:
        file.write(change(data))


def test_reading_a_shard(shard):
    rows = list(records.read_shard(shard, SHAPES, expected=4))
    assert [row["image_id"] for row in rows] == [b"i0", b"i1", b"i2", b"i3"]
    np.testing.assert_array_equal(
        rows[2]["grey_features"], make_record(2)["grey_features"].astype(np.float16)
    )
    whole = list(records.read_shard(shard))
    assert whole[3] == records.encode_record(make_record(3), SHAPES)


@pytest.mark.parametrize("shapes", [None, SHAPES])
def test_truncated_shard(shard, shapes):
    damage(shard, lambda data: data[: len(data) * 5 // 8])  # in the third record
    rows = []
    message = r"train-00001.tfrecord: record 2 can't be read \(.*truncated"
    with pytest.raises(ValueError, match=message):
        rows.extend(row for row in records.read_shard(shard, shapes))


def test_flipped_byte(shard):
    def flip(data):
        data[len(data) * 3 // 8] ^= 1  # in the second record
        return data

    damage(shard, flip)
    with pytest.raises(ValueError, match="record 1 can't be read .*corrupted.*again"):
        list(records.read_shard(shard, SHAPES))


def test_shard_that_ends_between_records(shard):
    damage(shard, lambda data: data[: len(data) // 2])
    assert len(list(records.read_shard(shard))) == 2
    with pytest.raises(ValueError, match="record 2 .*it should hold 4 records"):
        list(records.read_shard(shard, expected=4))


def test_shard_of_another_data_set(shard):
    wrong = record_shapes(KALEIDO_LEVELS, feature_size=6)
    with pytest.raises(ValueError, match="train-00001.tfrecord: record 0"):
        list(records.read_shard(shard, wrong))


def test_missing_shard(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere should exist"):
        list(records.read_shard(str(tmp_path / "nowhere")))
