"""Data preparation from end to end, with a backbone of random weights."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_prep import build_vocab, pictures, prepare
from data_prep.shards import pipeline, receipts, shard_writer
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import dataset_info, patches, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
    "backbone_weights": "random",
    "patch_size": 32,
    "coarse_patch_size": 40,
    "canvas_size": 48,
    "vocab_size": 300,
    "max_tokens": 40,
    "images_per_shard": 3,
    "images_per_batch": 2,
    "max_bad_fraction": 0.6,
}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def edit(manifest, change):
    """Applies `change` to the list of the manifest's lines."""
    rows = lines_of(manifest)
    change(rows)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


def stored(folder):
    """Serialized records of a finished data set: dict split -> list in order."""
    info = DatasetInfo.load(str(folder))
    return {
        split: [r for path in info.shard_paths(split) for r in records.read_shard(path)]
        for split in ("train", "validation")
    }


def shard_files(folder):
    """Name -> (bytes, time of writing) of every shard."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.glob("*.tfrecord")
    }


def rewritten(before, after):
    return {name for name in after if before.get(name, (0, 0))[1] != after[name][1]}


@pytest.fixture
def vocab_file(tmp_path):
    pieces = [*tokenization.SPECIAL_TOKENS, "navy", "shirt", "red", "dress", ".", ","]
    path = tmp_path / "given_vocab.txt"
    path.write_text("\n".join(pieces))
    return str(path)


def test_records_of_a_catalogue(catalogue, tmp_path):
    out = tmp_path / "data"
    info = prepare.prepare(str(catalogue), str(out), **SMALL)
    assert json.loads((out / "dataset_info.json").read_text()) == info
    loaded = DatasetInfo.load(str(out))
    # v4 is the one view of p4, the product of the validation split.
    assert {s: loaded.num_examples(s) for s in ("train", "validation")} == {
        "train": 7,
        "validation": 1,
    }
    assert [shard["num_examples"] for shard in loaded.shards("train")] == [3, 2, 2]
    for split in ("train", "validation"):
        paths = loaded.shard_paths(split)
        for path, shard in zip(paths, loaded.shards(split), strict=True):
            assert dataset_info.file_sha256(path) == shard["sha256"]
    assert info["skipped"] == 0
    assert info["text_fields"] == ["text", "title", "description"]
    assert (info["canvas_size"], info["coarse_patch_size"]) == (48, 40)
    assert (out / "skipped.jsonl").read_text() == ""
    assert info["categories"] == ["clothing"]
    assert info["subcategories"] == ["gowns", "tops"]
    assert sum(info["boxes"].values()) == 8
    assert info["backbone"]["weights"].startswith("random")
    assert [level["grid"] for level in info["levels"]] == [1, 2, 3, 4, 5]
    tokenizer = tokenization.Tokenizer.from_file(loaded.vocab_file)
    rows = {
        row["image_id"].decode(): row
        for path in loaded.shard_paths("train")
        for row in records.read_shard(path, loaded.shapes)
    }
    assert sorted(rows) == ["v0", "v1", "v2", "v3", "v5", "v6", "v7"]
    for manifest_row in lines_of(catalogue):
        row = rows.get(manifest_row["image_id"])
        if row is None:
            continue
        text = f"{manifest_row['title']}. {manifest_row['description']}"
        assert row["text"].decode() == text
        assert row["product_id"].decode() == manifest_row["product_id"]
        ids = tokenizer.tokenize([text]).to_list()[0]
        assert row["token_ids"].tolist() == ids
        np.testing.assert_array_equal(
            row["patch_locations"], patches.patch_locations(KALEIDO_LEVELS)
        )
        # The picture is taller than wide: the canvas adds to its left and right.
        n = int(manifest_row["image_id"][1:])
        height, width = 80, 64 + n
        truth = np.array([(10 + n) / height, 20 / width, 60 / height, (50 + n) / width])
        left = (1 - width / height) / 2
        truth[1::2] = left + truth[1::2] * width / height
        np.testing.assert_allclose(row["box"], truth, atol=0.06)
    # Each image has features of its own, and its variants differ from the clean ones.
    first, second = rows["v0"]["patch_features"], rows["v1"]["patch_features"]
    assert np.abs(first - second).max() > 0.01
    assert np.abs(rows["v0"]["grey_features"] - first[14:30]).max() > 0.01


def test_features_are_those_of_the_patches(catalogue, tmp_path):
    """What a record holds is what cutting and encoding the picture again gives."""
    out = tmp_path / "data"
    prepare.prepare(str(catalogue), str(out), **SMALL)
    info = DatasetInfo.load(str(out))
    row = next(records.read_shard(info.shard_paths("validation")[0], info.shapes))
    picture = pictures.read_picture(catalogue.parent / "v4.png")
    canvas, _ = patches.to_canvas(picture, 48)
    backbone = backbone_lib.build_backbone("efficientnet_lite0", 32, "random")
    features = patches.image_features(
        canvas[None], row["box"][None], KALEIDO_LEVELS, backbone, 40
    )
    for key, value in features.items():
        np.testing.assert_allclose(row[key], value[0], rtol=0.01, atol=0.01)


def test_what_cannot_be_used_is_listed(catalogue, tmp_path, mean_colour):
    folder = catalogue.parent
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)))[
        1
    ]
    (folder / "cut.jpg").write_bytes(jpeg.tobytes()[:-200])
    (folder / "noise.jpg").write_bytes(b"\xff\xd8" + bytes(range(256)) + b"\xff\xd9")
    (folder / "v1.png").write_bytes((folder / "v1.png").read_bytes()[:-20])
    (folder / "v2.png").write_bytes(b"")

    def spoil(rows):
        rows[0]["description"] = "word " * 10_000
        rows[5]["image"] = "cut.jpg"
        rows[6]["image"] = "noise.jpg"
        rows[7]["image"] = "nowhere.png"
        rows.append({"product_id": "p0", "image": "v3.png", "title": " "})

    edit(catalogue, spoil)
    catalogue.write_text(catalogue.read_text() + "{not JSON\n")
    out = tmp_path / "data"
    with pytest.raises(
        ValueError, match=r"At most 60.0% of the manifest's 10 lines .*7"
    ):
        prepare.prepare(str(catalogue), str(out), **SMALL)
    assert not (out / "dataset_info.json").exists()
    listed = lines_of(out / "skipped.jsonl")
    by_image = {row.get("image_id", row.get("line")): row for row in listed}
    assert {key: row["reason"] for key, row in by_image.items()} == {
        9: "empty text",
        10: "not JSON",
        **dict.fromkeys(("v1", "v2", "v5", "v6", "v7"), "unreadable image"),
    }
    details = {key: by_image[key]["detail"] for key in ("v1", "v2", "v5", "v6", "v7")}
    assert details == {
        "v1": "the PNG is truncated or damaged",
        "v2": "the file is empty",
        "v5": "the JPEG is truncated or damaged",
        "v6": "the JPEG is truncated or damaged: no size found",
        "v7": "can't be read: No such file or directory",
    }
    assert by_image["v7"]["image"] == str(folder / "nowhere.png")
    before = shard_files(out)

    # The same with more patience: what is done isn't done again.
    info = prepare.prepare(
        str(catalogue), str(out), **{**SMALL, "max_bad_fraction": 0.7}
    )
    assert not rewritten(before, shard_files(out))
    assert info["skipped"] == 7
    assert info["truncated_texts"] == 1
    assert info["unknown_pieces"] == 1 < info["pieces"]
    counts = {split: info["splits"][split]["num_examples"] for split in info["splits"]}
    assert counts == {"train": 2, "validation": 1}
    loaded = DatasetInfo.load(str(out))
    rows = [
        row
        for path in loaded.shard_paths("train")
        for row in records.read_shard(path, loaded.shapes)
    ]
    (long,) = [row for row in rows if row["image_id"] == b"v0"]
    assert len(long["token_ids"]) == 40
    assert len(long["text"]) > 40_000


def test_too_many_bad_lines_end_it_before_the_work(catalogue, tmp_path, monkeypatch):
    catalogue.write_text(catalogue.read_text() + "{not JSON\n")
    monkeypatch.setattr(pipeline, "write_shards", None)  # isn't reached
    out = tmp_path / "data"
    settings = {**SMALL, "max_bad_fraction": 0.1}
    with pytest.raises(
        ValueError, match="At most 10.0% of .* 9 lines .* Received: 1, "
    ):
        prepare.prepare(str(catalogue), str(out), **settings)
    assert [row["line"] for row in lines_of(out / "skipped.jsonl")] == [9]


def test_started_again_after_a_stop(catalogue, tmp_path, mean_colour, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "data"
    prepare.prepare(str(catalogue), str(whole), **SMALL)
    expected = stored(whole)
    write = shard_writer.ShardWriter.write
    done = []

    def stop_in_the_middle(self, path, products):
        if len(done) == 2:
            with open(f"{path}.tmp", "wb") as file:  # what a killed worker leaves
                file.write(b"half a shard")
            raise ValueError("stopped")
        done.append(path)
        return write(self, path, products)

    monkeypatch.setattr(shard_writer.ShardWriter, "write", stop_in_the_middle)
    with pytest.raises(Exception, match="stopped"):
        prepare.prepare(str(catalogue), str(out), **SMALL)
    assert not (out / "dataset_info.json").exists()
    before = shard_files(out)
    assert len(before) == 2
    assert list(out.glob("*.tmp"))

    monkeypatch.setattr(shard_writer.ShardWriter, "write", write)
    prepare.prepare(str(catalogue), str(out), **SMALL)
    after = shard_files(out)
    assert len(after) == 4
    assert rewritten(before, after) == set(after) - set(before)
    assert stored(out) == expected
    assert not list(out.glob("*.tmp"))


def test_only_what_is_missing_or_changed_is_rewritten(
    catalogue, tmp_path, vocab_file, mean_colour, monkeypatch
):
    out = tmp_path / "data"
    first_info = prepare.prepare(str(catalogue), str(out), **SMALL)
    first, expected = shard_files(out), stored(out)
    names = sorted(first)

    def again(**changes):
        before = shard_files(out)
        info = prepare.prepare(str(catalogue), str(out), **{**SMALL, **changes})
        return info, rewritten(before, shard_files(out))

    # Deleted, cut, without a receipt; a stale temporary file doesn't disturb.
    (out / names[0]).unlink()
    (out / names[1]).write_bytes(first[names[1]][0][:-5])
    pathlib.Path(receipts.receipt_path(str(out / names[2]))).unlink()
    (out / f"{names[0]}.tmp").write_bytes(b"stale")
    info, written = again()
    assert written == set(names[:3])
    assert info == first_info
    assert stored(out) == expected
    assert collections.Counter(stored(out)["train"]) == collections.Counter(
        expected["train"]
    )
    # How many pictures share a batch decides nothing.
    assert again(images_per_batch=3)[1] == set()
    # A text that was changed and a picture that was repaired: their shard.
    edit(catalogue, lambda rows: rows[4].update(title="Another title"))
    assert again()[1] == {name for name in names if name.startswith("validation")}
    picture = catalogue.parent / "v4.png"
    cv2.imwrite(str(picture), cv2.imread(str(picture))[:-9])
    assert again()[1] == {name for name in names if name.startswith("validation")}
    # Another vocabulary: every shard.
    info, written = again(vocab_file=vocab_file)
    assert written == set(names)
    assert info["vocab_size"] == 11
    assert info["vocab_sha256"] != first_info["vocab_sha256"]
    row = next(
        records.read_shard(str(out / names[0]), DatasetInfo.load(str(out)).shapes)
    )
    assert row["token_ids"].max() < 11
    # While shards are replaced the old description of them is gone.
    monkeypatch.setattr(pipeline, "write_shards", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare.prepare(str(catalogue), str(out), **SMALL)
    with pytest.raises(FileNotFoundError, match="not a finished data set"):
        DatasetInfo.load(str(out))


def test_another_manifest_into_the_same_folder(catalogue, tmp_path, mean_colour):
    """A wrong command leaves the data set whole; a right one learns its vocabulary."""
    settings = {**SMALL, "images_per_shard": 9, "images_per_batch": 8}
    settings["patch_arm"] = "fixed"
    out = tmp_path / "data"
    first = prepare.prepare(str(catalogue), str(out), **settings)
    edit(catalogue, lambda rows: [row.update(title="Green hat") for row in rows])
    listed = (out / "skipped.jsonl").read_bytes()
    catalogue.write_text(catalogue.read_text() + "no JSON\n" * 40)
    with pytest.raises(ValueError, match="Received: 40, .*data/refused.jsonl"):
        prepare.prepare(str(catalogue), str(out), **settings)
    assert (out / "skipped.jsonl").read_bytes() == listed
    catalogue.write_text(catalogue.read_text().replace("no JSON\n", ""))
    for wrong in ({"alignments": "nowhere"}, {"vocab_file": "nowhere"}):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            prepare.prepare(str(catalogue), str(out), **settings | wrong)
    assert DatasetInfo.load(str(out)).values == first
    info = prepare.prepare(str(catalogue), str(out), **settings)
    rows = [row for row in lines_of(catalogue) if row["split"] == "train"]
    texts = [f"{row['title']}. {row['description']}" for row in rows]
    pieces = tokenization.read_vocabulary(str(out / "vocab.txt"))
    assert pieces == build_vocab.build_vocabulary(texts, SMALL["vocab_size"])
    assert info["vocab_sha256"] != first["vocab_sha256"]
    tokenizer = tokenization.Tokenizer(pieces)
    loaded = DatasetInfo.load(str(out))
    for row in records.read_shard(loaded.shard_paths("train")[0], loaded.shapes):
        ids = tokenizer.tokenize([row["text"].decode()]).to_list()[0]
        assert row["token_ids"].tolist() == ids


@pytest.mark.parametrize("arm", ["fixed", "kaleido"])
def test_other_arms(catalogue, tmp_path, arm):
    out = tmp_path / "data"
    settings = {**SMALL, "images_per_shard": 9, "images_per_batch": 8}
    info = prepare.prepare(str(catalogue), str(out), patch_arm=arm, **settings)
    loaded = DatasetInfo.load(str(out))
    assert info["boxes"] == {}
    row = next(records.read_shard(loaded.shard_paths("validation")[0], loaded.shapes))
    assert row["patch_features"].shape == (64 if arm == "fixed" else 55, 1280)
    # No saliency: the box is the picture's own place on the canvas (v4 is 80 x 68).
    np.testing.assert_allclose(row["box"], [0, 3 / 48, 1, 44 / 48], atol=1e-6)


def test_wrong_backbone_weights_end_it_at_once(catalogue, tmp_path):
    weights = tmp_path / "weights.pth"
    settings = {**SMALL, "backbone_weights": str(weights)}
    with pytest.raises(FileNotFoundError, match="`weights` should be .*weights.pth"):
        prepare.prepare(str(catalogue), str(tmp_path / "data"), **settings)
    with pytest.raises(ValueError, match="`patch_size` should be .* Received: 600"):
        prepare.prepare(
            str(catalogue), str(tmp_path / "data"), **{**SMALL, "patch_size": 600}
        )


def test_backbone_that_cannot_be_had(catalogue, tmp_path, monkeypatch):
    def build(*_):
        raise RuntimeError("no such weights (connect to the internet)")

    monkeypatch.setattr(backbone_lib, "build_backbone", build)
    with pytest.raises(OSError, match="connect to the internet"):
        prepare.prepare(str(catalogue), str(tmp_path / "data"), **SMALL)


# --- Command line ---------------------------------------------------------------------


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "data_prep.prepare", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_errors_of_the_command(tmp_path, catalogue):
    missing = tmp_path / "nowhere.jsonl"
    done = run_command(f"--manifest={missing}", f"--output_dir={tmp_path / 'data'}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert re.search("`manifest` should be a file .* Received: .*nowhere.jsonl", line)


def test_a_vocabulary_of_another_language_is_said(
    catalogue, tmp_path, mean_colour, caplog
):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join([*tokenization.SPECIAL_TOKENS, "."]) + "\n")
    info = prepare.prepare(
        str(catalogue), str(tmp_path / "data"), **{**SMALL, "vocab_file": str(vocab)}
    )
    assert 0.5 * info["pieces"] < info["unknown_pieces"] < info["pieces"]
    assert "the vocabulary isn't of these texts" in caplog.text
