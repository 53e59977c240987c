"""Groups of pairs: what is drawn, what is scored, and the losses on it by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.data import input_pipeline
from kaleido_tf.data.masking import split_seed
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import matching_groups
from kaleido_tf.training import checkpoints

# Two views of product 1; products 2 and 5 say the same; 4 and 5 have no sub-category.
IDS = {
    "product_ids": np.array([0, 1, 1, 2, 3, 4, 5], np.int32),
    "text_ids": np.array([10, 11, 11, 12, 13, 14, 12], np.int32),
    "subcategory_ids": np.array([7, 7, 7, 8, 8, -1, -1], np.int32),
}
OTHER = (IDS["product_ids"][:, None] != IDS["product_ids"]) & (
    IDS["text_ids"][:, None] != IDS["text_ids"]
)
HARD = OTHER & (IDS["subcategory_ids"][:, None] == IDS["subcategory_ids"])
HARD[5:] = False


def _drawn(count, hard_rate, num_seeds=60, logits=None):
    """How often each row drew each other one, as a found negative: int [B, B]."""
    table = np.zeros((7, 7), int)
    draw = tf.function(
        lambda seed: matching_groups.draw_negatives(
            IDS, seed, 7, count, hard_rate, logits
        )
    )
    for n in range(num_seeds):
        rows, found = draw(tf.constant([n, 3]))
        assert rows.shape == found.shape == (7, min(count, 7))
        for row, (others, flags) in enumerate(zip(rows, found, strict=True)):
            np.add.at(table[row], others.numpy()[flags.numpy()], 1)
    return table


def test_negatives_are_of_another_product_and_wording():
    table = _drawn(count=2, hard_rate=0.0)
    np.testing.assert_array_equal(table > 0, OTHER)
    assert (table.sum(axis=1) == 2 * 60).all()


def test_hard_negatives_come_first():
    table = _drawn(count=1, hard_rate=1.0)
    expected = np.where(HARD.any(axis=1, keepdims=True), HARD, OTHER)
    np.testing.assert_array_equal(table > 0, expected)
    half = _drawn(count=1, hard_rate=0.5, num_seeds=200)
    # Row 1 has one hard partner of five: half of the draws, and a fifth of the others.
    assert half[1, 0] / 200 == pytest.approx(0.6, abs=0.1)


def test_likely_negatives_are_drawn_more_often():
    logits = np.zeros((7, 7), np.float32)
    logits[0, 3:5] = np.log([3.0, 12.0])  # of 1 1 3 12 1 1: two thirds are row 4
    logits[0, 0] = 50.0  # its own, never
    table = _drawn(count=1, hard_rate=0.0, num_seeds=300, logits=logits)
    assert table[0, 4] / 300 == pytest.approx(12 / 19, abs=0.08)
    assert table[0, 3] / 300 == pytest.approx(3 / 19, abs=0.06)
    np.testing.assert_array_equal(table[3:] > 0, OTHER[3:])
    # Where hard ones are wanted, the likely ones are drawn among these only.
    logits[3] = 40.0 * np.eye(7, dtype=np.float32)[0]
    table = _drawn(count=1, hard_rate=1.0, num_seeds=20, logits=logits)
    assert table[3, 4] == 20


def test_more_negatives_than_there_are():
    table = _drawn(count=9, hard_rate=1.0, num_seeds=1)
    np.testing.assert_array_equal(table, OTHER)
    ids = {name: value[1:3] for name, value in IDS.items()}  # one product
    _, found = matching_groups.draw_negatives(ids, tf.constant([0, 0]), 2, 1, 0.5)
    assert not found.numpy().any()


def test_first_rows_draw_from_the_whole_batch():
    logits = np.zeros((2, 7), np.float32)
    logits[0, 6] = 50.0
    rows, found = matching_groups.draw_negatives(
        IDS, tf.constant([0, 0]), 2, 1, 0.0, logits
    )
    assert rows.shape == (2, 1) and found.numpy().all() and rows[0, 0] == 6


@pytest.fixture(scope="module")
def inputs(tiny, split):
    """A batch of the first seven records, named as in `IDS`."""
    text = split.text_inputs(Tokenizer(tiny.vocabulary), 16)
    batch = {name: value[:7] for name, value in text.items()}
    batch["patch_features"] = split.patch_features[:7].astype(np.float32)
    batch["patch_locations"] = split.patch_locations[:7]
    batch |= IDS | {"draw_seed": np.tile(np.int32([4, 5]), (7, 1))}
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def model(tiny):
    config = tiny.make_config(feature_dropout=0.0)
    return matching_groups.GroupMatcher(config, 2, 0.5, dev_negatives=3)


def test_pixels_fit_into_float16(tiny, inputs):
    """The release's locations are pixels: an area of 256 x 256 is over 65504."""
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = matching_groups.GroupMatcher(tiny.make_config(), 1, 0.5)
        pixels = inputs["patch_locations"] * [256.0, 256, 256, 256, 65536]
        margins = model({**inputs, "patch_locations": pixels}, training=True)["margins"]
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(margins).all()


