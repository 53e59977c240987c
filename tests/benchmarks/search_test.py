"""The search benchmark: its ranks by hand, and a run on a tiny export."""

import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import search


def test_ranks_by_hand():
    """Three products; the first has two pictures."""
    scored = search.Scored(
        scores=np.array([[5.0, 1.0, 4.0, 3.0], [1.0, 2.0, 2.0, 9.0]]),
        cosines=np.array([[0.1, 0.9, 0.8, 0.7], [0.9, 0.1, 0.8, 0.2]]),
        products=np.array([0, 0, 1, 2]),
        right=np.array([[True, False, False], [False, True, False]]),
    )
    # All pairs: the best view counts; query 2's right product ties with another's.
    assert search.ranks(scored).tolist() == [1, 3]
    assert search.ranks(scored, first_stage=True).tolist() == [1, 2]
    # Two candidates: query 1's best view is none of them, 1.0 stands behind 4.0.
    assert search.ranks(scored, 2).tolist() == [2, 1]
    # One candidate: query 2's right product isn't found, and comes last.
    assert search.ranks(scored, 1).tolist() == [1, 3]
    rows = search.measure_quality(scored, [1, 2])
    assert [row["rank@1"] for row in rows] == [50.0, 50.0, 50.0, 50.0]
    assert [row.get("found") for row in rows] == [None, 50.0, 100.0, None]
    assert [row.get("same_first") for row in rows] == [None, 0.0, 0.0, None]


class Model(tf.Module):
    """Vectors are the first two features, or the text's length and 1."""

    @tf.function(input_signature=[tf.TensorSpec([None, 55, 6])])
    def image_vectors(self, patch_features):
        vectors = tf.math.l2_normalize(patch_features[:, 0, :2], -1)
        return {"image_vectors": vectors}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def text_vectors(self, text):
        length = tf.cast(tf.strings.length(text), tf.float32)
        pair = tf.stack([length / 20, tf.ones_like(length)], -1)
        return {"text_vectors": tf.math.l2_normalize(pair, -1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 55, 6]),
            tf.TensorSpec([None], tf.string),
        ]
    )
    def match_features(self, patch_features, text):
        margin = patch_features[:, 0, 0] * tf.cast(tf.strings.length(text), tf.float32)
        return {"score": tf.sigmoid(margin), "margin": margin}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def image_features(self, image_bytes):
        return {"patch_features": tf.zeros([tf.size(image_bytes), 55, 6])}


@pytest.fixture
def settings(tmp_path, make_data_set):
    from kaleido_tf.search.builder import build_index
    from kaleido_tf.search.exported import Export

    model, version = Model(), tmp_path / "served" / "1"
    names = ("image_vectors", "text_vectors", "match_features", "image_features")
    signatures = {name: getattr(model, name) for name in names}
    signatures["explain"] = model.match_features
    tf.saved_model.save(model, str(version), signatures)
    config = {"patch_arm": "kaleido", "contrastive_temperature": 0.5}
    info = {
        "dataset": {"patch_arm": "kaleido", "feature_size": 6},
        "backbone": None,
        "saliency": {"method": "none"},
        "checkpoints": {"matching": {"config": config, "weights_sha256": "m"}},
    }
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "kaleido_info.json").write_text(json.dumps(info))
    make_data_set(tmp_path / "data")
    export = Export(tmp_path / "served")
    build_index(export, tmp_path / "index", data_dir=str(tmp_path / "data"))
    return {
        "export": str(tmp_path / "served"),
        "index_dir": str(tmp_path / "index"),
        "candidates": ["2", "17"],
        "num_searches": 4,
        "num_products": 300,
        "drawn_dir": None,
        "num_queries": 9,
        "output": str(tmp_path / "out" / "search.json"),
    }


def test_run(settings, capsys):
    content = search.run(settings)
    with open(settings["output"], encoding="utf-8") as file:
        assert json.load(file) == content
    assert content["drawn"] == 300 and content["split"] == "validation"
    assert [(r["query"], r["candidates"]) for r in content["speed"]] == [
        ("title", 2),
        ("title", 17),
        ("text", 2),
        ("text", 17),
    ]
    assert all(0 < row["p50"] <= row["p95"] for row in content["speed"])
    every, few, whole, _ = content["quality"]
    # With all pictures as candidates nothing is lost.
    for key in ("rank@1", "rank@5", "rank@10"):
        assert whole[key] == every[key]
    assert whole["found"] == whole["same_first"] == 100.0
    assert few["found"] < 100.0
    printed = capsys.readouterr().out
    assert "300 drawn products" in printed and "two stages, 17 candidates" in printed

    from kaleido_tf.search.exported import Export
    from kaleido_tf.search.store import Store

    drawn = Store.open(f"{settings['index_dir']}_drawn", Export(settings["export"]))
    assert len(drawn.pictures) == 300 and len(drawn.rows()) == 300
    # Drawn features lie between real ones.
    keys = [row.picture for row in drawn.rows()]
    features = drawn.pictures.read("features", keys).astype(np.float32)
    assert 0.5 < features.std() < 0.95
