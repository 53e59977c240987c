import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.training import optimization


def test_schedule_warms_up_and_decays_to_zero():
    schedule = optimization.make_schedule(1.0, num_steps=100, warmup_steps=10)
    got = [float(schedule(tf.constant(step))) for step in (0, 5, 10, 55, 100)]
    # The decay runs from step 0, the first tenth of it under the warm-up.
    np.testing.assert_allclose(got, [0.0, 0.45, 0.9, 0.45, 0.0], atol=1e-6)


def test_schedule_without_warmup():
    schedule = optimization.make_schedule(2.0, num_steps=4, warmup_steps=0)
    got = [float(schedule(tf.constant(step))) for step in range(5)]
    np.testing.assert_allclose(got, [2.0, 1.5, 1.0, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("warmup", [-1, 100])
def test_schedule_refuses_a_warmup_of_the_whole_run(warmup):
    with pytest.raises(ValueError, match="warmup_steps.*Received: -?1"):
        optimization.make_schedule(1.0, 100, warmup)


def test_norms_and_biases_do_not_decay():
    dense = tf_keras.layers.Dense(3, bias_initializer="ones")
    norm = tf_keras.layers.LayerNormalization()
    model = tf_keras.Sequential([dense, norm])
    model.build((None, 2))
    before = {v.name: v.numpy() for v in model.trainable_variables}
    optimizer = optimization.make_optimizer(1.0, 10, 0, weight_decay=0.1)
    zeros = [tf.zeros_like(v) for v in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    for variable in model.trainable_variables:
        kept = 0.9 if "kernel" in variable.name else 1.0
        np.testing.assert_allclose(
            variable, kept * before[variable.name], rtol=1e-5, err_msg=variable.name
        )


def test_gradients_are_clipped_by_their_global_norm():
    steps = {}
    for scale in (1.0, 100.0):
        variable = tf.Variable([0.0, 0.0])
        optimizer = optimization.make_optimizer(
            0.1, 10, 0, weight_decay=0.0, clip_norm=0.5
        )
        gradient = tf.constant([0.6, 0.8]) * scale
        optimizer.apply_gradients([(gradient, variable)])
        steps[scale] = optimizer.variables[1].numpy()
    np.testing.assert_allclose(steps[100.0], steps[1.0], rtol=1e-5)
