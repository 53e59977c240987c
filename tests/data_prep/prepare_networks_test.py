"""The networks beside the backbone: which boxes and pairs get into the records."""

import json
import types

import numpy as np
import pytest

from data_prep import prepare, saliency
from data_prep.shards import networks
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import DatasetInfo

SMALL = {
    "patch_size": 32,
    "coarse_patch_size": 0,
    "canvas_size": 80,
    "vocab_size": 300,
    "max_tokens": 4,
    "images_per_shard": 4,
    "images_per_batch": 3,
}


class FixedLocker(saliency.Locker):
    """Locks the lower half of every picture."""

    def __init__(self, weights):
        self.weights = weights

    def lock(self, image):
        return np.array([0.5, 0, 1, 1], np.float32), "fixed"

    def lock_with_mask(self, image):
        return *self.lock(image), None

    def describe(self):
        return {"method": "unet", "weights_sha256": self.weights}

    def export(self, folder):
        with open(f"{folder}.json", "w", encoding="utf-8") as file:
            json.dump(self.weights, file)
        return True


class FirstToken:
    """Aligns each text's second piece with patch 30 plus the image's place in a batch,
    but for products with an even number."""

    captioner = types.SimpleNamespace(
        placing={
            "patch_arm": "kaleido+saliency",
            "canvas_size": 256,
            "saliency": {"method": "none"},
        }
    )

    def settings(self):
        return {"captioner_sha256": "abc", "min_lift": 1.0}

    def align(self, images, boxes, texts, token_ids, tokenizer, levels):
        assert images.shape == (3, 80, 80, 3)
        assert (images.dtype, boxes.dtype) == (np.uint8, np.float32)
        np.testing.assert_allclose(boxes[:, 2], 1)
        assert len(levels) == 5
        found = []
        for i, (text, ids) in enumerate(zip(texts, token_ids, strict=True)):
            assert ids == tokenizer.tokenize([text]).to_list()[0][:4]
            odd = int(text.removesuffix(".").split()[-1]) % 2
            found.append(([1], [30 + i], [0.25]) if odd else ([], [], []))
        return found


def rows_of(folder):
    info = DatasetInfo.load(str(folder))
    return [
        row
        for split in ("train", "validation")
        for path in info.shard_paths(split)
        for row in records.read_shard(path, info.shapes)
    ]


def times(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tfrecord")}


def test_boxes_of_another_method(catalogue, tmp_path, mean_colour, monkeypatch):
    made = []

    def make_locker(method, weights):
        made.append((method, weights))
        return FixedLocker(weights)

    monkeypatch.setattr(saliency, "make_locker", make_locker)
    out = tmp_path / "data"
    settings = {**SMALL, "saliency": "unet", "saliency_weights": "one"}
    info = prepare.prepare(str(catalogue), str(out), **settings)
    assert set(made) == {("unet", "one")}
    assert info["boxes"] == {"fixed": 8}
    assert info["saliency"] == {
        "method": "unet",
        "weights_sha256": "one",
        "folder": "saliency",
    }
    assert (out / "saliency.json").read_text() == '"one"'
    for row in rows_of(out):
        np.testing.assert_allclose(row["box"][[0, 2]], [0.5, 1], atol=1e-6)
    # Other weights make other shards; the same ones don't.
    before = times(out)
    prepare.prepare(str(catalogue), str(out), **settings)
    assert times(out) == before
    settings["saliency_weights"] = "two"
    info = prepare.prepare(str(catalogue), str(out), **settings)
    assert not set(times(out).items()) & set(before.items())
    assert info["saliency"]["weights_sha256"] == "two"


def test_the_whole_picture_as_the_box(catalogue, tmp_path, mean_colour):
    out = tmp_path / "data"
    info = prepare.prepare(str(catalogue), str(out), **SMALL, saliency="none")
    assert info["saliency"] == {"method": "none"}
    assert info["alignments"] is None
    assert info["boxes"] == {"none": 8}
    for row in rows_of(out):
        np.testing.assert_allclose(row["box"][[0, 2]], [0, 1], atol=1e-6)
    # No box is locked in the other arms: nothing of saliency is recorded.
    settings = {**SMALL, "patch_arm": "kaleido"}
    info = prepare.prepare(str(catalogue), str(out), **settings)
    assert info["saliency"] is None
    with pytest.raises(ValueError, match="`weights` should be the path"):
        prepare.prepare(str(catalogue), str(out), **SMALL, saliency="onnx")


def test_aligned_pairs(catalogue, tmp_path, mean_colour, monkeypatch, caplog, capsys):
    monkeypatch.setattr(networks, "make_aligner", lambda settings: FirstToken())
    out = tmp_path / "data"
    plain = prepare.prepare(str(catalogue), str(out), **SMALL, saliency="none")
    before = times(out)
    settings = {**SMALL, "saliency": "none", "alignments": "captioner"}
    info = prepare.prepare(str(catalogue), str(out), **settings)
    assert not set(times(out).items()) & set(before.items())
    assert "pictures placed by" in caplog.text  # canvases of 80, not of 256 pixels
    assert "no word of the texts is aligned" not in caplog.text
    assert plain["alignments"] is None
    assert info["alignments"] == {
        "captioner_sha256": "abc",
        "min_lift": 1.0,
        "pairs": 3,
        "paired_texts": 3,
    }
    flags = {"manifest": str(catalogue), "output_dir": str(out), **settings}
    flags["patches"] = "kaleido+saliency"
    prepare.main(types.SimpleNamespace(values=lambda: flags))
    said = capsys.readouterr().out
    assert said.startswith("prepared {'train': ") and "aligned 3 pairs in 3 t" in said
    rows = rows_of(out)
    for row in rows:
        odd = int(row["product_id"][1:]) % 2
        assert row["aligned_tokens"].tolist() == [1] * odd
        np.testing.assert_allclose(row["aligned_scores"], [0.25] * odd)
    places = [int(p) for row in rows for p in row["aligned_patches"]]
    assert set(places) <= {30, 31, 32}
    with pytest.raises(FileNotFoundError, match="A captioner's folder should hold"):
        monkeypatch.undo()
        prepare.prepare(str(catalogue), str(out), **settings)
