"""Fine-tuning batches: the dev part, order and resuming, what is left out, damage."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import finetuning_data
from kaleido_tf.data.finetuning_data import FinetuningData
from kaleido_tf.data.input_pipeline import naming_damage
from kaleido_tf.data.tokenization import SPECIAL_TOKENS, Tokenizer

DEV_FRACTION = 0.65  # p1 and p3, by the hashes of their ids


def make_batch(batch, seed):
    inputs = {"ids": batch["image_id"], "patch_features": batch["patch_features"]}
    drawn = tf.random.stateless_uniform([], seed, maxval=1000, dtype=tf.int32)
    return inputs, {"products": batch["product_id"], "drawn": drawn[None]}


def rows_of(dataset, steps=None):
    """(image ids, products, the number drawn by the seed) of each batch."""
    return [
        (
            [i.decode() for i in inputs["ids"].numpy()],
            [p.decode() for p in labels["products"].numpy()],
            int(labels["drawn"][0]),
        )
        for inputs, labels in (dataset if steps is None else dataset.take(steps))
    ]


@pytest.fixture(scope="module")
def info(make_data_set, tmp_path_factory):
    return make_data_set(tmp_path_factory.mktemp("finetuning"))


@pytest.fixture(scope="module")
def data(info, tokenizer):
    config = KaleidoConfig.preset(
        "tiny",
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        text_length=12,
    )
    return FinetuningData(
        info, tokenizer, config, batch_size=2, dev_fraction=DEV_FRACTION
    )


def test_dev_part_is_made_of_whole_products(data):
    train = {item.product_id for item in data.train_items}
    dev = {item.product_id for item in data.dev_items}
    products = np.array([f"p{i}" for i in range(7)])
    chosen = finetuning_data.is_dev(tf.constant(products), DEV_FRACTION).numpy()
    assert dev == set(products[chosen]) and train == set(products[~chosen])
    assert train and dev and not train & dev
    assert data.num_train_examples + data.num_dev_examples == 12
    other = dataclasses.replace(data, seed=5)
    assert other.dev_items == data.dev_items
    ids = [item.image_id for item in data.dev_items]
    for _ in range(2):  # the second time from memory
        rows = rows_of(data.dev_dataset(make_batch))
        assert [i for batch, _, _ in rows for i in batch] == ids
    same = rows_of(other.dev_dataset(make_batch))
    assert [row[2] for row in same] == [row[2] for row in rows]


def test_training_never_sees_dev_products_and_goes_through_all(data):
    steps = data.steps_per_epoch()
    assert steps == data.num_train_examples // 2 >= 3
    rows = rows_of(data.training_dataset(make_batch), 3 * steps)
    dev = {item.product_id for item in data.dev_items}
    assert not dev & {p for _, products, _ in rows for p in products}
    for epoch in range(3):
        seen = [
            i for ids, _, _ in rows[epoch * steps : (epoch + 1) * steps] for i in ids
        ]
        assert len(set(seen)) == 2 * steps
    assert rows[:steps] != rows[steps : 2 * steps]


@pytest.mark.parametrize("start", [1, 3, 7])
def test_batch_n_depends_on_seed_and_n_alone(data, start):
    whole = rows_of(data.training_dataset(make_batch), start + 4)
    assert rows_of(data.training_dataset(make_batch, start), 4) == whole[start:]
    other = dataclasses.replace(data, seed=1).training_dataset(make_batch, start)
    assert rows_of(other, 4) != whole[start:]


def test_workers_share_each_batch(data):
    parts = [
        rows_of(data.training_dataset(make_batch, 0, worker, 2), 3)
        for worker in range(2)
    ]
    assert [row[2] for row in parts[0]] != [row[2] for row in parts[1]]
    seen = [{i for ids, _, _ in part for i in ids} for part in parts]
    assert len(seen[0]) == len(seen[1]) == 3 and not seen[0] & seen[1]
    with pytest.raises(ValueError, match="multiple of the 3 workers"):
        data.training_dataset(make_batch, 0, 0, 3)


def test_records_that_lack_a_label_are_left_out_and_counted(data):
    needy = data.with_needs(["subcategory"])
    without = [i for i in data.train_items + data.dev_items if not i.subcategory]
    assert {item.product_id for item in without} == {"p4"}
    assert needy.num_left_out == len(without) == 2 and data.num_left_out == 0
    rows = rows_of(needy.training_dataset(make_batch), 2 * needy.steps_per_epoch())
    rows += rows_of(needy.dev_dataset(make_batch))
    products = {p for _, row, _ in rows for p in row}
    assert products <= {i.product_id for i in data.train_items} | {
        i.product_id for i in data.dev_items
    } - {"p4"}
    assert "p4" not in products
    total = needy.num_train_examples + needy.num_dev_examples
    assert total + needy.num_left_out == 12


def test_shapes_are_static_in_training(data):
    inputs, labels = data.training_dataset(make_batch).element_spec
    assert inputs["patch_features"].shape == (2, 55, data.info.feature_size)
    assert labels["products"].shape == (2,)


def test_split_comes_whole_and_in_order(data):
    batches = list(data.split_dataset("validation", 3))
    ids = [i.decode() for batch in batches for i in batch["image_id"].numpy()]
    assert ids == [f"i{n}" for n in range(12, 17)]
    first = batches[0]
    assert first["input_word_ids"].shape == (3, 12)
    assert float(first["patch_locations"][1, 0, 0]) == 13.0
    assert {"text", "category", "token_ids", "product_ids"} <= set(first)
    assert "rotated_features" not in first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_fraction": 0.0}, "`dev_fraction` should be a share .* Received: 0.0"),
        ({"dev_fraction": 1.0}, "`dev_fraction` should be a share"),
        ({"batch_size": 0}, "`batch_size` should be at least 1"),
        ({"tokenizer": Tokenizer([*SPECIAL_TOKENS, "a"])}, "`tokenizer` should be"),
    ],
)
def test_wrong_settings(data, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, **changes)


def test_parts_that_are_too_small(data):
    with pytest.raises(ValueError, match="at most the .* examples .* Received: 99"):
        dataclasses.replace(data, batch_size=99).training_dataset(make_batch)
    none = dataclasses.replace(data, dev_fraction=0.0001)
    assert none.num_dev_examples == 0 and none.num_train_examples == 12
    with pytest.raises(ValueError, match="falls into the dev part"):
        none.dev_dataset(make_batch)


def test_damaged_shard_is_named(make_data_set, data, tmp_path):
    info = make_data_set(tmp_path)
    broken = dataclasses.replace(data, info=info)
    path = tmp_path / "validation-0.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with (
        pytest.raises(ValueError, match=r"validation-0\.tfrecord: record 2 can't"),
        naming_damage(info, ("train", "validation")),
    ):
        list(broken.split_dataset("validation", 2))
    os.truncate(tmp_path / "train-1.tfrecord", 100)
    with pytest.raises(ValueError, match=r"train-1\.tfrecord should have .* bytes"):
        _ = broken.num_train_examples
