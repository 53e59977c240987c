"""A small export of the real signatures, whose answers can be reckoned by hand.

A picture is its mean colours by patch, a text its colour words: the vectors of both are
the colour's direction, and the head's margin grows with the whole picture's colour.
"""

import hashlib
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data.patches import generate_patches

COLOURS = ("red", "green", "blue")
LABELS = ("gowns", "tops", "shoes")
TEMPERATURE = 0.5
F = 6


class ColourModel(tf.Module):
    """Stands for a trained model: the signatures of `kaleido_tf.serving`."""

    def _features(self, image_bytes):
        def one(data):
            image = tf.io.decode_image(data, 3, expand_animations=False)
            return tf.image.resize(image, [60, 60], "nearest")

        images = tf.map_fn(one, image_bytes, fn_output_signature=tf.uint8)
        images = tf.ensure_shape(images, [None, 60, 60, 3])
        boxes = tf.tile([[0.25, 0.25, 0.75, 0.75]], [tf.shape(images)[0], 1])
        cut = generate_patches(images, boxes, KALEIDO_LEVELS, 8)["patches"]
        colours = tf.reduce_mean(cut, axis=[2, 3]) / 255.0
        return tf.concat([colours, 1.0 - colours], axis=-1), boxes

    def _image_vectors(self, features):
        return tf.math.l2_normalize(features[:, 0, :3], axis=-1)

    def _text_vectors(self, text):
        tf.debugging.assert_less(
            tf.strings.length(text), 5000, "`text` should be under 5000 bytes"
        )
        said = [tf.strings.regex_full_match(text, f".*{c}.*") for c in COLOURS]
        return tf.math.l2_normalize(tf.cast(tf.stack(said, -1), tf.float32), axis=-1)

    def _match(self, features, text):
        margin = 10.0 * tf.reduce_sum(
            features[:, 0, :3] * self._text_vectors(text), axis=-1
        )
        return {"score": tf.sigmoid(margin), "margin": margin}

    def _labels(self, features):
        count = tf.shape(features)[0]
        shares = tf.nn.softmax(5.0 * features[:, 0, :3])
        return {"labels": tf.tile([LABELS], [count, 1]), "probabilities": shares}

    def _explain(self, features, text):
        # Colour words look at the last patch of level 2, the others at its first.
        words = tf.strings.split(text).to_tensor("[PAD]")
        count = tf.shape(words)[0]
        edge = tf.tile([["[CLS]"]], [count, 1])
        tokens = tf.concat([edge, words], axis=1)
        colour = tf.strings.regex_full_match(tokens, "|".join(COLOURS))
        looked = tf.one_hot(tf.where(colour, 4, 1), 55) * 7.0 + 0.5
        return {
            "tokens": tokens,
            "token_mask": tf.cast(tokens != "[PAD]", tf.int32),
            "attention": looked,
        }

    def signatures(self, tasks=("category", "caption")):
        strings = tf.TensorSpec([None], tf.string)
        features = tf.TensorSpec([None, 55, F], tf.float32)

        def image_features(image_bytes):
            features, boxes = self._features(image_bytes)
            return {
                "patch_features": features,
                "box": boxes,
                "box_found": tf.ones(tf.shape(boxes)[:1], tf.bool),
                "image_vectors": self._image_vectors(features),
            }

        named = {
            "image_features": (image_features, {"image_bytes": strings}),
            "image_vectors": (
                lambda patch_features: {
                    "image_vectors": self._image_vectors(patch_features)
                },
                {"patch_features": features},
            ),
            "text_vectors": (
                lambda text: {"text_vectors": self._text_vectors(text)},
                {"text": strings},
            ),
            "match_features": (
                lambda patch_features, text: self._match(patch_features, text),
                {"patch_features": features, "text": strings},
            ),
            "explain": (
                lambda patch_features, text: self._explain(patch_features, text),
                {"patch_features": features, "text": strings},
            ),
            "category_features": (
                lambda patch_features, text: self._labels(patch_features),
                {"patch_features": features, "text": strings},
            ),
            "caption_features": (
                lambda patch_features: {
                    "captions": tf.constant([["a red dress .", "a dress"]]),
                    "scores": tf.constant([[-1.0, -2.0]]),
                },
                {"patch_features": features},
            ),
        }
        return {
            name: tf.function(function).get_concrete_function(**specs)
            for name, (function, specs) in named.items()
            if not name.endswith(("category_features", "caption_features"))
            or name.removesuffix("_features") in tasks
        }


