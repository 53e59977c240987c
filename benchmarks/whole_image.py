"""Features of whole pictures by a data set's own backbone: what the baselines see."""

import json
import os
import time

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import pictures, sources
from kaleido_tf import files
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import patches


def whole_image_features(paths, backbone, batch_size=32):
    """Features of whole pictures, their aspect kept.

    Args:
      paths: dict image_id -> path.
      backbone: `Backbone`; its `patch_size` is the side of the canvas.
      batch_size: pictures at once.

    Returns:
      float32 [N, F] in the order of `paths`.

    Raises:
      ValueError: a picture that can't be read.
    """
    size = backbone.patch_size
    place = tf.function(
        lambda image: patches.to_canvas(image, size)[0],
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
    )
    extract = tf.function(
        backbone,
        input_signature=[tf.TensorSpec([batch_size, size, size, 3], tf.uint8)],
    )
    paths, parts, start = list(paths.values()), [], time.time()
    for first in range(0, len(paths), batch_size):
        chosen = paths[first : first + batch_size]
        canvases = [place(_read(path)) for path in chosen]
        canvases += canvases[-1:] * (batch_size - len(chosen))
        parts.append(extract(tf.stack(canvases)).numpy()[: len(chosen)])
        done = first + len(chosen)
        rate = done / (time.time() - start)
        logging.log_every_n_seconds(
            logging.INFO, "%d of %d images, %.0f images/s", 15, done, len(paths), rate
        )
    return np.concatenate(parts)


def _read(path):
    try:
        return pictures.read_picture(path)
    except ValueError as error:
        raise ValueError(
            f"{path} should be a readable picture, as it was when the data set was "
            f"prepared. Received: {error} (put the file back)"
        ) from error


def cached_features(paths, backbone, cache):
    """`whole_image_features`, kept in a .npz file for the next run.

    The file counts only if it holds the same images and came from the same backbone.
    """
    identity = json.dumps([backbone.describe(), list(paths)])
    if os.path.exists(cache):
        with np.load(cache) as stored:
            if str(stored["identity"]) == identity:
                logging.info("features from %s", cache)
                return stored["features"]
    features = whole_image_features(paths, backbone)
    with files.whole(cache, "wb") as file:
        np.savez(file, identity=np.array(identity), features=features)
    return features


def same_backbone(info, image_size, weights):
    """The data set's backbone at another picture size; refuses other weights."""
    recorded = info.values["backbone"]
    backbone = backbone_lib.build_backbone(recorded["name"], image_size, weights)
    if backbone.weights_hash != recorded["weights_hash"]:
        raise ValueError(
            f"The backbone should have the data set's weights ({recorded['weights']}, "
            f"hash {recorded['weights_hash'][:12]}...). Received: "
            f"{backbone.weights_id}, {backbone.weights_hash[:12]}... (name their file "
            "by --backbone_weights)"
        )
    return backbone


def picture_paths(manifest, items):
    """dict image_id -> path for the items, by the catalogue's manifest."""
    products = sources.read_manifest(manifest, sources.SkipList())
    known = {product.image_id: product.image_path for product in products}
    ids = [item.image_id for item in items]
    if missing := [image_id for image_id in ids if image_id not in known]:
        raise ValueError(
            f"{manifest} should name every image of the data set. Received none for "
            f"{missing[:5]} ({len(missing)} in all: the manifest of another catalogue?)"
        )
    return {image_id: known[image_id] for image_id in ids}


def vectors_of(items, info, settings):
    """Computes the features of some records, or takes them from the last run.

    Args:
      items: list of `candidate_lists.Item`.
      info: `DatasetInfo`.
      settings: dict of the flags of `add_flags`; the features are kept beside `output`.

    Returns:
      (function of a list of image ids -> float32 [n, F], the `Backbone`).
    """
    backbone = same_backbone(info, settings["image_size"], settings["backbone_weights"])
    paths = picture_paths(settings["manifest"], items)
    os.makedirs(os.path.dirname(os.path.abspath(settings["output"])), exist_ok=True)
    cache = os.path.splitext(settings["output"])[0] + ".features.npz"
    features = cached_features(paths, backbone, cache)
    places = {image_id: place for place, image_id in enumerate(paths)}

    def vectors(image_ids):
        return features[[places[image_id] for image_id in image_ids]]

    return vectors, backbone


def add_flags(page):
    """The flags of data, results and features; further ones of features may follow."""
    page.heading("Data")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string(
        "manifest", None, "The catalogue that it was prepared from.", required=True
    )
    page.string("output", None, "JSON file for the results.", required=True)
    page.heading("Features")
    page.integer("image_size", 224, "Side of a whole picture, pixels.", lower_bound=32)
    page.string(
        "backbone_weights",
        None,
        "File with the backbone's weights, if the data set was prepared with one.",
    )
