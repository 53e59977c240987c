"""The fast transformer layer against tf-models-official's, forward and backward."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers as nlp_layers

from kaleido_tf.modeling import block, encoder, fused, packing

_SIZES = {
    "num_attention_heads": 4,
    "inner_dim": 40,
    "inner_activation": encoder.gelu,
    "norm_epsilon": 1e-12,
}


@pytest.fixture(autouse=True)
def compiles(monkeypatch):
    """As in a training: other tests leave the chains as they are written."""
    monkeypatch.setattr(fused, "_on_cpu", lambda: True)


def _layers(**changes):
    """Ours and theirs with the same weights."""
    settings = {**_SIZES, **changes}
    layers = [
        kind(**settings, kernel_initializer="glorot_uniform", bias_initializer="normal")
        for kind in (block.EncoderBlock, nlp_layers.TransformerEncoderBlock)
    ]
    for layer in layers:
        layer(_inputs())
    layers[0].set_weights(layers[1].get_weights())
    return layers


def _inputs():
    rng = np.random.default_rng(0)
    sequence = rng.normal(size=(3, 7, 32)).astype(np.float32)
    mask = (rng.random((3, 7, 7)) < 0.7).astype(np.float32)
    mask[:, :, 0] = 1.0  # everyone sees something
    return [tf.constant(sequence), tf.constant(mask)]


def _result(layer, training, **call):
    """Output, and the gradients of inputs and weights."""

    @tf.function
    def run(sequence, mask):
        with tf.GradientTape() as tape:
            tape.watch(sequence)
            output = layer([sequence, mask], training=training, **call)
            loss = tf.reduce_sum(tf.cast(output, tf.float32) * tf.range(32.0))
        return output, tape.gradient(loss, [sequence, *layer.trainable_variables])

    output, gradients = run(*_inputs())
    return output, [tf.convert_to_tensor(g) for g in gradients]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("call", [{}, {"output_range": 2}])
def test_computes_what_the_stock_layer_does(training, call):
    ours, theirs = (_result(x, training, **call) for x in _layers())
    np.testing.assert_allclose(ours[0], theirs[0], atol=2e-6)
    for own, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=5e-4)


def test_padding_is_not_computed_and_changes_nothing():
    ours, theirs = _layers()
    sequence, lengths = _inputs()[0], np.array([7, 3, 1])
    seen = (np.arange(7) < lengths[:, None]).astype(np.float32)
    mask = tf.constant(np.repeat(seen[:, None], 7, 1))
    assert packing.Packing(mask).rows.shape == (12,)
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(sequence)
            output = layer([sequence, mask], training=True) * seen[:, :, None]
            loss = tf.reduce_sum(output * tf.range(32.0))
        gradients = tape.gradient(loss, [sequence, *layer.trainable_variables])
        results.append([output, *gradients])
    for own, other in zip(*results, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=5e-4)


def test_runs_in_a_function_that_xla_compiles_as_a_whole():
    ours, theirs = _layers()
    compiled = tf.function(lambda x: ours(x, training=True), jit_compile=True)
    np.testing.assert_allclose(compiled(_inputs()), theirs(_inputs()), atol=2e-6)


def test_packing_and_back():
    seen = np.zeros([2, 6], np.float32)
    seen[0, :3] = seen[1, 2:4] = 1
    packed = packing.Packing(tf.constant(np.repeat(seen[:, None], 6, 1)))
    np.testing.assert_array_equal(packed.rows, [0, 1, 2, 8, 9, 0, 0, 0])
    x = tf.random.normal([12, 4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = packed.unpack(packed.pack(x) * 2.0)
    np.testing.assert_array_equal(y[8], 2 * x[8])
    expected = np.repeat(2.0 * seen.reshape(12, 1), 4, 1)
    np.testing.assert_array_equal(tape.gradient(y, x), expected)


def test_computes_some_positions_alone():
    layer = _layers()[0]
    positions = np.array([[0, 3, 6], [0, 1, 1], [5, 2, 0]])
    whole = layer(_inputs()).numpy()
    with layer.only(tf.constant(positions)):
        some = layer(_inputs())
    np.testing.assert_allclose(
        some, np.take_along_axis(whole, positions[:, :, None], 1), atol=1e-6
    )
    assert layer(_inputs()).shape == (3, 7, 32)


def test_holds_the_stock_layer_s_variables():
    ours, theirs = _layers()
    names = [[v.name.split("/", 1)[1] for v in x.variables] for x in (ours, theirs)]
    assert names[0] == names[1] and len(names[0]) == 16


def test_reads_the_stock_layer_s_checkpoint(tmp_path):
    ours, theirs = _layers()
    prefix = tf.train.Checkpoint(layer=theirs).write(str(tmp_path / "ckpt"))
    ours.set_weights([np.zeros_like(w) for w in ours.get_weights()])
    tf.train.Checkpoint(layer=ours).read(prefix).assert_consumed()
    for own, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_bfloat16_rounds_and_no_more():
    exact = _layers()[1]
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        ours = _layers()[0]
        ours.set_weights(exact.get_weights())
        output = _result(ours, True)[0]
        assert output.dtype == tf.float32
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    difference = np.abs(output - _result(exact, True)[0]).max()
    assert 1e-4 < difference < 0.05


def test_a_sequence_alone_sees_all_of_itself():
    layer, sequence = _layers()[0], _inputs()[0]
    everything = tf.ones([3, 7, 7])
    np.testing.assert_allclose(
        layer(sequence), layer([sequence, everything]), atol=1e-6
    )


def test_dropout_drops_in_training_alone():
    ours, theirs = _layers(output_dropout=0.5, attention_dropout=0.5)
    np.testing.assert_allclose(ours(_inputs()), theirs(_inputs()), atol=2e-6)
    first, second = (ours(_inputs(), training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.1


def test_inference_compiles_where_it_is_told_to():
    layer = _layers()[0]
    plain = tf.function(lambda x: layer(x))
    with fused.compiling():
        compiled = tf.function(lambda x: layer(x)).get_concrete_function(_inputs())
    calls = [
        [op.type for op in f.graph.get_operations()].count("StatefulPartitionedCall")
        + [op.type for op in f.graph.get_operations()].count("PartitionedCall")
        for f in (plain.get_concrete_function(_inputs()), compiled)
    ]
    assert calls == [0, 5]
    np.testing.assert_allclose(compiled(_inputs()), plain(_inputs()), atol=2e-6)


SEED = tf.constant([123456789, -987654321, 0])


def test_share_and_scale_of_dropout():
    dropped = fused.dropout(tf.ones([1000, 1000]), SEED, rate=0.1).numpy()
    # Standard deviation of the share: 3e-4.
    assert abs((dropped == 0).mean() - 0.1) < 1.2e-3
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.9, rtol=1e-6)


def test_what_is_dropped_is_independent():
    def kept(seed):
        bits = fused.random_bits(tf.constant([1000, 1024]), tf.constant(seed))
        return (bits.numpy() >= 2**31).astype(float) - 0.5

    first = kept([1, 2, 0])
    others = [kept([1, 3, 0]), kept([2, 2, 0]), kept([1, 2, 1])]
    others += [np.roll(first, shift, axis) for axis in (0, 1) for shift in (1, 2, 64)]
    for other in others:
        # A product's mean has a standard deviation of 0.25e-3.
        assert abs((first * other).mean()) < 1.1e-3
    for axis in (0, 1):
        spread = first.mean(axis).std() * np.sqrt(4 * first.shape[axis])
        assert 0.85 < spread < 1.15


def test_a_part_draws_on_from_the_part_before():
    whole = fused.random_bits(tf.constant([6, 5]), SEED)
    parts = [fused.random_bits(tf.constant([3, 5]), SEED + [0, 0, i]) for i in (0, 1)]
    np.testing.assert_array_equal(whole, tf.concat(parts, 0))


def test_backward_drops_what_forward_dropped():
    x = tf.random.normal([50, 40])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fused.dropout(x, SEED, rate=0.3, compiled=True)
    gradient = tape.gradient(y, x).numpy()
    np.testing.assert_allclose(gradient, (y / x).numpy(), rtol=1e-5)
    assert 0.2 < (gradient == 0).mean() < 0.4
    plain = fused.dropout(x, SEED, rate=0.3)
    np.testing.assert_allclose(y, plain, rtol=1e-6)
