import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import losses, pretraining_losses
from kaleido_tf.training import metrics


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.fixture
def batch():
    """Labels and outputs of batch 3 with vocabulary 11 and 6 features."""
    rng = np.random.default_rng(3)
    outputs = {
        "mlm_logits": rng.normal(size=(3, 4, 11)),
        "itm_logits": rng.normal(size=(3, 2)),
        "rotation_logits": rng.normal(size=(3, 4)),
        "jigsaw_logits": rng.normal(size=(3, 24)),
        "camouflage_logits": rng.normal(size=(3, 9)),
        "grey_predictions": rng.normal(size=(3, 2, 6)),
        "blank_predictions": rng.normal(size=(3, 3, 6)),
    }
    labels = {
        "masked_lm_ids": rng.integers(0, 11, (3, 4)),
        "masked_lm_weights": np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0.0]]),
        "itm_labels": np.array([1, 0, 1]),
        "rotation_labels": np.array([0, 3, 2]),
        "jigsaw_labels": np.array([23, 0, 7]),
        "camouflage_labels": np.array([8, 1, 4]),
        "grey_targets": rng.normal(size=(3, 2, 6)),
        "blank_targets": rng.normal(size=(3, 3, 6)),
    }
    return labels, outputs


def entropies(labels, logits):
    return -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]


def divergences(targets, predictions):
    target, predicted = log_softmax(targets), log_softmax(predictions)
    return (np.exp(target) * (target - predicted)).sum(-1)


def test_values_of_the_seven_losses(batch):
    labels, outputs = batch
    config = KaleidoConfig(matched_only_losses=())
    got = {k: float(v) for k, v in pretraining_losses(labels, outputs, config).items()}
    weights = labels["masked_lm_weights"]
    tokens = entropies(labels["masked_lm_ids"], outputs["mlm_logits"])
    expected = {"mlm": (tokens * weights).sum() / (weights.sum() + 1e-5)}
    for name in ("itm", "rotation", "jigsaw", "camouflage"):
        each = entropies(labels[f"{name}_labels"], outputs[f"{name}_logits"])
        expected[name] = each.mean()
    for name in ("grey", "blank"):
        each = divergences(labels[f"{name}_targets"], outputs[f"{name}_predictions"])
        expected[name] = each.mean()
    assert list(got) == list(config.loss_names)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-5), name


def test_mismatched_pairs_are_left_out_where_the_config_says(batch):
    labels, outputs = batch
    labels = {**labels, "pair_weights": np.array([1.0, 0.0, 1.0])}
    everyone = pretraining_losses(
        labels, outputs, KaleidoConfig(matched_only_losses=())
    )
    some = pretraining_losses(
        labels, outputs, KaleidoConfig(matched_only_losses=("mlm", "jigsaw", "grey"))
    )
    each = entropies(labels["jigsaw_labels"], outputs["jigsaw_logits"])
    assert float(some["jigsaw"]) == pytest.approx(each[[0, 2]].mean(), rel=1e-5)
    each = divergences(labels["grey_targets"], outputs["grey_predictions"])
    assert float(some["grey"]) == pytest.approx(each[[0, 2]].mean(), rel=1e-5)
    assert float(some["mlm"]) != pytest.approx(float(everyone["mlm"]))
    for name in ("itm", "rotation", "camouflage", "blank"):
        assert float(some[name]) == pytest.approx(float(everyone[name])), name


def test_no_pair_counts_gives_zero_and_not_nan(batch):
    labels, outputs = batch
    labels = {**labels, "pair_weights": np.zeros(3)}
    got = pretraining_losses(labels, outputs, KaleidoConfig())
    for name in ("mlm", "grey", "blank"):
        assert float(got[name]) == 0.0


def test_a_label_of_minus_one_is_not_counted(batch):
    labels, outputs = batch
    labels = {**labels, "camouflage_labels": np.array([8, -1, 4])}
    got = pretraining_losses(labels, outputs, KaleidoConfig())["camouflage"]
    each = entropies(np.array([8, 0, 4]), outputs["camouflage_logits"])
    assert float(got) == pytest.approx(each[[0, 2]].mean(), rel=1e-5)


def test_losses_are_float32_for_half_precision_outputs(batch):
    labels, outputs = batch
    half = {k: tf.cast(v, tf.bfloat16) for k, v in outputs.items()}
    for value in pretraining_losses(labels, half, KaleidoConfig()).values():
        assert value.dtype == tf.float32


def test_contrastive_loss_knows_groups_not_rows():
    text = np.eye(3, dtype=np.float32)
    image = text[[1, 0, 2]]  # the image of row 0 belongs to row 1's product
    groups = np.array([[1, 10], [2, 20], [3, 30]])
    right = losses.contrastive_loss(text, image, groups, groups[[1, 0, 2]], 0.1)
    wrong = losses.contrastive_loss(text, image, groups, groups, 0.1)
    perfect = -log_softmax(np.array([10.0, 0.0, 0.0]))[0]
    assert float(right) == pytest.approx(perfect, abs=1e-6)
    assert float(wrong) > 5.0


def test_contrastive_loss_shares_the_target_among_equal_words():
    text = np.eye(2, dtype=np.float32)
    same_words = np.array([[1, 7], [2, 7]])
    loss = losses.contrastive_loss(text, text, same_words, same_words, 1.0)
    each = -log_softmax(np.array([1.0, 0.0])).mean()
    assert float(loss) == pytest.approx(each, rel=1e-5)


def test_accuracies_count_what_the_losses_count(batch):
    labels, outputs = batch
    labels = {**labels, "pair_weights": np.array([1.0, 0.0, 1.0])}
    labels["camouflage_labels"] = np.array(
        [outputs["camouflage_logits"][0].argmax(), -1, 0]
    )
    config = KaleidoConfig(matched_only_losses=("mlm",))
    labels = {k: tf.convert_to_tensor(v) for k, v in labels.items()}
    labels["masked_lm_weights"] = tf.cast(labels["masked_lm_weights"], tf.float32)
    got = metrics.task_accuracies(labels, outputs, config)
    assert set(got) == {"mlm", "itm", "rotation", "jigsaw", "camouflage"}
    hit = outputs["camouflage_logits"][2].argmax() == 0
    assert float(got["camouflage"][0]) == pytest.approx((1 + hit) / 2)
    assert float(got["camouflage"][1]) == 2
    assert float(got["mlm"][1]) == 5  # masked tokens of rows 0 and 2
    hits = outputs["itm_logits"].argmax(-1) == np.array([1, 0, 1])
    assert float(got["itm"][0]) == pytest.approx(hits.mean())
