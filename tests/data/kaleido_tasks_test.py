"""Corruptions of the five level tasks, each inverted by its label, and pairs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import AKPM_TASKS, FIXED_LEVELS, KALEIDO_LEVELS
from kaleido_tf.data import kaleido_tasks

ROWS, PATCHES, FEATURES = 3, 55, 5
LEVELS = {
    "rotation": slice(0, 1),
    "jigsaw": slice(1, 5),
    "camouflage": slice(5, 14),
    "grey": slice(14, 30),
    "blank": slice(30, 55),
}


def make_batch(rows=ROWS, patches=PATCHES, products=None):
    """Clean features, each number of them at one place only."""
    rng = np.random.default_rng(0)

    def features(count):
        return tf.constant(rng.normal(size=(rows, count, FEATURES)), tf.float32)

    def positions(limit, count):
        drawn = [np.sort(rng.permutation(limit)[:count]) for _ in range(rows)]
        return tf.constant(np.array(drawn), tf.int32)

    products = np.arange(rows) if products is None else products
    return {
        "patch_features": features(patches),
        "rotated_features": features(3),
        "grey_features": features(16),
        "image_products": tf.constant(products, tf.int32),
        "camouflage_positions": positions(9, 1),
        "grey_positions": positions(16, 2),
        "blank_positions": positions(25, 3),
    }


def akpm(batch, tasks=AKPM_TASKS, seed=(3, 4), levels=KALEIDO_LEVELS):
    seed = tf.constant(seed, tf.int32)
    result = kaleido_tasks.apply_akpm(batch, levels, tasks, seed)
    return {key: value.numpy() for key, value in result.items()}


def level(values, task):
    return np.asarray(values["patch_features"])[:, LEVELS[task]]


def assert_equal(one, other):
    assert set(one) == set(other)
    for key, value in one.items():
        np.testing.assert_array_equal(other[key], value, err_msg=key)


# --- The five level tasks -------------------------------------------------------------


def test_eager_and_in_tf_data_and_by_seed():
    batch = make_batch()
    seed = tf.constant([3, 4], tf.int32)
    eager = kaleido_tasks.apply_akpm(batch, KALEIDO_LEVELS, AKPM_TASKS, seed)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(ROWS)
    data = data.map(
        lambda b: kaleido_tasks.apply_akpm(b, KALEIDO_LEVELS, AKPM_TASKS, seed)
    )
    assert data.element_spec["patch_features"].shape.as_list() == [None, 55, FEATURES]
    assert_equal(eager, next(iter(data)))
    assert_equal(eager, akpm(batch, seed=(3, 4)))
    other = akpm(batch, seed=(3, 5))
    assert (other["jigsaw_labels"] != eager["jigsaw_labels"].numpy()).any()


def test_keys():
    result = akpm(make_batch())
    assert set(result) == {
        "patch_features",
        "image_products",
        "rotation_labels",
        "jigsaw_labels",
        "camouflage_labels",
        "grey_positions",
        "grey_targets",
        "blank_positions",
        "blank_targets",
    }


def test_rotation_label_names_the_variant():
    batch = make_batch(200)
    result = akpm(batch)
    clean = level(batch, "rotation")
    variants = np.concatenate([clean, batch["rotated_features"].numpy()], axis=1)
    labels = result["rotation_labels"]
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(
        level(result, "rotation")[:, 0], variants[np.arange(200), labels]
    )
    np.testing.assert_allclose(np.bincount(labels) / 200, 1 / 4, atol=0.1)


def test_jigsaw_label_names_the_permutation():
    batch = make_batch(600)
    result = akpm(batch)
    orders = list(itertools.permutations(range(4)))
    assert kaleido_tasks.PERMUTATIONS.tolist() == [list(order) for order in orders]
    for shown, clean, label in zip(
        level(result, "jigsaw"),
        level(batch, "jigsaw"),
        result["jigsaw_labels"],
        strict=True,
    ):
        np.testing.assert_array_equal(shown, clean[list(orders[label])])
        np.testing.assert_array_equal(shown[np.argsort(orders[label])], clean)
    counts = np.bincount(result["jigsaw_labels"], minlength=24)
    assert len(counts) == 24
    assert counts.min() > 5


def find(patch, features):
    """(row, place) of a feature vector in features [B, n, F]."""
    rows, places = np.nonzero((features == patch).all(axis=2))
    assert len(rows) == 1
    return rows[0], places[0]


def test_camouflage_swaps_one_patch_with_another_products():
    products = np.arange(300) // 2  # two views of each product
    batch = make_batch(300, products=products)
    result = akpm(batch)
    clean, shown = level(batch, "camouflage"), level(result, "camouflage")
    labels = result["camouflage_labels"]
    np.testing.assert_array_equal(labels, batch["camouflage_positions"][:, 0])
    donor_places = set()
    for n, place in enumerate(labels):
        rest = np.delete(np.arange(9), place)
        np.testing.assert_array_equal(shown[n, rest], clean[n, rest])
        donor, donor_place = find(shown[n, place], clean)
        assert products[donor] != products[n]
        donor_places.add(donor_place)
    assert donor_places == set(range(9))


def test_camouflage_without_another_product():
    batch = make_batch(products=[7, 7, 7])
    result = akpm(batch)
    assert result["camouflage_labels"].tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(
        level(result, "camouflage"), level(batch, "camouflage")
    )
    # With one other product all patches come from it, and it takes from the others.
    batch = make_batch(products=[7, 8, 7])
    result = akpm(batch)
    assert (result["camouflage_labels"] >= 0).all()
    for n in range(3):
        patch = level(result, "camouflage")[n, result["camouflage_labels"][n]]
        donor, _ = find(patch, level(batch, "camouflage"))
        assert (donor == 1) == (n != 1)


@pytest.mark.parametrize("task", ["grey", "blank"])
def test_grey_and_blank(task):
    batch = make_batch()
    result = akpm(batch)
    clean, shown = level(batch, task), level(result, task)
    if task == "grey":
        replacement = batch["grey_features"].numpy()
    else:
        replacement = np.zeros_like(clean)
    positions = result[f"{task}_positions"]
    np.testing.assert_array_equal(positions, batch[f"{task}_positions"])
    for n in range(ROWS):
        corrupted = clean[n].copy()
        corrupted[positions[n]] = replacement[n, positions[n]]
        np.testing.assert_array_equal(shown[n], corrupted)
        # The targets put back give the clean level.
        restored = shown[n].copy()
        restored[positions[n]] = result[f"{task}_targets"][n]
        np.testing.assert_array_equal(restored, clean[n])


@pytest.mark.parametrize("tasks", [(), ("jigsaw",), ("rotation", "grey", "blank")])
def test_tasks_that_are_not_listed_leave_their_level_clean(tasks):
    batch = make_batch(24)
    result, everything = akpm(batch, tasks), akpm(batch)
    for task in AKPM_TASKS:
        if task in tasks:  # and the others don't change what is drawn for these
            np.testing.assert_array_equal(level(result, task), level(everything, task))
            assert (level(result, task) != level(batch, task)).any()
        else:
            np.testing.assert_array_equal(level(result, task), level(batch, task))
            assert not {f"{task}_labels", f"{task}_targets"} & set(result)


def test_fixed_arm():
    batch = make_batch(patches=64)
    batch["rotated_features"] = batch["rotated_features"][:, :0]
    batch["grey_features"] = batch["grey_features"][:, :0]
    result = akpm(batch, tasks=("blank",), levels=FIXED_LEVELS)
    for n in range(ROWS):
        blank = batch["blank_positions"][n].numpy()
        assert not result["patch_features"][n, blank].any()
        np.testing.assert_array_equal(
            result["blank_targets"][n], batch["patch_features"].numpy()[n, blank]
        )


# --- Mismatched pairs -----------------------------------------------------------------


def make_pairs(products, texts=None, classes=None, with_pairs=True):
    """A batch whose every value is the number of the row it belongs to."""
    rows = len(products)
    own = np.arange(rows, dtype=np.int32)

    def filled(*shape, dtype=np.int32):
        numbers = own.reshape(-1, *[1] * len(shape))
        return tf.constant(np.broadcast_to(numbers, (rows, *shape)), dtype)

    batch = {
        "input_word_ids": filled(4),
        "input_mask": filled(4),
        "input_type_ids": filled(4),
        "patch_features": filled(55, 2, dtype=np.float32),
        "patch_locations": filled(55, 5, dtype=np.float32),
        "rotated_features": filled(3, 2, dtype=np.float32),
        "grey_features": filled(16, 2, dtype=np.float32),
        "product_ids": tf.constant(products, tf.int32),
        "text_ids": tf.constant(own if texts is None else texts, tf.int32),
        "subcategory_ids": tf.constant(own if classes is None else classes, tf.int32),
    }
    if with_pairs:
        batch["aligned_tokens"] = filled(3)
        batch["aligned_patches"] = filled(3)
    return batch


def itm(batch, seed=(5, 6), **rates):
    seed = tf.constant(seed, tf.int32)
    result = kaleido_tasks.apply_itm(batch, seed, **rates)
    return {key: value.numpy() for key, value in result.items()}


def sides(result):
    """Rows that text and image came from; every key of a side must agree."""
    texts = result["input_word_ids"][:, 0]
    images = result["patch_features"][:, 0, 0].astype(int)
    for keys, source in (
        (kaleido_tasks.TEXT_KEYS, texts),
        (kaleido_tasks.IMAGE_KEYS, images),
    ):
        for key in keys:
            flat = result[key].reshape(len(source), -1)
            np.testing.assert_array_equal(flat, np.tile(source[:, None], flat.shape[1]))
    return texts, images


def test_itm_eager_and_in_tf_data_and_by_seed():
    batch = make_pairs([1, 2, 3])
    seed = tf.constant([5, 6], tf.int32)
    eager = kaleido_tasks.apply_itm(batch, seed)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    data = data.map(lambda b: kaleido_tasks.apply_itm(b, seed))
    assert_equal(eager, next(iter(data)))
    assert_equal(eager, itm(batch))
    labels = {tuple(itm(batch, seed=(5, n))["itm_labels"]) for n in range(9)}
    assert len(labels) > 2


def test_itm_labels_and_groups():
    products, texts = np.arange(400) // 2, np.arange(400) // 2 + 1000
    batch = make_pairs(products, texts)
    result = itm(batch)
    own = np.arange(400)
    text, image = sides(result)
    labels = result["itm_labels"]
    assert labels.dtype == np.int32
    assert 0.4 < labels.mean() < 0.6
    np.testing.assert_array_equal(result["pair_weights"], labels.astype(np.float32))
    np.testing.assert_array_equal(labels == 1, (text == own) & (image == own))
    swapped = labels == 0
    # One side is the row's own, the other another product's.
    assert ((text == own) ^ (image == own))[swapped].all()
    assert (products[text] != products[image])[swapped].all()
    assert 0.35 < (image == own)[swapped].mean() < 0.65
    np.testing.assert_array_equal(result["image_products"], products[image])
    groups = np.stack([products, texts], axis=1)
    np.testing.assert_array_equal(result["text_groups"], groups[text])
    np.testing.assert_array_equal(result["image_groups"], groups[image])
    # A mismatched pair has no alignments; a matched one keeps its own.
    for key in ("aligned_tokens", "aligned_patches"):
        assert (result[key][swapped] == -1).all()
        kept = own[~swapped, None].repeat(3, axis=1)
        np.testing.assert_array_equal(result[key][~swapped], kept)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_itm_rates(rate):
    batch = make_pairs(range(50), with_pairs=False)
    result = itm(batch, mismatch_rate=rate)
    assert (result["itm_labels"] == 1 - rate).all()
    if rate == 0:
        assert_equal({key: result[key] for key in batch}, batch)
    assert "aligned_tokens" not in result


def test_itm_never_takes_the_same_product_or_the_same_words():
    products = np.array([0, 0, 1, 2, 3, 3])
    texts = np.array([0, 5, 0, 1, 1, 2])
    for seed in range(40):
        result = itm(make_pairs(products, texts), seed=(seed, 0), mismatch_rate=1.0)
        text, image = sides(result)
        assert (result["itm_labels"] == 0).all()
        assert (products[text] != products[image]).all()
        assert (texts[text] != texts[image]).all()


def test_itm_without_another_product():
    for products, texts in (([4, 4, 4], [0, 1, 2]), ([4, 5, 6], [1, 1, 1])):
        result = itm(make_pairs(products, texts), mismatch_rate=1.0)
        assert result["itm_labels"].tolist() == [1, 1, 1]
        assert [s.tolist() for s in sides(result)] == [[0, 1, 2], [0, 1, 2]]


def test_hard_negatives_share_the_sub_category():
    products = np.arange(120)
    classes = np.where(products < 100, products % 10, -1)
    classes[99] = 77  # the only one of its class
    batch = make_pairs(products, classes=classes)
    result = itm(batch, mismatch_rate=1.0, hard_rate=1.0)
    text, image = sides(result)
    same = classes[text] == classes[image]
    other = np.where(text == np.arange(120), image, text)
    assert same[:99].all()
    assert (other != np.arange(120)).all()
    # No class at all is no common class: these draw from everybody.
    assert (classes[other[99:]] >= 0).any()
    easy = itm(batch, mismatch_rate=1.0, hard_rate=0.0)
    text, image = sides(easy)
    assert (classes[text] == classes[image])[:99].mean() < 0.3
    some = itm(batch, mismatch_rate=1.0, hard_rate=0.5)
    text, image = sides(some)
    assert 0.3 < (classes[text] == classes[image])[:99].mean() < 0.8
