"""The classification baseline: what it can learn, how it chooses, and the command."""

import itertools
import json

import cv2
import numpy as np
import pytest

from benchmarks import classification_baseline, whole_image
from kaleido_tf.data import backbone as backbone_lib

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}


def _planted(count, seed, noise):
    """Names of three classes, and features around a centre of each."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 20)) + 7.0
    classes = rng.integers(3, size=count)
    features = centres[classes] * [1e-2, *[1.0] * 19]
    features += noise * rng.normal(size=features.shape) * [1e-2, *[1.0] * 19]
    return features.astype(np.float32), [f"class {c}" for c in classes]


def test_learns_planted_classes_and_chooses_a_penalty():
    train, names = _planted(400, 1, noise=1.5)
    held, truth = _planted(200, 2, noise=1.5)
    products = [f"p{i // 2}" for i in range(400)]
    choices = classification_baseline.choose(train, names, products)
    accuracies = [choice.accuracy for choice in choices]
    assert accuracies == sorted(accuracies, reverse=True)
    tried = {choice.inverse_strength for choice in choices}
    assert tried == set(classification_baseline.INVERSE_STRENGTHS)
    best = classification_baseline.Classifier(choices[0].inverse_strength)
    predicted = best.fit(train, names).predict(held)
    assert np.mean([t == p for t, p in zip(truth, predicted, strict=True)]) > 0.9


def test_one_class_beside_the_held_back():
    features = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=r"at least two classes .*\['a'\]"):
        classification_baseline.choose(features, list("aaaa"), list("pqrs"))


@pytest.fixture
def shop(tmp_path, draw_picture, write_data_set):
    """A prepared set of rectangles on coloured grounds; the ground is the category."""
    folder, rows, records = tmp_path / "shop", [], []
    folder.mkdir()
    for n, (size, back) in enumerate(itertools.product(range(8), COLOURS)):
        picture = draw_picture(40, 48, (8, 8, 12 + 2 * size, 40), (10, 10, 10))
        picture[(picture == 235).all(axis=2)] = COLOURS[back]
        path = str(folder / f"i{n}.png")
        cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        split = "test" if size % 4 == 3 else "train"
        # The last picture's category is one that no training record has.
        name = "violet" if n == 23 else back if n else ""
        rows.append({"product_id": f"p{n}", "image": f"i{n}.png", "text": "x"})
        records.append((split, f"i{n}", f"p{n}", name))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = write_data_set(
        tmp_path / "data",
        {
            (split, split): lambda shapes, split=split: [
                _record(shapes, *ids) for s, *ids in records if s == split
            ]
            for split in ("train", "test")
        },
    )
    backbone = backbone_lib.build_backbone("efficientnet_lite0", 32, "random")
    values = {**info.values, "backbone": backbone.describe()}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(values))
    return classification_baseline.flag_page().defaults() | {
        "data_dir": str(tmp_path / "data"),
        "manifest": str(manifest),
        "output": str(tmp_path / "out" / "classes.json"),
        "image_size": 32,
        "backbone_weights": "random",
        "split": "test",
    }


def _record(shapes, image_id, product_id, category):
    return {
        "product_id": product_id,
        "image_id": image_id,
        "category": category,
        "subcategory": "all the same",
        "text": "x",
        "token_ids": [1],
        "box": [0, 0, 1, 1],
        **{key: np.zeros(shape) for key, shape in shapes.arrays.items()},
    }


def test_command_measures_unseen_pictures(shop, capsys, monkeypatch):
    results = classification_baseline.run(shop)
    with open(shop["output"], encoding="utf-8") as file:
        assert json.load(file) == results
    figures = results["category"]
    assert results["num_training_records"] == 18 and figures["split"] == "test"
    # Five of six are seen colours; violet counts as an error.
    assert figures["num_examples"] == 6 and figures["accuracy"] == pytest.approx(5 / 6)
    assert figures["unseen_labels"] == {"violet": 1}
    trained = {row["name"]: row["trained"] for row in figures["classes"]}
    assert trained == {"blue": 6, "green": 6, "red": 5, "violet": 0}
    assert "1 classes in training" in results["subcategory"]["skipped"]
    printed = capsys.readouterr().out
    assert "0.8333" in printed and "subcategory     skipped: 1 classes" in printed

    def fail(*_):
        raise AssertionError("the features should come from the cache")

    monkeypatch.setattr(whole_image, "whole_image_features", fail)
    assert classification_baseline.run(shop) == results
