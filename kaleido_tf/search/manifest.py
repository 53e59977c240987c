"""A catalogue's manifest -> the items of an index, by `kaleido_tf.data.manifest`."""

import dataclasses
import os

from kaleido_tf.data.manifest import (
    TEXT_FIELDS,
    field,
    image_id_of,
    join_text,
    read_lines,
    row_problem,
)


@dataclasses.dataclass(frozen=True)
class Item:
    """One view of a product.

    Attributes:
      image_id, product_id, text: str; the image_id is unique in the catalogue.
      image: absolute path of the picture; "" where only its features are known.
      category, subcategory, split: str, "" where the catalogue doesn't say.
    """

    image_id: str
    product_id: str
    text: str
    image: str = ""
    category: str = ""
    subcategory: str = ""
    split: str = ""


def read_items(path, text_fields=TEXT_FIELDS, max_images=None):
    """Reads a manifest.

    Args:
      path: manifest.jsonl or .csv.
      text_fields: fields joined into the text, in this order.
      max_images: stop after so many usable lines; None reads all.

    Returns:
      (list of `Item` in the manifest's order, list of dicts line, reason, detail of
      the lines that can't be used).

    Raises:
      FileNotFoundError: no manifest.
      ValueError: another ending than .jsonl or .csv, or no usable line.
    """
    items, skipped, seen = [], [], {}
    for number, row in read_lines(path):
        problem = row
        if isinstance(row, dict):
            problem = row_problem(row, seen, text_fields)
        if problem:
            skipped.append(dict(zip(("reason", "detail"), problem, strict=True)))
            skipped[-1]["line"] = number
            continue
        items.append(_item(row, os.path.dirname(os.path.abspath(path)), text_fields))
        seen[items[-1].image_id] = f"line {number}"
        if len(items) == max_images:
            break
    if not items:
        raise ValueError(
            f"{path} should hold at least one usable line. Left out: "
            f"{len(skipped)}, the first: {skipped[:1]}"
        )
    return items, skipped


def _item(row, folder, text_fields):
    return Item(
        image_id=image_id_of(row),
        product_id=field(row, "product_id"),
        text=join_text(row, text_fields),
        image=os.path.join(folder, field(row, "image")),
        category=field(row, "category"),
        subcategory=field(row, "subcategory"),
        split=field(row, "split"),
    )
