"""One output shard: read its pictures, lock boxes, compute features, write records.

The unit of work of data preparation. A shard is written under a temporary name,
renamed when whole, and has a receipt (JSON) beside it, by which a run that is started
again knows what it need not do twice.
"""

import collections
import dataclasses
import hashlib
import json
import os
from concurrent import futures

import cv2
import numpy as np
import tensorflow as tf

from data_prep import saliency
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import dataset_info, patches, records, tokenization

_READERS = 4  # threads that decode pictures and lock boxes


@dataclasses.dataclass(frozen=True)
class PrepareSettings:
    """What decides the content of records; part of every receipt.

    Attributes:
      patch_arm: key of `PATCH_ARMS`.
      backbone, backbone_weights, patch_size: see `backbone.build_backbone`.
      coarse_patch_size: side of level 1's patch, if that is larger.
      canvas_size: side in pixels that pictures are brought to before cutting.
      vocab_file: path of the vocab.txt.
      max_tokens: word pieces stored of a text; longer ones are cut and counted.
      images_per_batch: pictures whose patches go through the backbone together.
    """

    patch_arm: str
    backbone: str
    backbone_weights: str | None
    patch_size: int
    coarse_patch_size: int
    canvas_size: int
    vocab_file: str
    max_tokens: int
    images_per_batch: int

    def fingerprint(self, backbone):
        """What a finished shard must have been made with, as a string.

        Args:
          backbone: `Backbone.describe()`, by which weights count by their hash.
        """
        values = dataclasses.asdict(self)
        del values["images_per_batch"], values["backbone_weights"]
        values["backbone"] = backbone
        values["vocab_file"] = dataset_info.file_sha256(self.vocab_file)
        values["schema_version"] = records.SCHEMA_VERSION
        return json.dumps(values, sort_keys=True)


def read_picture(path):
    """Decodes a JPEG, PNG or WebP file: uint8 [h, w, 3] RGB.

    Raises:
      ValueError: missing, empty, not a picture, truncated, or under 8 pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    if not data.size:
        raise ValueError("the file is empty")
    _check_complete(data.tobytes())
    picture = _decode(data)
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError("no JPEG, PNG or WebP picture that OpenCV can decode")
    if min(picture.shape[:2]) < 8:
        raise ValueError(f"{picture.shape[1]} x {picture.shape[0]} pixels: under 8 x 8")
    return _to_rgb(picture)


def _check_complete(data):
    """Raises ValueError on a JPEG, PNG or WebP that stops before its end.

    OpenCV fills what is missing with grey, and says so on stderr only.
    """
    if data.startswith(b"\xff\xd8") and not _jpeg_ends(data):
        raise ValueError("the JPEG is truncated: it has no end mark")
    if data.startswith(b"\x89PNG") and b"IEND" not in data:
        raise ValueError("the PNG is truncated: it has no end chunk")
    if data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("the WebP is truncated: it is shorter than it says")


def _jpeg_ends(data):
    """Whether an end mark comes after the start of the JPEG's first scan.

    A thumbnail in the header has an end mark of its own, and cameras write more after
    the last one: neither the first nor the last bytes of the file tell.
    """
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 :]:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: no end mark's bytes occur in coded data
            break
        fill = marker == 0xFF
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if fill else 2 + length
    return data.find(b"\xff\xd9", position) >= 0


def _decode(data):
    """Pixels of a picture's bytes as OpenCV gives them, or None."""
    # A JPEG is turned as its EXIF says only with IMREAD_COLOR; others may have
    # transparent pixels, which only IMREAD_UNCHANGED keeps.
    is_jpeg = data[:2].tobytes() == b"\xff\xd8"
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED)
    except cv2.error:  # such as a header that claims more pixels than memory
        return None


def _to_rgb(picture):
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    if picture.shape[2] == 4:
        # Transparent pixels are shown on white, as shops do.
        alpha = picture[..., 3:].astype(np.float32) / 255
        shown = picture[..., :3] * alpha + 255 * (1 - alpha)
        picture = np.round(shown).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


