"""Batches for the pre-trainer: the same for a seed, resumable, shared by workers."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import input_pipeline, records
from kaleido_tf.data.input_pipeline import PretrainingData
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.training.batch_ids import batch_ids

BATCH = 5  # of 12 examples: two steps an epoch, two examples left over


@pytest.fixture(scope="module")
def info(tmp_path_factory, make_data_set):
    return make_data_set(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def config(info):
    return KaleidoConfig.preset(
        "tiny",
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        text_length=12,
        max_predictions=3,
    )


@pytest.fixture(scope="module")
def data(info, config, tokenizer):
    return PretrainingData(info, tokenizer, config, batch_size=BATCH, seed=4)


@pytest.fixture(scope="module")
def seven(data):
    """The first seven batches of an uninterrupted run."""
    return take(data.training_dataset(), 7)


def take(dataset, count):
    return [
        [{key: value.numpy() for key, value in side.items()} for side in batch]
        for batch in dataset.take(count)
    ]


def differences(one, other):
    """Names of the values that differ between two batches."""
    return {
        key
        for side, other_side in zip(one, other, strict=True)
        for key in side
        if not np.array_equal(side[key], other_side[key])
    }


def images(batch):
    """Numbers of a batch's images, which the test's locations hold."""
    return batch[0]["patch_locations"][:, 0, 0].astype(int).tolist()


def test_names_and_static_shapes(data, config):
    inputs, labels = data.training_dataset().element_spec
    assert {key: spec.shape.as_list() for key, spec in inputs.items()} == {
        "input_word_ids": [5, None],
        "input_mask": [5, None],
        "input_type_ids": [5, None],
        "patch_features": [5, 55, 6],
        "patch_locations": [5, 55, 5],
        "masked_lm_positions": [5, 3],
        "grey_positions": [5, 2],
        "blank_positions": [5, 3],
    }
    assert {key: spec.shape.as_list() for key, spec in labels.items()} == {
        "masked_lm_ids": [5, 3],
        "masked_lm_weights": [5, 3],
        "itm_labels": [5],
        "pair_weights": [5],
        "text_groups": [5, 2],
        "image_groups": [5, 2],
        "rotation_labels": [5],
        "jigsaw_labels": [5],
        "camouflage_labels": [5],
        "grey_targets": [5, 2, 6],
        "blank_targets": [5, 3, 6],
    }
    floats = {"patch_features", "patch_locations", "masked_lm_weights", "pair_weights"}
    floats |= {"grey_targets", "blank_targets"}
    for key, spec in {**inputs, **labels}.items():
        assert spec.dtype == (tf.float32 if key in floats else tf.int32)


@pytest.mark.parametrize(
    ("lengths", "places"), [([3, 8, 1], 8), ([9, 2, 2], 12), ([0, 0, 0], 8)]
)
def test_texts_are_cut_to_the_longest(lengths, places):
    mask = (np.arange(12) < np.array(lengths)[:, None]).astype(np.int32)
    ids = np.arange(36, dtype=np.int32).reshape(3, 12)
    given = {"input_word_ids": ids, "input_mask": mask, "input_type_ids": ids + 1}
    given = {key: tf.constant(value) for key, value in given.items()}
    cut = input_pipeline.trim_texts({**given, "patch_features": ids})
    assert cut["patch_features"] is ids
    for key in input_pipeline.TEXT_INPUTS:
        np.testing.assert_array_equal(cut[key], given[key][:, :places])


def test_batches_are_cut_and_nothing_of_a_text_is_lost(seven, config):
    places = set()
    for inputs, labels in seven:
        mask, length = inputs["input_mask"], inputs["input_mask"].shape[1]
        places.add(length)
        assert mask.sum(1).max() > length - 8 and length <= config.text_length
        assert (inputs["input_word_ids"][mask == 1] > 0).all()
        counted = inputs["masked_lm_positions"][labels["masked_lm_weights"] > 0]
        assert counted.max() < length
    assert places == {8, 12}


def test_names_follow_the_tasks(config):
    some = config.replace(akpm_tasks=("blank", "jigsaw"), contrastive_size=0)
    names = input_pipeline.input_names(some)
    assert names[-1] == "blank_positions"
    assert "grey_positions" not in names
    assert input_pipeline.label_names(some) == [
        "masked_lm_ids",
        "masked_lm_weights",
        "itm_labels",
        "pair_weights",
        "jigsaw_labels",
        "blank_targets",
    ]


def test_a_batch_goes_through_pairs_masks_and_corruptions(seven, info, tokenizer):
    stored = {}
    for path in info.shard_paths("train"):
        for row in records.read_shard(path, info.shapes):
            stored[int(row["patch_locations"][0, 0])] = row
    for inputs, labels in seven:
        for n in range(BATCH):
            image = stored[int(inputs["patch_locations"][n, 0, 0])]
            features = inputs["patch_features"][n]
            blank = inputs["blank_positions"][n]
            assert not features[30 + blank].any()
            clean = image["patch_features"]
            np.testing.assert_array_equal(labels["blank_targets"][n], clean[30 + blank])
            turns = labels["rotation_labels"][n]
            variants = [clean[0], *image["rotated_features"]]
            np.testing.assert_array_equal(features[0], variants[turns])
            grey = inputs["grey_positions"][n]
            np.testing.assert_array_equal(
                features[14 + grey], image["grey_features"][grey]
            )
            ids = inputs["input_word_ids"][n].copy()
            used = labels["masked_lm_weights"][n] > 0
            places = inputs["masked_lm_positions"][n][used]
            ids[places] = labels["masked_lm_ids"][n][used]
            pieces = [r["token_ids"][:10].tolist() for r in stored.values()]
            text = ids[1 : inputs["input_mask"][n].sum() - 1].tolist()
            assert text in pieces
            if labels["itm_labels"][n]:
                assert text == image["token_ids"][:10].tolist()
                assert set(labels["text_groups"][n]) == set(labels["image_groups"][n])
            else:
                assert labels["text_groups"][n][0] != labels["image_groups"][n][0]
    labels = np.concatenate([labels["itm_labels"] for _, labels in seven])
    assert 0 < labels.sum() < len(labels)


def test_pairs_count_from_the_first_piece(info, config, tokenizer):
    data = PretrainingData(info, tokenizer, config.replace(text_length=6), BATCH)
    (path, *_) = info.shard_paths("train")
    serialized = tf.constant(list(records.read_shard(path)))
    batch = data._clean_batch(serialized)
    # Stored: pieces 0, 2, 3, 4 of p0. Two places of six are [CLS] and [SEP].
    assert batch["aligned_tokens"][0].numpy().tolist() == [1, 3, 4, -1]
    assert batch["aligned_patches"][0].numpy().tolist() == [6, 20, 40, 3]
    assert batch["aligned_tokens"][2].numpy().tolist() == [2, -1, -1, -1]
    assert batch["aligned_tokens"][1].numpy().tolist() == [-1, -1, -1, -1]
    ids = batch["text_ids"].numpy()
    assert ids[1] == ids[3]  # of two products, with the same words
    assert len(set(ids)) == 4
    assert batch["subcategory_ids"][4] == -1


def test_texts_that_the_model_sees_alike_are_alike(info, config, tokenizer):
    shapes = info.shapes
    row = next(records.read_shard(info.shard_paths("train")[0], shapes))
    row = {k: v.decode() if isinstance(v, bytes) else v for k, v in row.items()}
    rows = [
        {**row, "text": "Navy  Cotton", "token_ids": [5, 6]},
        {**row, "text": "navy cotton", "token_ids": [5, 6]},
        {**row, "text": "navy", "token_ids": [5]},
    ]
    for one in rows:
        for key in ("aligned_tokens", "aligned_patches", "aligned_scores"):
            one[key] = []
    serialized = [records.encode_record(one, shapes) for one in rows]
    data = PretrainingData(info, tokenizer, config, BATCH)
    first, second, third = data._clean_batch(tf.constant(serialized))["text_ids"]
    assert first == second != third


def test_the_same_for_a_seed(data, seven):
    tf.random.set_seed(99)  # TensorFlow's global seed plays no part
    again = take(data.training_dataset(), 3)
    for one, other in zip(seven, again, strict=False):
        assert not differences(one, other)
    other = take(dataclasses.replace(data, seed=5).training_dataset(), 3)
    assert [images(b) for b in other] != [images(b) for b in again]


def test_every_epoch_has_another_order_and_fresh_masks(info, config, tokenizer):
    # One step an epoch, every image in it: only order and draws can differ.
    whole = PretrainingData(info, tokenizer, config, batch_size=12, mismatch_rate=0.0)
    first, second, third = take(whole.training_dataset(), 3)
    for batch in (first, second, third):
        assert sorted(images(batch)) == list(range(12))
        assert batch[1]["itm_labels"].all()
    assert images(first) != images(second) != images(third)
    for key in ("masked_lm_positions", "blank_positions"):
        by_image = [
            {n: batch[0][key][i].tolist() for i, n in enumerate(images(batch))}
            for batch in (first, second, third)
        ]
        assert by_image[0] != by_image[1]
        assert by_image[1] != by_image[2]
    for key in ("rotation_labels", "jigsaw_labels", "camouflage_labels"):
        by_image = [
            {n: batch[1][key][i] for i, n in enumerate(images(batch))}
            for batch in (first, second)
        ]
        assert by_image[0] != by_image[1]


def test_an_epochs_order_within_a_shard(info, config, tokenizer):
    shard = info.shards("train")[0]
    splits = {"train": {"num_examples": shard["num_examples"], "shards": [shard]}}
    info = dataclasses.replace(info, values={**info.values, "splits": splits})
    data = PretrainingData(info, tokenizer, config, batch_size=5, mismatch_rate=0.0)
    orders = {tuple(images(batch)) for batch in take(data.training_dataset(), 5)}
    assert len(orders) > 2


@pytest.mark.parametrize("start", [1, 2, 5])
def test_resuming_gives_the_batches_of_the_uninterrupted_run(data, seven, start):
    # Two steps an epoch: from the middle of one, from a boundary, and across others.
    resumed = take(data.training_dataset(start_step=start), 7 - start)
    for one, other in zip(seven[start:], resumed, strict=True):
        assert not differences(one, other)


def test_workers_share_an_epoch(info, config, tokenizer):
    data = PretrainingData(info, tokenizer, config, batch_size=4, mismatch_rate=0.0)
    parts = [take(data.training_dataset(worker=w, workers=2), 6) for w in (0, 1)]
    for epoch in (0, 1):  # three steps of 2 + 2 images
        seen = [[i for b in part[3 * epoch :][:3] for i in images(b)] for part in parts]
        assert [len(one) for one in seen] == [6, 6]
        assert sorted(seen[0] + seen[1]) == list(range(12))
    assert differences(parts[0][0], parts[1][0]) >= {"masked_lm_ids", "jigsaw_labels"}
    assert numbers_of(data, 4) == images(parts[0][4]) + images(parts[1][4])
    with pytest.raises(ValueError, match="a multiple of the 3 workers. Received: 4"):
        data.training_dataset(worker=0, workers=3)


def numbers_of(data, step):
    """Images of a step's batch, as `batch_ids` names them."""
    return [int(name.split("/i")[1]) for name in batch_ids(data, step, 2)]


