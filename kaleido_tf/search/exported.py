"""An export as search uses it: signatures called with numpy arrays.

Errors of an export, which are TensorFlow's, become a ValueError with the export's own
words.
"""

import hashlib
import json
import os
import re

import numpy as np
import tensorflow as tf

from kaleido_tf.serving.loaded import LoadedModel, plain_message
from kaleido_tf.serving.requests import MAX_TEXT_BYTES

INFO_FILE = os.path.join("assets.extra", "kaleido_info.json")
MAX_WITHOUT_VECTORS = 1000  # images that are all scored by the matching head
# What a search page can't do without.
REQUIRED = ("image_features", "match_features", "explain")


def _read_info(path):
    file_path = os.path.join(path, INFO_FILE)
    try:
        with open(file_path, encoding="utf-8") as file:
            info = json.load(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{file_path} should exist: it says what the export holds (export again)"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file_path} should be JSON. Received: {error}") from error
    if "matching" not in info.get("checkpoints", {}):
        raise ValueError(
            f"{file_path} should say which checkpoint matches. Received: "
            f"{sorted(info)} (export again)"
        )
    return info


def unnamed_weights(backbone):
    """What a backbone is, wherever its weights came from: their hash counts."""
    return {k: v for k, v in (backbone or {}).items() if k != "weights"}


def _identity(info):
    """Hash of what features, vectors and scores come from: str.

    Exports that differ only in their fine-tuned heads, or in the data set's file, have
    the same: an index of one serves the other.
    """
    keys = ("format", "precision", "vocabulary", "saliency")
    values = {key: info.get(key) for key in keys}
    values["backbone"] = unnamed_weights(info.get("backbone"))
    values["dataset"] = {k: v for k, v in info["dataset"].items() if k != "sha256"}
    matching = info["checkpoints"]["matching"]
    values["matching"] = {k: matching.get(k) for k in ("config", "weights_sha256")}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _tensor(value, dtype):
    # TensorFlow widens stored float16 ten times faster than numpy.
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        return tf.cast(tf.constant(value), dtype)
    return tf.constant(value, dtype)


class Export:
    """A loaded export.

    Args:
      directory: of `python -m kaleido_tf.serving.export`; its newest version is taken.

    Attributes:
      path: of that version.
      info: its kaleido_info.json, a dict.
      identity: hash of what an index depends on, see `_identity`.
      num_patches, feature_size: P, F of its patch features.
      vector_size: D of its vectors, 0 where the model has none.
      max_text_bytes: what a text may have.
    """

    def __init__(self, directory):
        self._loaded = LoadedModel(directory)
        self.path, self._signatures = self._loaded.path, self._loaded.signatures
        self.info = _read_info(self.path)
        missing = [name for name in REQUIRED if name not in self._signatures]
        if missing:
            raise ValueError(
                f"{self.path} should have the signatures {list(REQUIRED)}. Missing: "
                f"{missing} (export the model again, with all of its signatures)"
            )
        limits = self.info.get("limits", {})
        self.max_text_bytes = limits.get("max_text_bytes", MAX_TEXT_BYTES)
        outputs = self._signatures["image_features"].structured_outputs
        shape = outputs["patch_features"].shape
        self.num_patches, self.feature_size = int(shape[1]), int(shape[2])
        self.vector_size = 0
        if self.has("text_vectors") and self.has("image_vectors"):
            vectors = self._signatures["text_vectors"].structured_outputs
            self.vector_size = int(vectors["text_vectors"].shape[1])

        self.identity = _identity(self.info)

    def check_size(self, num_images):
        """Raises ValueError for more images than can be searched without vectors."""
        if self.vector_size == 0 and num_images > MAX_WITHOUT_VECTORS:
            raise ValueError(
                "`export` should have vectors of text and image for a first stage. "
                f"Received: a model without (contrastive_size=0), and {num_images} "
                f"images, more than the {MAX_WITHOUT_VECTORS} that can all be scored"
            )

    @property
    def config(self):
        """The matching model's config as a dict."""
        return self.info["checkpoints"]["matching"]["config"]

    def has(self, name):
        """Whether the export has a signature."""
        return name in self._signatures

    def cut_text(self, text):
        """The start of a catalogue's text that the export takes, whole characters.

        The model reads the first `text_length` pieces alone, which are far fewer.
        """
        return text.encode()[: self.max_text_bytes].decode(errors="ignore")

    def call(self, name, **inputs):
        """Calls a signature.

        Args:
          name: of the signature.
          **inputs: its inputs: arrays (float16 for float32 too), or lists of str or
            bytes.

        Returns:
          dict of numpy arrays.

        Raises:
          ValueError: no such signature, or inputs that the export refuses.
        """
        if not self.has(name):
            raise ValueError(
                f"The export should have the signature `{name}`. Received: "
                f"{sorted(self._signatures)} (export a checkpoint of that task with it)"
            )
        signature = self._signatures[name]
        specs = signature.structured_input_signature[1]
        tensors = {k: _tensor(v, specs[k].dtype) for k, v in inputs.items()}
        try:
            outputs = signature(**tensors)
        except tf.errors.InvalidArgumentError as error:
            # Of a request with one row, its place says nothing.
            message = re.sub(r"^\w+\[0\]: ", "", plain_message(error))
            raise ValueError(message) from error
        return {key: value.numpy() for key, value in outputs.items()}

    def text_vectors(self, texts, batch_size=128):
        """Unit vectors of texts: float32 [n, D]."""
        return self._vectors("text_vectors", "text", texts, batch_size)

    def image_vectors(self, features, batch_size=64):
        """Unit vectors of patch features [n, P, F]: float32 [n, D]."""
        return self._vectors("image_vectors", "patch_features", features, batch_size)

    def _vectors(self, name, key, rows, batch_size):
        parts = [
            self.call(name, **{key: rows[start : start + batch_size]})[name]
            for start in range(0, len(rows), batch_size)
        ]
        return np.concatenate(parts or [np.zeros((0, self.vector_size), np.float32)])