class ShardWriter:
    """Writes shards; holds the models, so make one per process.

    Args:
      settings: `PrepareSettings`.
    """

    def __init__(self, settings):
        self.settings = settings
        self.levels = PATCH_ARMS[settings.patch_arm]
        self.backbone = backbone_lib.build_backbone(
            settings.backbone, settings.patch_size, settings.backbone_weights
        )
        self.tokenizer = tokenization.Tokenizer.from_file(settings.vocab_file)
        self.shapes = dataset_info.record_shapes(
            self.levels, self.backbone.feature_size
        )
        self.locations = patches.patch_locations(self.levels)
        self._fingerprint = settings.fingerprint(self.backbone.describe())
        rows, side = settings.images_per_batch, settings.canvas_size
        self._features = tf.function(
            self._batch_features,
            input_signature=[
                tf.TensorSpec([rows, side, side, 3], tf.uint8),
                tf.TensorSpec([rows, 4], tf.float32),
            ],
        )
        self._to_canvas = tf.function(
            lambda image: patches.to_canvas(image, settings.canvas_size),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )

    def _batch_features(self, images, boxes):
        vectors = patches.image_features(
            images,
            boxes,
            self.levels,
            self.backbone,
            self.settings.coarse_patch_size,
        )
        return {key: tf.cast(value, tf.float16) for key, value in vectors.items()}

    def is_whole(self, path, products):
        """The receipt of a shard that needn't be written again, or None."""
        try:
            with open(receipt_path(path), encoding="utf-8") as file:
                receipt = json.load(file)
            whole = (
                receipt["fingerprint"] == self._fingerprint
                and receipt["source_sha256"] == source_sha256(products)
                and receipt["bytes"] == os.path.getsize(path)
            )
        except (OSError, ValueError, KeyError):
            return None
        return receipt if whole else None

    def write(self, path, products):
        """Writes one shard and its receipt, or finds it whole.

        Args:
          path: the shard's final path.
          products: list of `sources.Product`.

        Returns:
          The receipt: dict with file, num_examples, bytes, sha256, skipped (list of
          dict), boxes (count by method), truncated_texts, fingerprint and
          source_sha256, by which a later run knows whether it is still right.
        """
        receipt = self.is_whole(path, products)
        if receipt is not None:
            return receipt
        stats = {"skipped": [], "boxes": {}, "truncated_texts": 0}
        count = 0
        temporary = f"{path}.tmp"
        with tf.io.TFRecordWriter(temporary) as writer:
            for record in self._records(products, stats):
                writer.write(records.encode_record(record, self.shapes))
                count += 1
        receipt = {
            "file": os.path.basename(path),
            "num_examples": count,
            "bytes": os.path.getsize(temporary),
            "sha256": dataset_info.file_sha256(temporary),
            **stats,
            "fingerprint": self._fingerprint,
            "source_sha256": source_sha256(products),
        }
        os.replace(temporary, path)
        with open(f"{receipt_path(path)}.tmp", "w", encoding="utf-8") as file:
            json.dump(receipt, file)
        os.replace(f"{receipt_path(path)}.tmp", receipt_path(path))
        return receipt

    def _records(self, products, stats):
        size = self.settings.images_per_batch
        pending = []
        for product, loaded in self._loaded(products):
            try:
                canvas, box, method = loaded.result()
            except ValueError as error:
                stats["skipped"].append(_skipped_image(product, str(error)))
                continue
            if method:
                stats["boxes"][method] = stats["boxes"].get(method, 0) + 1
            pending.append((product, canvas, box))
            if len(pending) == size:
                yield from self._finish(pending, stats)
                pending = []
        if pending:
            yield from self._finish(pending, stats)

    def _loaded(self, products):
        """Yields (product, future of `_load`) in order, some batches ahead.

        Threads decode and lock boxes while the backbone computes.
        """
        ahead = collections.deque()
        with futures.ThreadPoolExecutor(_READERS) as pool:
            for product in products:
                ahead.append((product, pool.submit(self._load, product)))
                if len(ahead) > 3 * self.settings.images_per_batch:
                    yield ahead.popleft()
            yield from ahead

    def _load(self, product):
        """Reads and places one picture, see `place`; ValueError if it can't be read."""
        picture = read_picture(product.image_path)
        return place(picture, self.settings.patch_arm, self._to_canvas)

    def _finish(self, pending, stats):
        """Features of up to a batch of pictures -> their records."""
        size = self.settings.images_per_batch
        filled = pending + [pending[-1]] * (size - len(pending))
        vectors = self._features(
            tf.constant(np.stack([canvas for _, canvas, _ in filled])),
            tf.constant(np.stack([box for _, _, box in filled]), tf.float32),
        )
        vectors = {key: value.numpy() for key, value in vectors.items()}
        token_ids = self.tokenizer.tokenize(tf.constant([p.text for p, *_ in pending]))
        for i, (product, _, box) in enumerate(pending):
            ids = token_ids[i].numpy().tolist()
            if len(ids) > self.settings.max_tokens:
                stats["truncated_texts"] += 1
            yield {
                "product_id": product.product_id,
                "image_id": product.image_id,
                "category": product.category,
                "subcategory": product.subcategory,
                "text": product.text,
                "token_ids": ids[: self.settings.max_tokens],
                "patch_locations": self.locations,
                "box": box,
                **{key: value[i] for key, value in vectors.items()},
            }


def place(picture, patch_arm, to_canvas):
    """Brings a picture onto its canvas and locks its box there.

    Args:
      picture: uint8 [h, w, 3] RGB.
      patch_arm: key of `PATCH_ARMS`; only "kaleido+saliency" looks for the object.
      to_canvas: `patches.to_canvas` with its size, a function of the picture.

    Returns:
      (uint8 [size, size, 3], float32 [4] box y1, x1, y2, x2 in [0, 1] of the canvas,
      name of the method that found it or None).
    """
    canvas, inside = (t.numpy() for t in to_canvas(picture))
    if patch_arm != "kaleido+saliency":
        return canvas, inside, None
    box, method = saliency.lock_box(picture)
    side = inside[2:] - inside[:2]
    return canvas, np.tile(inside[:2], 2) + box * np.tile(side, 2), method


def source_sha256(products):
    """Hash of what a shard is made from: manifest lines and sizes of the pictures.

    A text that was changed or a picture that was repaired since makes another one.
    """
    digest = hashlib.sha256()
    for product in products:
        try:
            size = os.path.getsize(product.image_path)
        except (OSError, ValueError):
            size = None
        row = [*dataclasses.astuple(product), size]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _skipped_image(product, detail):
    return {
        "reason": "unreadable image",
        "image_id": product.image_id,
        "image": product.image_path,
        "detail": detail,
    }


def receipt_path(shard_path):
    return f"{shard_path}.receipt.json"
