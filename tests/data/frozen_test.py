"""Frozen examples: what is stored of them, and what a batch of them holds."""

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KALEIDO_LEVELS, KaleidoConfig
from kaleido_tf.data import frozen, records
from kaleido_tf.data.dataset_info import DatasetInfo

F = 3
SIZES = {"text_length": 8, "max_predictions": 2}
INFO = DatasetInfo(
    "data",
    {
        "patch_arm": "kaleido",
        "feature_size": F,
        "vocab_size": 20,
        "has_variants": False,
        "frozen": SIZES,
    },
)
CONFIG = KaleidoConfig.preset(
    "tiny", vocab_size=20, patch_feature_size=F, text_length=8, max_predictions=2
)


def example(n, **changes):
    rng = np.random.default_rng(n)
    return {
        "product_id": f"p{n}",
        "image_id": f"i{n}",
        "category": "",
        "subcategory": "",
        "text": "navy shirt",
        "token_ids": [5, 6],
        "box": [0, 0, 1, 1],
        "patch_features": rng.normal(size=(55, F)).astype(np.float16),
        "patch_locations": np.full([55, 5], n),
        "rotated_features": np.zeros([0, F]),
        "grey_features": np.zeros([0, F]),
        "input_word_ids": [2, 5, 4, 3, 0, 0, 0, 0],
        "input_mask": [1, 1, 1, 1, 0, 0, 0, 0],
        "input_type_ids": [0] * 8,
        "masked_lm_positions": [2, 0],
        "masked_lm_ids": [6, 0],
        "masked_lm_weights": [1.0, 0.0],
        "itm_labels": n % 2,
        "rotation_labels": 3,
        "jigsaw_labels": 17,
        "camouflage_labels": 8,
        "grey_positions": [1, 15],
        "blank_positions": [0, 7, 24],
        "grey_targets": rng.normal(size=(2, F)),
        **changes,
    }


def read(examples, config=CONFIG):
    encoded = [
        frozen.encode_example(e, INFO.shapes, SIZES, KALEIDO_LEVELS) for e in examples
    ]
    batch = frozen.read_batch(tf.constant(encoded), INFO, config)
    return {key: value for key, value in batch.items()}, encoded


def test_what_a_batch_holds():
    made = [example(n) for n in range(3)]
    batch, encoded = read(made)
    for key in ("input_word_ids", "masked_lm_ids", "grey_positions", "jigsaw_labels"):
        assert batch[key].dtype == tf.int32
        assert batch[key].numpy().tolist() == [e[key] for e in made]
    features = np.stack([e["patch_features"] for e in made]).astype(np.float32)
    blank = 30 + np.array([0, 7, 24])
    np.testing.assert_array_equal(batch["blank_targets"], features[:, blank])
    features[:, blank] = 0
    np.testing.assert_array_equal(batch["patch_features"], features)
    targets = np.stack([e["grey_targets"] for e in made])
    np.testing.assert_allclose(batch["grey_targets"], targets, rtol=1e-3)
    assert batch["pair_weights"].numpy().tolist() == [0, 1, 0]
    # Only the two sides of the matched pair belong together.
    together = batch["text_groups"][:, None] == batch["image_groups"][None]
    assert np.argwhere(together.numpy().any(axis=2)).tolist() == [[1, 1]]
    # It is a record too.
    row = records.decode_records(tf.constant(encoded), INFO.shapes)
    assert row["text"].numpy().tolist() == [b"navy shirt"] * 3
    assert row["token_ids"].to_list() == [[5, 6]] * 3


def test_blank_patches_stay_without_their_task():
    made = [example(0), example(1)]
    batch, _ = read(made, CONFIG.replace(akpm_tasks=("rotation",)))
    features = np.stack([e["patch_features"] for e in made])
    np.testing.assert_array_equal(batch["patch_features"], features)
    assert "blank_targets" not in batch


def test_lists_of_another_length():
    with pytest.raises(ValueError, match=r"`input_mask` should have 8 .* \(2,\) .*i0"):
        read([example(0, input_mask=[1, 1])])
    with pytest.raises(ValueError, match="`blank_positions` should have 3 numbers"):
        read([example(0, blank_positions=[1, 2])])


def test_configs_that_do_not_fit():
    INFO.check_config(CONFIG, pretraining=True)
    with pytest.raises(ValueError, match="`max_predictions` should be 2, as the froz"):
        INFO.check_config(CONFIG.replace(max_predictions=3), pretraining=True)
    with pytest.raises(ValueError, match="should hold clean records. Received: frozen"):
        INFO.check_config(CONFIG)
