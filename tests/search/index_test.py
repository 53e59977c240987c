"""Catalogue -> index: incremental, resumable, refused where it doesn't fit."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_prep import sources as prep_sources
from kaleido_tf import files
from kaleido_tf.search import index, manifest, page
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.store import Store


def skipped_rows(folder):
    with open(folder / "skipped.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def top(engine, query):
    return [hit.image_id for hit in engine.search_text(query, 3).hits]


def test_what_is_stored(export, catalogue, tmp_path):
    done = build_index(export, tmp_path / "index", catalogue, batch_size=3)
    assert {k: done[k] for k in ("images", "products", "pictures", "texts")} == {
        "images": 7,
        "products": 6,
        "pictures": 7,
        "texts": 5,
    }
    assert (done["computed"], done["copied"], done["skipped"]) == (7, 0, 0)
    store = Store.open(tmp_path / "index", export)
    row = store.rows()[0]
    assert row.item.image_id == "a" and row.item.image == "a.png"
    features = store.pictures.read("features", [row.picture])
    assert features.dtype == np.float16
    np.testing.assert_allclose(features[0, 0, :3], [250 / 255, 0, 0], atol=2e-3)
    np.testing.assert_array_equal(
        store.pictures.read("boxes", [row.picture]), [[0.25, 0.25, 0.75, 0.75]]
    )
    np.testing.assert_allclose(store.texts.read("vectors", [row.text]), [[1, 0, 0]])


def test_a_second_run_does_what_is_new(export, catalogue, tmp_path, counted):
    folder = tmp_path / "index"
    counting = counted()
    build_index(counting, folder, catalogue)
    assert counting.pictures == 7
    done = build_index(counting, folder, catalogue)
    assert counting.pictures == 7 and done["computed"] == done["encoded"] == 0

    # One picture changes, a text changes, one goes, one comes.
    lines = catalogue.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    cv2.imwrite(
        str(catalogue.parent / "c.png"), np.full((40, 30, 3), (0, 0, 255), np.uint8)
    )
    rows[1]["title"] = "a blue one now"
    new = {"product_id": "p9", "image": "n.png", "title": "new green coat"}
    cv2.imwrite(
        str(catalogue.parent / "n.png"), np.full((40, 30, 3), (0, 255, 0), np.uint8)
    )
    rows = [*rows[:4], *rows[5:], new]
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = build_index(counting, folder, catalogue)
    assert counting.pictures == 9 and done["computed"] == 2 and done["encoded"] == 2
    assert done["images"] == 7
    engine = SearchEngine(export, folder)
    assert top(engine, "green")[0] == "n"
    assert set(top(engine, "red")) == {"a", "c", "b"}
    with pytest.raises(ValueError, match="`image_id` should be one of the index's 7"):
        engine.features("e")
    assert engine.row("b").item.text == "a blue one now"
    assert os.listdir(folder / "tables") == ["3"]


def test_same_bytes_are_computed_once(export, catalogue, tmp_path, counted):
    rows = [json.loads(line) for line in catalogue.read_text().splitlines()]
    (catalogue.parent / "copy.png").write_bytes(
        (catalogue.parent / "a.png").read_bytes()
    )
    rows.append({"product_id": "p8", "image": "copy.png", "title": "another red one"})
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counting = counted()
    done = build_index(counting, tmp_path / "index", catalogue)
    assert counting.pictures == done["pictures"] == 7 and done["images"] == 8
    assert top(SearchEngine(export, tmp_path / "index"), "red")[:2] == ["a", "copy"]


def test_goes_on_where_it_was_interrupted(
    export, catalogue, tmp_path, monkeypatch, counted
):
    monkeypatch.setattr("kaleido_tf.search.builder.PICTURES_PER_SHARD", 2)
    monkeypatch.setattr(
        "kaleido_tf.search.builder.PictureWriter.__init__.__defaults__", (2,)
    )
    broken = counted(fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        build_index(broken, tmp_path / "index", catalogue, batch_size=2)
    with pytest.raises(ValueError, match="one without a table"):
        SearchEngine(export, tmp_path / "index")
    counting = counted()
    done = build_index(counting, tmp_path / "index", catalogue, batch_size=2)
    assert counting.pictures == 3 and done["images"] == 7
    assert top(SearchEngine(export, tmp_path / "index"), "red")[0] == "a"


def test_unreadable_pictures_are_listed(export, catalogue, tmp_path):
    (catalogue.parent / "a.png").write_bytes(b"no picture")
    (catalogue.parent / "b.png").write_bytes(b"")
    (catalogue.parent / "c.png").unlink()
    with open(catalogue, "a", encoding="utf-8") as file:
        file.write('{"product_id": "p7", "image": "d.png"}\nnot json\n')
        file.write('{"product_id": "p8", "image": "a\\u0000.png", "title": "x"}\n')
    settings = {"batch_size": 4, "max_bad_fraction": 0.6}
    done = build_index(export, tmp_path / "index", catalogue, **settings)
    assert done["images"] == 4 and done["skipped"] == 6
    by_id = {row.get("image_id"): row for row in skipped_rows(tmp_path / "index")}
    assert "the file is empty" in by_id["b"]["detail"]
    assert "can't be read" in by_id["c"]["detail"]
    assert by_id["a"]["reason"] == "unreadable picture"
    lines = [r for r in skipped_rows(tmp_path / "index") if "line" in r]
    assert [(r["line"], r["reason"]) for r in lines] == [
        (8, "empty text"),
        (9, "not JSON"),
    ]
    # Half of the pictures are gone for the moment: what was indexed stays.
    for name in "de":
        (catalogue.parent / f"{name}.png").rename(catalogue.parent / name)
    with pytest.raises(ValueError, match="At most 60.0% of .* 10 lines .* 8, listed"):
        build_index(export, tmp_path / "index", catalogue, **settings)
    assert SearchEngine(export, tmp_path / "index").num_products == 4
    for name in "defg":
        (catalogue.parent / f"{name}.png").write_bytes(b"no picture either")
    with pytest.raises(ValueError, match="should have a picture that can be read"):
        build_index(export, tmp_path / "index2", catalogue)


def test_one_writer_at_a_time(export, catalogue, tmp_path):
    with (
        files.locked(tmp_path / "index"),
        pytest.raises(ValueError, match="one writer at a time"),
    ):
        build_index(export, tmp_path / "index", catalogue)


def test_damage_is_named(export, catalogue, tmp_path):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    shard = folder / "pictures" / "000000"
    data = (shard / "features.npy").read_bytes()
    (shard / "features.npy").write_bytes(data[:-10])
    with pytest.raises(ValueError, match="pictures/000000 should be a whole shard"):
        SearchEngine(export, folder)


def test_a_state_that_goes_meanwhile_is_read_again(
    export, catalogue, tmp_path, monkeypatch
):
    """Another run finishes between index.json and the table that it names."""
    build_index(export, tmp_path / "index", catalogue)
    rows, runs = Store.rows, []

    def late(store):
        if not runs:
            runs.append(1)
            build_index(export, tmp_path / "index", catalogue)
        return rows(store)

    monkeypatch.setattr(Store, "rows", late)
    assert top(SearchEngine(export, tmp_path / "index"), "red")[0] == "a"
    shutil.rmtree(tmp_path / "index" / "tables")
    with pytest.raises(FileNotFoundError, match="items.jsonl"):
        SearchEngine(export, tmp_path / "index")


def test_a_picture_that_changes_meanwhile_is_left_out(
    export, catalogue, tmp_path, counted
):
    class Changing(type(counted())):
        def call(self, name, **inputs):
            if name == "image_features" and not self.pictures:
                path = str(catalogue.parent / "g.png")
                cv2.imwrite(path, np.full((40, 30, 3), (0, 255, 0), np.uint8))
            return super().call(name, **inputs)

    settings = {"batch_size": 2, "max_bad_fraction": 0.2}
    done = build_index(Changing(export), tmp_path / "index", catalogue, **settings)
    assert (done["images"], done["skipped"]) == (6, 1)
    (row,) = skipped_rows(tmp_path / "index")
    assert row["image_id"] == "g" and "it changed while" in row["detail"]
    assert build_index(export, tmp_path / "index", catalogue)["computed"] == 1


def test_long_texts_are_read_from_their_start(export, catalogue, tmp_path):
    rows = [json.loads(line) for line in catalogue.read_text().splitlines()]
    rows[0]["title"] = "red " + "é" * 50_000
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert build_index(export, tmp_path / "index", catalogue)["skipped"] == 0
    engine = SearchEngine(export, tmp_path / "index")
    assert len(engine.row("a").item.text) == 50_004
    page.warm_up(engine)
    assert "a" in [hit.image_id for hit in engine.search_like("b").hits]
    found = engine.explain(engine.row("a").item.text, "a").words
    assert found == ["red", "é" * 2497]  # of 4999 bytes
    with pytest.raises(ValueError, match="at most 10000 bytes"):
        engine.search_text(rows[0]["title"])


def test_the_catalogue_may_move(export, catalogue, tmp_path):
    build_index(export, tmp_path / "index", catalogue)
    os.rename(catalogue.parent, tmp_path / "moved")
    engine = SearchEngine(export, tmp_path / "index", tmp_path / "moved")
    assert os.path.isfile(engine.image_path("a"))


def test_reads_a_manifest_as_data_preparation_does(tmp_path):
    """Same image ids, texts, classes and left out lines as `data_prep.sources`."""
    lines = [
        {"product_id": "1", "image": "x/a.jpg", "title": "One", "description": "Two."},
        {"product_id": 2, "image": "b.png", "text": "Ends!", "title": "More"},
        {"product_id": "3", "image": "c.png", "title": " ", "description": "Only."},
        {"product_id": "4", "image": "a.jpg", "title": "same stem"},
        {"product_id": "5", "image": "e.png", "image_id": "E", "title": "t", "x": 1},
        {"product_id": "6", "image": "f.png"},
        {"image": "g.png", "title": "no product"},
        {"product_id": "8", "image": "h.png", "title": ["list"]},
        {"product_id": "9", "image": "i.png", "title": "t", "split": "test"},
        {"product_id": "10", "image": "j.png", "title": "caf\ud800"},
        {"product_id": "11", "image": "k.png", "title": "v", "split": "validation"},
        [1, 2],
    ]
    path = tmp_path / "m.jsonl"
    path.write_bytes(
        b"\n".join(json.dumps(line).encode() for line in lines) + b"\n\n\xff\xfe\n{"
    )
    csv_path = tmp_path / "m.csv"
    csv_path.write_text(
        'product_id,image,title,category\n1,a.png,"One, two",TOPS\n2,,x,\n3,c.png,?,\n'
    )
    for each in (path, csv_path):
        skips = prep_sources.SkipList()
        items, skipped = manifest.read_items(each)
        try:
            products = prep_sources.read_manifest(each, skips, validation_fraction=0.5)
        except ValueError:  # one product is no two splits: only the lines count here
            products = None
        assert [(s["line"], s["reason"]) for s in skipped] == [
            (s["line"], s["reason"]) for s in skips.rows
        ]
        if products:
            for product, item in zip(products, items, strict=True):
                for name in ("product_id", "image_id", "text", "category"):
                    assert getattr(product, name) == getattr(item, name)
                assert product.image_path == item.image
    assert [item.text for item in manifest.read_items(path)[0]][:2] == [
        "One. Two.",
        "Ends! More",
    ]
    with pytest.raises(ValueError, match="should end with .jsonl or .csv"):
        manifest.read_items(__file__)


def test_command_line(export_dir, catalogue, tmp_path, capsys):
    page = index.flag_page()
    settings = {
        **page.defaults(),
        "export": export_dir,
        "manifest": str(catalogue),
        "index_dir": str(tmp_path / "index"),
        "index": "hnsw",
    }
    index.main(settings)
    printed = capsys.readouterr().out
    assert "7 images of 6 products, 5 texts. Pictures computed 7" in printed
    assert (
        json.loads((tmp_path / "index" / "index.json").read_text())["index"] == "hnsw"
    )
    for module in ("index", "page"):
        shown = subprocess.run(
            [sys.executable, "-m", f"kaleido_tf.search.{module}", "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "--index_dir=STRING  (required)" in shown
