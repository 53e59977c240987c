"""The retrieval baseline: what it can learn, how it chooses, and the command."""

import itertools
import json
from unittest import mock

import cv2
import numpy as np
import pytest

from benchmarks import retrieval_baseline, text_ridge, whole_image
from data_prep import retrieval_lists
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data.dataset_info import DatasetInfo

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 230),
    "yellow": (230, 230, 20),
    "black": (10, 10, 10),
}
WORDS = [
    "navy",
    "red",
    "long",
    "short",
    "collar",
    "stripe",
    "dot",
    "button",
    "belt",
    "hood",
    "zip",
    "hem",
]


def _planted(count, seed, noise=0.1):
    """Texts of four words, and features that are sums of the words' vectors."""
    rng = np.random.default_rng(seed)
    vectors = np.random.default_rng(99).normal(size=(len(WORDS), 20))
    chosen = [rng.choice(len(WORDS), 4, replace=False) for _ in range(count)]
    texts = [" ".join(WORDS[i] for i in each) for each in chosen]
    features = np.array([vectors[each].sum(axis=0) for each in chosen])
    features += noise * rng.normal(size=features.shape) + 7.0
    return texts, features.astype(np.float32)


def _rank1(texts, features, train_texts, train_features, choice):
    space = text_ridge.ScaledSpace(train_features, choice.scaling)
    ridge = text_ridge.TextRidge(choice.strength)
    ridge.fit(train_texts, train_features - space.mean)
    scores = (
        space.vectors(ridge.predict(texts)) @ space.vectors(features - space.mean).T
    )
    same = np.array(
        [[sorted(a.split()) == sorted(b.split()) for b in texts] for a in texts]
    )
    best = scores.argmax(axis=1)
    return same[np.arange(len(texts)), best].mean()


def test_finds_a_planted_linear_relation():
    train, held = _planted(300, seed=1), _planted(60, seed=2)
    products = [f"p{i}" for i in range(300)]
    choices = text_ridge.choose(train[0], products, train[1])
    assert _rank1(*held, *train, choices[0]) > 0.9
    shuffled = np.random.default_rng(0).permutation(train[1])
    assert _rank1(*held, train[0], shuffled, choices[0]) < 0.2
    tried = {(choice.strength, choice.scaling) for choice in choices}
    assert len(tried) == len(text_ridge.STRENGTHS) * len(text_ridge.SCALINGS)
    sums = [choice.sum_of_recalls for choice in choices]
    assert sums == sorted(sums, reverse=True) and sums[0] > 500


def test_only_the_named_scalings_are_tried():
    texts, features = _planted(40, seed=3)
    choices = text_ridge.choose(texts, list(map(str, range(40))), features, ["centre"])
    assert {choice.scaling for choice in choices} == {"centre"}


@pytest.mark.parametrize("scalings", [[], ["scale"]])
def test_unknown_scaling(scalings):
    with pytest.raises(ValueError, match="`scalings` should be names out of"):
        text_ridge.choose(["a", "b"], ["p", "q"], np.zeros((2, 3)), scalings)


def test_single_product():
    with pytest.raises(ValueError, match="at least two products"):
        text_ridge.choose(["a", "b"], ["p", "p"], np.zeros((2, 3), np.float32))


def test_ridge_is_the_closed_form():
    texts = ["red dress", "red shirt", "navy dress", "red dress shirt"]
    targets = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    ridge = text_ridge.TextRidge(2.0).fit(texts, targets)
    # Terms in at least two texts: red, dress, shirt, and "red dress".
    counts = np.array([[1, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
    gram = counts.T @ counts + 2.0 * np.eye(4)
    expected = counts @ np.linalg.solve(gram, counts.T @ targets)
    assert ridge.num_terms == 4
    np.testing.assert_allclose(ridge.predict(texts), expected, atol=1e-5)


def test_spaces():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 3)) * [5.0, 1.0, 0.1] + 3.0
    features[:, 1] += features[:, 0]
    centred = features - features.mean(axis=0)
    variances = np.linalg.eigvalsh(np.cov(centred.T, bias=True))
    expected = {
        "centre": centred.std(axis=0),
        "standardise": np.ones(3),
        "whiten": np.sqrt(variances / (variances + 0.1 * variances.mean())),
    }
    for scaling, deviations in expected.items():
        space = text_ridge.ScaledSpace(features, scaling)
        np.testing.assert_allclose(space.mean, features.mean(axis=0))
        scaled = centred if space.matrix is None else centred @ space.matrix
        np.testing.assert_allclose(scaled.std(axis=0), deviations, rtol=1e-4)
        lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
        np.testing.assert_allclose(
            space.vectors(centred), scaled / lengths, rtol=1e-4, atol=1e-6
        )
    correlation = np.corrcoef(scaled.T) - np.eye(3)  # of the whitened space
    assert abs(correlation).max() < 1e-6


def test_hold_out_is_by_product():
    products = [f"p{i // 3}" for i in range(60)]
    held = text_ridge.hold_out(products)
    assert held.sum() == 9  # 15 % of 20 products, three views each
    assert all(len(set(held[i : i + 3])) == 1 for i in range(0, 60, 3))


@pytest.fixture
def shop(tmp_path, draw_picture, write_data_set):
    """A prepared set of 25 coloured rectangles on coloured grounds, its lists."""
    folder, rows, records = tmp_path / "shop", [], []
    folder.mkdir()
    for n, (front, back) in enumerate(itertools.product(COLOURS, COLOURS)):
        picture = draw_picture(40, 48, (8, 8, 32, 40), COLOURS[front])
        picture[(picture == 235).all(axis=2)] = COLOURS[back]
        path = str(folder / f"i{n}.png")
        cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        split = "validation" if n % 5 == n // 5 * 2 % 5 else "train"
        text = f"front{front} back{back}"
        rows.append({"product_id": f"p{n}", "image": f"i{n}.png", "split": split})
        rows[-1]["text"] = text
        records.append((split, f"i{n}", f"p{n}", text))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = write_data_set(
        tmp_path / "data",
        {
            (split, f"{split}-0"): lambda shapes, split=split: [
                _record(shapes, *ids) for s, *ids in records if s == split
            ]
            for split in ("train", "validation")
        },
    )
    backbone = backbone_lib.build_backbone("efficientnet_lite0", 32, "random")
    values = {**info.values, "backbone": backbone.describe()}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(values))
    retrieval_lists.make_lists(
        tmp_path / "data",
        tmp_path / "lists",
        split="validation",
        num_queries=5,
        num_candidates=5,
        num_lists=2,
    )
    return {
        "data_dir": str(tmp_path / "data"),
        "manifest": str(manifest),
        "lists_dir": str(tmp_path / "lists"),
        "output": str(tmp_path / "out" / "baseline.json"),
        "image_size": 32,
        "backbone_weights": "random",
        "scalings": ["centre", "standardise"],
        "num_lists": 2,
        "num_queries": 0,
        "max_full_pairs": 25,
    }


