"""What search asks of an export: its files, its identity, its errors."""

import copy
import json
import os

import numpy as np
import pytest

from kaleido_tf.search import exported


def test_refusals(export, tmp_path):
    with pytest.raises(FileNotFoundError, match="kaleido_tf.serving.export"):
        exported.Export(tmp_path)
    with pytest.raises(ValueError, match="should have the signature `caption_x`"):
        export.call("caption_x")
    with pytest.raises(ValueError, match="^`text` should be under 5000 bytes"):
        export.call("text_vectors", text=["x" * 6000])


def test_info_is_checked(export, tmp_path):
    folder = tmp_path / "assets.extra"
    with pytest.raises(FileNotFoundError, match="kaleido_info.json should exist"):
        exported._read_info(str(tmp_path))
    folder.mkdir()
    (folder / "kaleido_info.json").write_text("{}")
    with pytest.raises(ValueError, match="which checkpoint matches"):
        exported._read_info(str(tmp_path))
    (folder / "kaleido_info.json").write_text("{")
    with pytest.raises(ValueError, match="should be JSON"):
        exported._read_info(str(tmp_path))


def test_identity_is_the_matching_models(export):
    """A head more leaves it, other weights or another backbone don't."""
    path = os.path.join(export.path, exported.INFO_FILE)
    with open(path, encoding="utf-8") as file:
        info = json.load(file)
    assert exported._identity(info) == export.identity
    more = copy.deepcopy(info)
    more["checkpoints"]["captioning"] = {"weights_sha256": "c"}
    more["dataset"]["sha256"], more["export_sha256"] = "another file", "other"
    assert exported._identity(more) == export.identity
    for keys in (
        ("checkpoints", "matching", "weights_sha256"),
        ("dataset", "patch_arm"),
        ("saliency", "method"),
    ):
        other = copy.deepcopy(info)
        inner = other
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = "other"
        assert exported._identity(other) != export.identity


def test_vectors_in_batches(export):
    texts = ["red", "green", "blue", "red and green"]
    vectors = export.text_vectors(texts, batch_size=3)
    np.testing.assert_allclose(vectors[:3], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(vectors[3], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    assert export.text_vectors([]).shape == (0, 3)
    # Stored features are float16.
    features = np.zeros((5, 55, 6), np.float16)
    features[:, 0, 1] = 0.5
    vectors = export.image_vectors(features, batch_size=2)
    np.testing.assert_allclose(vectors, [[0, 1, 0]] * 5)
