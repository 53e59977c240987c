"""Decoding against the captioner's own logits: nothing here trusts the cache."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import tokenization
from kaleido_tf.modeling import build_captioner
from kaleido_tf.modeling.decoding import CaptionDecoder, DecodingSettings

TOKENIZER = tokenization.Tokenizer([*tokenization.SPECIAL_TOKENS, *"abcdefghijklmn"])
SPECIAL = [0, 1, 2, 3, 4]
SEP, MASK = TOKENIZER.sep_id, TOKENIZER.mask_id
CONFIG = KaleidoConfig(
    vocab_size=TOKENIZER.vocab_size,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    intermediate_size=40,
    text_length=7,
    max_position_embeddings=9,
    patch_feature_size=6,
    patch_arm="fixed",
    initializer_range=0.4,
)
IMAGES = 3


def make_images(rows=IMAGES):
    rng = np.random.default_rng(5)
    shape = (rows, CONFIG.num_patches)
    return (
        tf.constant(2 * rng.normal(size=(*shape, 6)), tf.float32),
        tf.constant(rng.uniform(size=(*shape, 5)), tf.float32),
    )


@pytest.fixture(scope="module")
def captioner():
    tf_keras.utils.set_random_seed(1)
    model = build_captioner(CONFIG)
    set_bias(model, {SEP: 1.0})
    return model


def set_bias(model, values):
    """Sets the bias of some tokens; the others get 0."""
    bias = np.zeros(CONFIG.vocab_size, np.float32)
    for token, value in values.items():
        bias[token] = value
    model.get_layer("mlm_head").bias.assign(bias)


def decoder_of(captioner, **settings):
    return CaptionDecoder(captioner, CONFIG, TOKENIZER, DecodingSettings(**settings))


def run_eagerly(decoder):
    """Without a graph: slower a step, but nothing to trace."""
    results = decoder.decode.python_function(*make_images())
    return {key: value.numpy() for key, value in results.items()}


def next_log_probs(captioner, objective, rows, images=None):
    """Log probabilities of the token after each row: [n, V], by the whole model.

    Args:
      rows: int [n, length], tokens so far with [CLS].
      images: place of each row's image; default: row by row.
    """
    rows = np.asarray(rows)
    images = range(len(rows)) if images is None else images
    if objective == "masked":
        rows = np.pad(rows, [[0, 0], [0, 1]], constant_values=MASK)
    ids = tf.constant(rows, tf.int32)
    features, locations = (tf.gather(x, list(images)) for x in make_images())
    inputs = {
        "input_word_ids": ids,
        "input_mask": tf.ones_like(ids),
        "input_type_ids": tf.zeros_like(ids),
        "patch_features": features,
        "patch_locations": locations,
    }
    logits = captioner(inputs)["caption_logits"].numpy()[:, -1]
    is_first = rows.shape[1] == (2 if objective == "masked" else 1)
    logits[:, [i for i in SPECIAL if i != SEP or is_first]] = -np.inf
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def norm(length, alpha=0.6):
    return ((5 + length) / 6) ** alpha


def log_prob(captioner, objective, tokens, image):
    """Log probability of a caption's tokens, [SEP] among them."""
    total = 0.0
    for i, token in enumerate(tokens):
        row = [[TOKENIZER.cls_id, *tokens[:i]]]
        total += next_log_probs(captioner, objective, row, [image])[0, token]
    return total


def tokens_of(ids, max_length):
    """A caption's pieces, with [SEP] where it ended: list."""
    pieces = [i for i in ids.tolist() if i != TOKENIZER.pad_id]
    return pieces + [SEP] if len(pieces) < max_length else pieces


@pytest.fixture(scope="module", params=["next_word", "masked"])
def objective(request):
    return request.param


@pytest.fixture(scope="module")
def traced(captioner):
    """The decoders with a cached beam search that run in graph, by objective."""
    return {
        objective: decoder_of(captioner, objective=objective, beam_size=3)
        for objective in ("next_word", "masked")
    }


@pytest.fixture(scope="module")
def searched(traced, objective):
    """Captions by cached beam search in graph."""
    results = traced[objective].decode(*make_images())
    return {key: value.numpy() for key, value in results.items()}