def _record(shapes, image_id, product_id, text):
    arrays = {key: np.zeros(shape) for key, shape in shapes.arrays.items()}
    return {
        "product_id": product_id,
        "image_id": image_id,
        "category": "c",
        "subcategory": "s",
        "text": text,
        "token_ids": [1],
        "box": [0, 0, 1, 1],
        **arrays,
    }


def _flag_names(module, monkeypatch):
    """Names of a command's flags, without defining them in this process."""
    page = mock.MagicMock()
    monkeypatch.setattr(module.cli, "FlagPage", lambda summary: page)
    module.flag_page()
    return [call.args[0] for call in page.method_calls if call[0] != "heading"]


def test_command_ranks_unseen_pairs(shop, monkeypatch, capsys):
    assert set(_flag_names(retrieval_baseline, monkeypatch)) == set(shop)
    results = retrieval_baseline.run(shop)
    with open(shop["output"], encoding="utf-8") as file:
        assert json.load(file) == results
    sampled = results["sampled"]
    for direction in ("itr", "tir"):
        # Every colour was seen on both places, but never the pairs that are asked.
        assert sampled[direction]["rank@1"]["mean"] >= 60
        assert sampled[direction]["chance"]["rank@1"] == pytest.approx(20)
        assert len(sampled[direction]["lists"]) == 2
        assert results["full_gallery"][direction]["rank@1"] >= 60
    fitted = results["baseline"]
    assert fitted["num_training_pairs"] == 20 and fitted["scaling"] in shop["scalings"]
    assert fitted["backbone"]["weights"].startswith("random")
    assert len(fitted["tried_on_training_products"]) == 2 * len(text_ridge.STRENGTHS)
    assert "ITR image -> text, 5 x 5" in capsys.readouterr().out

    def fail(*_):
        raise AssertionError("the features should come from the cache")

    monkeypatch.setattr(whole_image, "whole_image_features", fail)
    again = retrieval_baseline.run(shop | {"max_full_pairs": 24, "num_queries": 3})
    # It is nothing but vectors: a gallery of any size is ranked by them.
    for direction in ("itr", "tir"):
        found, whole = (r["full_gallery"][direction] for r in (again, results))
        assert found["rank@1"] == whole["rank@1"]
    assert again["sampled"]["itr"]["lists"][0]["num_queries"] == 3
    with pytest.raises(AssertionError, match="from the cache"):  # another size
        retrieval_baseline.run(shop | {"image_size": 33})


def test_features_are_of_the_whole_picture(shop):
    backbone = backbone_lib.build_backbone("efficientnet_lite0", 32, "random")
    folder = shop["manifest"].rsplit("/", 1)[0]
    paths = {name: f"{folder}/{name}.png" for name in ("i3", "i11", "i20")}
    features = whole_image.whole_image_features(paths, backbone, batch_size=2)
    for row, path in zip(features, paths.values(), strict=True):
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        canvas, _ = whole_image.patches.to_canvas(picture, 32)
        expected = backbone(canvas[None]).numpy()[0]
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4)


def test_says_what_is_wrong(shop, tmp_path):
    (tmp_path / "shop" / "i7.png").write_bytes(b"")
    with pytest.raises(ValueError, match="i7.png should be a readable picture"):
        retrieval_baseline.run(shop)
    lines = (tmp_path / "shop" / "manifest.jsonl").read_text().splitlines()
    other = tmp_path / "shop" / "other.jsonl"
    other.write_text("\n".join(line for line in lines if '"i3.png"' not in line))
    with pytest.raises(ValueError, match=r"Received none for \['i3'\]"):
        retrieval_baseline.run(shop | {"manifest": str(other)})
    path = tmp_path / "data" / "dataset_info.json"
    values = DatasetInfo.load(tmp_path / "data").values
    values["backbone"]["weights_hash"] = "0" * 64
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="should have the data set's weights .*0000"):
        retrieval_baseline.run(shop)
    with pytest.raises(FileNotFoundError, match="should be a frozen candidate list"):
        retrieval_baseline.run(shop | {"num_lists": 3})
