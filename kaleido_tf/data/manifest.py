"""Data line, first station: a user's manifest -> rows, and the rules for a row.

A manifest has one line an image, JSON or CSV: `product_id`, `image` (a path relative to
the manifest) and a text; optionally `image_id`, `category`, `subcategory`, `split`.
Data preparation and the search index read by these rules, so that both have the same
image ids and texts, and leave out the same lines.
"""

import collections
import csv
import json
import os

TEXT_FIELDS = ("text", "title", "description")
REQUIRED = ("product_id", "image")
OPTIONAL = ("image_id", "category", "subcategory", "split")
_MOST_LINES = 200  # of one CSV row: a quote open for longer was meant as text
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def read_lines(path):
    """Reads the lines of a manifest.

    Args:
      path: manifest.jsonl or .csv.

    Yields:
      (line number, dict of the line's fields), or (line number, (reason, detail)) for
      a line that is none: not JSON, not CSV, not UTF-8, or CSV with a quote that isn't
      closed; reading then goes on with the next line.

    Raises:
      FileNotFoundError: no manifest.
      ValueError: an ending that isn't .jsonl or .csv, or a CSV without a header.
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
        lines = _Lines(file)
        names = _csv_record(lines, ())
        if isinstance(names, tuple):
            raise ValueError(
                f"{path} should have a header, the fields' names, in its first line. "
                f"Received: {names[0]}, {names[1]}"
            )
        values = names
        while values is not None:
            first, values = lines.number + 1, _csv_record(lines, names)
            if isinstance(values, tuple):
                yield first, values
            elif values:  # not a blank line
                yield lines.number, _csv_row(names, values)


class _Lines:
    """The lines of a text file, some of which can be given back.

    Attributes:
      number: of the line that was taken last, from 1.
    """

    def __init__(self, file):
        self._file, self._waiting = file, collections.deque()
        self.number = 0

    def take(self):
        """The next line with its end, None after the last one."""
        line = self._waiting.popleft() if self._waiting else next(self._file, None)
        self.number += line is not None
        return line

    def give_back(self, lines):
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def _csv_record(lines, names):
    """Reads one record, of more than one line where a quoted field has line ends.

    A quote that was meant as text (`"14 inch bag`) opens a field that takes the next
    rows with it. Such a line is given up alone, and the lines after it are read again.

    Args:
      lines: `_Lines`.
      names: the header, empty for the header itself.

    Returns:
      list of str, empty for a blank line; (reason, detail) for a line that is no CSV;
      None at the file's end.
    """
    taken, unclosed = [], None

    def feed():
        # csv asks for a second line, or another one, only while a quote is open.
        nonlocal unclosed
        while len(taken) < _MOST_LINES:
            # A line with a quote of its own may end one field and open another.
            inner = len(taken) > 1 and '"' not in taken[-1].replace('""', "")
            if inner and _is_row(taken[-1], names):
                unclosed = f"line {lines.number} is a row of its own"
                return
            line = lines.take()
            if line is None:
                unclosed = "the file ends before it is closed"
                return
            taken.append(line)
            yield line
        unclosed = f"it isn't closed within {_MOST_LINES} lines"

    try:
        values = next(csv.reader(feed()), None)
        if values is not None and unclosed is None:
            unclosed = _wrong_close(taken, names)
    except csv.Error as error:  # such as a field beyond csv's limit
        if len(taken) == 1:
            return "not CSV", str(error)
        unclosed = str(error)
    if not taken:
        return None
    if unclosed is None:
        return values
    lines.give_back(taken[1:])
    detail = f"a quote opens a field in {taken[0].strip()!r:.80}, but {unclosed}"
    return "unclosed quote", f'{detail} (in a text a quote is written "")'


def _wrong_close(taken, names):
    """Why the quote that closes a record of several lines isn't its own, or None."""
    if len(taken) == 1:
        return None
    try:
        next(csv.reader(taken, strict=True))
    except csv.Error:
        return "the next quote stands before a text, where a field would open"
    first = next(csv.reader(taken[:1], quoting=csv.QUOTE_NONE))
    if _names_picture(first, names) and _is_row(taken[-1], names):
        return "both its line and the one that would close it are rows of their own"
    return None


def _is_row(line, names):
    """Whether one line by itself is a row: all fields, a picture where one belongs."""
    try:
        return _names_picture(next(csv.reader([line])), names)
    except csv.Error:
        return False


def _names_picture(values, names):
    if "image" not in names or len(values) != len(names):
        return False
    image = values[names.index("image")]
    # A space before it: that comma was one of a sentence.
    return image.lower().endswith(_PICTURES) and not image[0].isspace()


def _csv_row(names, values):
    """Fields by name: None where the line is short, the rest of a long one by None."""
    row = dict.fromkeys(names) | dict(zip(names, values, strict=False))
    if len(values) > len(names):
        row[None] = values[len(names) :]
    return row


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
