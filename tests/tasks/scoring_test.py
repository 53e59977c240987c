"""A split in memory and the scorers on it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import retrieval, retrieval_run


def test_split_holds_the_records(tiny, split, info):
    expected = list(tiny.make_records(info.shapes))
    assert len(split) == len(tiny.rows) == split.num_images
    assert split.num_texts == 6
    assert split.image_ids == [r["image_id"] for r in expected]
    assert split.product_ids == [row[0] for row in tiny.rows]
    assert split.texts == [row[2] for row in tiny.rows]
    assert [ids.tolist() for ids in split.token_ids] == [
        r["token_ids"] for r in expected
    ]
    assert split.patch_features.dtype == np.float16
    for n, record in enumerate(expected):
        features = record["patch_features"].astype(np.float16)
        np.testing.assert_array_equal(split.patch_features[n], features)
        locations = record["patch_locations"].astype(np.float32)
        np.testing.assert_array_equal(split.patch_locations[n], locations)


def test_part_of_a_split(tiny, split, info):
    part = retrieval.RetrievalSplit.load(info, "validation", ["i7", "i2", "i4"])
    assert part.image_ids == ["i2", "i4", "i7"]
    np.testing.assert_array_equal(part.patch_features, split.patch_features[[2, 4, 7]])
    assert part.places(["i7", "i2"]).tolist() == [2, 0]
    assert (part.sha256, part.num_images) == (split.sha256, len(tiny.rows))
    with pytest.raises(ValueError, match=r"\['i9'\] \(1 in all"):
        retrieval.RetrievalSplit.load(info, "validation", ["i9", "i2"])


def test_damaged_shard_names_file_and_record(data_dir, tmp_path):
    for path in data_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "b.tfrecord"
    data = bytearray(shard.read_bytes())
    data[-30] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="b.tfrecord: record 4 can't be read"):
        retrieval.RetrievalSplit.load(DatasetInfo.load(tmp_path), "validation")


def test_text_inputs_are_cut_to_the_longest(tiny, split):
    tokenizer = Tokenizer(tiny.vocabulary)
    inputs = split.text_inputs(tokenizer, 16)
    assert inputs["input_word_ids"].shape == (len(tiny.rows), 7)
    full = tokenizer.encode(tf.constant(split.texts), 16)
    for key, value in inputs.items():
        np.testing.assert_array_equal(value, full[key][:, :7])
    assert split.text_inputs(tokenizer, 5)["input_word_ids"].shape == (
        len(tiny.rows),
        5,
    )


def _fake_matcher(tiny):
    """Margin = (sum of word ids) * (mean feature of patch 3), easy to do by hand."""
    inputs = {
        "input_word_ids": tf_keras.Input([None], dtype=tf.int32),
        "input_mask": tf_keras.Input([None], dtype=tf.int32),
        "input_type_ids": tf_keras.Input([None], dtype=tf.int32),
        "patch_features": tf_keras.Input([55, tiny.features]),
        "patch_locations": tf_keras.Input([55, 5]),
    }
    words = inputs["input_word_ids"] * inputs["input_mask"]
    words = tf.cast(tf.reduce_sum(words, axis=1), tf.float32)
    margin = words * tf.reduce_mean(inputs["patch_features"][:, 3], axis=1)
    logits = tf.stack([-0.25 * margin, 0.75 * margin], axis=1)
    return tf_keras.Model(inputs, {"itm_logits": logits})


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_pair_scorer_gathers_the_right_pairs(tiny, split, batch_size):
    scorer = retrieval.PairScorer(
        _fake_matcher(tiny),
        split,
        Tokenizer(tiny.vocabulary),
        tiny.make_config(),
        batch_size,
    )
    texts, images = np.divmod(np.arange(5, 68), len(tiny.rows))
    # [CLS] and [SEP] are the ids 2 and 3.
    words = np.array([5 + ids.sum() for ids in split.token_ids])
    means = split.patch_features[:, 3].astype(np.float64).mean(axis=1)
    expected = 1 / (1 + np.exp(-words[texts] * means[images]))
    np.testing.assert_allclose(scorer.score(texts, images), expected, rtol=1e-5)
    assert scorer.score(texts[:0], images[:0]).shape == (0,)


def test_sure_scores_do_not_tie(tiny, split):
    scorer = retrieval.PairScorer(
        _fake_matcher(tiny), split, Tokenizer(tiny.vocabulary), tiny.make_config(), 8
    )
    wanted = np.array([-800.0, -30.0, 17.0, 18.0, 19.0, 800.0], np.float32)
    scorer._margins = lambda batch: tf.constant(np.resize(wanted, 8))
    scores = scorer.score(np.arange(6), np.arange(6))
    assert scores[0] == 0 and scores[-1] == 1
    assert (np.diff(scores) > 0).all()
    assert scores[1] == pytest.approx(np.exp(-30.0), rel=1e-6)


def test_real_matcher_equals_direct_call(tiny, split):
    config, tokenizer = tiny.make_config(), Tokenizer(tiny.vocabulary)
    matcher = build_matcher(config)
    texts, images = np.array([0, 3, 4, 7, 8]), np.array([8, 3, 0, 1, 2])
    full = tokenizer.encode(tf.constant([split.texts[t] for t in texts]), 16)
    outputs = matcher(
        {
            **full,
            "patch_features": split.patch_features[images].astype(np.float32),
            "patch_locations": split.patch_locations[images],
        }
    )
    expected = tf.nn.softmax(outputs["itm_logits"])[:, 1]
    pairs = retrieval.PairScorer(matcher, split, tokenizer, config, 3)
    np.testing.assert_allclose(pairs.score(texts, images), expected, atol=1e-5)
    vectors = retrieval.VectorScorer.from_matcher(matcher, split, tokenizer, config, 4)
    cosines = tf.reduce_sum(outputs["text_vectors"] * outputs["image_vectors"], axis=1)
    np.testing.assert_allclose(vectors.score(texts, images), cosines, atol=1e-5)
    lengths = np.linalg.norm(vectors.image_vectors, axis=1)
    np.testing.assert_allclose(lengths, np.ones(len(tiny.rows)), atol=1e-5)
    both = retrieval.SumScorer([pairs, vectors])
    np.testing.assert_allclose(both.score(texts, images), expected + cosines, atol=1e-5)
    assert (both.name, both.threshold) == ("match + cosine", None)


def test_cosine_needs_vectors(tiny, split):
    config = tiny.make_config(contrastive_size=0)
    for kind in ("cosine", "both"):
        with pytest.raises(ValueError, match="`contrastive_size` of the model"):
            retrieval_run.make_scorer(
                kind, _fake_matcher(tiny), split, Tokenizer(tiny.vocabulary), config, 4
            )
    with pytest.raises(ValueError, match="`score` should be one of"):
        retrieval_run.make_scorer("best", None, split, None, config, 4)


def test_memo_asks_once_and_joins_equal_texts(tiny, split):
    table = tiny.TableScorer(tiny.random_table(levels=1000))
    memo = retrieval.MemoScorer(table, split)
    rng = np.random.default_rng(0)
    same = np.array([0, 1, 1, 3, 4, 5, 6, 0, 8])  # first record with these words
    for _ in range(4):
        texts, images = rng.integers(len(tiny.rows), size=(2, 50))
        expected = table.table[same[texts], images]
        np.testing.assert_array_equal(memo.score(texts, images), expected)
    asked = [pair for call in table.asked for pair in zip(*call, strict=True)]
    assert len(asked) == len(set(asked)) == memo.num_scored <= 7 * len(tiny.rows)
