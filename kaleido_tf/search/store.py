"""The folder of an index, both directions.

INDEX_DIR/index.json       which model it belongs to, sizes, the current table; small
INDEX_DIR/pictures/        shards by picture: features float16 [P, F], image vectors and
                           boxes float32
INDEX_DIR/texts/           shards by text: text vectors float32
INDEX_DIR/tables/N/        one state of the catalogue: items.jsonl (a line an image, its
                           keys into the shards), image.faiss and text.faiss
INDEX_DIR/skipped.jsonl    what was left out, and why

Shards are only ever added to, a table is written whole, and index.json, which names the
table, is replaced last: whoever reads meanwhile sees the old state or the new one.
"""

import dataclasses
import hashlib
import json
import os
import shutil

import numpy as np
from absl import logging

from kaleido_tf import files
from kaleido_tf.search import nearest
from kaleido_tf.search.manifest import Item
from kaleido_tf.search.shards import Shards

FORMAT = 1
INFO = "index.json"
SKIPPED = "skipped.jsonl"
# A key of index.json while what was there of another export is being removed.
_EMPTYING = "emptying"
_FOLDERS = ("tables", "pictures", "texts")


@dataclasses.dataclass(frozen=True)
class Row:
    """An item of the index: the manifest's, and where its arrays are.

    Attributes:
      item: `Item`; its image relative to the index's `pictures_dir` where it is in it.
      picture, text: str, keys into the shards.
      stamp: [size, mtime in ns] of the picture when its bytes were last hashed, or [].
    """

    item: Item
    picture: str
    text: str
    stamp: list = dataclasses.field(default_factory=list)

    def to_dict(self):
        values = dataclasses.asdict(self.item)
        keys = {"picture_key": self.picture, "text_key": self.text}
        return {**values, **keys, "stamp": self.stamp}

    @classmethod
    def from_dict(cls, values):
        values = dict(values)
        picture, text = values.pop("picture_key"), values.pop("text_key")
        return cls(
            item=Item(**{k: v for k, v in values.items() if k != "stamp"}),
            picture=picture,
            text=text,
            stamp=values.get("stamp", []),
        )


def text_key(text):
    """Key of a text: its hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _info_of(path):
    """An index.json as it is: dict, empty where it is none; None without a file."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _numbered(folder):
    """Paths of the shards and tables of an index's folder, whole or not."""
    found = []
    for name in _FOLDERS:
        inside = os.path.join(folder, name)
        for entry in sorted(os.listdir(inside)) if os.path.isdir(inside) else ():
            if entry.partition(".")[0].isdecimal():
                found.append(os.path.join(inside, entry))
    return [path for path in found if os.path.isdir(path)]


