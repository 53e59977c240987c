"""The embedded catalogue: same bytes for a seed, splits, and a truth that is true."""

import hashlib
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_prep import catalogue
from data_prep.catalogue_parts import (
    choices,
    palette,
    phrases,
    sheet,
    specs,
    views,
    wording,
)

_PRODUCTS = 100


def _lines(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _hash_tree(folder):
    found = {}
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, folder)] = digest
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A catalogue of 100 products, drawn in this process: folder, counts."""
    folder = str(tmp_path_factory.mktemp("catalogue") / "first")
    counts = catalogue.draw_catalogue(folder, _PRODUCTS, seed=3, num_workers=1)
    return folder, counts


@pytest.fixture(scope="module")
def rows(drawn):
    return _lines(drawn[0], "manifest.jsonl")


@pytest.fixture(scope="module")
def truths(drawn):
    return _lines(drawn[0], "truth", "attributes.jsonl")


def test_same_seed_gives_same_bytes_with_other_workers(drawn, tmp_path):
    other = str(tmp_path / "second")
    catalogue.draw_catalogue(other, _PRODUCTS, seed=3, num_workers=2)
    assert _hash_tree(drawn[0]) == _hash_tree(other)


def test_other_seed_gives_other_pictures_texts_and_splits(drawn, rows, tmp_path):
    os.makedirs(tmp_path / "images")
    os.makedirs(tmp_path / "truth" / "masks")
    other, _ = catalogue.product.write_product(str(tmp_path), 0, 4, "train")
    assert other[0]["image"] == rows[0]["image"]
    assert other[0]["description"] != rows[0]["description"]
    assert (
        _hash_tree(tmp_path)[other[0]["image"]]
        != (_hash_tree(drawn[0])[rows[0]["image"]])
    )
    first, second = (catalogue.choose_splits(_PRODUCTS, s, 0.15) for s in (3, 4))
    assert first != second


def test_counts_are_those_of_the_files(drawn, rows):
    folder, counts = drawn
    assert counts["products"] == _PRODUCTS == len({r["product_id"] for r in rows})
    assert counts["images"] == len(rows) == len(os.listdir(folder + "/images"))
    assert len(os.listdir(os.path.join(folder, "truth", "masks"))) == len(rows)
    assert counts["categories"] == 15
    assert counts["subcategories"] == 68
    with open(os.path.join(folder, "catalogue.json"), encoding="utf-8") as file:
        record = json.load(file)
    with open(os.path.join(folder, "manifest.jsonl"), "rb") as file:
        assert record["manifest_sha256"] == hashlib.sha256(file.read()).hexdigest()


def test_splits_are_by_product_and_hold_every_category(rows):
    groups = {"train": set(), "validation": set()}
    categories = {"train": set(), "validation": set()}
    for row in rows:
        groups[row["split"]].add(row["product_id"])
        categories[row["split"]].add(row["category"])
    assert not groups["train"] & groups["validation"]
    assert categories["train"] == categories["validation"]
    assert len(categories["train"]) == 15


def test_splits_hold_every_subcategory_where_there_are_enough():
    splits = catalogue.choose_splits(700, 0, 0.15)
    found = {"train": set(), "validation": set()}
    for index, split in enumerate(splits):
        found[split].add(catalogue.product.spec_of(index, 0).name)
    assert len(found["train"]) == len(found["validation"]) == 68
    assert abs(splits.count("validation") / 700 - 0.15) < 0.02


@pytest.mark.parametrize("num_products", range(100, 141, 5))
def test_small_catalogues_have_every_category_in_both_splits(num_products):
    for seed in range(40):
        splits = catalogue.choose_splits(num_products, seed, 0.15)
        found = {"train": set(), "validation": set()}
        for index, split in enumerate(splits):
            found[split].add(catalogue.product.spec_of(index, seed).category)
        assert len(found["train"]) == len(found["validation"]) == 15, seed
        assert splits == catalogue.choose_splits(num_products, seed, 0.15)


def test_splits_are_those_of_every_version():
    """A finished catalogue and one drawn again are the same, byte by byte."""
    splits = {
        n: "".join(
            split[0] for s in seeds for split in catalogue.choose_splits(n, s, 0.15)
        )
        for n, seeds in {100: (1, 3), 140: (0, 1), 1200: (0, 1, 2)}.items()
    }
    digest = {n: hashlib.sha256(v.encode()).hexdigest()[:16] for n, v in splits.items()}
    assert digest == {
        100: "ecb65765d6c386f0",
        140: "cdc7904936cbb760",
        1200: "7496133e56d77f8e",
    }


def test_a_product_has_one_to_four_views_and_one_text(rows):
    texts, numbers = {}, {}
    for row in rows:
        texts.setdefault(row["product_id"], set()).add(row["description"])
        numbers[row["product_id"]] = numbers.get(row["product_id"], 0) + 1
    assert all(len(found) == 1 for found in texts.values())
    assert set(numbers.values()) == {1, 2, 3, 4}
    rng = np.random.default_rng(0)
    drawn = np.bincount([views.count_views(rng) for _ in range(4000)], minlength=5)
    np.testing.assert_allclose(drawn[1:] / 4000, views.VIEW_WEIGHTS, atol=0.03)


def test_pictures_and_masks(drawn, rows):
    shares = []
    for row in rows[::7]:
        picture = cv2.imread(os.path.join(drawn[0], row["image"]))
        mask_path = os.path.join(drawn[0], "truth", "masks", row["image_id"] + ".png")
        mask = cv2.imread(mask_path, cv2.IMREAD_UNCHANGED)
        assert picture.shape == (256, 256, 3)
        assert mask.shape == (256, 256)
        assert set(np.unique(mask)) == {0, 255}
        _, _, width, height = cv2.boundingRect(mask)
        shares.append(max(width, height) / 256)
        # The product stands out against what is right around it.
        around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - mask
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8))
        spread = (
            picture[inside > 0].std()
            + np.abs(picture[inside > 0].mean(0) - picture[around > 0].mean(0)).max()
        )
        assert spread > 12, row
    assert min(shares) > 0.2
    assert np.median(shares) < 0.75


def test_boxes_lie_in_the_picture_and_on_the_product(drawn, truths):
    for truth in truths:
        path = os.path.join(drawn[0], "truth", "masks", truth["image_id"] + ".png")
        mask = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        x, y, width, height = cv2.boundingRect(mask)
        assert truth["attributes"]["colour"]["box"] == [x, y, x + width, y + height]
        for entry in truth["attributes"].values():
            for x1, y1, x2, y2 in [*entry["parts"], entry["box"] or [0, 0, 256, 256]]:
                assert 0 <= x1 < x2 <= 256
                assert 0 <= y1 < y2 <= 256
                assert mask[y1:y2, x1:x2].any()


def test_a_print_is_where_its_box_says(drawn, truths):
    """The print's colour fills more of its box than of the product."""
    checked = 0
    for truth in truths:
        found = truth["attributes"]
        box = found.get("print", {}).get("box")
        if not box or found["pattern"]["value"] != "solid":
            continue
        name = f"{truth['image_id']}.png"
        picture = cv2.imread(os.path.join(drawn[0], "images", name)).astype(float)
        mask = cv2.imread(os.path.join(drawn[0], "truth", "masks", name), 0)
        target = np.array(palette.shade(found["print_colour"]["value"]), float)
        near = (np.linalg.norm(picture - target, axis=2) < 70) & (mask > 0)
        x1, y1, x2, y2 = box
        assert near[y1:y2, x1:x2].mean() > near[mask > 0].mean(), truth["image_id"]
        checked += 1
    assert checked >= 5