def test_workers_read_shards_of_their_own(info, config, tokenizer):
    data = PretrainingData(info, tokenizer, config, batch_size=2, mismatch_rate=0.0)
    parts = [take(data.training_dataset(worker=w, workers=2), 24) for w in (0, 1)]
    shard_of = np.repeat([0, 1, 2], [5, 4, 3])
    seen = set()
    for epoch in range(8):  # three steps of 1 + 1 images: the smallest shard's
        here = [
            {int(shard_of[i]) for b in part[3 * epoch :][:3] for i in images(b)}
            for part in parts
        ]
        assert len(here[0]) == len(here[1]) == 1 and here[0] != here[1]
        seen |= {tuple(here[0]), tuple(here[1])}
    assert seen == {(0,), (1,), (2,)}
    assert numbers_of(data, 7) == images(parts[0][7]) + images(parts[1][7])
    later = take(data.training_dataset(7, worker=1, workers=2), 1)[0]
    assert not differences(later, parts[1][7])


def test_validation_is_fixed(data):
    first = take(data.validation_dataset(), 9)
    other_run = dataclasses.replace(data, seed=77, hard_rate=1.0)
    second = take(other_run.validation_dataset(), 9)
    assert len(first) == len(second) == 1
    assert not differences(first[0], second[0])
    plain = dataclasses.replace(data, mismatch_rate=0.0, batch_size=3)
    batches = take(plain.validation_dataset(), 9)
    assert [images(b) for b in batches] == [[12, 13, 14], [15, 16]]  # in order, once
    (short,) = take(plain.validation_dataset(max_examples=2), 9)
    assert images(short) == [12, 13]