@pytest.mark.parametrize(
    ("training", "groups", "count", "rate"), [(True, 2, 2, 0.5), (False, 7, 3, 1)]
)
def test_margins_are_the_matchers(tiny, model, inputs, training, groups, count, rate):
    outputs = model(inputs, training=training)
    assert outputs["margins"].shape == (groups, 1 + 2 * count)
    matcher = build_matcher(tiny.make_config(feature_dropout=0.0))
    matcher.set_weights([*model.encoder.get_weights(), *model.itm_head.get_weights()])

    def pairs(texts, images):
        sides = {False: texts, True: images}
        batch = {
            name: tf.gather(inputs[name], sides[name.startswith("patch")])
            for name in input_pipeline.ENCODER_INPUTS
        }
        logits = matcher(batch)["itm_logits"]
        return (logits[:, 1] - logits[:, 0]).numpy()

    own, seed, cosines = np.arange(groups), tf.constant([4, 5]), {}
    if training:
        vectors = [outputs[f"{side}_vectors"].numpy() for side in ("text", "image")]
        cosines["image"] = vectors[0][own] @ vectors[1].T / 0.05
        cosines["text"] = vectors[1][own] @ vectors[0].T / 0.05
    np.testing.assert_allclose(outputs["margins"][:, 0], pairs(own, own), atol=1e-5)
    for side, name in enumerate(("image", "text")):
        rows, found = matching_groups.draw_negatives(
            IDS, split_seed(seed, name), groups, count, rate, cosines.get(name)
        )
        columns = slice(side * count, (side + 1) * count)
        np.testing.assert_array_equal(outputs["found"][:, columns], found)
        margins = outputs["margins"][:, 1:][:, columns]
        for n in range(count):
            sides = (own, rows[:, n]) if name == "image" else (rows[:, n], own)
            np.testing.assert_allclose(margins[:, n], pairs(*sides), atol=1e-5)
    lengths = tf.norm(outputs["image_vectors"], axis=1)
    np.testing.assert_allclose(lengths, np.ones(7), atol=1e-5)


def test_every_weight_is_trained_and_kept(model, inputs):
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = matching_groups.ranking_loss(outputs)
        loss += matching_groups.pair_loss(outputs)
        loss += tf.reduce_sum(outputs["text_vectors"] * outputs["image_vectors"])
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    assert set(checkpoints.model_parts(model)) == {"encoder", "itm_head"}


OUTPUTS = {
    "margins": np.float32([[1.0, 0.5, 3.0, -1.0, 1.0], [-2.0, 0.0, 9.0, -3.0, -4.0]]),
    "found": np.array([[True, True, True, True], [True, False, False, False]]),
}


def _softplus(x):
    return np.log1p(np.exp(x))


def test_losses_by_hand():
    outputs = {name: tf.constant(value) for name, value in OUTPUTS.items()}
    groups = [[1.0, 0.5, 3.0], [-2.0, 0.0], [1.0, -1.0, 1.0]]  # the fourth is empty
    entropies = [np.log(np.exp(g).sum()) - g[0] for g in groups]
    ranking = matching_groups.ranking_loss(outputs).numpy()
    assert ranking == pytest.approx(np.mean(entropies), rel=1e-5)
    matched = np.mean(_softplus(np.array([-1.0, 2.0])))
    mismatched = np.mean(_softplus(np.array([0.5, 3.0, -1.0, 1.0, 0.0])))
    pair = matching_groups.pair_loss(outputs).numpy()
    assert pair == pytest.approx((matched + mismatched) / 2, rel=1e-5)


def test_accuracies_by_hand():
    outputs = {name: tf.constant(value) for name, value in OUTPUTS.items()}
    accuracies = matching_groups.group_accuracies(outputs)
    value, weight = accuracies["rank1"]
    # Of three groups with rivals none is won: a tie in the third counts against us.
    assert (value.numpy(), weight.numpy()) == (0.0, 3.0)
    value, weight = accuracies["itm"]
    assert value.numpy() == pytest.approx(0.5 * (1 / 2 + 2 / 5))
    assert weight.numpy() == 5.0
    won = {**outputs, "margins": outputs["margins"] * [[1.0, 0.1, 0.1, 0.1, 0.1]]}
    value, _ = matching_groups.group_accuracies(won)["rank1"]
    assert value.numpy() == pytest.approx(2 / 3)


def test_batch_without_negatives_costs_nothing_in_ranking():
    outputs = {
        "margins": tf.constant([[5.0, 1.0, 1.0]]),
        "found": tf.constant([[False, False]]),
    }
    assert matching_groups.ranking_loss(outputs).numpy() == 0.0
    loss = matching_groups.pair_loss(outputs).numpy()
    assert loss == pytest.approx(0.5 * _softplus(-5.0), rel=1e-5)
    value, weight = matching_groups.group_accuracies(outputs)["rank1"]
    assert (value.numpy(), weight.numpy()) == (0.0, 0.0)
