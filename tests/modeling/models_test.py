import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import AKPM_TASKS, KaleidoConfig
from kaleido_tf.modeling import (
    build_classifier,
    build_encoder,
    build_matcher,
    build_pretrainer,
    models,
)

SIZES = dict(
    vocab_size=19,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    intermediate_size=40,
    text_length=7,
    max_position_embeddings=9,
    patch_feature_size=6,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    feature_dropout=0.0,
    initializer_range=0.2,
)


def make_inputs(config, rows=3, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, config.text_length + 1, rows)
    mask = np.arange(config.text_length)[None] < lengths[:, None]
    patches = config.num_patches
    inputs = {
        "input_word_ids": rng.integers(5, config.vocab_size, mask.shape) * mask,
        "input_mask": mask,
        "input_type_ids": np.zeros(mask.shape),
        "patch_features": rng.normal(size=(rows, patches, config.patch_feature_size)),
        "patch_locations": rng.uniform(size=(rows, patches, 5)),
        "masked_lm_positions": rng.integers(1, 3, (rows, 4)),
        "grey_positions": rng.integers(0, 16, (rows, 2)),
        "blank_positions": rng.integers(0, 25, (rows, 3)),
    }
    kinds = {"patch_features": tf.float32, "patch_locations": tf.float32}
    return {k: tf.cast(v, kinds.get(k, tf.int32)) for k, v in inputs.items()}


ENCODER_TEXT = ("input_word_ids", "input_mask", "input_type_ids")


def encoder_part(inputs):
    return {k: v for k, v in inputs.items() if not k.endswith("_positions")}


@pytest.fixture(scope="module")
def config():
    return KaleidoConfig(**SIZES)


def test_encoder_shapes_and_types(config):
    outputs = build_encoder(config)(encoder_part(make_inputs(config)))
    assert set(outputs) == {"sequence_output", "pooled_output"}
    assert outputs["sequence_output"].shape == (3, 7 + 55, 32)
    assert outputs["pooled_output"].shape == (3, 32)


def test_pretrainer_has_the_outputs_of_the_seven_tasks(config):
    outputs = build_pretrainer(config)(make_inputs(config))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "mlm_logits": (3, 4, 19),
        "itm_logits": (3, 2),
        "rotation_logits": (3, 4),
        "jigsaw_logits": (3, 24),
        "camouflage_logits": (3, 9),
        "grey_predictions": (3, 2, 6),
        "blank_predictions": (3, 3, 6),
    }
    assert {value.dtype for value in outputs.values()} == {tf.float32}


def test_padding_changes_nothing_and_patches_count(config):
    model = build_matcher(config)
    inputs = encoder_part(make_inputs(config))
    expected = model(inputs)["itm_logits"].numpy()
    padding = 1 - inputs["input_mask"]
    other = {**inputs, "input_word_ids": inputs["input_word_ids"] + 7 * padding}
    np.testing.assert_allclose(model(other)["itm_logits"], expected, atol=1e-6)
    for key in ("patch_features", "patch_locations"):
        changed = model({**inputs, key: inputs[key] + 1.0})["itm_logits"]
        assert np.abs(changed - expected).min() > 1e-4, key


def test_text_may_be_shorter_than_text_length(config):
    model = build_matcher(config)
    inputs = encoder_part(make_inputs(config))
    text = ("input_word_ids", "input_mask", "input_type_ids")
    longer = dict(inputs)
    longer.update({key: tf.pad(inputs[key], [[0, 0], [0, 2]]) for key in text})
    np.testing.assert_allclose(
        model(longer)["itm_logits"], model(inputs)["itm_logits"], atol=1e-5
    )


def test_the_pretrainer_computes_what_its_heads_read_alone(config):
    model, inputs = build_pretrainer(config), make_inputs(config)
    outputs = model(inputs)
    sequence = model.get_layer("encoder")(encoder_part(inputs))["sequence_output"]
    patches = sequence[:, -config.num_patches :]
    rotation = model.get_layer("rotation_head")(patches[:, :1])
    np.testing.assert_allclose(outputs["rotation_logits"], rotation, atol=1e-5)
    camouflage = model.get_layer("camouflage_head")(patches[:, 5:14])
    np.testing.assert_allclose(outputs["camouflage_logits"], camouflage, atol=1e-5)
    hidden = tf.gather(patches[:, 30:], inputs["blank_positions"], batch_dims=1)
    blank = model.get_layer("blank_head")(hidden)
    np.testing.assert_allclose(outputs["blank_predictions"], blank, atol=1e-5)
    words = model.get_layer("mlm_head")(sequence, inputs["masked_lm_positions"])
    np.testing.assert_allclose(outputs["mlm_logits"], words, atol=1e-5)


