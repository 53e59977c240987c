"""The benchmark of data preparation: what it counts, and its made-up lines."""

import numpy as np
import tensorflow as tf

from benchmarks import prepare, release_text
from data_prep.release import release_lines, release_shards
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import record_shapes

MEASURED = {
    "whole_line": {
        "rate": 14.0,
        "cpu_ms": 60.0,
        "images": 128,
        "bytes_per_record": 191_000.0,
        "memory": [1000.0, 1100.0, 1050.0],
    },
    "backbone_alone": {"rate": 20.0, "cpu_ms": 54.0},
    "one_patch_at_a_time": {"rate": 2.0},
    "release_text": {
        "one thread": {"ours": 90.0, "tensorflow": 45.0},
        "all threads": {"ours": 120.0, "tensorflow": 80.0},
        "converted": 50.0,
    },
}


def test_every_patch_of_an_image_is_counted(tmp_path):
    settings = prepare.make_settings(str(tmp_path), "vocab.txt")
    # Level 1 and its rotations at 128; 54 patches and 16 grey ones at 64.
    assert prepare.patch_counts(settings) == {128: 4, 64: 70}
    fixed = prepare.make_settings(str(tmp_path), "vocab.txt", patch_arm="fixed")
    assert prepare.patch_counts(fixed) == {64: 64}


def test_table():
    text = prepare.table(MEASURED)
    for part in (
        "the line reaches 70% of it",
        "backbone alone 54.0 ms: 90%",
        "the line is 7.0 x as fast",
        "1100 at most, 1050 after 128 images more",
        "191 kB",
        "TensorFlow 45.0: 2.0 x",
        "TensorFlow 80.0: 1.5 x",
    ):
        assert part in text
    assert prepare.resident_megabytes() > 50


def test_made_up_lines_are_the_release_s(tokenizer, vocabulary, tmp_path):
    schema = release_lines.SCHEMAS["pretrain"]
    columns = release_lines.parse_schema(schema)
    line = release_text.make_line(columns, tokenizer, np.random.default_rng(0))
    values = release_lines.LineParser(columns).parse(line)
    parse = release_text.tensorflow_parser(columns)
    release_text._check(values, parse(tf.constant(line)), columns)
    (tmp_path / "lines.tsv").write_bytes(line)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    ranges, _ = release_shards.plan_ranges(
        [str(tmp_path / "lines.tsv")], "train", columns, 4
    )
    writer = release_shards.ReleaseWriter(schema, str(tmp_path / "vocab.txt"), "box")
    receipt = writer.write(str(tmp_path / "shard"), ranges[0])
    assert (receipt["skipped"], receipt["num_examples"]) == ([], 1)
    shapes = record_shapes(prepare.PATCH_ARMS["kaleido"], 2048, variants=False)
    (row,) = records.read_shard(str(tmp_path / "shard"), shapes)
    expected = values["img_feature_convert_rotation"]
    np.testing.assert_allclose(row["patch_features"][0], expected, atol=2e-3)
