"""A user's own catalogue: a manifest (JSON lines or CSV, one line an image).

The embedded catalogue comes in by the same door.
"""

import csv
import json
import os

from data_prep.sources import rows

TEXT_FIELDS = ("text", "title", "description")


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
    found = _placed(_rows(path, skipped), os.path.dirname(os.path.abspath(path)))
    products = rows.collect(
        found, skipped, text_fields, validation_fraction, max_images
    )
    rows.check_splits(products, path, skipped)
    return products


def _placed(numbered, folder):
    """(line, row) -> (where, row) with the image's path made absolute."""
    for number, row in numbered:
        image = row.get("image")
        if rows.field(row, "image") and not isinstance(image, (list, dict)):
            row = {**row, "image": os.path.join(folder, rows.field(row, "image"))}
        yield {"line": number}, row


def _rows(path, skipped):
    """Yields (line number, dict) of a manifest."""
    if path.endswith(".csv"):
        yield from _csv_rows(path, skipped)
    elif path.endswith((".jsonl", ".json", ".ndjson")):
        yield from _json_rows(path, skipped)
    else:
        raise ValueError(f"`manifest` should end with .jsonl or .csv. Received: {path}")


def _csv_rows(path, skipped):
    # Bytes that aren't UTF-8 are kept as surrogates, by which the checks find them.
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
