"""What several test folders share: a vocabulary, a catalogue, a prepared data set."""

import json
import os

import cv2
import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.data import dataset_info, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo, file_sha256

# Trainings of a few steps: compiling the chains between products (modeling/fused.py)
# would take most of their time. block_test.py and `make test-long` compile them.
os.environ.setdefault("KALEIDO_COMPILE_CHAINS", "0")

_PIECES = (
    "navy cotton shirt dress long sleeve collar red un ##button ##ed ##s cafe - ! . "
    "a b c d e f g h"
)
VOCABULARY = [*tokenization.SPECIAL_TOKENS, *_PIECES.split()]
FEATURES = 6
# Two views of most products; p1 and p3 say the same; p4 has no sub-category.
TEXTS = {
    "p0": ("tops", "navy cotton shirt long sleeve"),
    "p1": ("tops", "red cotton shirt"),
    "p2": ("tops", "unbuttoned shirts a b c d e f g h a b c"),
    "p3": ("gowns", "red cotton shirt"),
    "p4": ("", "long dress"),
    "p5": ("gowns", "dress collar !"),
    "p6": ("gowns", "red dress - long"),
}
# Index of a piece, patch: levels 3, 4, 5, and 2, which must never be masked.
PAIRS = {"p0": [(0, 6), (2, 20), (3, 40), (4, 3)], "p2": [(1, 33), (4, 50)]}


def _record(image, product, shapes, rng):
    """A record with random features; its locations are numbers of this image only."""
    subcategory, text = TEXTS[product]
    pairs = PAIRS.get(product, [])
    pieces = text.replace("unbuttoned", "un ##button ##ed").replace(
        "shirts", "shirt ##s"
    )
    record = {
        "product_id": product,
        "image_id": f"i{image}",
        "category": "clothing",
        "subcategory": subcategory,
        "text": text,
        "token_ids": [VOCABULARY.index(piece) for piece in pieces.split()],
        "box": [0.1, 0.0, 0.9, 1.0],
        "aligned_tokens": [token for token, _ in pairs],
        "aligned_patches": [patch for _, patch in pairs],
        "aligned_scores": [0.5] * len(pairs),
    }
    arrays = {key: rng.normal(size=shape) for key, shape in shapes.arrays.items()}
    arrays["patch_locations"] = np.full(shapes.arrays["patch_locations"], image)
    return {**record, **arrays}


def _write_data_set(
    folder, shards, vocabulary=VOCABULARY, feature_size=FEATURES, patch_arm="kaleido"
):
    """Writes a prepared data set without pictures or backbone; returns its info.

    Args:
      folder: pathlib.Path.
      shards: dict (split, file name without ending) -> function(shapes) -> records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab_file = folder / dataset_info.VOCAB_NAME
    vocab_file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    values = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": patch_arm,
        "feature_size": feature_size,
        "vocab_size": len(vocabulary),
        "vocab_sha256": file_sha256(vocab_file),
        "categories": ["clothing"],
        "subcategories": ["gowns", "tops"],
        "splits": {},
    }
    shapes = DatasetInfo(str(folder), values).shapes
    for (split, name), make in shards.items():
        path = folder / f"{name}.tfrecord"
        rows = list(make(shapes))
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows:
                writer.write(records.encode_record(row, shapes))
        entry = values["splits"].setdefault(split, {"num_examples": 0, "shards": []})
        entry["num_examples"] += len(rows)
        entry["shards"].append(
            {
                "file": path.name,
                "num_examples": len(rows),
                "bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
        )
    (folder / dataset_info.FILE_NAME).write_text(json.dumps(values))
    return DatasetInfo.load(str(folder))


@pytest.fixture(scope="session")
def write_data_set():
    """The function that writes a data set from records, see `_write_data_set`."""
    return _write_data_set


@pytest.fixture(scope="session")
def vocabulary():
    return list(VOCABULARY)


@pytest.fixture(scope="session")
def tokenizer():
    return tokenization.Tokenizer(VOCABULARY)


def _make_data_set(folder, **kwargs):
    """12 training and 5 validation images of 7 products in shards of uneven size."""
    products = sorted(TEXTS)

    def rows(images):
        def build(shapes):
            rng = np.random.default_rng(images[0])
            return [
                _record(i, products[i % len(products)], shapes, rng) for i in images
            ]

        return build

    shards = {
        ("train", "train-0"): rows(range(0, 5)),
        ("train", "train-1"): rows(range(5, 9)),
        ("train", "train-2"): rows(range(9, 12)),
        ("validation", "validation-0"): rows(range(12, 17)),
    }
    return _write_data_set(folder, shards, **kwargs)


@pytest.fixture(scope="session")
def make_data_set():
    """The function that makes a tiny data set in a folder, see `_make_data_set`."""
    return _make_data_set


def _draw_picture(height, width, box, colour=(200, 30, 60), background=235):
    """A rectangle on a plain background: uint8 [height, width, 3] RGB.

    Args:
      box: y1, x1, y2, x2 in pixels.
    """
    picture = np.full((height, width, 3), background, np.uint8)
    y1, x1, y2, x2 = box
    picture[y1:y2, x1:x2] = colour
    return picture


@pytest.fixture(scope="session")
def draw_picture():
    """The function that draws a rectangle on a plain background."""
    return _draw_picture


def _save(picture, path):
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


@pytest.fixture
def catalogue(tmp_path):
    """A catalogue of 8 drawn pictures of 5 products: path of its manifest."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    rows = []
    for n in range(8):
        product = n % 5
        box = (10 + n, 20, 60, 50 + n)
        _save(_draw_picture(80, 64 + n, box, (20 * n, 80, 200)), folder / f"v{n}.png")
        rows.append(
            {
                "product_id": f"p{product}",
                "image_id": f"v{n}",
                "image": f"v{n}.png",
                "title": "Navy shirt" if product % 2 else "Red dress",
                "description": f"Long sleeve, number {product}.",
                "category": "clothing",
                "subcategory": "tops" if product % 2 else "gowns",
                "split": "validation" if product == 4 else "train",
            }
        )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest
