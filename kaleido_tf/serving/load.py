"""From a data set's info and the runs' checkpoints to what is served.

The backbone and the saliency network are rebuilt as `dataset_info.json` says, and
refused where they aren't the ones that made the features the model was trained on.
"""

import hashlib
import os

import numpy as np
from absl import logging

from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import patches
from kaleido_tf.data.dataset_info import FILE_NAME, DatasetInfo
from kaleido_tf.data.saliency_net import SaliencyNet
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import (
    build_captioner,
    build_classifier,
    build_matcher,
    decoding,
)
from kaleido_tf.serving import answers, images, signatures
from kaleido_tf.tasks.matcher_parts import MatcherParts
from kaleido_tf.training import checkpoints, run_data, run_folder

CLASSIFICATIONS = ("category", "subcategory")


def read_info(path):
    """`DatasetInfo` of a dataset_info.json or of its folder.

    Raises:
      FileNotFoundError, ValueError: none there, or one whose features weren't made
        from pictures.
    """
    path = os.path.normpath(path)
    folder = os.path.dirname(path) if os.path.basename(path) == FILE_NAME else path
    info = DatasetInfo.load(folder or ".")
    backbone = info.values.get("backbone") or {}
    if "canvas_size" not in info.values or backbone.get("name") not in (
        backbone_lib.FEATURE_SIZES
    ):
        raise ValueError(
            f"`data_info` should be of a data set made from pictures, with canvas_size "
            f"and a backbone out of {sorted(backbone_lib.FEATURE_SIZES)}. Received: "
            f"{os.path.join(folder, FILE_NAME)} with the backbone "
            f"{backbone.get('name')!r} (features that came from elsewhere can't be "
            "computed from a picture: prepare the pictures by data_prep.prepare, and "
            "train on that)"
        )
    return info


def make_backbone(info, weights=None):
    """The backbone that made a data set's features, checked by its weights' hash.

    Args:
      info: `DatasetInfo`.
      weights: path of the weights' file, where it isn't the one of the package.

    Raises:
      ValueError: other weights.
      OSError: the weights can't be had.
    """
    record = info.values["backbone"]
    if weights is None and str(record.get("weights", "")).startswith("random:"):
        weights = "random"
    try:
        backbone = backbone_lib.build_backbone(
            record["name"],
            record["patch_size"],
            weights,
            record.get("compute_dtype", "float32"),
        )
    except RuntimeError as error:  # weights that can't be had
        raise OSError(str(error)) from error
    if backbone.weights_hash != record["weights_hash"]:
        raise ValueError(
            "`backbone_weights` should be the weights that made the data set's "
            f"features, {record['weights']} with the hash "
            f"{record['weights_hash'][:12]}.... Received: {backbone.weights_id} with "
            f"{backbone.weights_hash[:12]}... (name the file that was used, or prepare "
            "the data again and train on it)"
        )
    return backbone


def make_saliency(info, weights=None):
    """What locks the box.

    Args:
      info: `DatasetInfo`.
      weights: folder of a U-Net to use where the data set's boxes were locked by
        something that no graph can run.

    Returns:
      (`SaliencyNet` or None: the whole picture; dict for the export's info).

    Raises:
      ValueError: boxes that can't be locked alike.
    """
    record = info.values.get("saliency")
    method = (record or {}).get("method", "none")
    if info.patch_arm != "kaleido+saliency" or method == "none":
        if weights:
            raise ValueError(
                "`saliency_weights` should be left out: the data set's patches are of "
                f"the whole picture. Received: {weights}"
            )
        return None, {"method": "none", "same_as_data": True}
    if weights:
        net = SaliencyNet.load(weights)
        same = _weights_of(net) == (record or {}).get("weights_sha256")
        if not same:
            logging.warning(
                "the boxes are locked by another network than the data set's (%s): "
                "answers differ from those of training where its boxes do",
                method,
            )
        return net, {"method": "unet", **net.describe(), "same_as_data": same}
    folder = os.path.join(info.directory, (record or {}).get("folder", "saliency"))
    if method != "unet":
        raise ValueError(
            "The data set's boxes should be locked by a U-Net, which a served graph "
            f"can run. Received: {info.directory}, made with --saliency={method} "
            "(prepare the data again with --saliency=unet; or give a U-Net's folder by "
            "--saliency_weights: its boxes are used, and the export says that they "
            "aren't the training's)"
        )
    net = SaliencyNet.load(folder)
    expected, received = record["weights_sha256"], _weights_of(net)
    if received != expected:
        raise ValueError(
            f"{folder} should be the network that locked the data set's boxes (sha256 "
            f"{expected[:12]}...). Received: {received[:12]}... "
            "(copy it from the data set as it was prepared)"
        )
    return net, {"method": "unet", **net.describe(), "same_as_data": True}


def _weights_of(net):
    return net.describe().get("weights_sha256")


