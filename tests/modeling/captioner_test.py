import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import (
    build_captioner,
    build_encoder,
    build_pretrainer,
    encoder,
)
from kaleido_tf.training import checkpoints


@pytest.fixture(scope="module")
def config():
    return KaleidoConfig(
        vocab_size=19,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        intermediate_size=40,
        text_length=7,
        max_position_embeddings=9,
        patch_feature_size=6,
        patch_arm="fixed",
        contrastive_size=5,
        initializer_range=0.2,
    )


@pytest.fixture(scope="module")
def inputs(config):
    rng = np.random.default_rng(0)
    mask = np.arange(7)[None] < np.array([7, 5, 3])[:, None]
    shape = (3, config.num_patches)
    return {
        "input_word_ids": tf.constant(rng.integers(5, 19, (3, 7)) * mask, tf.int32),
        "input_mask": tf.constant(mask, tf.int32),
        "input_type_ids": tf.zeros([3, 7], tf.int32),
        "patch_features": tf.constant(rng.normal(size=(*shape, 6)), tf.float32),
        "patch_locations": tf.constant(rng.uniform(size=(*shape, 5)), tf.float32),
    }


@pytest.fixture(scope="module")
def captioner(config):
    return build_captioner(config)


def test_mask_says_who_sees_whom():
    layer = encoder.SequenceToSequenceMask(num_patches=2)
    mask = layer(tf.zeros([2, 5, 4]), tf.constant([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1]]))
    expected = [
        [1, 0, 0, 1, 1],
        [1, 1, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    np.testing.assert_array_equal(mask[0], expected)
    np.testing.assert_array_equal(mask[1], expected * np.array([1, 1, 0, 1, 1]))


def test_a_place_depends_on_the_text_up_to_itself_and_on_the_patches(captioner, inputs):
    logits = captioner(inputs)["caption_logits"]
    assert logits.shape == (3, 7, 19) and logits.dtype == tf.float32
    hidden = captioner.get_layer("encoder")(inputs)["sequence_output"]

    step = tf.one_hot([2, 2, 2], 7, dtype=tf.int32)
    ids = inputs["input_word_ids"]
    other = {**inputs, "input_word_ids": tf.where(step == 1, 5 + (ids + 1) % 14, ids)}
    change = np.abs(captioner(other)["caption_logits"] - logits).max(axis=2)
    np.testing.assert_allclose(change[:, :2], 0, atol=1e-5)
    assert change[:2, 2:5].min() > 1e-3
    moved = captioner.get_layer("encoder")(other)["sequence_output"]
    np.testing.assert_allclose(moved[:, 7:], hidden[:, 7:], atol=1e-5)

    other = {**inputs, "patch_features": inputs["patch_features"] + 1.0}
    change = np.abs(captioner(other)["caption_logits"] - logits).max(axis=2)
    assert change.min() > 1e-3


def test_a_pretrainers_checkpoint_is_the_start_of_both(config, inputs, tmp_path):
    pretrainer = build_pretrainer(config)
    checkpoints.CheckpointKeeper(str(tmp_path), pretrainer).save(1)
    positions = tf.tile(tf.range(7)[None], [3, 1])
    extra = {"masked_lm_positions": positions, "blank_positions": positions[:, :3]}
    expected = pretrainer({**inputs, **extra})["mlm_logits"]
    both_ways = build_captioner(config, "bidirectional")
    checkpoints.load_weights(both_ways, str(tmp_path))
    np.testing.assert_allclose(both_ways(inputs)["caption_logits"], expected, atol=1e-5)
    # From one kind of captioner to the other: the same weights, another mask.
    checkpoints.CheckpointKeeper(str(tmp_path), both_ways).save(2)
    one_way = build_captioner(config)
    checkpoints.load_weights(one_way, str(tmp_path))
    assert np.abs(one_way(inputs)["caption_logits"] - expected).max() > 1e-2
    for name, part in checkpoints.model_parts(one_way).items():
        stored = checkpoints.model_parts(both_ways)[name]
        for ours, theirs in zip(part.get_weights(), stored.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_parts_that_no_caption_depends_on_are_left_alone(captioner, inputs):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(captioner(inputs, training=True)["caption_logits"] ** 2)
    gradients = tape.gradient(total, captioner.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    names = {v.name.split("/")[0] for v in captioner.non_trainable_variables}
    assert names == {"pooler", "vector_projection"}


def test_unknown_attention_is_an_error(config):
    with pytest.raises(ValueError, match="`attention` should be one of"):
        build_encoder(config, "causal")
