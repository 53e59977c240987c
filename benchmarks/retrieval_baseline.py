"""CLI: a retrieval baseline worth beating, on the same frozen candidate lists.

Ridge regression from the words and bigrams of a text to the whole image's features
(the data set's backbone, no patches), trained on the same pairs as the model, ranked by
cosine. It knows no patch and no word order beyond two words; a model that doesn't beat
it has learnt less than a linear map of counts. Its strength and the scaling of the
features are chosen on products held back from the training split, never on the split
that is evaluated.
"""

import dataclasses
import json
import os
import time

import numpy as np
import tensorflow as tf
from absl import logging

from benchmarks.text_ridge import SCALINGS, ScaledSpace, TextRidge, choose
from data_prep import shard_writer, sources
from kaleido_tf import cli
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import candidate_lists, patches
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.tasks import retrieval, retrieval_run


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
        return shard_writer.read_picture(path)
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
    with open(f"{cache}.tmp", "wb") as file:
        np.savez(file, identity=np.array(identity), features=features)
    os.replace(f"{cache}.tmp", cache)
    return features


def _same_backbone(info, image_size, weights):
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


def _picture_paths(manifest, items):
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


def fit_scorer(train, split, vectors_of, scalings=SCALINGS):
    """Chooses and fits the baseline; scores of the evaluated split.

    Args:
      train: list of `Item` of the training split, each with a text.
      split: `RetrievalSplit` to score.
      vectors_of: function of a list of image ids -> float32 [n, F].
      scalings: see `text_ridge.choose`.

    Returns:
      (`VectorScorer`, dict that describes what was fitted).
    """
    texts = [item.text for item in train]
    features = vectors_of([item.image_id for item in train])
    choices = choose(texts, [item.product_id for item in train], features, scalings)
    best = choices[0]
    space = ScaledSpace(features, best.scaling)
    ridge = TextRidge(best.strength).fit(texts, features - space.mean)
    scorer = retrieval.VectorScorer(
        space.vectors(ridge.predict(split.texts)),
        space.vectors(vectors_of(split.image_ids) - space.mean),
    )
    return scorer, {
        "name": "ridge regression, words and bigrams to whole image",
        "strength": best.strength,
        "scaling": best.scaling,
        "num_terms": ridge.num_terms,
        "num_training_pairs": len(train),
        "tried_on_training_products": [dataclasses.asdict(c) for c in choices],
    }


def run(settings):
    """Fits and measures the baseline.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict, the content of the output file; its table is printed.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    lists = retrieval_run.load_lists(settings)
    info = DatasetInfo.load(settings["data_dir"])
    train = candidate_lists.read_items(info, "train")
    evaluated = candidate_lists.read_items(info, lists["itr"][0]["split"])
    backbone = _same_backbone(
        info, settings["image_size"], settings["backbone_weights"]
    )
    paths = _picture_paths(settings["manifest"], [*train, *evaluated])
    os.makedirs(os.path.dirname(os.path.abspath(settings["output"])), exist_ok=True)
    cache = os.path.splitext(settings["output"])[0] + ".features.npz"
    features = cached_features(paths, backbone, cache)
    places = {image_id: place for place, image_id in enumerate(paths)}
    split = retrieval_run.load_split(info, lists, settings["max_full_pairs"])
    scorer, fitted = fit_scorer(
        [item for item in train if item.text.strip()],
        split,
        lambda image_ids: features[[places[image_id] for image_id in image_ids]],
        settings["scalings"],
    )
    results = {
        "task": "retrieval",
        "data_dir": settings["data_dir"],
        "baseline": {**fitted, "backbone": backbone.describe()},
        **retrieval_run.measure(scorer, split, lists, settings["max_full_pairs"]),
    }
    _write(results, settings["output"])
    print(retrieval_run.format_table(results))
    print(f"Written to {settings['output']}")
    return results


def _write(results, path):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(f"{path}.tmp", path)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Retrieval by ridge regression from words to whole images, as a baseline."
    )
    page.heading("Data")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string(
        "manifest", None, "The catalogue that it was prepared from.", required=True
    )
    page.string(
        "lists_dir", None, "Frozen candidate lists of this data set.", required=True
    )
    page.string("output", None, "JSON file for the results.", required=True)
    page.heading("Features")
    page.integer("image_size", 224, "Side of a whole picture, pixels.", lower_bound=32)
    page.string(
        "backbone_weights",
        None,
        "File with the backbone's weights, if the data set was prepared with one.",
    )
    page.list(
        "scalings",
        list(SCALINGS),
        "Scalings of the features to choose from, comma-separated; centre alone is the "
        "plainest baseline.",
    )
    page.heading("Retrieval")
    page.integer("num_lists", 5, "Lists for each direction: the seeds 0, 1, ...")
    page.integer("num_queries", 0, "Queries of each list, from its start; 0 is all.")
    page.integer(
        "max_full_pairs",
        5_000_000,
        "Rank the whole split too if it has at most so many pairs (texts x images).",
    )
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
