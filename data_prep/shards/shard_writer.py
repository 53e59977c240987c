"""One output shard: read its pictures, lock boxes, compute features, write records.

The unit of work of data preparation; `receipts.py` says how a shard becomes a file.
"""

import collections
import dataclasses
import json
from concurrent import futures

import numpy as np
import tensorflow as tf

from data_prep import pictures, saliency
from data_prep.shards import networks, placing, receipts
from kaleido_tf.config import PATCH_ARMS
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
      saliency, saliency_weights: see `saliency.make_locker`; only the arm
        "kaleido+saliency" locks boxes.
      alignments: folder of a trained captioner, for the aligned pairs, or None.
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
    saliency: str = saliency.DEFAULT_METHOD
    saliency_weights: str | None = None
    alignments: str | None = None

    @property
    def locks_boxes(self):
        return self.patch_arm == "kaleido+saliency"

    def fingerprint(self, networks):
        """What a finished shard must have been made with, as a string.

        Args:
          networks: `Networks.describe()`, by which weights count by their hash.
        """
        values = dataclasses.asdict(self)
        del values["images_per_batch"], values["backbone_weights"]
        del values["saliency_weights"]
        values |= networks
        values["vocab_file"] = dataset_info.file_sha256(self.vocab_file)
        values["schema_version"] = records.SCHEMA_VERSION
        return json.dumps(values, sort_keys=True)


class ShardWriter:
    """Writes shards; holds the models, so make one per process.

    Args:
      settings: `PrepareSettings`.
    """

    def __init__(self, settings):
        self.settings = settings
        self.levels = PATCH_ARMS[settings.patch_arm]
        built = networks.build_networks(settings)
        self.backbone, self.aligner = built.backbone, built.aligner
        self.lock = built.locker and built.locker.lock
        self.tokenizer = tokenization.Tokenizer.from_file(settings.vocab_file)
        self.shapes = dataset_info.record_shapes(
            self.levels, self.backbone.feature_size
        )
        self.locations = patches.patch_locations(self.levels)
        self._fingerprint = settings.fingerprint(built.describe())
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

    def write(self, path, products):
        """Writes one shard and its receipt, or finds it whole.

        Args:
          path: the shard's final path.
          products: list of `sources.Product`.

        Returns:
          The receipt (see `receipts.write`) with skipped (list of dict), boxes (count
          by method), truncated_texts, pieces, unknown_pieces ([UNK]), and, with
          alignments, pairs and paired_texts.
        """
        source = placing.source_sha256(products)
        receipt = receipts.find(path, self._fingerprint, source)
        if receipt is not None:
            return receipt
        stats = {"skipped": [], "boxes": {}, "truncated_texts": 0}
        stats |= {"pieces": 0, "unknown_pieces": 0}
        if self.aligner:
            stats |= {"pairs": 0, "paired_texts": 0}
        serialized = (
            records.encode_record(record, self.shapes)
            for record in self._records(products, stats)
        )
        return receipts.write(path, serialized, stats, self._fingerprint, source)

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
            for product, read in pictures.pictures_of(products):
                ahead.append((product, pool.submit(self._load, read)))
                if len(ahead) > 3 * self.settings.images_per_batch:
                    yield ahead.popleft()
            yield from ahead

    def _load(self, read):
        """Reads and places one picture; ValueError if it can't be read."""
        return placing.place(
            read(), self.settings.patch_arm, self._to_canvas, self.lock
        )

    def _finish(self, pending, stats):
        """Features of up to a batch of pictures -> their records."""
        size = self.settings.images_per_batch
        filled = pending + [pending[-1]] * (size - len(pending))
        canvases = np.stack([canvas for _, canvas, _ in filled])
        boxes = np.stack([box for _, _, box in filled]).astype(np.float32)
        vectors = self._features(tf.constant(canvases), tf.constant(boxes))
        vectors = {key: value.numpy() for key, value in vectors.items()}
        texts = [product.text for product, *_ in filled]
        token_ids = self.tokenizer.tokenize(tf.constant(texts)).to_list()
        cut = [ids[: self.settings.max_tokens] for ids in token_ids]
        pairs = self._pairs(canvases, boxes, texts, cut)
        for i, (product, _, box) in enumerate(pending):
            stats["truncated_texts"] += len(token_ids[i]) > len(cut[i])
            stats["pieces"] += len(cut[i])
            stats["unknown_pieces"] += cut[i].count(self.tokenizer.unknown_id)
            if self.aligner:
                stats["pairs"] += len(pairs[i]["aligned_tokens"])
                stats["paired_texts"] += bool(len(pairs[i]["aligned_tokens"]))
            yield {
                "product_id": product.product_id,
                "image_id": product.image_id,
                "category": product.category,
                "subcategory": product.subcategory,
                "text": product.text,
                "token_ids": cut[i],
                "patch_locations": self.locations,
                "box": box,
                **pairs[i],
                **{key: value[i] for key, value in vectors.items()},
            }

    def _pairs(self, canvases, boxes, texts, token_ids):
        """Aligned pairs of a batch (section 3.3): list of dict, empty without AAG."""
        if not self.aligner:
            return [{}] * len(texts)
        found = self.aligner.align(
            canvases, boxes, texts, token_ids, self.tokenizer, self.levels
        )
        keys = ("aligned_tokens", "aligned_patches", "aligned_scores")
        return [dict(zip(keys, lists, strict=True)) for lists in found]


def _skipped_image(product, detail):
    return {
        "reason": "unreadable image",
        "image_id": product.image_id,
        "image": product.image_path,
        "detail": detail,
    }