def test_beam_search_is_the_same_without_a_cache(captioner, objective, searched):
    settings = dict(objective=objective, beam_size=3)
    whole = run_eagerly(decoder_of(captioner, use_cache=False, **settings))
    np.testing.assert_array_equal(searched["caption_ids"], whole["caption_ids"])
    np.testing.assert_allclose(
        searched["caption_scores"], whole["caption_scores"], atol=1e-4
    )
    assert searched["caption_ids"].shape == (IMAGES, 3, 6)
    assert len(np.unique((searched["caption_ids"] > 0).sum(axis=2))) > 1


def test_beam_scores_are_the_models_own(captioner, objective, searched):
    scores = searched["caption_scores"]
    assert np.all(np.diff(scores, axis=1) <= 0)
    for image in range(IMAGES):
        captions = {tuple(ids) for ids in searched["caption_ids"][image].tolist()}
        assert len(captions) == 3
        for ids, score in zip(
            searched["caption_ids"][image, :2], scores[image, :2], strict=True
        ):
            tokens = tokens_of(ids, 6)
            assert not set(tokens[:-1]) & set(SPECIAL)
            expected = log_prob(captioner, objective, tokens, image)
            assert score == pytest.approx(expected / norm(len(tokens)), abs=1e-4)


def test_greedy_takes_the_best_token_every_time(captioner, objective):
    settings = dict(objective=objective, method="greedy")
    got = run_eagerly(decoder_of(captioner, **settings))
    whole = run_eagerly(decoder_of(captioner, use_cache=False, **settings))
    rows = np.full([IMAGES, 1], TOKENIZER.cls_id)
    total, length = np.zeros(IMAGES), np.zeros(IMAGES)
    for _ in range(6):
        log_probs = next_log_probs(captioner, objective, rows)
        going_on = ~(rows == SEP).any(axis=1)
        total += np.where(going_on, log_probs.max(axis=1), 0)
        length += going_on
        rows = np.concatenate([rows, log_probs.argmax(axis=1)[:, None]], axis=1)
    inside = np.cumsum(rows[:, 1:] == SEP, axis=1) == 0
    for result in (got, whole):
        ids, scores = result["caption_ids"], result["caption_scores"]
        np.testing.assert_array_equal(ids[:, 0], rows[:, 1:] * inside)
        np.testing.assert_allclose(scores[:, 0], total / norm(length), atol=1e-4)


def test_a_wide_beam_finds_the_best_short_caption(captioner):
    decoder = decoder_of(captioner, beam_size=7, max_length=3, length_penalty=0.0)
    got = run_eagerly(decoder)
    assert got["caption_ids"].shape == (IMAGES, 7, 3)
    pieces = range(len(SPECIAL), CONFIG.vocab_size)
    first = next_log_probs(captioner, "next_word", [[TOKENIZER.cls_id]] * IMAGES)
    second_rows = [[TOKENIZER.cls_id, piece] for piece in pieces]
    third_rows = [
        [TOKENIZER.cls_id, *pair] for pair in itertools.product(pieces, repeat=2)
    ]
    for image in range(IMAGES):
        places = [image] * len(second_rows)
        second = next_log_probs(captioner, "next_word", second_rows, places)
        places = [image] * len(third_rows)
        third = next_log_probs(captioner, "next_word", third_rows, places)
        one = first[image, 5:] + second[:, SEP]
        two = first[image, 5:, None] + second[:, 5:]
        two += third[:, SEP].reshape(two.shape)
        best = max(one.max(), two.max())
        assert got["caption_scores"][image, 0] == pytest.approx(best, abs=1e-4)


