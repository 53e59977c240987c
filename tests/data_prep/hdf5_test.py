"""Fashion-Gen's HDF5 files: reading, refusing, and the whole line to its shards."""

import h5py
import numpy as np
import pytest

from data_prep import pictures, prepare, sources
from data_prep.shards import shard_plan
from data_prep.sources import fashion_gen as hdf5
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import patches, records
from kaleido_tf.data.dataset_info import DatasetInfo


def read(files, **options):
    skipped = sources.SkipList()
    paths = {"train_file": files.get("train"), **options}
    paths["validation_file"] = files.get("validation")
    return sources.read("fashion_gen", skipped, paths, **options), skipped


def test_what_a_row_becomes(fashion_gen):
    products, skipped = read(fashion_gen)
    assert skipped.rows == []
    assert products[0] == sources.Product(
        product_id="86605",
        image_id="86605_0",
        image_path=fashion_gen["train"],
        text="Long sleeve shirt in navy. Button front.",
        category="SHIRTS",
        subcategory="SHIRTS",
        split="train",
        row=0,
    )
    # Views are counted, also where a product comes again later.
    assert [(p.image_id, p.split, p.row) for p in products] == [
        ("86605_0", "train", 0),
        ("86605_1", "train", 1),
        ("901_0", "train", 2),
        ("901_1", "train", 3),
        ("86605_2", "train", 4),
        ("77_0", "validation", 0),
        ("78_0", "validation", 1),
    ]
    assert products[2].text == "Long dress in café crème.\xa0Women\x92s fit."
    named, _ = read(fashion_gen, text_fields=("title", "description", "season"))
    assert named[5].text == "Red Dress. Short dress in red. -"
    with pytest.raises(ValueError, match=r"`text_fields` should be .* \['colour'\]"):
        read(fashion_gen, text_fields=("colour",))


def test_a_column_that_declares_utf_8(fashion_gen):
    texts = ["Robe en café crème", "短款连衣裙", *"abc"]
    with h5py.File(fashion_gen["train"], "a") as file:
        del file["input_description"]
        kind = h5py.string_dtype("utf-8")
        file.create_dataset("input_description", (5, 1), kind)[:, 0] = texts
    products, _ = read(fashion_gen)
    assert [p.text for p in products if p.split == "train"] == texts


def test_part_of_the_files(fashion_gen):
    few, _ = read(fashion_gen, max_images=4, validation_fraction=0.3)
    assert [p.split for p in few] == ["train"] * 3 + ["validation"]
    with pytest.raises(ValueError, match="Received none in validation of 1 products"):
        read(fashion_gen, max_images=1)
    alone, _ = read({"train": fashion_gen["train"]}, validation_fraction=0.3)
    splits = {(p.product_id, p.split) for p in alone}
    assert splits == {("86605", "validation"), ("901", "train")}


def test_rows_without_a_text_are_listed(tmp_path, write_fashion_gen):
    rows = [
        {"product": n, "description": text}
        for n, text in enumerate([b"a shirt", b"  ", b"a dress"])
    ]
    path = write_fashion_gen(tmp_path / "a.h5", rows, side=16)
    products, skipped = read({"train": path}, validation_fraction=0.5)
    assert [p.row for p in products] == [0, 2]
    assert skipped.rows[0]["reason"] == "empty text"
    assert (skipped.rows[0]["file"], skipped.rows[0]["row"]) == ("a.h5", 1)


