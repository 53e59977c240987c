import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.training import dropout


@pytest.fixture(scope="module")
def model():
    """Two dropout layers side by side, of 15 numbers a row; outputs both results."""
    inputs = tf_keras.Input([5, 3])
    first = tf_keras.layers.Dropout(0.25)(inputs)
    second = tf_keras.layers.Dropout(0.25)(inputs)
    model = tf_keras.Model(inputs, [first, second])
    dropout.prepare(model)
    dropout.prepare(model)  # once is enough
    return model


def draw(model, rows, seed=3, step=5, part=0, jit=False):
    """What is kept of ones [rows, 5, 3] by both layers: two bool arrays."""

    @tf.function(jit_compile=jit)
    def run(step, part):
        with dropout.drawing(seed, step, part):
            return model(tf.ones([rows, 5, 3]), training=True)

    step, part = (tf.constant(value, tf.int64) for value in (step, part))
    results = [result.numpy() for result in run(step, part)]
    for result in results:
        values = set(np.unique(result)) - {0.0}
        assert values == {np.float32(1 / 0.75)}
    return [result > 0 for result in results]


def test_a_part_drops_what_the_whole_batch_drops_there(model):
    whole = draw(model, 4)
    for part in (0, 1):
        for own, all_rows in zip(draw(model, 2, part=part), whole, strict=True):
            np.testing.assert_array_equal(own, all_rows[2 * part : 2 * part + 2])


def test_every_seed_step_and_layer_draws_anew_and_xla_the_same(model):
    first, second = draw(model, 500)
    assert 0.73 < first.mean() < 0.77 and 0.73 < second.mean() < 0.77
    others = [second, draw(model, 500, step=6)[0], draw(model, 500, seed=4)[0]]
    for other in others:
        assert (first & other).mean() == pytest.approx(0.75**2, abs=0.02)
    np.testing.assert_array_equal(draw(model, 500)[1], second)
    np.testing.assert_array_equal(draw(model, 500, jit=True)[1], second)


def test_elsewhere_keras_draws_and_nothing_is_dropped_without_training(model):
    ones = tf.ones([300, 5, 3])
    results = [model(ones, training=True)[0].numpy() for _ in range(2)]
    assert not np.array_equal(*results)
    with dropout.drawing(0, tf.constant(0, tf.int64), tf.constant(0, tf.int64)):
        np.testing.assert_array_equal(model(ones, training=False)[0], ones)
