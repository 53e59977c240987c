"""CLI: checkpoints -> a SavedModel in TensorFlow Serving's layout.

  python -m kaleido_tf.serving.export --checkpoint=run --output_dir=served
      --data_info=data/dataset_info.json

writes served/1/ (then 2, 3 ...): saved_model.pb, variables/, and in assets.extra/ the
warm-up requests and kaleido_info.json, which says what made it.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil

import tensorflow as tf
import tf_keras
from absl import logging

from kaleido_tf import cli, files
from kaleido_tf.data import pictures
from kaleido_tf.data.dataset_info import FILE_NAME, file_sha256
from kaleido_tf.serving import load, requests, signatures, warmup

INFO_NAME = "kaleido_info.json"
FORMAT = 1
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_PACKAGES = (
    "tensorflow",
    "tf-keras",
    "tf-models-official",
    "tensorflow-text",
    "numpy",
)


def next_version(output_dir):
    """The first free version after the last one there: int from 1 on."""
    there = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    return max((int(name) for name in there if name.isdigit()), default=0) + 1


def make_info(settings, parts, loader, backbone, saliency):
    """What made an export: dict of plain JSON values; see docs/serving.md.

    Two exports with the same `export_sha256` have the same weights and settings, and
    give the same answers; package versions don't count.
    """
    record = loader.info.values
    checkpoints = {
        name: {**entry, "config": dataclasses.asdict(entry["config"])}
        for name, entry in loader.checkpoints.items()
    }
    info = {
        "format": FORMAT,
        "precision": settings["precision"],
        "dataset": {
            "sha256": file_sha256(os.path.join(loader.info.directory, FILE_NAME)),
            "patch_arm": loader.info.patch_arm,
            "num_patches": parts.line.num_patches,
            "feature_size": parts.line.feature_size,
            "canvas_size": record["canvas_size"],
            "patch_size": backbone.patch_size,
            "coarse_patch_size": record.get("coarse_patch_size", 0),
        },
        "vocabulary": {
            "size": loader.tokenizer.vocab_size,
            "sha256": record["vocab_sha256"],
        },
        "backbone": backbone.describe(),
        "saliency": saliency,
        "checkpoints": checkpoints,
        "limits": {
            "max_pixels": settings["max_pixels"],
            "max_text_bytes": requests.MAX_TEXT_BYTES,
        },
    }
    canonical = json.dumps(info, sort_keys=True, separators=(",", ":"))
    info["export_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    # Through JSON: tuples of a config become lists, here as in the file.
    info = json.loads(json.dumps(info))
    info["versions"] = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return info


def load_parts(settings):
    """`load.load_parts` in the precision of the flags."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(PRECISIONS[settings["precision"]])
    try:
        return load.load_parts(settings)
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def make_model(settings):
    """The served model of the flags: (`signatures.ServedModel`, info dict)."""
    parts, loader, backbone, saliency = load_parts(settings)
    info = make_info(settings, parts, loader, backbone, saliency)
    names = sorted(signatures.make_signatures(parts, ""))
    info["signatures"] = names
    for name in (*load.CLASSIFICATIONS, "caption"):
        if name not in names:
            flag = "captioning" if name == "caption" else name
            logging.info("without %s: no --%s_checkpoint is given", name, flag)
    if "image_vectors" not in names:
        logging.info("without text_vectors and image_vectors: the model has none")
    return signatures.ServedModel(parts, json.dumps(info, sort_keys=True)), info


@contextlib.contextmanager
def _quiet():
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def write(model, info, output_dir, version=None):
    """Writes a served model as one version, whole or not at all.

    Args:
      model: `signatures.ServedModel`.
      info: dict, see `make_info`.
      output_dir: folder of all versions.
      version: int; None: the next one.

    Returns:
      The version's folder.

    Raises:
      ValueError: this version is there already, or another export writes into the
        folder.
    """
    with files.locked(output_dir):
        version = version or next_version(output_dir)
        final = os.path.join(output_dir, str(version))
        if os.path.exists(final):
            raise ValueError(
                f"`version` should be a new one. Received: {version}, and {final} "
                "exists (leave --version out for the next one: a server takes an old "
                "one's files for unchanged)"
            )
        # A server that watches the folder takes whatever has a number for a name.
        temporary = os.path.join(output_dir, f".{version}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        count = _write_version(model, info, temporary)
        os.rename(temporary, final)
    logging.info("%d signatures, each with a warm-up request", count)
    return final


def _write_version(model, info, folder):
    """Writes all files of a version; returns how many warm-up requests it has."""
    with _quiet():  # it lists some thousand names of inner inputs
        tf.saved_model.save(
            model,
            folder,
            signatures=model.signatures,
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
    count = warmup.write(model, folder)
    path = os.path.join(folder, warmup.FOLDER, INFO_NAME)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(info, file, indent=1, sort_keys=True)
        file.write("\n")
    return count


def export(settings):
    """Exports with a dict of flags; returns the version's folder."""
    model, info = make_model(settings)
    return write(model, info, settings["output_dir"], settings["version"])


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Exports a trained model as a SavedModel for serving.")
    page.heading("Model")
    page.string(
        "checkpoint",
        None,
        "Run (pre-training or fine-tuned retrieval) or checkpoint: matching, vectors.",
        required=True,
    )
    page.string("category_checkpoint", None, "Run fine-tuned for category.")
    page.string("subcategory_checkpoint", None, "Run fine-tuned for subcategory.")
    page.string("captioning_checkpoint", None, "Run fine-tuned for captioning.")
    page.heading("Data")
    page.string(
        "data_info",
        None,
        "dataset_info.json of the data set that the runs were trained on, in its "
        "folder (vocab.txt, and saliency/ where there is one, lie beside it).",
        required=True,
    )
    page.string(
        "backbone_weights",
        None,
        "File with the backbone's weights, where the data set was prepared with one.",
    )
    page.string(
        "saliency_weights",
        None,
        "Folder of a U-Net that locks the box, where the data set's own method can't "
        "be served (opencv, onnx, saved_model).",
    )
    page.heading("Output")
    page.string("output_dir", None, "Folder of the model's versions.", required=True)
    page.integer(
        "version", None, "Number of this version; default: the next.", lower_bound=1
    )
    page.enum(
        "precision",
        "float32",
        list(PRECISIONS),
        "Of the transformer's layers. The backbone keeps the data set's.",
    )
    page.integer(
        "max_pixels",
        pictures.MAX_PIXELS,
        "Larger pictures are refused by their header.",
        lower_bound=64,
    )
    page.heading("Captions")
    page.integer("beam_size", 5, "Captions of an image.", lower_bound=1)
    page.integer("max_length", 64, "Word pieces of a caption.", lower_bound=1)
    page.float("length_penalty", 0.6, "0 favours short ones.", lower_bound=0.0)
    return page


def main(settings):
    """Exports; prints where to and what."""
    folder = export(settings)
    with open(os.path.join(folder, warmup.FOLDER, INFO_NAME), encoding="utf-8") as file:
        info = json.load(file)
    print(f"Written to {folder}: {', '.join(info['signatures'])}")
    print(f"export_sha256 {info['export_sha256']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
