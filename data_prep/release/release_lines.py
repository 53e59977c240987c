"""The original release's text shards: schema strings, and lines -> arrays.

Tab-separated columns, vectors comma-joined, no quoting, no header. A schema string says
`name:type:length` for each column; types are int, float, str and base64 (the raw bytes
of float32).
"""

import base64
import dataclasses
import glob
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PATCHES = (  # level's name in the schemas, patches
    ("rotation", 1),
    ("jigsaw", 4),
    ("camouflage", 9),
    ("grey_mask", 16),
    ("blank_mask", 25),
)
LEVEL_NAMES = tuple(name for name, _ in _PATCHES)
FEATURE_COLUMNS = tuple(f"img_feature_convert_{name}" for name in LEVEL_NAMES)
LOCATION_COLUMNS = tuple(f"img_loc_position_{name}" for name in LEVEL_NAMES)
CAMOUFLAGE_LOCATIONS = "img_loc_position_camouflage"
_TYPES = ("int", "float", "str", "base64")

_FEATURES = ",".join(
    f"{column}:float:{2048 * count}"
    for column, (_, count) in zip(FEATURE_COLUMNS, _PATCHES, strict=True)
)
# The release's schemas say 35 for the nine camouflage rectangles; lines may have 45.
_LOCATIONS = ",".join(
    f"{column}:int:{35 if column == CAMOUFLAGE_LOCATIONS else 5 * count}"
    for column, (_, count) in zip(LOCATION_COLUMNS, _PATCHES, strict=True)
)
_TEXT = "input_ids:int:64,input_mask:int:64,segment_ids:int:64"
_IMAGE = f"{_FEATURES},image_mask:int:55,{_LOCATIONS}"
SCHEMAS = {
    "pretrain": f"{_TEXT},masked_lm_positions:int:10,masked_lm_ids:int:10,"
    f"masked_lm_weights:float:10,{_IMAGE},img_subtasks_flag:int:1,"
    "img_grey_lm_ids:int:2,img_blank_lm_ids:int:3,img_rotate_gt:int:1,"
    "img_jigsaw_gt:int:1,img_camouflage_gt:int:1,img_grey_mask_gt:float:4096,"
    "nx_sent_labels:int:1",
    "retrieval": f"text_prod_id:str:1,{_TEXT},prod_desc:str:1,nx_sent_labels:int:1,"
    f"image_prod_id:str:1,prod_img_id:str:1,{_IMAGE}",
    "classification": f"text_prod_id:str:1,{_TEXT},prod_desc:str:1,"
    f"image_prod_id:str:1,prod_img_id:str:1,{_IMAGE},img_category:str:1,"
    "img_category_id:int:1,img_subcategory:str:1,img_subcategory_id:int:1",
}


