"""Rows of any source -> `Product` views: the checks that all sources share.

A source yields (where, row): where the row stands (a dict such as {"line": 3}, for the
skip list) and a dict with the names of a manifest: `product_id`, `image` (a path),
`image_id`, `category`, `subcategory`, `split`, text fields, and `row` where the pixels
are a row of a file.
"""

import dataclasses
import os
import zlib

from absl import logging

from kaleido_tf.data.manifest import field, image_id_of, join_text, row_problem


@dataclasses.dataclass(frozen=True)
class Product:
    """One view of a product.

    Attributes:
      product_id, image_id: str, the image_id unique in the catalogue.
      image_path: absolute path of the picture, or of the file that holds its pixels.
      text: what describes it.
      category, subcategory: str, "" where the catalogue has none.
      split: "train" or "validation".
      row: row of the pixels in an HDF5 file; None where the file is the picture.
    """

    product_id: str
    image_id: str
    image_path: str
    text: str
    category: str
    subcategory: str
    split: str
    row: int | None = None


@dataclasses.dataclass
class SkipList:
    """What was left out, and why; nothing is lost in silence."""

    rows: list = dataclasses.field(default_factory=list)

    def add(self, reason, detail, **where):
        self.rows.append({"reason": reason, **where, "detail": detail})

    def counts(self):
        """Number of rows by reason: dict."""
        totals = {}
        for row in self.rows:
            totals[row["reason"]] = totals.get(row["reason"], 0) + 1
        return totals


def collect(rows, skipped, text_fields, validation_fraction=0.1, max_images=None):
    """Rows of a source -> products, in the source's order.

    Args:
      rows: iterable of (where, row), see above.
      skipped: `SkipList` that takes what can't be used: a list where a text should be,
        a required key missing, no text, an image_id seen before, an unknown split.
      text_fields: fields joined into the text, in this order, where a row has them.
      validation_fraction: share of products held out, where rows have no split.
      max_images: stop after so many usable rows (0: none); None reads all.

    Returns:
      list of `Product`.
    """
    products, seen = [], {}
    for where, row in rows if max_images != 0 else ():
        problem = row_problem(row, seen, text_fields)
        if problem:
            skipped.add(problem[0], problem[1], **where)
            continue
        product = _product(row, validation_fraction, text_fields)
        seen[product.image_id] = _place(where)
        products.append(product)
        if len(products) == max_images:
            break
    return products


def collect_pair(read_rows, files, skipped, text_fields, fraction, max_images):
    """Products of a catalogue that comes as a training and a validation file.

    Args:
      read_rows: function(file, split) -> iterable of (where, row) as `collect` wants.
      files: the training file and the validation file; where that is None, products
        of the training file are held out by their hash.
      skipped, text_fields: see `collect`.
      fraction: share of products held out where there is one file; with two, the
        validation file's share of `max_images`.
      max_images: stop after so many usable rows of both files; None reads all.

    Returns:
      list of `Product`, checked as `check_splits` does.
    """
    train, validation = files
    if not validation:
        rows = read_rows(train, "")
        products = collect(rows, skipped, text_fields, fraction, max_images)
    else:
        held = max_images and min(max_images - 1, max(1, round(max_images * fraction)))
        products = []
        for file, split, most in (
            (train, "train", max_images and max_images - held),
            (validation, "validation", held),
        ):
            found = collect(
                read_rows(file, split), skipped, text_fields, max_images=most
            )
            products += _new_only(found, products, skipped, file)
    check_splits(products, train, skipped, published=bool(validation))
    return products


def _new_only(found, before, skipped, file):
    """Leaves out views whose image_id the other file has."""
    seen = {product.image_id for product in before}
    for product in found:
        if product.image_id in seen:
            skipped.add(
                "duplicate image_id",
                f"{product.image_id!r} is in the training file already",
                file=os.path.basename(file),
                image_id=product.image_id,
            )
    return [product for product in found if product.image_id not in seen]


def _place(where):
    return ", ".join(f"{key} {value}" for key, value in where.items())


def _product(row, validation_fraction, text_fields):
    product_id = field(row, "product_id")
    return Product(
        product_id=product_id,
        image_id=image_id_of(row),
        image_path=field(row, "image"),
        text=join_text(row, text_fields),
        category=field(row, "category"),
        subcategory=field(row, "subcategory"),
        split=field(row, "split") or hashed_split(product_id, validation_fraction),
        row=row.get("row"),
    )


def hashed_split(product_id, validation_fraction):
    """Split of a product, the same on every machine: "train" or "validation"."""
    share = zlib.crc32(product_id.encode()) / 2**32
    return "validation" if share < validation_fraction else "train"


def check_splits(products, path, skipped, published=False):
    """Raises ValueError where there is nothing, or a split lacks or shares products.

    Args:
      products: list of `Product`.
      path: what was read, for the messages.
      skipped: `SkipList`.
      published: the splits are two files as somebody published them: a product in both
        is said in the log and left as it is.
    """
    if not products:
        raise ValueError(
            f"{path} should hold at least one usable line. Left out: {skipped.counts()}"
        )
    split_of, shared = {}, set()
    for product in products:
        if split_of.setdefault(product.product_id, product.split) != product.split:
            shared.add(product.product_id)
    if shared and not published:
        raise ValueError(
            f"{path}: all views of a product should be in one split. Received "
            f"{min(shared)!r} in train and validation"
        )
    if shared:
        logging.warning(
            "%d products are in both files, such as %s: the splits are left as they "
            "were published",
            len(shared),
            sorted(shared)[:5],
        )
    for split in ("train", "validation"):
        if not any(product.split == split for product in products):
            raise ValueError(
                f"{path} should have products in both splits. Received none in "
                f"{split} of {len(split_of)} products (give lines a `split`, or "
                "change --validation_fraction)"
            )
