"""Counts of the angles that were answered, and their table."""

import numpy as np
import tensorflow as tf

from benchmarks import rotation_errors
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.input_pipeline import PretrainingData


def test_answers_are_counted_by_angle_and_category(make_data_set, tokenizer, tmp_path):
    info = make_data_set(tmp_path)
    config = KaleidoConfig(
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        text_length=12,
        max_predictions=3,
    )
    data = PretrainingData(info, tokenizer, config, 4, mismatch_rate=0.0)
    records = tf.data.TFRecordDataset(info.shard_paths("train")).batch(5)

    def always_180(inputs, training):
        assert not training
        rows = tf.shape(inputs["patch_features"])[0]
        return {"rotation_logits": tf.tile([[0.0, 0.1, 0.9, 0.2]], [rows, 1])}

    counts, categories = rotation_errors.count_answers(always_180, data, records, 8)
    assert counts.sum() == 8 * 12 and (np.delete(counts, 2, axis=1) == 0).all()
    assert (counts[:, 2] > 8).all(), "every angle is drawn"
    assert categories == {"clothing": (counts[2, 2], 96)}
    features = rotation_errors.level_1_features(records, info.shapes)
    assert features.shape == (12, 4, info.feature_size)


def test_cosines_are_those_of_what_differs_from_the_mean():
    up, side = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    picture = np.stack([up, side, -up, side]) + 100
    other = np.stack([-up, -side, up, -side]) + 100
    found = rotation_errors.angle_cosines(np.stack([picture, other]))
    expected = [[1, 0, -1, 0], [0, 1, 0, 1], [-1, 0, 1, 0], [0, 1, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_summary_and_table():
    counts = np.array([[9, 0, 1, 0], [0, 6, 0, 4], [0, 0, 10, 0], [1, 2, 0, 7]])
    found = rotation_errors.summary(counts)
    assert found == {"accuracy": 0.8, "errors": 8, "between_90_and_270": 0.75}
    categories = {"a": (9, 10), "b": (1, 2)}
    lines = rotation_errors.format_table(counts, categories, np.eye(4) / 2)
    assert lines.splitlines()[8].split() == ["90", "0.00", "0.50", "0.00", "0.00"]
    assert lines.splitlines()[2].split() == ["90", "0", "6", "0", "4"]
    assert "80.0%; 8 errors, 75% of them" in lines
    assert [line.split() for line in lines.splitlines()[-2:]] == [
        ["b", "50.0%"],
        ["a", "90.0%"],
    ]
