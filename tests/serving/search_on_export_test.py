"""Search on a real export: what it finds scores as the export says of the bytes."""

import numpy as np
import pytest

from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.exported import Export


@pytest.fixture(scope="module")
def engine(exported, workshop):
    export = Export(workshop.settings["output_dir"])
    manifest = str(workshop.folder / "catalogue" / "manifest.jsonl")
    index_dir = workshop.folder / "index"
    done = build_index(export, index_dir, manifest, batch_size=3)
    assert done["computed"] == done["images"] == len(workshop.rows)
    return SearchEngine(export, index_dir)


def test_scores_are_the_exports(engine, model, workshop):
    query = "long sleeve dress"
    hits = engine.search_text(query, top_k=6).hits
    assert len(hits) == 6
    pictures = np.array([workshop.pictures[hit.image_id] for hit in hits], object)
    text = np.array([query.encode()], object)
    answer = model.predict("match", {"image_bytes": pictures, "text": text})
    np.testing.assert_allclose(
        [hit.margin for hit in hits], answer["margin"], atol=2e-3
    )
    vectors = model.predict("image_features", {"image_bytes": pictures})
    cosines = vectors["image_vectors"] @ engine.export.text_vectors([query])[0]
    np.testing.assert_allclose([hit.cosine for hit in hits], cosines, atol=2e-3)
    temperature = workshop.config.contrastive_temperature
    np.testing.assert_allclose(
        [hit.score for hit in hits], answer["margin"] + cosines / temperature, atol=0.05
    )


def test_prepared_features_are_the_computed_ones(engine, workshop, tmp_path):
    catalogue = workshop.folder / "catalogue" / "manifest.jsonl"
    copied = build_index(
        engine.export, tmp_path, catalogue, data_dir=str(workshop.folder / "data")
    )
    assert copied["copied"] == len(workshop.rows)
    other = SearchEngine(engine.export, tmp_path)
    for row in workshop.rows:
        for ours, theirs in zip(
            engine.features(row["image_id"]),
            other.features(row["image_id"]),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, atol=0.01, rtol=0.01)


def test_a_picture_is_explained_and_described(engine, workshop):
    found = engine.search_image(workshop.pictures["v1"])
    assert found.look_alikes[0].image_id == "v1"
    words = engine.explain("Long-sleeve dress", features=found.features)
    assert words.words == ["Long", "-", "sleeve", "dress"]
    assert words.attention.shape[1] == 55 and (words.attention > 0).all()
    said = engine.describe(found.features)
    assert sorted(label for label, _ in said["category"]) == [
        "bags",
        "dresses",
        "shoes",
    ]
    assert len(said["captions"]) == 3 and "subcategory" not in said
    with pytest.raises(ValueError, match="^no JPEG, PNG or WebP picture"):
        engine.search_image(b"no picture")
