"""What a release checkpoint may look like, and which models it loads into."""

import numpy as np
import pytest
import tf_keras

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import (
    build_classifier,
    build_encoder,
    build_matcher,
    build_pretrainer,
)
from kaleido_tf.port import easytransfer
from kaleido_tf.port.names import EASYTRANSFER_NAMES
from kaleido_tf.port.report import PortError


@pytest.fixture(scope="module")
def values(release):
    """The golden checkpoint's arrays by name without root scope."""
    stored = release.read(release.prefix)
    return {name.removeprefix(release.root): value for name, value in stored.items()}


@pytest.fixture(scope="module")
def target(config):
    """A pre-trainer that each test loads into."""
    return build_pretrainer(config)


def spoil(model):
    """Gives every weight another value, so that what was loaded shows."""
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 7.0))


def same_weights(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def names(entries):
    return {entry.theirs for entry in entries}


def test_table_has_every_name_of_the_format_once(release):
    for layers in (2, 12):
        shapes = release.shapes(release.config_values | {"num_hidden_layers": layers})
        table = [
            row[1].replace("{i}", str(i))
            for row in EASYTRANSFER_NAMES
            for i in range(layers if "{i}" in row[1] else 1)
        ]
        assert len(table) == 43 + 16 * layers
        assert sorted(table) == sorted(shapes)


def test_writer_of_these_tests_has_the_golden_names_and_shapes(release, values):
    shapes = {name: value.shape for name, value in values.items()}
    assert release.shapes(release.config_values) == shapes


def test_report_accounts_for_every_variable(release, target):
    report = easytransfer.load_checkpoint(target, release.prefix)
    assert len(report.loaded) == 75
    assert not (report.skipped or report.unused or report.missing or report.misfits)
    row = next(e for e in report.loaded if e.theirs.endswith("jiasaw_output_weights"))
    assert row.ours == "jigsaw_head.logits.kernel"
    assert (row.their_shape, row.our_shape) == ((24, 128), (128, 24))
    assert "75 variables loaded, 0 skipped by rule" in report.summary()
    assert report.table().count("\n  ") == 75


@pytest.mark.parametrize(
    "root", ["", "another_pre_trained_model/", "a/b_pre_trained_model/"]
)
def test_root_scopes(tmp_path, release, values, pretrainer, target, root):
    prefix = release.write(
        tmp_path / "model.ckpt", {root + name: v for name, v in values.items()}
    )
    spoil(target)
    easytransfer.load_checkpoint(target, prefix)
    assert same_weights(target, pretrainer)


def test_optimizer_slots_are_skipped_and_listed(
    tmp_path, release, values, pretrainer, target
):
    stored = {release.root + name: value for name, value in values.items()}
    slots = {
        f"{name}/{slot}": value + 1
        for name, value in stored.items()
        for slot in ("Adam", "Adam_1", "adam_m", "adam_v")
    }
    slots |= {"beta1_power": np.float32(0.9), "train/beta2_power": np.float32(0.99)}
    slots["global_step"] = np.int64(500)
    prefix = release.write(tmp_path / "model.ckpt", stored | slots)
    spoil(target)
    report = easytransfer.load_checkpoint(target, prefix)
    assert same_weights(target, pretrainer)
    assert names(report.skipped) == set(slots)
    assert {entry.note for entry in report.skipped} == {
        "optimizer slot",
        "step counter",
    }


def test_float16_variables(tmp_path, release, values, target):
    halves = {name: value.astype(np.float16) for name, value in values.items()}
    prefix = release.write(tmp_path / "model.ckpt", halves)
    easytransfer.load_checkpoint(target, prefix)
    words = target.get_layer("encoder").get_layer("text_embedding").word.embeddings
    expected = halves["bert/embeddings/word_embeddings"].astype(np.float32)
    np.testing.assert_array_equal(words.numpy(), expected)
    assert words.dtype == np.float32


def test_longer_position_table_is_cut_and_said_so(release, values, config):
    encoder = build_encoder(config.replace(max_position_embeddings=16))
    report = easytransfer.load_checkpoint(encoder, release.prefix)
    table = encoder.get_layer("text_embedding").position._position_embeddings
    stored = values["bert/embeddings/position_embeddings"]
    np.testing.assert_array_equal(table.numpy(), stored[:16])
    notes = [entry.note for entry in report.loaded if entry.note]
    assert notes == ["the first 16 of 40 rows"]
    assert notes[0] in report.table()


def test_shorter_position_table_is_an_error(release, config):
    encoder = build_encoder(config.replace(max_position_embeddings=41))
    with pytest.raises(
        PortError, match=r"position_embeddings .*\[40, 32\].*\[41, 32\]"
    ):
        easytransfer.load_checkpoint(encoder, release.prefix)


def test_matcher_lists_the_heads_it_lacks_as_unused(release, config, pretrainer):
    matcher = build_matcher(config)
    report = easytransfer.load_checkpoint(matcher, release.prefix)
    assert same_weights(matcher.get_layer("itm_head"), pretrainer.get_layer("itm_head"))
    assert same_weights(matcher.get_layer("encoder"), pretrainer.get_layer("encoder"))
    assert len(report.unused) == 5 + 3 * 2 + 2
    assert names(report.unused) >= {
        f"{release.root}cls/img_blankmask/blanmask_output_weights",
        f"{release.root}cls/predictions/output_bias",
    }
    assert "the model has no mlm_head" in {entry.note for entry in report.unused}


def test_classifier_keeps_its_fresh_head(release, config, pretrainer):
    classifier = build_classifier(config, num_classes=5)
    before = classifier.get_layer("class_head").get_weights()
    report = easytransfer.load_checkpoint(classifier, release.prefix)
    assert {e.ours for e in report.missing} == {"class_head.kernel", "class_head.bias"}
    after = classifier.get_layer("class_head").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    encoder = classifier.get_layer("encoder")
    assert same_weights(encoder, pretrainer.get_layer("encoder"))


def test_alignment_before_fusion_is_fresh_and_listed(release, config):
    model = build_pretrainer(config.replace(contrastive_size=6))
    report = easytransfer.load_checkpoint(model, release.prefix)
    assert len(report.loaded) == 75
    assert [entry.ours for entry in report.missing] == [
        "encoder.vector_projection.projection.kernel"
    ]


def test_difference_is_an_error_unless_allowed_by_name(
    tmp_path, release, values, pretrainer, target
):
    stored = dict(values)
    del stored["cls/img_rotation/rotation_output_bias"]
    stored["bert/extra/kernel"] = np.ones([2, 3], np.float32)
    prefix = release.write(tmp_path / "model.ckpt", stored)
    spoil(target)
    before = target.get_weights()
    with pytest.raises(PortError) as error:
        easytransfer.load_checkpoint(target, prefix)
    assert "2 differences" in str(error.value)
    assert "bert/extra/kernel  [2, 3]" in str(error.value)
    assert "rotation_head.logits.bias  [4]" in str(error.value)
    after = target.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    with pytest.raises(PortError, match="1 differences"):
        easytransfer.load_checkpoint(target, prefix, allow_unused=["bert/extra/.*"])
    report = easytransfer.load_checkpoint(
        target,
        prefix,
        allow_missing=[r"rotation_head\..*bias"],
        allow_unused=["bert/extra/.*"],
    )
    assert len(report.loaded) == 74
    bias = target.get_layer("rotation_head").logits.bias
    np.testing.assert_array_equal(bias.numpy(), [7.0] * 4)


def test_misfit_needs_both_sides_allowed(tmp_path, release, values, target):
    stored = values | {"cls/img_rotation/rotation_output_bias": np.ones(5, np.float32)}
    prefix = release.write(tmp_path / "model.ckpt", stored)
    pattern = [".*rotation_output_bias"]
    for allowed in ({}, {"allow_missing": pattern}, {"allow_unused": pattern}):
        with pytest.raises(PortError, match=r"\[5\].*rotation_head.logits.bias.*\[4\]"):
            easytransfer.load_checkpoint(target, prefix, **allowed)
    report = easytransfer.load_checkpoint(target, prefix, pattern, pattern)
    assert len(report.loaded) == 74


def test_pattern_that_is_none(release, target):
    with pytest.raises(ValueError, match="`allow_unused` should hold regular expr"):
        easytransfer.load_checkpoint(target, release.prefix, allow_unused=["("])


def test_model_without_encoder(release):
    with pytest.raises(ValueError, match='the encoder as its layer "encoder"'):
        easytransfer.load_checkpoint(_dense_model(), release.prefix)


def _dense_model():

    return tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])


def test_other_number_of_heads_beside_the_checkpoint(release, config):
    # No shape in the file shows it: [H, H] splits into any number of heads.
    encoder = build_encoder(config.replace(num_heads=8))
    with pytest.raises(ValueError, match="the 4 attention heads .* Received: 8"):
        easytransfer.load_checkpoint(encoder, release.prefix)


def test_config_is_the_releases(config):
    assert config == KaleidoConfig(
        vocab_size=120,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        intermediate_size=64,
        text_length=16,
        max_position_embeddings=40,
        patch_feature_size=24,
        patch_arm="kaleido",
        hidden_dropout=0.0,
        feature_dropout=0.0,
        attention_dropout=0.0,
        matched_only_losses=(),
    )