def test_cutting_padding_off_changes_no_loss(config):
    model, inputs = build_pretrainer(config), make_inputs(config)
    mask = inputs["input_mask"] * tf.constant([[1] * 5 + [0] * 2])
    whole = {**inputs, "input_mask": mask}
    cut = {k: v[:, :5] if k in ENCODER_TEXT else v for k, v in whole.items()}
    outputs = model(whole)
    for name, value in model(cut).items():
        np.testing.assert_allclose(value, outputs[name], atol=1e-5, err_msg=name)


def test_reconstruction_heads_read_their_positions(config):
    model = build_pretrainer(config)
    inputs = make_inputs(config)
    base = model(inputs)["blank_predictions"].numpy()
    turned = {**inputs, "blank_positions": inputs["blank_positions"][:, ::-1]}
    np.testing.assert_allclose(
        model(turned)["blank_predictions"], base[:, ::-1], atol=1e-6
    )


@pytest.mark.parametrize("tasks", [(), ("rotation",), ("blank",), AKPM_TASKS])
def test_ablation_arms_have_only_their_heads(config, tasks):
    model = build_pretrainer(config.replace(akpm_tasks=tasks))
    heads = {layer.name for layer in model.layers if layer.name.endswith("_head")}
    assert heads == {"mlm_head", "itm_head", *(f"{task}_head" for task in tasks)}


def test_fixed_arm_has_one_level_of_64_patches(config):
    fixed = config.replace(patch_arm="fixed")
    assert fixed.num_patches == 64
    assert fixed.loss_names == ("mlm", "itm", "blank")
    outputs = build_pretrainer(fixed)(
        {k: v for k, v in make_inputs(fixed).items() if k != "grey_positions"}
    )
    assert outputs["blank_predictions"].shape == (3, 3, 6)


def test_mlm_head_is_tied_to_the_word_embeddings(config):
    model = build_pretrainer(config)
    word = model.get_layer("encoder").get_layer("text_embedding").word.embeddings
    before = model(make_inputs(config))["mlm_logits"].numpy()
    step = np.zeros((19, 32), np.float32)
    step[18, :16] = 1.0  # a constant would be invisible behind the LayerNorm
    word.assign_add(step)
    after = model(make_inputs(config))["mlm_logits"].numpy()
    changed = np.abs(after - before).max(axis=(0, 1))
    assert changed[18] > 0.1


def test_vectors_are_unit_and_come_from_one_side_each(config):
    config = config.replace(contrastive_size=8)
    model = build_matcher(config)
    inputs = encoder_part(make_inputs(config))
    outputs = model(inputs)
    np.testing.assert_allclose(
        np.linalg.norm(outputs["text_vectors"], axis=1), 1.0, rtol=1e-5
    )
    moved = model({**inputs, "patch_features": inputs["patch_features"] + 1.0})
    np.testing.assert_array_equal(moved["text_vectors"], outputs["text_vectors"])
    assert np.abs(moved["image_vectors"] - outputs["image_vectors"]).max() > 1e-3


def test_vectorizer_gives_the_same_vectors(config):
    config = config.replace(contrastive_size=8)
    vectorizer = models.build_vectorizer(config)
    inputs = encoder_part(make_inputs(config))
    expected = vectorizer.encoder(inputs)
    got = vectorizer(inputs)
    for name in ("text_vectors", "image_vectors"):
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6)
    with pytest.raises(ValueError, match="contrastive_size"):
        models.build_vectorizer(config.replace(contrastive_size=0))


def test_classifier_logits(config):
    outputs = build_classifier(config, 5)(encoder_part(make_inputs(config)))
    assert outputs["class_logits"].shape == (3, 5)


def test_dropout_is_off_in_evaluation(config):
    model = build_matcher(config.replace(hidden_dropout=0.5, feature_dropout=0.5))
    inputs = encoder_part(make_inputs(config))
    once = model(inputs, training=False)["itm_logits"]
    np.testing.assert_array_equal(once, model(inputs, training=False)["itm_logits"])
    noisy = model(inputs, training=True)["itm_logits"]
    assert np.abs(noisy - once).max() > 1e-4
