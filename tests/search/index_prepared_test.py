"""Features of a prepared data set, taken over where they are the picture's own."""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from kaleido_tf.search import sources
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine


def test_prepared_features_are_taken_over(export, make_data_set, tmp_path, counted):
    folder = tmp_path / "data"
    info = make_data_set(folder)
    counting = counted()
    done = build_index(counting, tmp_path / "index", data_dir=str(folder))
    assert counting.pictures == 0 and done["copied"] == done["images"] == 17
    engine = SearchEngine(export, tmp_path / "index")
    assert {row.item.split for row in engine.rows} == {"train", "validation"}
    from kaleido_tf.data import records

    path = info.shard_paths("train")[0]
    record = next(records.read_shard(path, info.shapes))
    features, box = engine.features(record["image_id"].decode())
    np.testing.assert_array_equal(features[0], record["patch_features"])
    np.testing.assert_allclose(box[0], [0.1, 0, 0.9, 1])
    assert engine.image_path("i0") == ""


def test_prepared_features_are_of_the_same_picture(export, make_data_set, tmp_path):
    """Taken over are those of one image_id, product and text, and no newer picture."""
    folder, pictures = tmp_path / "data", tmp_path / "pictures"
    make_data_set(folder)
    pictures.mkdir()
    lines = []
    for name in ("i0", "i1", "i2", "i3", "other"):
        cv2.imwrite(str(pictures / f"{name}.png"), np.full((9, 9, 3), 80, np.uint8))
        (pictures / f"{name}.png").write_bytes(
            (pictures / f"{name}.png").read_bytes() + name.encode()
        )
        lines.append({"product_id": f"p{name[1:]}", "image": f"{name}.png"})
    texts = ["navy cotton shirt long sleeve", "red cotton shirt", "another text"]
    texts += ["red cotton shirt", "no record"]
    for line, text in zip(lines, texts, strict=True):
        line["title"] = text
    lines[3]["product_id"] = "another product"
    (pictures / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def build(name):
        done = build_index(export, tmp_path / name, pictures / "m.jsonl", str(folder))
        return done["copied"], done["computed"]

    now = os.stat(pictures / "other.png").st_ctime_ns
    os.utime(folder / "dataset_info.json", ns=(now, now + 10**12))
    assert build("index") == (2, 3)
    os.utime(pictures / "i1.png", ns=(now, now + 10**13))  # written after it
    assert build("index2") == (1, 4)
    # Replaced after it, by one that says it is older.
    os.utime(folder / "dataset_info.json", ns=(now, now - 10**9))
    os.utime(pictures / "i0.png", ns=(0, 0))
    assert build("index3") == (0, 5)


def test_a_records_box_is_of_the_canvas(tmp_path):
    path = tmp_path / "high.png"
    cv2.imwrite(str(path), np.zeros((100, 50, 3), np.uint8))
    # On a canvas of 64 the picture has columns 16 to 48.
    box = sources.box_in_picture([0.25, 0.25, 0.5, 0.75], path, 64)
    np.testing.assert_allclose(box, [0.25, 0.0, 0.5, 1.0])
    box = sources.box_in_picture([0.0, 0.5, 1.0, 0.625], path, 64)
    np.testing.assert_allclose(box, [0.0, 0.5, 1.0, 0.75])
    # EXIF turns a JPEG, as the model's decoder does, and nothing else.
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, wanted in (
        ("jpg", [0.0, 0.25, 1.0, 0.5]),
        ("png", [0.25, 0.0, 0.75, 0.5]),
        ("webp", [0.25, 0.0, 0.75, 0.5]),
    ):
        Image.new("RGB", (50, 100)).save(tmp_path / f"x.{kind}", exif=exif)
        box = sources.box_in_picture(
            [0.25, 0.25, 0.75, 0.5], tmp_path / f"x.{kind}", 64
        )
        np.testing.assert_allclose(box, wanted, err_msg=kind)
    box = sources.box_in_picture([0.1, 0.2, 0.3, 0.4], "", 64)
    np.testing.assert_allclose(box, [0.1, 0.2, 0.3, 0.4])


def test_other_prepared_features_are_refused(export, make_data_set, tmp_path, counted):
    make_data_set(tmp_path / "data", feature_size=7)
    with pytest.raises(ValueError, match="`feature_size` of the data set should be 6"):
        build_index(export, tmp_path / "index", data_dir=str(tmp_path / "data"))
    make_data_set(tmp_path / "other")
    other = counted()
    other.info = {**export.info, "backbone": {"weights_hash": "other"}}
    with pytest.raises(ValueError, match="`backbone` of the data set should be"):
        build_index(other, tmp_path / "index", data_dir=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="neither of them"):
        build_index(export, tmp_path / "index")