def write_export(folder, tasks=("category", "caption"), name="a"):
    """Writes an export as version 1 of a folder; returns the folder as str."""
    model, version = ColourModel(), folder / "1"
    signatures = model.signatures(tasks)
    tf.saved_model.save(model, str(version), signatures)
    config = {"patch_arm": "kaleido", "contrastive_temperature": TEMPERATURE}
    info = {
        "export_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "dataset": {"patch_arm": "kaleido", "feature_size": F},
        "backbone": None,
        "saliency": {"method": "none"},
        "limits": {"max_text_bytes": 4999},
        "checkpoints": {"matching": {"config": config, "weights_sha256": name}},
    }
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "kaleido_info.json").write_text(json.dumps(info))
    return str(folder)


@pytest.fixture(scope="session")
def export_dir(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def export(export_dir):
    from kaleido_tf.search.exported import Export

    return Export(export_dir)


def colour_picture(path, red, green, blue):
    """A plain picture in a colour of 0..255."""
    cv2.imwrite(str(path), np.full((40, 30, 3), (blue, green, red), np.uint8))


# image -> product, colour (red, green, blue), text, category. c and d are two views;
# e and f say the same.
ITEMS = {
    "a": ("p1", (250, 0, 0), "red dress", "gowns"),
    "b": ("p2", (200, 90, 0), "dark red dress", "gowns"),
    "c": ("p3", (0, 240, 0), "green shirt", "tops"),
    "d": ("p3", (30, 220, 20), "green shirt", "tops"),
    "e": ("p4", (0, 0, 250), "blue boots", "shoes"),
    "f": ("p5", (40, 0, 200), "blue boots", "shoes"),
    "g": ("p6", (120, 0, 120), "red and blue top", "tops"),
}


def write_catalogue(folder, items=None):
    """Writes pictures and a manifest; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for image, (product, colour, text, category) in (items or ITEMS).items():
        path = folder / f"{image}.png"
        if not path.exists():
            colour_picture(path, *colour)
        row = {"product_id": product, "image": path.name, "title": text}
        lines.append({**row, "category": category, "subcategory": f"{category} s"})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


@pytest.fixture
def catalogue(tmp_path):
    return write_catalogue(tmp_path / "catalogue")


@pytest.fixture(scope="session")
def engine(export, tmp_path_factory):
    """An engine over `ITEMS`."""
    from kaleido_tf.search.builder import build_index
    from kaleido_tf.search.engine import SearchEngine

    folder = tmp_path_factory.mktemp("search")
    manifest = write_catalogue(folder / "catalogue")
    build_index(export, folder / "index", manifest)
    return SearchEngine(export, folder / "index")


class Counting:
    """An export that counts what goes through it, and may fail at a picture."""

    def __init__(self, export, fail_after=None):
        self._export, self._left = export, fail_after
        self.pictures = 0

    def __getattr__(self, name):
        return getattr(self._export, name)

    def call(self, name, **inputs):
        if name == "image_features":
            if self._left is not None and self._left <= 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.pictures += len(inputs["image_bytes"])
        return self._export.call(name, **inputs)


@pytest.fixture
def counted(export):
    """Function of `Counting`'s other arguments: the export, counted."""
    return lambda **kwargs: Counting(export, **kwargs)