def test_hard_negatives_start_late(info, config, tokenizer):
    """Before `hard_start` no preference; from then on the same sub-category."""
    data = PretrainingData(
        info, tokenizer, config, 12, mismatch_rate=1.0, hard_rate=1.0, hard_start=3
    )
    paths = info.shard_paths("train")
    serialized = tf.constant([row for p in paths for row in records.read_shard(p)])
    clean = data._clean_batch(serialized)
    own, classes = clean["product_ids"].numpy(), clean["subcategory_ids"].numpy()
    class_of = dict(zip(own, classes, strict=True))

    def share_of_hard(step):
        _, labels = data.make_batch(serialized, tf.constant([0, step]))
        text, image = labels["text_groups"][:, 0], labels["image_groups"][:, 0]
        others = np.where(text == own, image, text)
        assert (others != own).all()
        return np.mean(
            [class_of[o] == c for o, c in zip(others, classes, strict=True) if c >= 0]
        )

    assert share_of_hard(2) < 0.8
    assert share_of_hard(3) == share_of_hard(4) == 1.0


def test_random_masking_ignores_pairs(data):
    assert data.masking_settings.aligned
    assert not dataclasses.replace(data, masking="random").masking_settings.aligned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "`batch_size` should be at least 2: .* Received: 1"),
        ({"masking": "none"}, r"`masking` .*\('aligned', 'random'\). .*'none'"),
        ({"mismatch_rate": 1.5}, "`mismatch_rate` should be a share .*Received: 1.5"),
        ({"hard_rate": -0.1}, "`hard_rate` should be a share .*Received: -0.1"),
    ],
)
def test_wrong_settings(data, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, **changes)