def test_named_words_are_in_the_description_and_unnamed_ones_empty(rows, truths):
    named, total = 0, 0
    for row, truth in zip(rows, truths, strict=True):
        assert row["image_id"] == truth["image_id"]
        text = row["description"].lower()
        for entry in truth["attributes"].values():
            assert entry["named"] == bool(entry["words"])
            for word in entry["words"]:
                assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text), (word, text)
        named += truth["attributes"]["colour"]["named"]
        total += 1
    assert named / total > 0.9


def test_named_share_is_about_four_fifths(truths):
    flags = [
        entry["named"]
        for truth in truths
        for name, entry in truth["attributes"].items()
        if name in ("material", "neckline", "pocket", "hem", "heel", "strap", "belt")
        and entry["value"] not in ("none", "plain")
    ]
    assert 0.7 < np.mean(flags) < 0.9


def test_description_lengths_and_variety(rows):
    texts = {row["description"] for row in rows}
    lengths = [wording.count_tokens(text) for text in texts]
    assert min(lengths) >= 20
    assert max(lengths) <= 60
    assert len(texts) == _PRODUCTS
    for text in texts:
        assert not re.search(r"[\[\]{}]|  | \.| (in|to|at)\.|none", text), text


def test_every_garment_has_six_attributes_and_every_value_a_drawing(truths):
    assert min(len(t["attributes"]) for t in truths) >= 6
    assert len({name for t in truths for name in t["attributes"]}) >= 20
    assert len({t["attributes"]["colour"]["value"] for t in truths}) >= 14


