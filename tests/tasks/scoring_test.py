"""A split in memory and the scorers on it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import retrieval, scoring


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


class FakeParts:
    """Margin = (sum of word ids) * (mean feature of patch 3), easy to do by hand."""

    def __init__(self, config):
        self.config = config

    def embed_text(self, word_ids, type_ids):
        return tf.cast(word_ids + 0 * type_ids, tf.float32)[:, :, None]

    def embed_patches(self, features, locations):
        return tf.cast(features, tf.float32) + 0 * locations

    def logits(self, text, mask, patches):
        words = tf.reduce_sum(text[:, :, 0] * tf.cast(mask, tf.float32), axis=1)
        margin = words * tf.reduce_mean(patches[:, 3], axis=1)
        return tf.stack([-0.25 * margin, 0.75 * margin], axis=1)


def _fake_split(tiny, split, batch_size=256):
    parts, tokenizer = FakeParts(tiny.make_config()), Tokenizer(tiny.vocabulary)
    return retrieval.EmbeddedSplit(parts, split, tokenizer, batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_pair_scorer_gathers_the_right_pairs(tiny, split, batch_size):
    embedded = _fake_split(tiny, split, batch_size)
    scorer = retrieval.PairScorer(embedded, batch_size)
    texts, images = np.divmod(np.arange(5, 68), len(tiny.rows))
    # [CLS] and [SEP] are the ids 2 and 3.
    words = np.array([5 + ids.sum() for ids in split.token_ids])
    means = split.patch_features[:, 3].astype(np.float64).mean(axis=1)
    expected = words[texts] * means[images]
    np.testing.assert_allclose(scorer.score(texts, images), expected, rtol=1e-4)
    assert scorer.score(texts[:0], images[:0]).shape == (0,)


def test_batches_are_cut_to_their_longest_text(tiny, split, monkeypatch):
    monkeypatch.setattr(scoring, "TRIM", 2)
    scorer, widths = retrieval.PairScorer(_fake_split(tiny, split), 4), []

    def margins(word_ids, *_):
        widths.append(word_ids.shape)
        return tf.zeros(4)

    scorer._margins = margins
    texts = np.array([1, 3, 4, 5, 0, 2, 8, 6, 7])
    scorer.score(texts, texts)
    # Pieces with [CLS] and [SEP]: 7 6 4 4 | 4 3 3 3 | 2; the split has no more than 7.
    assert widths == [(4, 7), (4, 4), (4, 2)]


def test_probabilities_and_sure_scores():
    margins = np.array([-800.0, -30.0, 0.0, 17.0, 18.0, 19.0, 800.0], np.float32)
    values = scoring.probabilities(margins)
    assert values[0] == 0 and values[2] == 0.5 and values[-1] == 1
    assert (np.diff(values) > 0).all()
    assert values[1] == pytest.approx(np.exp(-30.0), rel=1e-6)


def test_diverged_model(tiny, split):
    scorer = retrieval.PairScorer(_fake_split(tiny, split), 4)
    scorer._margins = lambda *_: tf.constant([1.0, np.nan, np.nan, 2.0])
    with pytest.raises(ValueError, match="2 NaN of 4"):
        scorer.score(np.arange(4), np.arange(4))


@pytest.fixture(scope="module")
def real(tiny, split):
    """A matcher with its parts, and what it answers to all pairs padded to 16."""
    config, tokenizer = tiny.make_config(), Tokenizer(tiny.vocabulary)
    matcher = build_matcher(config)
    for variable in matcher.trainable_variables:  # away from the constant start
        noise = tf.random.stateless_normal(variable.shape, [1, 2], stddev=0.2)
        variable.assign_add(noise)
    texts, images = np.divmod(np.arange(len(tiny.rows) ** 2), len(tiny.rows))
    full = tokenizer.encode(tf.constant([split.texts[t] for t in texts]), 16)
    outputs = matcher(
        {
            **full,
            "patch_features": split.patch_features[images].astype(np.float32),
            "patch_locations": split.patch_locations[images],
        }
    )
    return config, matcher, tokenizer, (texts, images), outputs


def test_trimmed_scores_equal_the_padded_model(real, split, monkeypatch):
    config, matcher, tokenizer, pairs, outputs = real
    monkeypatch.setattr(scoring, "TRIM", 1)
    match, cosine = scoring.make_scorers("match", matcher, split, tokenizer, config, 7)
    logits, scores = outputs["itm_logits"].numpy(), match.score(*pairs)
    assert np.ptp(scores) > 0.1
    np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], atol=1e-5)
    np.testing.assert_allclose(
        match.shown(scores), tf.nn.softmax(logits)[:, 1], atol=1e-5
    )
    cosines = tf.reduce_sum(outputs["text_vectors"] * outputs["image_vectors"], axis=1)
    np.testing.assert_allclose(cosine.score(*pairs), cosines, atol=1e-5)
    lengths = np.linalg.norm(cosine.image_vectors, axis=1)
    np.testing.assert_allclose(lengths, np.ones(len(split)), atol=1e-5)
    assert (match.name, match.threshold) == ("match", 0.0)
    assert (cosine.name, cosine.threshold) == ("cosine", None)


def test_both_is_the_sum_of_two_logits(tiny, split):
    margins, cosines = tiny.random_table(seed=1) * 9, tiny.random_table(seed=2)
    match = tiny.TableScorer(margins)
    cosine = tiny.TableScorer(cosines.astype(np.float32))
    both = retrieval.SumScorer(match, cosine, temperature=0.05)
    scores = both.score(*np.divmod(np.arange(81), 9))
    expected = (margins + cosines.astype(np.float32) * 20.0).ravel()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    np.testing.assert_allclose(both.shown(scores), 1 / (1 + np.exp(-expected)))
    assert (both.name, both.threshold) == ("table + table", None)


def test_cosine_needs_vectors(tiny, split):
    config, tokenizer = tiny.make_config(contrastive_size=0), Tokenizer(tiny.vocabulary)
    matcher = build_matcher(config)
    for kind in ("cosine", "both"):
        with pytest.raises(ValueError, match="`contrastive_size` of the model"):
            scoring.make_scorers(kind, matcher, split, tokenizer, config, 4)
    match, cosine = scoring.make_scorers("match", matcher, split, tokenizer, config, 4)
    assert cosine is None and match.name == "match"
    with pytest.raises(ValueError, match="`score` should be one of"):
        scoring.make_scorers("best", matcher, split, tokenizer, config, 4)


def test_equal_texts_and_images_are_known(split):
    assert split.same_text().tolist() == [0, 1, 1, 3, 4, 5, 6, 0, 8]
    # A model that sees two pieces, [CLS] and [SEP] can't tell what differs behind them.
    pairs = [tuple(ids[:2]) for ids in split.token_ids]
    assert split.same_text(4).tolist() == [pairs.index(pair) for pair in pairs]
    assert len(set(pairs)) < len(set(map(tuple, split.token_ids)))
    assert split.same_image.tolist() == list(range(9))
    patches = split.patch_features[[0, 1, 2, 3, 1, 5, 6, 7, 5]]
    locations = split.patch_locations[[0, 1, 2, 3, 1, 5, 6, 7, 8]]
    twins = dataclasses.replace(
        split, patch_features=patches, patch_locations=locations
    )
    # The last shares its features with i5, but not its places.
    assert twins.same_image.tolist() == [0, 1, 2, 3, 1, 5, 6, 7, 8]


def test_memo_asks_once_and_joins_what_is_equal(tiny, split):
    patches, locations = split.patch_features.copy(), split.patch_locations.copy()
    patches[6], locations[6] = patches[2], locations[2]
    split = dataclasses.replace(
        split, patch_features=patches, patch_locations=locations
    )
    table = tiny.TableScorer(tiny.random_table(levels=1000))
    memo = retrieval.MemoScorer(table, split)
    assert (memo.name, memo.threshold) == ("table", 0.5)
    rng = np.random.default_rng(0)
    text = np.array([0, 1, 1, 3, 4, 5, 6, 0, 8])  # first record with these words
    image = np.array([0, 1, 2, 3, 4, 5, 2, 7, 8])
    for _ in range(4):
        texts, images = rng.integers(len(tiny.rows), size=(2, 50))
        expected = table.table[text[texts], image[images]]
        np.testing.assert_array_equal(memo.score(texts, images), expected)
    asked = [pair for call in table.asked for pair in zip(*call, strict=True)]
    assert len(asked) == len(set(asked)) == memo.num_scored <= 7 * 8
