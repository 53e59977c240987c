"""What the signatures answer, against each other and against known answers."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.serving import answers, explain, requests
from kaleido_tf.tasks.matcher_parts import MatcherParts

TEXTS = ["Navy shirt. Long sleeve", "red dress soft soft soft", ""]


@pytest.fixture(scope="module")
def features(ask, workshop):
    pictures = [workshop.pictures[name] for name in ("v0", "v1", "v2")]
    return pictures, ask("image_features", image_bytes=pictures)


def test_one_side_is_repeated(ask, features):
    pictures, found = features
    patches = found["patch_features"]
    rows = ask("match", image_bytes=pictures, text=TEXTS)["margin"]
    table = [
        ask("match_features", patch_features=patches[i : i + 1], text=TEXTS)["margin"]
        for i in range(3)
    ]
    table = np.stack(table)
    np.testing.assert_allclose(np.diag(table), rows, atol=1e-5)
    for i in range(3):
        by_image = ask("match", image_bytes=pictures[i : i + 1], text=TEXTS)
        np.testing.assert_allclose(by_image["margin"], table[i], atol=1e-5)
        by_text = ask("match_features", patch_features=patches, text=[TEXTS[i]])
        np.testing.assert_allclose(by_text["margin"], table[:, i], atol=1e-5)
    assert np.ptp(table) > 1e-3
    score = ask("match_features", patch_features=patches, text=TEXTS)["score"]
    np.testing.assert_allclose(score, 1 / (1 + np.exp(-rows)), atol=1e-6)


def test_features_answer_as_pictures_do(ask, features):
    pictures, found = features
    patches = found["patch_features"]
    vectors = ask("image_vectors", patch_features=patches)["image_vectors"]
    np.testing.assert_allclose(vectors, found["image_vectors"], atol=1e-5)
    whole = ask("category", image_bytes=pictures, text=TEXTS)
    parts = ask("category_features", patch_features=patches, text=TEXTS)
    np.testing.assert_array_equal(whole["labels"], parts["labels"])
    np.testing.assert_allclose(whole["probabilities"].sum(axis=1), 1, atol=1e-5)
    assert (np.diff(whole["probabilities"]) <= 0).all()
    captions = ask("caption", image_bytes=pictures)["captions"]
    again = ask("caption_features", patch_features=patches)["captions"]
    np.testing.assert_array_equal(captions, again)


def test_info_is_the_file_beside_it(ask, exported):
    with open(f"{exported}/assets.extra/kaleido_info.json", encoding="utf-8") as file:
        assert json.loads(ask("info")["info_json"].item()) == json.load(file)


def test_chunks_are_the_whole():
    rows = tf.reshape(tf.range(14.0), [7, 2])
    spec = (tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int32))

    def double(start, part):
        return 2 * part, start + tf.range(tf.shape(part)[0])

    for size in (1, 3, 7, 20):
        run = tf.function(lambda x, n=size: requests.in_chunks(double, (x,), n, spec))
        doubled, places = run(rows)
        np.testing.assert_array_equal(doubled, 2 * rows)
        np.testing.assert_array_equal(places, range(7))
    assert run(rows[:0])[0].shape == (0, 2)


def test_pieces_are_joined_as_the_tokenizer_does(tokenizer):
    joiner = answers.PieceJoiner(tokenizer)
    rng = np.random.default_rng(0)
    ids = rng.integers(tokenizer.vocab_size, size=[40, 3, 6]).astype(np.int32)
    found = joiner.join(tf.constant(ids)).numpy()
    for row, texts in zip(ids, found, strict=True):
        expected = [tokenizer.decode(one) for one in row]
        assert [text.decode() for text in texts] == expected
    # Only special tokens, and a piece that goes on from nothing.
    index = tokenizer.vocabulary.index
    special = [[index("[PAD]"), index("[CLS]")], [index("##s"), index("##ed")]]
    assert joiner.join(tf.constant(special)).numpy().tolist() == [b"", b"##sed"]


@pytest.fixture(scope="module")
def looking(vocabulary):
    """A matcher in whose layer everything attends to what is like itself.

    Word i and a patch whose feature i is set have the same embedding, and queries and
    keys are the embeddings, enlarged.
    """
    size = 2 * len(vocabulary)
    config = KaleidoConfig.preset(
        "tiny",
        vocab_size=len(vocabulary),
        hidden_size=size,
        num_heads=1,
        num_layers=1,
        intermediate_size=8,
        text_length=12,
        patch_feature_size=len(vocabulary),
        contrastive_size=0,
    )
    matcher = build_matcher(config)
    encoder = matcher.get_layer("encoder")
    unit = np.eye(len(vocabulary), size, dtype=np.float32)
    for weight in encoder.weights:
        # Nothing but words, features, and one layer's queries and keys.
        name = weight.name
        if name.endswith(("query/kernel:0", "key/kernel:0")):
            weight.assign(0.8 * np.eye(size).reshape(weight.shape))
        elif name.endswith(("kernel:0", "embeddings:0", "type_table:0", "bias:0")):
            weight.assign(tf.zeros_like(weight))
    encoder.get_layer("text_embedding").word.embeddings.assign(unit)
    for level in config.levels:
        embedding = encoder.get_layer(f"{level.task}_embedding")
        embedding.projection.kernel.assign(unit)
    tokenizer = Tokenizer(vocabulary)
    locations = np.zeros([config.num_patches, 5], np.float32)
    parts = MatcherParts(matcher, config)
    return answers.Matching(parts, tokenizer, locations, matcher.weights), tokenizer


def test_a_word_answers_to_its_own_patch(looking):
    matching, tokenizer = looking
    words = {"navy": 7, "red": 31, "dress": 54}
    features = np.zeros([2, 55, tokenizer.vocab_size], np.float32)
    features[:, :, tokenizer.vocabulary.index("a")] = 1.0  # everywhere else
    for word, patch in words.items():
        features[0, patch] = np.eye(tokenizer.vocab_size)[
            tokenizer.vocabulary.index(word)
        ]
    found = explain.explain(
        matching, tokenizer, tf.constant(features), tf.constant(["navy red dress"] * 2)
    )
    tokens = [token.decode() for token in found["tokens"].numpy()[0]]
    assert tokens[:5] == ["[CLS]", "navy", "red", "dress", "[SEP]"]
    assert found["token_mask"].numpy()[0].tolist() == [1] * 5 + [0] * 3
    attention = found["attention"].numpy()
    assert attention.shape == (2, 8, 55) and (attention[:, 5:] == 0).all()
    for place, patch in enumerate(words.values(), start=1):
        row = attention[0, place]
        assert row.argmax() == patch
        others = np.delete(row, patch)
        assert row[patch] > 5 > 1.5 > others.max()
    # Where nothing is like the words, attention is even: 1 is what that gives.
    np.testing.assert_allclose(attention[1, 1:4], 1.0, atol=0.1)


def test_a_request_is_explained_in_chunks(looking):
    matching, tokenizer = looking
    rng = np.random.default_rng(0)
    features = rng.random([19, 55, tokenizer.vocab_size], np.float32)
    texts = ["navy red dress", "shirt"] * 9 + ["red"]
    inputs = (tf.constant(features), tf.constant(texts))
    whole = explain.explain(matching, tokenizer, *inputs)["attention"].numpy()
    last = explain.explain(matching, tokenizer, *(x[18:] for x in inputs))
    np.testing.assert_allclose(whole[18], last["attention"].numpy()[0], atol=1e-5)