class LineError(ValueError):
    """A line that can't be used.

    Args:
      reason: one word or two, by which lines are counted.
      detail: what is wrong with this one.
    """

    def __init__(self, reason, detail):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a schema: `length` numbers of a `type`, or one text."""

    name: str
    type: str
    length: int


def parse_schema(text):
    """A schema string -> tuple of `Column`.

    Raises:
      ValueError: a part that isn't name:type:length, an unknown type, a name twice.
    """
    columns = []
    for part in "".join(text.split()).split(","):
        fields = part.split(":")
        if len(fields) != 3 or fields[1] not in _TYPES or not fields[2].isdigit():
            raise ValueError(
                "`schema` should be name:type:length for each column, comma-joined, "
                f"types out of {_TYPES}. Received: {part!r}"
            )
        columns.append(Column(fields[0], fields[1], int(fields[2])))
    names = [column.name for column in columns]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"`schema` should name a column once. Twice: {doubled}")
    return tuple(columns)


def schema_kind(columns):
    """Which of the three kinds a schema is: key of `SCHEMAS`.

    Raises:
      ValueError: columns that its kind needs are missing.
    """
    names = {column.name for column in columns}
    kind = "retrieval"
    if "masked_lm_positions" in names:
        kind = "pretrain"
    elif "img_category" in names:
        kind = "classification"
    needed = {c.name for c in parse_schema(SCHEMAS[kind])} - {"img_subtasks_flag"}
    if missing := needed - names:
        raise ValueError(
            f"`schema` should have the columns of a {kind} file. "
            f"Missing: {sorted(missing)}"
        )
    return kind


class LineParser:
    """Lines -> arrays.

    Args:
      columns: tuple of `Column`.
    """

    def __init__(self, columns):
        self._columns = columns

    def parse(self, line):
        """One line -> dict name -> int64 or float32 [length], or str.

        Args:
          line: bytes.

        Raises:
          LineError: another number of columns or values, what is no number, NaN.
        """
        fields = line.rstrip(b"\r\n").split(b"\t")
        if len(fields) != len(self._columns):
            raise LineError(
                "columns", f"{len(self._columns)} wanted, received {len(fields)}"
            )
        return {
            column.name: _value(column, text)
            for column, text in zip(self._columns, fields, strict=True)
        }

    def peek(self, line, names):
        """Some columns of a line as bytes, the others unread: dict, empty if it's cut.

        Args:
          line: bytes.
          names: the columns.
        """
        fields = line.rstrip(b"\r\n").split(b"\t")
        if len(fields) != len(self._columns):
            return {}
        at = {column.name: i for i, column in enumerate(self._columns)}
        return {name: fields[at[name]] for name in names}


def _value(column, text):
    if column.type == "str":
        return decode_text(text)
    if column.type == "base64":
        values = _from_base64(column, text)
    else:
        kind = pa.int64() if column.type == "int" else pa.float32()
        values = _numbers(column, text, kind)
    lengths = {column.length}
    if column.name == CAMOUFLAGE_LOCATIONS:
        lengths = {35, 45}
    if len(values) not in lengths:
        raise LineError(
            "length",
            f"`{column.name}` should have {column.length} values, received "
            f"{len(values)}",
        )
    if column.type != "int" and not np.isfinite(values).all():
        raise LineError("numbers", f"`{column.name}` should be finite")
    return values


def _numbers(column, text, kind):
    """Comma-joined numbers as an array.

    Arrow's parser is exact and several times as fast as Python's or TensorFlow's: a
    line holds more than 100,000 numbers (benchmarks/prepare.py).
    """
    try:
        parts = pc.split_pattern(pa.scalar(text.decode("ascii")), ",")
        return parts.values.cast(kind).to_numpy()
    except ValueError as error:  # ArrowInvalid and UnicodeDecodeError are such
        raise LineError("numbers", f"`{column.name}`: {str(error)[:120]}") from error


def _from_base64(column, text):
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except ValueError as error:
        raise LineError("numbers", f"`{column.name}`: {error}") from error


def decode_text(text):
    """Bytes as UTF-8, else as latin-1, which the texts were before: str."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def list_files(text):
    """Files that a flag names.

    Args:
      text: a `.list_csv` file (paths, one a line or comma-separated, relative to it or
        to the working folder), a pattern such as "train/part-*", or paths joined by
        commas.

    Returns:
      list of paths, those of a pattern sorted.

    Raises:
      FileNotFoundError: no such file.
    """
    if text.endswith(".list_csv"):
        with open(text, encoding="utf-8") as file:
            names = file.read().replace(",", "\n").split("\n")
        beside = os.path.dirname(text)
        names = [name.strip() for name in names if name.strip()]
        paths = [n if os.path.exists(n) else os.path.join(beside, n) for n in names]
    else:
        paths = [
            path
            for part in text.split(",")
            for path in (sorted(glob.glob(part)) or [part])
        ]
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{text} should name the release's text files. Received: {path}, no "
                "such file"
            )
    if not paths:
        raise FileNotFoundError(f"{text} should name at least one file")
    return paths