def weights_sha256(variables):
    """SHA-256, hex, over the order, types, shapes and values of variables."""
    digest = hashlib.sha256()
    for i, variable in enumerate(variables):
        value = np.ascontiguousarray(variable)
        digest.update(f"{i} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _describe(path, prefix, variables):
    """A checkpoint in the export's info: dict."""
    step = os.path.basename(prefix).rpartition("-")[2]
    task = run_folder.read_task(prefix)
    return {
        "run": os.path.basename(os.path.normpath(path)),
        "step": int(step) if step.isdigit() else None,
        "task": task.get("task", "pre-training"),
        "weights_sha256": weights_sha256(variables),
    }


class Loader:
    """Builds the served models of one data set, and notes what made them.

    Args:
      info: `DatasetInfo`.

    Attributes:
      checkpoints: dict for the export's info, filled as models are loaded.
    """

    def __init__(self, info):
        self.info = info
        self.tokenizer = Tokenizer.from_file(info.vocab_file)
        self.locations = patches.patch_locations(PATCH_ARMS[info.patch_arm])
        self.checkpoints = {}

    def _open(self, path, task):
        """(prefix, config, task.json) of a run, checked against data and task."""
        prefix = checkpoints.checkpoint_prefix(path)
        config = checkpoints.run_config(prefix)
        self.info.check_config(config)
        run_data.check_fits(prefix, self.info, run_data.FEATURES)
        notes = run_folder.read_task(prefix)
        if task and notes.get("task") != task:
            received = notes.get("task")
            raise ValueError(
                f"`{task}_checkpoint` should be of a run fine-tuned for {task}. "
                f"Received: {path}, "
                + (f"fine-tuned for {received}" if received else "a pre-training run")
                + f" (run_finetune.py --mode=train --task={task} makes one)"
            )
        return prefix, config, notes

    def _note(self, name, path, prefix, variables, config):
        self.checkpoints[name] = _describe(path, prefix, variables)
        self.checkpoints[name]["config"] = config
        logging.info("%s: step %s", name, self.checkpoints[name]["step"])

    def matching(self, path):
        prefix, config, _ = self._open(path, None)
        model = build_matcher(config)
        checkpoints.load_weights(model, prefix)
        self._note("matching", path, prefix, model.weights, config)
        parts = MatcherParts(model, config)
        return answers.Matching(parts, self.tokenizer, self.locations, model.weights)

    def classification(self, task, path):
        prefix, config, notes = self._open(path, task)
        names = notes["class_names"]
        model = build_classifier(config, len(names))
        checkpoints.load_weights(model, prefix)
        self._note(task, path, prefix, model.weights, config)
        self.checkpoints[task]["class_names"] = names
        return answers.Classification(
            model, config, names, self.tokenizer, self.locations
        )

    def captioning(self, path, beam_size=5, max_length=64, length_penalty=0.6):
        prefix, config, notes = self._open(path, "captioning")
        objective = notes.get("objective")
        how = decoding.DecodingSettings(
            # As evaluation does: mask_all knows a place by the [MASK] in it.
            objective=objective if objective in decoding.QUESTIONS else "masked",
            beam_size=beam_size,
            max_length=max_length,
            length_penalty=length_penalty,
        )
        model = build_captioner(config, how.attention)
        checkpoints.load_weights(model, prefix)
        self._note("captioning", path, prefix, model.weights, config)
        self.checkpoints["captioning"]["decoding"] = {
            "beam_size": beam_size,
            "max_length": max_length,
            "length_penalty": length_penalty,
            "objective": how.objective,
        }
        decoder = decoding.CaptionDecoder(model, config, self.tokenizer, how)
        return answers.Captioning(
            decoder, model.weights, config, self.tokenizer, self.locations
        )


def load_parts(settings):
    """What the export's settings name.

    Args:
      settings: dict of the flags of `export`.

    Returns:
      (`signatures.Parts`, `Loader`, backbone, dict about the saliency network).
    """
    info = read_info(settings["data_info"])
    backbone = make_backbone(info, settings["backbone_weights"] or None)
    saliency, saliency_info = make_saliency(info, settings["saliency_weights"] or None)
    line = images.ImageLine(
        PATCH_ARMS[info.patch_arm],
        info.values["canvas_size"],
        info.values.get("coarse_patch_size", 0),
        backbone,
        saliency,
        settings["max_pixels"],
    )
    loader = Loader(info)
    matching = loader.matching(settings["checkpoint"])
    classifications = {
        task: loader.classification(task, settings[f"{task}_checkpoint"])
        for task in CLASSIFICATIONS
        if settings[f"{task}_checkpoint"]
    }
    captioning = None
    if settings["captioning_checkpoint"]:
        keys = ("beam_size", "max_length", "length_penalty")
        captioning = loader.captioning(
            settings["captioning_checkpoint"], **{k: settings[k] for k in keys}
        )
    parts = signatures.Parts(
        line, loader.tokenizer, matching, classifications, captioning
    )
    return parts, loader, backbone, saliency_info
