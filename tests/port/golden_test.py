"""The ported checkpoint against the original graph's numbers, one by one."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.modeling import build_pretrainer, pretraining_losses
from kaleido_tf.port import easytransfer

# Our output -> the golden file's.
OUTPUTS = {
    "mlm_logits": "out/mlm_logits",
    "itm_logits": "out/itm_logits",
    "rotation_logits": "out/rotation_logits",
    "jigsaw_logits": "out/jigsaw_logits",
    "camouflage_logits": "out/camouflage_logits",
    "grey_predictions": "out/grey_logits",
    "blank_predictions": "out/blank_logits",
}
LOSSES = ("mlm", "itm", "rotation", "jigsaw", "camouflage", "grey", "blank")
# bfloat16 has 8 bits of mantissa, so one rounding is 2^-9 = 0.2 % of a number, and two
# layers make several: 2 % of an output's largest value (measured: 1.1 %).
BFLOAT16 = 0.02


def all_outputs(model, inputs):
    """The heads' outputs and the pooled one, by the golden file's names."""
    encoder = model.get_layer("encoder")
    outputs = model(inputs, training=False)
    encoded = encoder({name: inputs[name] for name in encoder.input})
    named = {theirs: outputs[ours] for ours, theirs in OUTPUTS.items()}
    return {**named, "out/pooled": tf.cast(encoded["pooled_output"], tf.float32)}


def differences(model, golden, jit_compile=None):
    """Largest difference of each output from the golden one: (absolute, relative).

    Relative is to the largest value of the golden output.
    """
    forward = tf.function(
        lambda inputs: all_outputs(model, inputs), jit_compile=jit_compile
    )
    absolute, relative = {}, {}
    for name, value in forward(golden.inputs).items():
        expected = golden.arrays[name]
        worst = np.abs(value.numpy().reshape(expected.shape) - expected).max()
        absolute[name], relative[name] = worst, worst / np.abs(expected).max()
    return absolute, relative


@pytest.fixture
def bfloat16_pretrainer(release, config):
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build_pretrainer(config)
        easytransfer.load_checkpoint(model, release.prefix)
        yield model
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("jit_compile", [None, True])
def test_outputs_agree(pretrainer, golden, jit_compile):
    absolute, _ = differences(pretrainer, golden, jit_compile)
    assert len(absolute) == 8
    assert max(absolute.values()) < 1e-5, absolute


def test_outputs_agree_in_bfloat16_with_and_without_xla(bfloat16_pretrainer, golden):
    for jit_compile in (None, True):
        absolute, relative = differences(bfloat16_pretrainer, golden, jit_compile)
        assert max(absolute.values()) > 1e-3  # it was bfloat16 indeed
        assert max(relative.values()) < BFLOAT16, relative


def test_losses_agree(pretrainer, golden, config):
    outputs = pretrainer(golden.inputs, training=False)
    losses = pretraining_losses(golden.labels, outputs, config)
    assert tuple(losses) == LOSSES
    for name, value in losses.items():
        assert abs(float(value) - golden.arrays[f"loss/{name}"]) < 1e-5, name
    total = sum(map(float, losses.values()))
    assert abs(total - golden.arrays["loss/total"]) < 1e-5


def test_grey_loss_as_released_is_another(golden):
    # The release's soft-max over both patches together: its recorded value is a
    # negative "divergence", ours is per patch.
    assert golden.arrays["loss/grey_as_released"] < 0 < golden.arrays["loss/grey"]


def test_twenty_steps_of_training_agree(release, config, golden):
    model = build_pretrainer(config)
    easytransfer.load_checkpoint(model, release.prefix)
    # tf_keras's Adam adds epsilon where TensorFlow 1's does: to sqrt(v), with the bias
    # correction in the learning rate ("epsilon hat").
    optimizer = tf_keras.optimizers.Adam(
        float(golden.arrays["train/lr"]), beta_1=0.9, beta_2=0.999, epsilon=1e-8
    )
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = model(golden.inputs, training=True)
            losses = pretraining_losses(golden.labels, outputs, config)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return {**losses, "total": total}

    curve = [{k: float(v) for k, v in step().items()} for _ in range(20)]
    keys = [str(key) for key in golden.arrays["train/keys"]]
    assert set(keys) == {*LOSSES, "total", "grey_as_released"}
    for name in (*LOSSES, "total"):
        ours = np.array([row[name] for row in curve])
        theirs = golden.arrays["train/curve"][:, keys.index(name)]
        assert np.max(np.abs(ours / theirs - 1)) < 1e-3, name