class Store:
    """An index's folder.

    Args:
      folder: INDEX_DIR.
      values: dict of index.json.

    Attributes:
      values: the same.
      pictures, texts: `Shards`.
    """

    def __init__(self, folder, values):
        self.folder, self.values = os.fspath(folder), values
        size = values["vector_size"]
        self.pictures = Shards(
            os.path.join(self.folder, "pictures"),
            {
                "features": (
                    (values["num_patches"], values["feature_size"]),
                    np.dtype(np.float16),
                ),
                "vectors": ((size,), np.dtype(np.float32)),
                "boxes": ((4,), np.dtype(np.float32)),
            },
        )
        self.texts = Shards(
            os.path.join(self.folder, "texts"),
            {"vectors": ((size,), np.dtype(np.float32))},
        )

    @classmethod
    def open(cls, folder, export):
        """Opens an index that is there.

        Args:
          folder: INDEX_DIR.
          export: `Export` that it is to be used with.

        Raises:
          FileNotFoundError: no index.
          ValueError: an index of another export or format, a damaged one, or one that
            is being replaced.
        """
        try:
            return cls(folder, cls._read(folder, export))
        except FileNotFoundError:
            # Another run may have put a new state in the place of the one that was
            # read; where there is no index, this says so again.
            return cls(folder, cls._read(folder, export))

    @staticmethod
    def _read(folder, export):
        """A folder's index.json, checked: dict."""
        path = os.path.join(folder, INFO)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"`index_dir` should be a folder of `python -m kaleido_tf.search.index`"
                f". Received: {folder}, which has no {INFO}"
            )
        with open(path, encoding="utf-8") as file:
            try:
                values = json.load(file)
            except ValueError as error:
                raise ValueError(f"{path} should be JSON. Received: {error}") from error
        if values.get("format") != FORMAT:
            raise ValueError(
                f"{path} should have format {FORMAT}. Received: "
                f"{values.get('format')!r} (delete the folder and make the index again)"
            )
        if values["model"] != export.identity:
            raise ValueError(
                f"{folder} should be an index of the export {export.path} "
                f"({export.identity[:12]}...). Received: one of another export "
                f"({values['model'][:12]}...). Vectors of two models don't "
                "compare: choose another --index_dir, or make this one anew by "
                "--replace"
            )
        if values.get(_EMPTYING):
            raise ValueError(
                f"{folder} should be a finished index. Received: one that is being "
                "replaced (run kaleido_tf.search.index again: it goes on)"
            )
        return values

    @classmethod
    def open_or_create(cls, folder, export, replace=False):
        """`open`, or an empty index where there is none.

        Args:
          folder, export: see `open`.
          replace: empty an index of another export, instead of refusing it.

        Raises:
          ValueError: see `open`; shards without an index.json, of which nobody knows
            the export.
          OSError: what is to be removed can't be.
        """
        path = os.path.join(folder, INFO)
        about = _info_of(path)
        if about is not None:
            same = about.get("model") == export.identity
            if not (about.get(_EMPTYING) if same else replace):
                return cls.open(folder, export)
        values = {
            "format": FORMAT,
            "model": export.identity,
            "num_patches": export.num_patches,
            "feature_size": export.feature_size,
            "vector_size": export.vector_size,
            "table": None,
        }
        os.makedirs(folder, exist_ok=True)
        left = _numbered(folder)
        if about is None and left:
            raise ValueError(
                f"`index_dir` should be an index or a new folder. Received: {folder}, "
                f"with {left[0]} and no {INFO}: nobody knows of which export (choose "
                f"another --index_dir, or delete the {len(left)} numbered folders in "
                f"its {', '.join(_FOLDERS)})"
            )
        if left:
            logging.info("%s: the index of another export is removed", folder)
            # Says what is going on until nothing is left: a run that is interrupted
            # meanwhile is gone on with, and no shard is taken for one of this export.
            files.write_json({**values, _EMPTYING: True}, path)
            for each in left:
                shutil.rmtree(each)
        files.write_json(values, path)
        return cls(folder, values)

    @property
    def _table(self):
        return os.path.join(self.folder, "tables", str(self.values["table"]))

    def rows(self):
        """Items of the current table: list of `Row`, empty before the first."""
        if self.values["table"] is None:
            return []
        path = os.path.join(self._table, "items.jsonl")
        return [Row.from_dict(values) for values in _read_lines(path)]

    def nearest(self, side):
        """The faiss index of a side ("image" or "text"); None without vectors."""
        if not self.values["vector_size"]:
            return None
        return nearest.load(os.path.join(self._table, f"{side}.faiss"))

    def finish(self, rows, kind, **about):
        """Makes `rows` the index's state.

        Args:
          rows: list of `Row` whose keys are all stored.
          kind: of `nearest.KINDS`.
          **about: what index.json says besides.
        """
        number = 1 + (self.values["table"] or 0)
        table = os.path.join(self.folder, "tables", str(number))
        shutil.rmtree(table, ignore_errors=True)
        os.makedirs(table)
        files.write_rows(
            os.path.join(table, "items.jsonl"), [r.to_dict() for r in rows]
        )
        pictures, texts = distinct(rows, "picture"), distinct(rows, "text")
        if self.values["vector_size"]:
            for side, shards, keys in (
                ("image", self.pictures, pictures),
                ("text", self.texts, texts),
            ):
                built = nearest.build(shards.read("vectors", keys), kind)
                nearest.save(built, os.path.join(table, f"{side}.faiss"))
        counts = {
            "images": len(rows),
            "products": len({row.item.product_id for row in rows}),
            "pictures": len(pictures),
            "texts": len(texts),
        }
        self.values = {**self.values, **about, "counts": counts, "index": kind}
        self.values["table"] = number
        files.write_json(self.values, os.path.join(self.folder, INFO))
        self._clean(number, set(pictures), set(texts))

    def _clean(self, number, pictures, texts):
        """Removes older tables, and what no item needs any more."""
        folder = os.path.join(self.folder, "tables")
        for name in os.listdir(folder):
            if name != str(number):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        self.pictures.remove_dead(pictures)
        self.texts.remove_dead(texts)


def distinct(rows, key):
    """Keys of one kind ("picture" or "text") in order, each once: list of str."""
    return list(dict.fromkeys(getattr(row, key) for row in rows))
