"""Data line, first station: a user's manifest -> rows, and the rules for a row.

A manifest has one line an image, JSON or CSV: `product_id`, `image` (a path relative to
the manifest) and a text; optionally `image_id`, `category`, `subcategory`, `split`.
Data preparation and the search index read by these rules, so that both have the same
image ids and texts, and leave out the same lines.
"""

import csv
import json
import os

TEXT_FIELDS = ("text", "title", "description")
REQUIRED = ("product_id", "image")
OPTIONAL = ("image_id", "category", "subcategory", "split")


def read_lines(path):
    """Reads the lines of a manifest.

    Args:
      path: manifest.jsonl or .csv.

    Yields:
      (line number, dict of the line's fields), or (line number, (reason, detail)) for
      a line that is none: not JSON, not CSV, not UTF-8.

    Raises:
      FileNotFoundError: no manifest.
      ValueError: an ending that isn't .jsonl or .csv.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`manifest` should be a file of JSON lines or CSV. Received: {path}"
        )
    if path.endswith(".csv"):
        yield from _csv_lines(path)
    elif path.endswith((".jsonl", ".json", ".ndjson")):
        yield from _json_lines(path)
    else:
        raise ValueError(f"`manifest` should end with .jsonl or .csv. Received: {path}")


def _csv_lines(path):
    # Bytes that aren't UTF-8 are kept as surrogates, by which `row_problem` finds them.
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
                yield reader.reader.line_num, ("not CSV", str(error))
            else:
                yield reader.line_num, row


def _json_lines(path):
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


def field(row, name):
    """A field of a row as stripped text, "" where it has none."""
    value = row.get(name)
    return "" if value is None else str(value).strip()


def image_id_of(row):
    """A row's image id: its own, else the file's name without ending."""
    stem = os.path.splitext(os.path.basename(field(row, "image")))[0]
    return field(row, "image_id") or stem


def join_text(row, text_fields=TEXT_FIELDS):
    """Joins the text fields as sentences: "Title. Description." """
    parts = [part for part in (field(row, name) for name in text_fields) if part]
    ended = [part if part[-1] in ".!?" else f"{part}." for part in parts[:-1]]
    return " ".join(ended + parts[-1:])


def is_utf8(text):
    """False where a surrogate stands: a byte of other text, or half a JSON escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def row_problem(row, seen, text_fields):
    """Why a row can't be used.

    Args:
      row: dict.
      seen: dict image_id -> where it stands (str, as "line 3"), of the rows before.
      text_fields: fields that make the text.

    Returns:
      (reason, detail), or None.
    """
    for key in (*REQUIRED, *OPTIONAL, *text_fields):
        if isinstance(row.get(key), (list, dict)):
            return "wrong type", f"`{key}` should be a text, received {row[key]!r:.80}"
        if not is_utf8(field(row, key)):
            return "not UTF-8", f"`{key}` should be UTF-8, received {row[key]!r:.80}"
    for key in REQUIRED:
        if not field(row, key):
            keys = [str(name) for name in list(row)[:20]]
            return "missing key", f"`{key}` should be given, received {keys}"
    if not any(c.isalnum() for c in join_text(row, text_fields)):
        return "empty text", f"one of {list(text_fields)} should hold a word"
    image_id = image_id_of(row)
    if image_id in seen:
        detail = f"{image_id!r} is in {seen[image_id]} already"
        if not field(row, "image_id"):
            detail += " (taken from the file's name: give the lines an `image_id`)"
        return "duplicate image_id", detail
    if field(row, "split") not in ("", "train", "validation"):
        return "unknown split", f"train or validation, received {row['split']!r}"
    return None