def test_parts_stand_out_against_the_cloth():
    for index in range(200):
        rng = np.random.default_rng(index)
        spec = specs.SPECS[index % len(specs.SPECS)]
        values = choices.choose_attributes(spec, rng)
        for name in choices.COLOUR_OF:
            if name in values:
                assert palette.distance(values[name], values["colour"]) >= 120
        if values["pattern"] == "solid":
            assert "pattern_colour" not in values
        if values.get("print", "none") == "none":
            assert "print_place" not in values


def test_finished_catalogue_is_left_alone(drawn):
    folder, counts = drawn
    before = os.stat(os.path.join(folder, "manifest.jsonl")).st_mtime_ns
    assert catalogue.draw_catalogue(folder, _PRODUCTS, seed=3) == counts
    assert os.stat(os.path.join(folder, "manifest.jsonl")).st_mtime_ns == before


def test_other_arguments_for_a_finished_catalogue(drawn):
    with pytest.raises(ValueError, match="delete that folder or choose another"):
        catalogue.draw_catalogue(drawn[0], _PRODUCTS, seed=4)


def test_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="`output_dir` should be missing, empty"):
        catalogue.draw_catalogue(str(tmp_path), _PRODUCTS)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_products": 99}, r"`num_products` should be .* Received: 99"),
        ({"num_products": 100_001}, r"`num_products` should be .* Received: 100001"),
        ({"seed": -1}, r"`seed` should be .* Received: -1"),
        ({"validation_fraction": 0.9}, r"`validation_fraction` .* Received: 0.9"),
        ({"num_workers": 0}, r"`num_workers` should be .* Received: 0"),
    ],
)
def test_arguments_out_of_range(tmp_path, changed, message):
    arguments = {"num_products": _PRODUCTS} | changed
    with pytest.raises(ValueError, match=message):
        catalogue.draw_catalogue(str(tmp_path / "out"), **arguments)
    assert os.listdir(tmp_path) == []


def test_contact_sheet(drawn, tmp_path):
    path = str(tmp_path / "sheet.png")
    assert sheet.draw_sheet(drawn[0], path) == 40
    assert cv2.imread(path).shape == (5 * (256 + 46), 8 * 256, 3)


def test_command_reports_a_wrong_flag():
    command = [sys.executable, "-m", "data_prep.catalogue", "--output_dir=x"]
    done = subprocess.run(
        [*command, "--num_products=7"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "`num_products` should be from 100 to 100000. Received: 7" in done.stderr


def test_help_page_of_the_command():
    command = [sys.executable, "-m", "data_prep.catalogue", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Output:\n  --output_dir=STRING  (required)\n" in done.stdout
    assert "--num_products=INT  (default: 1200)" in done.stdout
    assert f"--num_workers=INT  (default: {os.cpu_count()})" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_value_can_be_said():
    """A value without words is one that shows nothing, or the usual length."""
    silent = {"none", "plain", "regular"}
    for spec in specs.SPECS:
        for name, options in spec.options.items():
            if name in ("material", "print_place"):
                continue
            said = phrases.SENTENCES.get(name, {}) | phrases.HEAD.get(name, {})
            missing = set(options) - set(said) - silent
            assert not missing, (spec.name, name, missing)
