"""Catalogue -> index: incremental, resumable, refused where it doesn't fit."""

import errno
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep import sources as prep_sources
from kaleido_tf import files
from kaleido_tf.search import index, manifest, mapped, nearest, page, sources
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.shards import Shards
from kaleido_tf.search.store import Store, locked


def skipped_rows(folder):
    with open(folder / "skipped.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def top(engine, query):
    return [hit.image_id for hit in engine.search_text(query, 3).hits]


class Counting:
    """An export that counts what goes through it, and may fail at a picture."""

    def __init__(self, export, fail_after=None):
        self._export, self._left = export, fail_after
        self.pictures = 0

    def __getattr__(self, name):
        return getattr(self._export, name)

    def call(self, name, **inputs):
        if name == "image_features":
            if self._left is not None and self._left <= 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.pictures += len(inputs["image_bytes"])
        return self._export.call(name, **inputs)


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


def test_a_second_run_does_what_is_new(export, catalogue, tmp_path):
    folder = tmp_path / "index"
    counting = Counting(export)
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


def test_same_bytes_are_computed_once(export, catalogue, tmp_path):
    rows = [json.loads(line) for line in catalogue.read_text().splitlines()]
    (catalogue.parent / "copy.png").write_bytes(
        (catalogue.parent / "a.png").read_bytes()
    )
    rows.append({"product_id": "p8", "image": "copy.png", "title": "another red one"})
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counting = Counting(export)
    done = build_index(counting, tmp_path / "index", catalogue)
    assert counting.pictures == done["pictures"] == 7 and done["images"] == 8
    assert top(SearchEngine(export, tmp_path / "index"), "red")[:2] == ["a", "copy"]


def test_goes_on_where_it_was_interrupted(export, catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr("kaleido_tf.search.builder.PICTURES_PER_SHARD", 2)
    monkeypatch.setattr(
        "kaleido_tf.search.builder.PictureWriter.__init__.__defaults__", (2,)
    )
    broken = Counting(export, fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        build_index(broken, tmp_path / "index", catalogue, batch_size=2)
    with pytest.raises(ValueError, match="one without a table"):
        SearchEngine(export, tmp_path / "index")
    counting = Counting(export)
    done = build_index(counting, tmp_path / "index", catalogue, batch_size=2)
    assert counting.pictures == 3 and done["images"] == 7
    assert top(SearchEngine(export, tmp_path / "index"), "red")[0] == "a"


def test_unreadable_pictures_are_listed(export, catalogue, tmp_path):
    (catalogue.parent / "a.png").write_bytes(b"no picture")
    (catalogue.parent / "b.png").write_bytes(b"")
    (catalogue.parent / "c.png").unlink()
    with open(catalogue, "a", encoding="utf-8") as file:
        file.write('{"product_id": "p7", "image": "d.png"}\nnot json\n')
    done = build_index(export, tmp_path / "index", catalogue, batch_size=4)
    assert done["images"] == 4 and done["skipped"] == 5
    by_id = {row.get("image_id"): row for row in skipped_rows(tmp_path / "index")}
    assert "the file is empty" in by_id["b"]["detail"]
    assert "can't be read" in by_id["c"]["detail"]
    assert by_id["a"]["reason"] == "unreadable picture"
    lines = [r for r in skipped_rows(tmp_path / "index") if "line" in r]
    assert [(r["line"], r["reason"]) for r in lines] == [
        (8, "empty text"),
        (9, "not JSON"),
    ]
    for name in "defg":
        (catalogue.parent / f"{name}.png").write_bytes(b"no picture either")
    with pytest.raises(ValueError, match="should have a picture that can be read"):
        build_index(export, tmp_path / "index2", catalogue)


def test_an_index_of_another_export_is_refused(export, catalogue, tmp_path):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    other = Counting(export)
    other.identity, other.path = "f" * 64, "/another/1"
    for use in (
        lambda: build_index(other, folder, catalogue),
        lambda: SearchEngine(other, folder),
    ):
        with pytest.raises(ValueError, match="one of another export .*by --replace"):
            use()
    done = build_index(other, folder, catalogue, replace=True)
    assert done["computed"] == other.pictures == 7
    with pytest.raises(ValueError, match="one of another export"):
        SearchEngine(export, folder)
    # Of the same export nothing is thrown away.
    assert build_index(other, folder, catalogue, replace=True)["computed"] == 0
    build_index(export, folder, catalogue, replace=True)
    values = json.loads((folder / "index.json").read_text())
    files.write_json({**values, "format": 0}, folder / "index.json")
    with pytest.raises(ValueError, match="should have format 1. Received: 0"):
        SearchEngine(export, folder)
    with pytest.raises(FileNotFoundError, match="kaleido_tf.search.index"):
        SearchEngine(export, tmp_path / "nowhere")


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_an_interrupted_replacement_leaves_no_old_shard(
    export, catalogue, tmp_path, monkeypatch, removed
):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    other, left, remove = Counting(export), removed, shutil.rmtree
    other.identity, other.path = "f" * 64, "/another/1"

    def interrupted(path, *args, **kwargs):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        remove(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("kaleido_tf.search.store.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(other, folder, catalogue, replace=True)
    with pytest.raises(ValueError, match="one that is being replaced"):
        SearchEngine(other, folder)
    with pytest.raises(ValueError, match="one of another export"):
        build_index(export, folder, catalogue)
    done = build_index(other, folder, catalogue)  # goes on, whatever it is told
    assert done["computed"] == other.pictures == 7 and done["encoded"] == 5
    assert "emptying" not in json.loads((folder / "index.json").read_text())


def test_what_cant_be_removed_is_said(export, catalogue, tmp_path, monkeypatch):
    build_index(export, tmp_path / "index", catalogue)
    other = Counting(export)
    other.identity = "f" * 64

    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr("kaleido_tf.search.store.shutil.rmtree", refuse)
        with pytest.raises(PermissionError):
            build_index(other, tmp_path / "index", catalogue, replace=True)


def test_shards_of_nobody_are_refused(export, catalogue, tmp_path):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    (folder / "index.json").unlink()
    for replace in (False, True):
        with pytest.raises(ValueError, match="tables/1 and no index.json"):
            build_index(export, folder, catalogue, replace=replace)
    # What isn't of an index stays.
    (tmp_path / "other" / "pictures").mkdir(parents=True)
    (tmp_path / "other" / "pictures" / "1.png").write_bytes(b"a picture")
    for identity in (export.identity, "f" * 64):
        other = Counting(export)
        other.identity = identity
        build_index(other, tmp_path / "other", catalogue, replace=True)
    assert (tmp_path / "other" / "pictures" / "1.png").exists()


def test_one_writer_at_a_time(export, catalogue, tmp_path):
    with (
        locked(tmp_path / "index"),
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


def test_more_shards_than_open_files(tmp_path):
    """Also what was removed meanwhile can be read: an older state of the index."""
    script = """
import resource, shutil, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
from kaleido_tf.search.shards import Shards
fields = {"x": ((2,), np.dtype(np.float16)), "y": ((0,), np.dtype(np.float32))}
shards = Shards(sys.argv[1], fields)
for n in range(100):
    shards.append([f"k{n}"], {"x": [[n, n]], "y": np.zeros((1, 0))})
shards = Shards(sys.argv[1], fields)
shutil.rmtree(sys.argv[1])
print(shards.read("x", [f"k{n}" for n in range(100)]).sum(dtype=int))
"""
    run = [sys.executable, "-c", script, str(tmp_path / "x")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.stdout == "9900\n", done.stderr


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES])
def test_limits_are_no_damage(tmp_path, monkeypatch, number):
    fields = {"x": ((2,), np.dtype(np.float32))}
    Shards(tmp_path, fields).append(["a"], {"x": [[1, 1]]})

    def refuse(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("kaleido_tf.search.shards.mapped.load", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        Shards(tmp_path, fields)
    assert caught.value.errno == number and "delete" not in str(caught.value)


def test_arrays_are_mapped(tmp_path):
    path = tmp_path / "x.npy"
    for array in (
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.zeros((3, 0), np.float16),
    ):
        np.save(path, array)
        found = mapped.load(path)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and not found.flags.writeable
    path.write_bytes(b"")
    with pytest.raises(ValueError):
        mapped.load(path)
    np.save(path, np.array(["a", None]), allow_pickle=True)
    with pytest.raises(ValueError, match="of object"):
        mapped.load(path)


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


def test_a_picture_that_changes_meanwhile_is_left_out(export, catalogue, tmp_path):
    class Changing(Counting):
        def call(self, name, **inputs):
            if name == "image_features" and not self.pictures:
                path = str(catalogue.parent / "g.png")
                cv2.imwrite(path, np.full((40, 30, 3), (0, 255, 0), np.uint8))
            return super().call(name, **inputs)

    done = build_index(Changing(export), tmp_path / "index", catalogue, batch_size=2)
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


def test_prepared_features_are_taken_over(export, make_data_set, tmp_path):
    folder = tmp_path / "data"
    info = make_data_set(folder)
    counting = Counting(export)
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


def test_other_prepared_features_are_refused(export, make_data_set, tmp_path):
    make_data_set(tmp_path / "data", feature_size=7)
    with pytest.raises(ValueError, match="`feature_size` of the data set should be 6"):
        build_index(export, tmp_path / "index", data_dir=str(tmp_path / "data"))
    make_data_set(tmp_path / "other")
    other = Counting(export)
    other.info = {**export.info, "backbone": {"weights_hash": "other"}}
    with pytest.raises(ValueError, match="`backbone` of the data set should be"):
        build_index(other, tmp_path / "index", data_dir=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="neither of them"):
        build_index(export, tmp_path / "index")


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


@pytest.mark.parametrize("kind", nearest.KINDS)
def test_nearest(kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = vectors[3]
    rows, cosines = nearest.search(nearest.build(vectors, kind), vectors[3], 20)
    # The same vector twice: in the rows' order.
    assert rows[:2].tolist() == [3, 7]
    np.testing.assert_allclose(cosines, vectors[rows] @ vectors[3], atol=1e-5)
    best = set(np.argsort(-(vectors @ vectors[3]))[:20])
    assert len(best & set(rows)) >= {"flat": 20, "hnsw": 18, "ivf": 3}[kind]
    assert (
        len(nearest.search(nearest.build(vectors[:5], "flat"), vectors[0], 9)[0]) == 5
    )


def test_nearest_refuses():
    with pytest.raises(ValueError, match="should be numbers"):
        nearest.build(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="`index` should be one of"):
        nearest.build(np.ones((3, 2)), "tree")


def test_little_used_shards_are_written_anew(tmp_path):
    shards = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    shards.append(["a", "b", "c"], {"x": [[1, 1], [2, 2], [3, 3]]})
    shards.append(["d"], {"x": [[4, 4]]})
    assert shards.remove_dead({"c", "d"}) == 2
    assert sorted(os.listdir(tmp_path)) == ["000001", "000002"]
    again = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    assert "a" not in again and len(again) == 2
    np.testing.assert_array_equal(again.read("x", ["d", "c"]), [[4, 4], [3, 3]])
    os.makedirs(tmp_path / "000003.unfinished")  # of a killed run: no shard
    again = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    assert len(again) == 2 and again.remove_dead({"c", "d"}) == 0
    assert sorted(os.listdir(tmp_path)) == ["000001", "000002"]


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
