"""Catalogues -> a stream of `Product` views: the first station of data preparation.

A catalogue is a manifest (JSON lines or CSV, one line an image) beside its images. The
embedded catalogue and a user's own come in by the same door.
"""

import csv
import dataclasses
import json
import os
import zlib

TEXT_FIELDS = ("text", "title", "description")
_REQUIRED = ("product_id", "image")
_OPTIONAL = ("image_id", "category", "subcategory", "split")


@dataclasses.dataclass(frozen=True)
class Product:
    """One view of a product.

    Attributes:
      product_id, image_id: str, the image_id unique in the catalogue.
      image_path: absolute path of the picture.
      text: what describes it.
      category, subcategory: str, "" where the catalogue has none.
      split: "train" or "validation".
    """

    product_id: str
    image_id: str
    image_path: str
    text: str
    category: str
    subcategory: str
    split: str


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


def read_manifest(
    path,
    skipped,
    validation_fraction=0.1,
    text_fields=TEXT_FIELDS,
    max_images=None,
):
    """Reads a catalogue's manifest.

    A line holds `product_id` and `image` (a path, relative to the manifest), a text in
    any of `text_fields`, and optionally `image_id` (default: the image's file name
    without ending), `category`, `subcategory`, `split`. Where no split is given, a
    product goes to validation by the hash of its product_id.

    Args:
      path: manifest.jsonl or .csv.
      skipped: `SkipList` that takes the lines which can't be used: not JSON, not
        UTF-8, a list where a text should be, a required key missing, no text, an
        image_id seen before, an unknown split.
      validation_fraction: share of products held out, where lines have no split.
      text_fields: fields joined into the text, in this order, where a line has them.
      max_images: stop after so many usable lines; None reads all.

    Returns:
      list of `Product` in the manifest's order.

    Raises:
      FileNotFoundError: no manifest.
      ValueError: an ending that isn't .jsonl or .csv, a product in both splits, a
        split without products, or no usable line at all.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`manifest` should be a file of JSON lines or CSV. Received: {path}"
        )
    folder = os.path.dirname(os.path.abspath(path))
    products, seen = [], {}
    for number, row in _rows(path, skipped):
        problem = _problem(row, seen, text_fields)
        if problem:
            skipped.add(problem[0], problem[1], line=number)
            continue
        product = _product(row, folder, validation_fraction, text_fields)
        seen[product.image_id] = number
        products.append(product)
        if len(products) == max_images:
            break
    if not products:
        raise ValueError(
            f"{path} should hold at least one usable line. Left out: {skipped.counts()}"
        )
    _check_splits(products, path)
    return products


def _rows(path, skipped):
    """Yields (line number, dict) of a manifest."""
    if path.endswith(".csv"):
        yield from _csv_rows(path, skipped)
    elif path.endswith((".jsonl", ".json", ".ndjson")):
        yield from _json_rows(path, skipped)
    else:
        raise ValueError(f"`manifest` should end with .jsonl or .csv. Received: {path}")


def _csv_rows(path, skipped):
    # Bytes that aren't UTF-8 are kept as surrogates, by which `_problem` finds them.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    with open(path, **options) as file:
        reader = csv.DictReader(file)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # such as a field beyond csv's limit
                # DictReader's own line_num counts no line that failed.
                skipped.add("not CSV", str(error), line=reader.reader.line_num)
            else:
                yield reader.line_num, row


def _json_rows(path, skipped):
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                skipped.add("not UTF-8", str(error), line=number)
                continue
            except (ValueError, RecursionError) as error:
                skipped.add("not JSON", str(error), line=number)
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                skipped.add("not JSON", "the line is no JSON object", line=number)


def _field(row, name):
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _is_utf8(text):
    """False where a surrogate stands: a byte of other text, or half a JSON escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _image_id(row):
    stem = os.path.splitext(os.path.basename(_field(row, "image")))[0]
    return _field(row, "image_id") or stem


def _text(row, text_fields):
    """Joins the text fields as sentences: "Title. Description." """
    parts = [_field(row, name) for name in text_fields]
    parts = [part for part in parts if part]
    ended = [part if part[-1] in ".!?" else f"{part}." for part in parts[:-1]]
    return " ".join(ended + parts[-1:])


def _problem(row, seen, text_fields):
    """(reason, detail) why a row can't be used, or None."""
    for key in (*_REQUIRED, *_OPTIONAL, *text_fields):
        if isinstance(row.get(key), (list, dict)):
            return "wrong type", f"`{key}` should be a text, received {row[key]!r:.80}"
        if not _is_utf8(_field(row, key)):
            return "not UTF-8", f"`{key}` should be UTF-8, received {row[key]!r:.80}"
    for key in _REQUIRED:
        if not _field(row, key):
            keys = [str(name) for name in list(row)[:20]]
            return "missing key", f"`{key}` should be given, received {keys}"
    if not any(c.isalnum() for c in _text(row, text_fields)):
        return "empty text", f"one of {list(text_fields)} should hold a word"
    image_id = _image_id(row)
    if image_id in seen:
        detail = f"{image_id!r} is in line {seen[image_id]} already"
        if not _field(row, "image_id"):
            detail += " (taken from the file's name: give the lines an `image_id`)"
        return "duplicate image_id", detail
    if _field(row, "split") not in ("", "train", "validation"):
        return "unknown split", f"train or validation, received {row['split']!r}"
    return None


def _product(row, folder, validation_fraction, text_fields):
    product_id = _field(row, "product_id")
    return Product(
        product_id=product_id,
        image_id=_image_id(row),
        image_path=os.path.join(folder, _field(row, "image")),
        text=_text(row, text_fields),
        category=_field(row, "category"),
        subcategory=_field(row, "subcategory"),
        split=_field(row, "split") or hashed_split(product_id, validation_fraction),
    )


def hashed_split(product_id, validation_fraction):
    """Split of a product, the same on every machine: "train" or "validation"."""
    share = zlib.crc32(product_id.encode()) / 2**32
    return "validation" if share < validation_fraction else "train"


def _check_splits(products, path):
    split_of = {}
    for product in products:
        first = split_of.setdefault(product.product_id, product.split)
        if first != product.split:
            raise ValueError(
                f"{path}: all views of a product should be in one split. Received "
                f"{product.product_id!r} in train and validation"
            )
    for split in ("train", "validation"):
        if split not in split_of.values():
            raise ValueError(
                f"{path} should have products in both splits. Received none in "
                f"{split} of {len(split_of)} products (give lines a `split`, or "
                "change --validation_fraction)"
            )
