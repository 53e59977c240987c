"""What an index is made from: a manifest's pictures, or a prepared data set's records.

Both give items; for pictures that aren't stored yet a `source` gives features: the
export computes them from the bytes, a prepared data set has them already.
"""

import hashlib
import os
import struct

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import FILE_NAME, DatasetInfo, file_sha256
from kaleido_tf.search.exported import unnamed_weights
from kaleido_tf.search.manifest import Item

SPLITS = ("train", "validation")
_ORIENTATION = 0x0112  # EXIF's tag
_STRINGS = ("image_id", "product_id", "text", "category", "subcategory")


def picture_stamp(path):
    """[size, mtime in ns] of a file; [] where it can't be read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a NUL in the path is a ValueError
        return []
    return [status.st_size, status.st_mtime_ns]


def changed_at(path):
    """When a file was last written, moved or given another time: ns.

    A copy may keep the time of what it was copied from, but not the time at which it
    came to be there.
    """
    status = os.stat(path)
    return max(status.st_mtime_ns, status.st_ctime_ns)


def read_picture(path):
    """Bytes of a picture's file; ValueError where there are none."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    if not data:
        raise ValueError("the file is empty")
    return data


def picture_key(data):
    """Key of a picture: the hash of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def jpeg_orientation(picture):
    """EXIF's orientation 1 to 8 as the model's decoder takes it: of a JPEG alone.

    Args:
      picture: opened `PIL.Image`.
    """
    if picture.format not in ("JPEG", "MPO"):  # MPO: a JPEG with others after it
        return 1
    exif = Image.Exif()  # not `getexif`, which looks into XMP besides
    try:
        exif.load(picture.info.get("exif"))
        found = exif.get(_ORIENTATION)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return 1
    return found if found in range(1, 9) else 1


def box_in_picture(box, path, canvas_size):
    """A record's box, which is of the square canvas, in [0, 1] of the picture.

    Args:
      box: float [4], y1, x1, y2, x2 in [0, 1] of the canvas, see `patches.to_canvas`.
      path: of the picture; "" where there is none: the box stays as it is.
      canvas_size: S.

    Returns:
      float32 [4].
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if jpeg_orientation(picture) >= 5:  # turned by a quarter
                width, height = height, width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return np.asarray(box, np.float32)
    sides = np.array([height, width]) * canvas_size / max(height, width)
    sides = np.clip(np.round(sides), 1, canvas_size)
    starts = (canvas_size - sides) // 2
    corners = np.asarray(box, np.float64).reshape(2, 2) * canvas_size
    inside = np.clip((corners - starts) / sides, 0.0, 1.0)
    return inside.reshape(4).astype(np.float32)


class PreparedData:
    """A prepared data set as a source of items and features.

    Args:
      directory: its folder.
      export: `Export`, whose features these should be.

    Raises:
      ValueError: a data set of other features than the export's.
    """

    def __init__(self, directory, export):
        self.info = DatasetInfo.load(directory)
        check_dataset(self.info, export)
        path = os.path.join(directory, FILE_NAME)
        self.fingerprint = file_sha256(path)[:16]
        self.made = os.stat(path).st_mtime_ns

    def key(self, image_id):
        """Key of a record's picture: of this data set and this image."""
        return hashlib.sha256(f"{self.fingerprint} {image_id}".encode()).hexdigest()[
            :32
        ]

    def _paths(self):
        """Yields (split, path of a shard)."""
        for split in SPLITS:
            if split in self.info.values["splits"]:
                for path in self.info.shard_paths(split):
                    yield split, path

    def items(self):
        """Items of the records that have a text: (list of `Item`, skipped dicts)."""
        items, skipped = [], []
        spec = {key: tf.io.FixedLenFeature([], tf.string) for key in _STRINGS}
        for split, path in self._paths():
            for batch in _batches(path, lambda x: tf.io.parse_example(x, spec)):
                columns = [[v.decode() for v in batch[key].numpy()] for key in _STRINGS]
                for values in zip(*columns, strict=True):
                    item = Item(**dict(zip(_STRINGS, values, strict=True)), split=split)
                    if any(c.isalnum() for c in item.text):
                        items.append(item)
                    else:
                        skipped.append(
                            {
                                "reason": "empty text",
                                "detail": "the record should have a text",
                                "image_id": item.image_id,
                            }
                        )
        if not items:
            raise ValueError(
                f"`data_dir` should hold records with a text. Received: {len(skipped)} "
                f"records without in {self.info.directory}"
            )
        return items, skipped

    def features(self, rows, batch_size=64):
        """Features of some records; of another product or text, a record is left out.

        Args:
          rows: dict image_id -> `Row` whose picture they are.
          batch_size: records at once.

        Yields:
          (keys, float16 [n, P, F] features, float32 [n, 4] boxes).
        """
        shapes, size = self.info.shapes, self.info.values.get("canvas_size", 256)

        def decode(serialized):
            return records.decode_records(serialized, shapes)

        for _, path in self._paths():
            for batch in _batches(path, decode, batch_size):
                said = [
                    tuple(value.decode() for value in values)
                    for values in zip(
                        *(batch[k].numpy() for k in ("image_id", "product_id", "text")),
                        strict=True,
                    )
                ]
                found = [rows.get(image_id) for image_id, *_ in said]
                places = [
                    place
                    for place, row in enumerate(found)
                    if row and said[place][1:] == (row.item.product_id, row.item.text)
                ]
                if not places:
                    continue
                chosen = [found[place] for place in places]
                features = batch["patch_features"].numpy()[places].astype(np.float16)
                boxes = [
                    box_in_picture(box, row.item.image, size)
                    for box, row in zip(
                        batch["box"].numpy()[places], chosen, strict=True
                    )
                ]
                yield [row.picture for row in chosen], features, np.stack(boxes)


def _batches(path, parse, size=256):
    """Yields the parsed batches of a shard; ValueError where it is damaged."""
    data = tf.data.TFRecordDataset(path).batch(size).map(parse)
    done = 0
    try:
        for batch in data:
            yield batch
            done += size
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(records.damaged_message(path, done, error.message)) from error


def check_dataset(info, export):
    """Raises ValueError where a data set's features aren't the export's.

    Args:
      info: `DatasetInfo`.
      export: `Export`.
    """
    theirs, values = export.info["dataset"], info.values
    pairs = {
        name: (theirs.get(name), values.get(name))
        for name in ("patch_arm", "feature_size", "canvas_size")
    }
    pairs["coarse_patch_size"] = (
        theirs.get("coarse_patch_size", 0),
        values.get("coarse_patch_size", 0),
    )
    pairs["backbone"] = [
        unnamed_weights(each.get("backbone")) for each in (export.info, values)
    ]
    for name, (wanted, received) in pairs.items():
        if wanted != received:
            raise ValueError(
                f"`{name}` of the data set should be {wanted!r}, as in the export. "
                f"Received: {received!r} in {info.directory} (leave --data_dir out: "
                "features are then computed from the manifest's pictures)"
            )
    ours = (values.get("saliency") or {}).get("weights_sha256")
    if ours != export.info["saliency"].get("weights_sha256"):
        logging.warning(
            "%s: its boxes were locked by another network than the export's; its "
            "features are taken as they are",
            info.directory,
        )
