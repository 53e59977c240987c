"""A catalogue's manifest -> the items of an index.

The rules are data preparation's (its manifest reader), so that an index and a data set
of the same manifest hold the same image ids and texts: JSON lines or CSV, one line an
image, `product_id`, `image` (path relative to the manifest) and a text; `image_id` is
by default the file's name without ending; text fields are joined as sentences.
"""

import csv
import dataclasses
import json
import os

TEXT_FIELDS = ("text", "title", "description")
_REQUIRED = ("product_id", "image")
_OPTIONAL = ("image_id", "category", "subcategory", "split")


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
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`manifest` should be a file of JSON lines or CSV. Received: {path}"
        )
    items, skipped, lines = [], [], {}
    for number, row in _rows(path):
        problem = row if isinstance(row, tuple) else _problem(row, lines, text_fields)
        if problem:
            skipped.append(dict(zip(("reason", "detail"), problem, strict=True)))
            skipped[-1]["line"] = number
            continue
        items.append(_item(row, os.path.dirname(os.path.abspath(path)), text_fields))
        lines[items[-1].image_id] = number
        if len(items) == max_images:
            break
    if not items:
        raise ValueError(
            f"{path} should hold at least one usable line. Left out: "
            f"{len(skipped)}, the first: {skipped[:1]}"
        )
    return items, skipped


def _rows(path):
    """Yields (line number, dict); (line number, (reason, detail)) for a bad line."""
    if path.endswith(".csv"):
        return _csv_rows(path)
    if path.endswith((".jsonl", ".json", ".ndjson")):
        return _json_rows(path)
    raise ValueError(f"`manifest` should end with .jsonl or .csv. Received: {path}")


def _csv_rows(path):
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
                yield reader.reader.line_num, ("not CSV", str(error))
            else:
                yield reader.line_num, row


def _json_rows(path):
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError as error:
                row = ("not UTF-8", str(error))
            except (ValueError, RecursionError) as error:
                row = ("not JSON", str(error))
            if not isinstance(row, (dict, tuple)):
                row = ("not JSON", "the line is no JSON object")
            yield number, row


def _field(row, name):
    """A field as stripped text, "" where the row has none."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _image_id(row):
    stem = os.path.splitext(os.path.basename(_field(row, "image")))[0]
    return _field(row, "image_id") or stem


def join_text(row, text_fields=TEXT_FIELDS):
    """Joins the text fields as sentences: "Title. Description." """
    parts = [part for part in (_field(row, name) for name in text_fields) if part]
    ended = [part if part[-1] in ".!?" else f"{part}." for part in parts[:-1]]
    return " ".join(ended + parts[-1:])


def is_utf8(text):
    """False where a surrogate stands: a byte of other text, or half a JSON escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(row, lines, text_fields):
    """(reason, detail) why a row can't be used, or None."""
    for key in (*_REQUIRED, *_OPTIONAL, *text_fields):
        if isinstance(row.get(key), (list, dict)):
            return "wrong type", f"`{key}` should be a text, received {row[key]!r:.80}"
        if not is_utf8(_field(row, key)):
            return "not UTF-8", f"`{key}` should be UTF-8, received {row[key]!r:.80}"
    for key in _REQUIRED:
        if not _field(row, key):
            keys = [str(name) for name in list(row)[:20]]
            return "missing key", f"`{key}` should be given, received {keys}"
    if not any(c.isalnum() for c in join_text(row, text_fields)):
        return "empty text", f"one of {list(text_fields)} should hold a word"
    image_id = _image_id(row)
    if image_id in lines:
        return "duplicate image_id", f"{image_id!r} is in line {lines[image_id]} too"
    if _field(row, "split") not in ("", "train", "validation"):
        return "unknown split", f"train or validation, received {row['split']!r}"
    return None


def _item(row, folder, text_fields):
    return Item(
        image_id=_image_id(row),
        product_id=_field(row, "product_id"),
        text=join_text(row, text_fields),
        image=os.path.join(folder, _field(row, "image")),
        category=_field(row, "category"),
        subcategory=_field(row, "subcategory"),
        split=_field(row, "split"),
    )