SPOILED = {
    "missing": (
        lambda c: c.pop("input_description"),
        r"16 keys .* Missing: \['input_description'\]; extra: \[\]$",
    ),
    "extra": (
        lambda c: c.update(features=np.zeros([2, 3])),
        r"Missing: \[\]; extra: \['features'\] \(--allow_other_keys",
    ),
    "type": (
        lambda c: c.update(input_productID=np.array([["86605"], ["7"]], "S5")),
        r"`input_productID` has \|S5 \(2, 1\), should be integers of shape \(N, 1\)",
    ),
    "floats": (
        lambda c: c.update(input_image=c["input_image"] / 255),
        r"`input_image` has float64 .*, should be uint8 of shape \(N, 256, 256, 3\)",
    ),
    "lengths": (
        lambda c: c.update(input_category=c["input_category"][:1]),
        r"as many rows in every key.*'input_category': 1.*'input_image': 2",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_files_that_are_not_as_published(name, tmp_path, write_fashion_gen):
    change, message = SPOILED[name]
    rows = [{"product": n, "description": b"a shirt"} for n in (1, 2)]
    path = write_fashion_gen(tmp_path / "a.h5", rows, change=change, side=16)
    with pytest.raises(ValueError, match=message):
        read({"train": path}, validation_fraction=0.5)
    if name == "extra":
        products, _ = read(
            {"train": path}, validation_fraction=0.5, allow_other_keys=True
        )
        assert len(products) == 2


def test_no_hdf5_file(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(FileNotFoundError, match=r"an HDF5 file .*a.h5|a.h5 should be"):
        read({"train": str(path)})
    path.write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    with pytest.raises(ValueError, match="should be an HDF5 file .*incomplete"):
        read({"train": str(path)})
    with pytest.raises(ValueError, match="`--train_file` should be given with --sou"):
        read({})


def test_pictures_come_in_slices_and_in_order(tmp_path, write_fashion_gen, monkeypatch):
    rows = [{"product": n, "description": b"a"} for n in range(9)]
    path = write_fashion_gen(tmp_path / "a.h5", rows, chunk=4, side=16)
    assert hdf5.rows_per_chunk(path) == 4
    monkeypatch.setattr(hdf5, "_PICTURES", 4)
    read_from = []
    slice_of = hdf5._slice
    monkeypatch.setattr(
        hdf5, "_slice", lambda i, rows: read_from.append(rows) or slice_of(i, rows)
    )
    wanted = [0, 1, 3, 4, 8]
    found = list(hdf5.read_pictures(path, wanted))
    assert read_from == [[0, 1, 3], [4], [8]]
    with h5py.File(path) as file:
        for row, picture in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(picture, file["input_image"][row])


def test_a_damaged_chunk_takes_its_rows_only(tmp_path, write_fashion_gen):
    rows = [{"product": n, "description": b"a"} for n in range(6)]
    path = write_fashion_gen(tmp_path / "a.h5", rows, chunk=2, side=16)
    with h5py.File(path) as file:
        chunk = file["input_image"].id.get_chunk_info(1)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    products, _ = read({"train": path}, validation_fraction=0.5)
    outcome = {}
    for product, give in pictures.pictures_of(products):
        try:
            outcome[product.row] = give().shape
        except ValueError as error:
            outcome[product.row] = str(error)[:20]
    assert outcome == {
        **dict.fromkeys((0, 1, 4, 5), (16, 16, 3)),
        2: "row 2 can't be read:",
        3: "row 3 can't be read:",
    }


def test_shards_end_where_chunks_end(tmp_path, write_fashion_gen):
    rows = [{"product": n, "description": b"a"} for n in range(13)]
    path = write_fashion_gen(tmp_path / "a.h5", rows, chunk=3, side=16)
    products, _ = read({"train": path}, validation_fraction=0.5)

    def planned(size):
        plan = [
            shard_plan.plan_shards(products, split, size, "out")
            for split in ("train", "validation")
        ]
        return [[p.row for p in part] for of_split in plan for _, part in of_split]

    by_split = {
        split: [p.row for p in products if p.split == split]
        for split in ("train", "validation")
    }
    assert sorted(r for part in planned(7) for r in part) == list(range(13))
    for size, block in ((7, 6), (2, 3)):  # whole chunks; a chunk, if that is more
        expected = [
            [row for row in of_split if row // block == n]
            for of_split in by_split.values()
            for n in range(5)
        ]
        assert planned(size) == [part for part in expected if part]


def test_the_whole_line(fashion_gen, tmp_path):
    out = tmp_path / "data"
    info = prepare.prepare(
        None,
        str(out),
        source="fashion_gen",
        train_file=fashion_gen["train"],
        validation_file=fashion_gen["validation"],
        backbone_weights="random",
        patch_size=32,
        coarse_patch_size=0,
        canvas_size=48,
        vocab_size=200,
        images_per_shard=2,
        images_per_batch=4,
    )
    loaded = DatasetInfo.load(str(out))
    assert [s["num_examples"] for s in loaded.shards("train")] == [2, 2, 1]
    assert loaded.num_examples("validation") == 2
    assert info["source"] == "fashion_gen"
    assert info["text_fields"] == ["description"]
    assert info["categories"] == ["DRESSES", "SHIRTS"]
    assert info["subcategories"] == ["LONG DRESSES", "SHIRTS"]
    assert info["unseen_labels"] == {
        "category": {},
        "subcategory": {"BRIDAL DRESSES": 1},
    }
    rows = [
        row
        for split in ("train", "validation")
        for path in loaded.shard_paths(split)
        for row in records.read_shard(path, loaded.shapes)
    ]
    products, _ = read(fashion_gen)
    assert [row["image_id"].decode() for row in rows] == [p.image_id for p in products]
    backbone = backbone_lib.build_backbone("efficientnet_lite0", 32, "random")
    for row, product in zip(rows, products, strict=True):
        assert row["text"].decode() == product.text
        assert row["subcategory"].decode() == product.subcategory
        # The block's place: a quarter of the picture from the left and the top.
        bottom = 0.5 + product.row / 256
        np.testing.assert_allclose(row["box"], [0.25, 0.25, bottom, 0.75], atol=0.05)
    with h5py.File(fashion_gen["train"]) as file:
        canvas, _ = patches.to_canvas(file["input_image"][4], 48)
    vectors = patches.image_features(
        canvas[None], rows[4]["box"][None], KALEIDO_LEVELS, backbone
    )
    np.testing.assert_allclose(
        rows[4]["patch_features"], vectors["patch_features"][0], rtol=0.01, atol=0.01
    )
