"""One training step: parts of a batch, bad losses, number formats, what is learnt."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.input_pipeline import PretrainingData
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import distribution, optimization, shares, trainer
from kaleido_tf.training.trainer import PretrainingModel, TrainingModel


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    tf_keras.mixed_precision.set_global_policy("float32")


def make_config(info, **changes):
    return KaleidoConfig.preset(
        "tiny",
        **{
            "hidden_size": 32,
            "intermediate_size": 32,
            "vocab_size": info.vocab_size,
            "patch_feature_size": info.feature_size,
            "patch_arm": info.patch_arm,
            "text_length": 12,
            "feature_dropout": 0.0,
            **changes,
        },
    )


def test_a_batch_that_is_seen_often_is_learnt(make_data_set, tokenizer, tmp_path):
    info = make_data_set(tmp_path / "data")
    config = make_config(info)
    data = PretrainingData(info, tokenizer, config, batch_size=8)
    batch = data.training_dataset().take(1).cache()
    tf_keras.utils.set_random_seed(0)
    model = PretrainingModel(build_pretrainer(config), config)
    model.compile(optimization.make_optimizer(5e-3, 1000, 0))
    before = model.evaluate(batch, verbose=0, return_dict=True)
    model.fit(batch.repeat(), steps_per_epoch=60, verbose=0)
    after = model.evaluate(batch, verbose=0, return_dict=True)
    for task in ("mlm", "itm", "rotation", "jigsaw", "camouflage", "grey", "blank"):
        assert after[f"loss/{task}"] < 0.6 * before[f"loss/{task}"], task
    assert after["accuracy/jigsaw"] == after["accuracy/itm"] == 1.0


@pytest.fixture(scope="module")
def small(make_data_set, tokenizer, tmp_path_factory):
    """Config with all kinds of dropout, and a batch of 8 whose parts count unevenly."""
    info = make_data_set(tmp_path_factory.mktemp("small") / "data")
    config = make_config(
        info,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=4,
        contrastive_size=4,
        feature_dropout=0.2,
        hidden_dropout=0.1,
        attention_dropout=0.1,
    )
    data = PretrainingData(info, tokenizer, config, batch_size=8, seed=2)
    batch = next(iter(data.training_dataset()))
    masked, matched = (
        batch[1][k].numpy() for k in ("masked_lm_weights", "pair_weights")
    )
    for values in (masked.sum(axis=1), matched):
        assert len(set(values.reshape(4, 2).sum(axis=1))) > 1
    return config, batch


def make_model(config, optimizer=None, **kwargs):
    tf_keras.utils.set_random_seed(0)
    model = PretrainingModel(build_pretrainer(config), config, **kwargs)
    model.compile(optimizer or tf_keras.optimizers.SGD(1.0))
    return model


def step(model, batch):
    """The losses of a training step on one batch: dict."""
    data = tf.data.Dataset.from_tensors(batch)
    return model.fit(data, verbose=0).history


def flat(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def test_micro_batches_give_the_whole_batchs_update(small):
    """Gradients (plain SGD's update), losses and accuracies; dropout is on."""
    config, batch = small
    whole = make_model(config)
    start = flat(whole)
    expected = step(whole, batch)
    assert np.abs(flat(whole) - start).max() > 0.01
    model = make_model(config, accumulate_steps=4)
    found = step(model, batch)
    np.testing.assert_allclose(flat(model), flat(whole), atol=5e-6, rtol=1e-5)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    # It does take the counts: the mean of the parts' means is another update.
    even = make_model(config, accumulate_steps=4)
    even._counts = None
    step(even, batch)
    assert np.abs(flat(even) - flat(whole)).max() > 1e-3


def test_a_step_with_a_bad_loss_is_noted_and_left_out(small):
    config, (inputs, labels) = small
    broken = {**inputs, "patch_features": inputs["patch_features"] * np.nan}
    steps = tf.data.Dataset.from_tensors((inputs, labels))
    steps = steps.concatenate(tf.data.Dataset.from_tensors((broken, labels)))
    steps = steps.repeat(2)
    optimizer = optimization.make_optimizer(1e-3, 10, 0)
    model = make_model(config, optimizer, skips_bad_steps=True)
    history = model.fit(steps, verbose=0).history
    assert model.bad_steps() == [2, 4] and model.status.numpy()[trainer.STOP] == 0
    assert optimizer.iterations.numpy() == 4
    assert np.isfinite(flat(model)).all() and np.isfinite(history["loss/total"][0])
    # The good steps alone, at their places in the schedule and in dropout.
    other = make_model(config, optimization.make_optimizer(1e-3, 10, 0))
    for _ in range(2):
        step(other, (inputs, labels))
        other.optimizer.iterations.assign_add(1)
    np.testing.assert_allclose(flat(model), flat(other), atol=1e-7)
    assert other.bad_steps() == []
    step(other, (broken, labels))
    assert other.bad_steps() == [5]
    assert not np.isfinite(flat(other)).any(), "not asked to leave anything out"


class Slope(tf_keras.Model):
    """One weight, whose loss is finite and whose gradient isn't where x is 0."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(name="weight", initializer="ones")

    def call(self, inputs, training=False):
        return {"y": tf.sqrt(inputs["x"] * self.weight)}


@pytest.mark.parametrize("scaled", [False, True])
def test_a_gradient_that_is_not_finite_makes_a_bad_step(scaled):
    good = ({"x": tf.ones([2])}, {"y": tf.zeros([2])})
    bad = ({"x": tf.zeros([2])}, {"y": tf.zeros([2])})

    def make(**kwargs):
        model = TrainingModel(
            Slope(),
            lambda labels, outputs: {"y": tf.reduce_mean(outputs["y"])},
            lambda labels, outputs: {},
            ("y",),
            (),
            **kwargs,
        )
        model.compile(optimization.make_optimizer(0.1, 40, 0, loss_scaling=scaled))
        return model

    model = make(skips_bad_steps=True)
    steps = [good, bad, good]
    for batch in steps:
        step(model, batch)
    # While its factor can be lowered, loss scaling leaves the step out by itself.
    assert model.bad_steps() == ([] if scaled else [2])
    weight = float(model.network.weight)
    assert np.isfinite(weight) and weight < 1
    if scaled:
        for _ in range(16):  # 2^15 -> 1, where no lower factor is left
            step(model, bad)
        assert model.bad_steps() == [18, 19] and float(model.network.weight) == weight
        return
    other = make()
    for batch in steps:
        step(other, batch)
    assert other.bad_steps() == [2, 3], "named where it began"


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_what_stays_float32(small, precision):
    config, (inputs, labels) = small
    distribution.set_precision(precision)
    optimizer = optimization.make_optimizer(
        1e-3, 10, 0, loss_scaling=precision == "mixed_float16"
    )
    model = make_model(config, optimizer)
    optimizer.build(model.network.trainable_variables)
    for variable in (*model.trainable_variables, *optimizer.variables):
        # Not `variable.dtype`, which is what a layer reads it as.
        stored = tf.convert_to_tensor(variable.value()).dtype
        assert getattr(variable, "true_dtype", stored) in (tf.float32, tf.int64)
    losses, accuracies, outputs = model._evaluate(inputs, labels)
    values = [*losses.values(), *outputs.values()]
    values += [value for pair in accuracies.values() for value in pair]
    assert {value.dtype for value in values} == {tf.float32}
    traced = tf.function(model.network).get_concrete_function(inputs)
    softmaxes = [o for o in traced.graph.get_operations() if o.type == "Softmax"]
    assert len(softmaxes) == config.num_layers
    assert all(op.inputs[0].dtype == tf.float32 for op in softmaxes)
    blocks = [m for m in model.submodules if "layer_norm" in m.name]
    assert len(blocks) >= 2 and {m.compute_dtype for m in blocks} == {"float32"}


class TwoHeads(tf_keras.Model):
    """Two dense layers, of which the losses read one."""

    def __init__(self):
        super().__init__()
        self.used = tf_keras.layers.Dense(1, name="used")
        self.spare = tf_keras.layers.Dense(1, name="spare")

    def call(self, inputs, training=False):
        return {"used": self.used(inputs["x"]), "spare": self.spare(inputs["x"])}


def test_variables_without_a_gradient_are_named(caplog):
    batch = ({"x": tf.ones([3, 2])}, {"y": tf.zeros([3])})

    def make(**kwargs):
        model = TrainingModel(
            TwoHeads(),
            lambda labels, outputs: {"y": tf.reduce_mean(outputs["used"] ** 2)},
            lambda labels, outputs: {},
            ("y",),
            (),
            **kwargs,
        )
        model.compile(tf_keras.optimizers.SGD(0.1))
        return model

    with pytest.raises(ValueError, match="no gradient for .*spare/kernel"):
        step(make(), batch)
    with caplog.at_level("INFO", logger="absl"):
        model = make(unused=("spare/",), accumulate_steps=3)
        step(model, batch)
        step(model, batch)
    notes = [r.getMessage() for r in caplog.records if "gradient" in r.getMessage()]
    assert len(notes) == 1 and "spare/kernel" in notes[0] and "used" not in notes[0]


def test_clipping_is_the_same_with_micro_batches():
    """A table's row that a batch has twice counts once, with its summed gradient."""
    words = tf.constant([[1, 1], [1, 2], [1, 1], [3, 1]])
    batch = (words, tf.constant([[1.0], [0.0], [1.0], [1.0]]))
    found = []
    for parts in (1, 2):
        tf_keras.utils.set_random_seed(3)
        layers = [
            tf_keras.layers.Embedding(5, 3),
            tf_keras.layers.GlobalAveragePooling1D(),
            tf_keras.layers.Dense(1, name="head"),
        ]
        model = TrainingModel(
            tf_keras.Sequential(layers),
            lambda labels, outputs: {"y": tf.reduce_mean((outputs - labels) ** 2)},
            lambda labels, outputs: {},
            ("y",),
            (),
            accumulate_steps=parts,
        )
        model.compile(tf_keras.optimizers.SGD(1.0, global_clipnorm=0.01))
        model.network(words)
        start = flat(model)
        step(model, batch)
        assert np.linalg.norm(flat(model) - start) == pytest.approx(0.01, rel=1e-4)
        found.append(flat(model))
    np.testing.assert_allclose(*found, atol=1e-6)


def test_counts_are_what_the_losses_are_means_over(small):
    config, (inputs, labels) = small
    counts = shares.pretraining_counts(labels, config)
    matched = labels["pair_weights"].numpy()
    words = (labels["masked_lm_weights"].numpy() * matched[:, None]).sum()
    assert counts["mlm"].numpy() == pytest.approx(words + 1e-5)
    assert counts["grey"].numpy() == counts["blank"].numpy() == matched.sum()
    assert counts["itm"].numpy() == 8
    assert set(counts) == set(config.loss_names)
