"""What the tests of data preparation share: a fast backbone, Fashion-Gen's files."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.data import backbone as backbone_lib


class MeanColour:
    """A backbone without weights: a patch's mean colour and its spread, 4 numbers."""

    feature_size = 4

    def __init__(self, patch_size):
        self.patch_size = patch_size

    def __call__(self, patches):
        values = tf.cast(patches, tf.float32)
        spread = tf.math.reduce_std(values, axis=[1, 2, 3])[:, None]
        return tf.concat([tf.reduce_mean(values, axis=[1, 2]), spread], axis=1)

    def describe(self):
        return {"name": "mean", "patch_size": self.patch_size, "feature_size": 4}


@pytest.fixture
def mean_colour(monkeypatch):
    """Puts `MeanColour` in the place of every backbone."""
    monkeypatch.setattr(
        backbone_lib, "build_backbone", lambda name, size, *_: MeanColour(size)
    )


TEXT_KEYS = (
    "name description concat_description category subcategory brand department gender "
    "composition season pose"
)


def _fashion_gen_columns(rows, side=256):
    """The 16 columns of a Fashion-Gen file.

    Args:
      rows: list of dict with `product` and texts (bytes) by the key without "input_".
      side: height and width of the pictures.
    """
    count = len(rows)
    pictures = np.full((count, side, side, 3), 255, np.uint8)
    for n, picture in enumerate(pictures):  # a block of a colour of its own
        picture[side // 4 : side // 2 + n, side // 4 : -side // 4] = (20 * n, 90, 160)
    columns = {
        "index": np.arange(count)[:, None],
        "index_2": np.arange(count),
        "input_image": pictures,
        "input_productID": np.array([[row["product"]] for row in rows], np.int32),
        "input_msrpUSD": np.full((count, 1), 95.5, np.float32),
    }
    for key in TEXT_KEYS.split():
        texts = [row.get(key, b"-") for row in rows]
        columns[f"input_{key}"] = np.array(texts, "S400")[:, None]
    return columns


def _write_fashion_gen(path, rows, chunk=2, change=None, side=256):
    """Writes an HDF5 file as published, the pictures in gzip chunks of `chunk` rows.

    Args:
      path: where.
      rows, side: see `_fashion_gen_columns`.
      change: function of the dict of columns, to spoil them.
    """
    columns = _fashion_gen_columns(rows, side)
    if change:
        change(columns)
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            options = {}
            if getattr(values, "ndim", 0) == 4:
                shape = (min(chunk, len(values)), side, side, 3)
                options = {"compression": "gzip", "chunks": shape}
            file.create_dataset(key, data=values, **options)
    return str(path)


@pytest.fixture(scope="session")
def write_fashion_gen():
    """The function that writes a Fashion-Gen file, see `_write_fashion_gen`."""
    return _write_fashion_gen


def _row(product, name, description, category, subcategory):
    return {
        "product": product,
        "name": name,
        "description": description,
        "category": category,
        "subcategory": subcategory,
    }


_SHIRT = _row(
    86605,
    b"Navy Shirt",
    b"Long sleeve shirt in navy. Button front.",
    b"SHIRTS",
    b"SHIRTS",
)
# No UTF-8: \xe9 and \xe8 (letters with accents), \xa0 (a space), \x92 (a quote).
_CAFE = _row(
    901,
    b"Caf\xe9 Dress",
    b"Long dress in caf\xe9 cr\xe8me.\xa0Women\x92s fit.",
    b"DRESSES",
    b"LONG DRESSES",
)
FASHION_ROWS = {
    "train": [_SHIRT, _SHIRT, _CAFE, _CAFE, _SHIRT],
    "validation": [
        _row(77, b"Red Dress", b"Short dress in red.", b"DRESSES", b"BRIDAL DRESSES"),
        _row(78, b"Red Shirt", b"Shirt in red.", b"SHIRTS", b"SHIRTS"),
    ],
}


@pytest.fixture
def fashion_gen(tmp_path):
    """A small Fashion-Gen, as published: paths of its two files by split."""
    folder = tmp_path / "fashion_gen"
    folder.mkdir()
    return {
        split: _write_fashion_gen(folder / f"fashiongen_256_256_{split}.h5", rows)
        for split, rows in FASHION_ROWS.items()
    }
