"""A user's own catalogue: a manifest (JSON lines or CSV, one line an image).

The embedded catalogue comes in by the same door.
"""

import os

from data_prep.sources import rows
from kaleido_tf.data.manifest import TEXT_FIELDS, field, read_lines


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
    folder = os.path.dirname(os.path.abspath(path))
    found = _placed(read_lines(path), folder, skipped)
    products = rows.collect(
        found, skipped, text_fields, validation_fraction, max_images
    )
    rows.check_splits(products, path, skipped)
    return products


def _placed(numbered, folder, skipped):
    """(line, row) -> (where, row) with the image's path made absolute."""
    for number, row in numbered:
        if isinstance(row, tuple):
            skipped.add(*row, line=number)
            continue
        image = row.get("image")
        if field(row, "image") and not isinstance(image, (list, dict)):
            row = {**row, "image": os.path.join(folder, field(row, "image"))}
        yield {"line": number}, row