def test_special_tokens_never_come_and_a_caption_may_not_end(captioner):
    settings = dict(max_length=4, beam_size=2, length_penalty=0.5)
    try:
        set_bias(captioner, {0: 50.0, 1: 50.0, 2: 50.0, 4: 50.0, SEP: -50.0})
        endless = run_eagerly(decoder_of(captioner, **settings))
        scores = [
            log_prob(captioner, "next_word", ids[0].tolist(), image) / norm(4, 0.5)
            for image, ids in enumerate(endless["caption_ids"])
        ]
        set_bias(captioner, {SEP: 50.0})
        short = run_eagerly(decoder_of(captioner, **settings))
    finally:
        set_bias(captioner, {SEP: 1.0})
    assert endless["caption_ids"].min() >= len(SPECIAL)
    np.testing.assert_allclose(endless["caption_scores"][:, 0], scores, atol=1e-4)
    # [SEP] doesn't come first, so a caption has one piece at least.
    assert np.all(short["caption_ids"][:, 0, 0] >= len(SPECIAL))
    assert np.all(short["caption_ids"][:, 0, 1:] == 0)


def test_the_list_says_where_fewer_hypotheses_ended(captioner):
    got = run_eagerly(decoder_of(captioner, max_length=2, beam_size=7))
    empty = (got["caption_ids"] == 0).all(axis=2)
    assert empty.any() and not empty[:, 0].any()
    np.testing.assert_array_equal(np.isneginf(got["caption_scores"]), empty)


def test_mask_all_reads_every_place_of_one_pass():
    tf_keras.utils.set_random_seed(2)
    captioner = build_captioner(CONFIG, "bidirectional")
    set_bias(captioner, {SEP: 2.0})
    got = run_eagerly(decoder_of(captioner, method="mask_all"))
    ids = tf.tile([[TOKENIZER.cls_id, *[MASK] * 5, SEP]], [IMAGES, 1])
    features, locations = make_images()
    inputs = {
        "input_word_ids": ids,
        "input_mask": tf.ones_like(ids),
        "input_type_ids": tf.zeros_like(ids),
        "patch_features": features,
        "patch_locations": locations,
    }
    logits = captioner(inputs)["caption_logits"].numpy()[:, 1:-1]
    logits[..., [i for i in SPECIAL if i != SEP]] = -np.inf
    logits[:, 0, SEP] = -np.inf
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    for image, best in enumerate(log_probs.argmax(axis=-1).tolist()):
        end = best.index(SEP) if SEP in best else 5
        expected = best[:end] + [0] * (6 - end)
        assert got["caption_ids"][image, 0].tolist() == expected
        score = log_probs[image].max(axis=-1)[: end + 1].sum() / norm(end + 1)
        assert got["caption_scores"][image, 0] == pytest.approx(score, abs=1e-4)


def test_half_precision_finds_nearly_the_same_scores():
    try:
        tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
        tf_keras.utils.set_random_seed(1)
        captioner = build_captioner(CONFIG)
        set_bias(captioner, {SEP: 1.0})
        results = [
            run_eagerly(decoder_of(captioner, objective="masked", use_cache=use_cache))
            for use_cache in (True, False)
        ]
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    scores = [result["caption_scores"] for result in results]
    assert scores[0].dtype == np.float32
    np.testing.assert_allclose(scores[0][:, 0], scores[1][:, 0], atol=0.1)


def test_a_decoder_can_be_saved(traced, tmp_path):
    decoder = traced["next_word"]
    tf.saved_model.save(decoder, str(tmp_path), signatures=decoder.decode)
    loaded = tf.saved_model.load(str(tmp_path))
    features, locations = make_images()
    got = loaded.signatures["serving_default"](
        patch_features=features, patch_locations=locations
    )
    for key, value in decoder.decode(features, locations).items():
        np.testing.assert_array_equal(got[key], value)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(method="sampling"), "`method` should be one of"),
        (dict(objective="mask_all"), "`objective` should be one of"),
        (dict(beam_size=0), "`beam_size` should be at least 1"),
        (dict(length_penalty=-0.5), "`length_penalty` should be at least 0"),
        (dict(beam_size=8), "`beam_size` should be at most 7"),
        (dict(method="mask_all"), '`captioner` should have the attention "bidir'),
    ],
)
def test_wrong_settings_are_errors(captioner, settings, message):
    with pytest.raises(ValueError, match=message):
        decoder_of(captioner, **settings)


def test_a_caption_is_no_longer_than_what_was_trained(captioner):
    assert decoder_of(captioner, max_length=64).max_length == 6
    assert decoder_of(captioner, max_length=2).max_length == 2
