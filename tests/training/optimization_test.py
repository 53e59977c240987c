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


@pytest.mark.parametrize(("decay", "changes"), [(1e-4, False), (1e-3, True)])
def test_a_decay_is_left_out_where_float32_cannot_hold_it(decay, changes):
    """Below 2^-25 of a weight Keras's own decay changes none of its bits either."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=40_000) * 2.0 ** rng.integers(-40, 10, 40_000)
    weights = np.concatenate([weights, 2.0 ** np.arange(-60, 60.0)]).astype(np.float32)
    ours = optimization.make_optimizer(1e-4, 10**8, 0, decay, clip_norm=0)
    schedule = optimization.make_schedule(1e-4, 10**8, 0)
    theirs = tf_keras.optimizers.AdamW(schedule, weight_decay=decay, epsilon=1e-6)
    results = []
    for optimizer in (ours, theirs):
        variable = tf.Variable(weights, name="kernel")
        optimizer.apply_gradients([(tf.zeros_like(weights), variable)])
        results.append(variable.numpy())
    np.testing.assert_array_equal(*results)
    assert (results[0] != weights).any() == changes
    assert optimization.decays(1e-4, decay) == changes


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


def _trained(optimizer_class, gradients, steps=5):
    """A kernel and a bias after some steps, and the optimizer."""
    rng = np.random.default_rng(0)
    kernel = tf.Variable(rng.normal(size=(5, 3)).astype(np.float32), name="kernel")
    bias = tf.Variable(np.zeros(3, np.float32), name="bias")
    optimizer = optimizer_class(
        optimization.make_schedule(1e-2, 100, 3),
        weight_decay=0.1,
        epsilon=1e-6,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])

    @tf.function
    def step(scale):
        pairs = [(g * scale, v) for g, v in zip(gradients, (kernel, bias), strict=True)]
        optimizer.apply_gradients(pairs)

    for number in range(steps):
        step(tf.constant(number - 1.5))
    return kernel, bias, optimizer


def _gradients():
    rng = np.random.default_rng(1)
    return [tf.constant(rng.normal(size=s), tf.float32) for s in ((5, 3), (3,))]


def test_the_fused_update_is_keras_own():
    kernel, bias, optimizer = _trained(optimization.AdamW, _gradients())
    theirs = _trained(tf_keras.optimizers.AdamW, _gradients())
    np.testing.assert_allclose(kernel, theirs[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(bias, theirs[1], rtol=1e-6, atol=1e-7)
    assert [v.shape for v in optimizer.variables] == [
        v.shape for v in theirs[2].variables
    ]
    for own, other in zip(optimizer.variables, theirs[2].variables, strict=True):
        # The kernel takes 1 - beta from a float32: 1.3e-5 of the second moments.
        np.testing.assert_allclose(own, other, rtol=2e-5, atol=1e-9)


def test_slots_of_keras_own_optimizer_are_read(tmp_path):
    before = _trained(tf_keras.optimizers.AdamW, _gradients())
    prefix = tf.train.Checkpoint(optimizer=before[2]).write(str(tmp_path / "ckpt"))
    after = _trained(optimization.AdamW, _gradients(), steps=1)[2]
    status = tf.train.Checkpoint(optimizer=after).read(prefix)
    status.assert_existing_objects_matched()
    assert int(after.iterations) == 5
    for own, other in zip(after.variables, before[2].variables, strict=True):
        np.testing.assert_array_equal(own, other)


def test_the_fused_update_runs_under_a_strategy():
    single = _trained(optimization.AdamW, _gradients(), steps=1)[0].numpy()
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        rng = np.random.default_rng(0)
        kernel = tf.Variable(rng.normal(size=(5, 3)).astype(np.float32), name="kernel")
        optimizer = optimization.make_optimizer(1e-2, 100, 3, weight_decay=0.1)
        optimizer.build([kernel])
    gradient, bias_gradient = (-1.5 * g for g in _gradients())
    # Clipped as in the single run, where the bias took part.
    norm = tf.linalg.global_norm([gradient, bias_gradient])

    @tf.function
    def step():
        strategy.run(optimizer.apply_gradients, [[(gradient / norm, kernel)]])

    step()
    np.testing.assert_allclose(kernel.numpy(), single, rtol=1e-5, atol=1e-7)