def test_what_does_not_fit_the_data_set(data, config, tokenizer):
    with pytest.raises(ValueError, match="`patch_feature_size` of the config"):
        dataclasses.replace(data, config=config.replace(patch_feature_size=9))
    other = Tokenizer([*tokenizer.vocabulary, "more"])
    with pytest.raises(ValueError, match="`tokenizer` should be that of .*vocab.txt"):
        dataclasses.replace(data, tokenizer=other)
    with pytest.raises(ValueError, match="training split's 12 examples. Received: 13"):
        dataclasses.replace(data, batch_size=13).training_dataset()


def test_fixed_arm(tmp_path, make_data_set, config, tokenizer):
    info = make_data_set(tmp_path / "fixed", patch_arm="fixed")
    data = PretrainingData(info, tokenizer, config.replace(patch_arm="fixed"), 4)
    ((inputs, labels),) = take(data.training_dataset(), 1)
    assert inputs["patch_features"].shape == (4, 64, 6)
    for n in range(4):
        assert not inputs["patch_features"][n, inputs["blank_positions"][n]].any()
    assert not {"rotation_labels", "grey_targets"} & set(labels)


def test_damaged_shard(tmp_path, make_data_set, config, tokenizer):
    info = make_data_set(tmp_path / "damaged")
    path = pathlib.Path(info.shard_paths("train")[1])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    data = PretrainingData(info, tokenizer, config, batch_size=BATCH)
    with pytest.raises(tf.errors.DataLossError, match="corrupted record"):
        take(data.training_dataset(), 2)
    # TensorFlow doesn't say which file it was; this does.
    assert "train-1.tfrecord: record 2 can't be read" in info.find_damage("train")
    path.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"train-1.tfrecord should have \d+ bytes"):
        data.training_dataset()
