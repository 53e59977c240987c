"""Exports of random weights, as fast as trained ones, for `benchmarks.serving`."""

import os

import numpy as np
import tf_keras

from data_prep import saliency
from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import dataset_info, records, tokenization
from kaleido_tf.modeling import build_captioner, build_classifier, build_matcher
from kaleido_tf.serving import export
from kaleido_tf.training import checkpoints, run_folder

CLASSES = {"category": 15, "subcategory": 68}  # sizes of the recognition heads
_ARM = "kaleido+saliency"
_NEVER_ENDS = -1e4  # bias of [SEP]


def write_data_info(folder, settings):
    """A data set's info, vocabulary and saliency network, without any records."""
    os.makedirs(folder, exist_ok=True)
    vocab = os.path.join(folder, dataset_info.VOCAB_NAME)
    words = [f"w{i}" for i in range(settings["vocab_size"] - 5)]
    with open(vocab, "w", encoding="utf-8") as file:
        file.writelines(f"{p}\n" for p in (*tokenization.SPECIAL_TOKENS, *words))
    locker = saliency.make_locker("unet")
    locker.export(os.path.join(folder, "saliency"))
    backbone = backbone_lib.build_backbone(
        "efficientnet_lite0", settings["patch_size"], settings["backbone_weights"]
    )
    values = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": _ARM,
        "canvas_size": settings["canvas_size"],
        "coarse_patch_size": 2 * settings["patch_size"],
        "feature_size": backbone.feature_size,
        "backbone": backbone.describe(),
        "saliency": {**locker.describe(), "folder": "saliency"},
        "vocab_size": settings["vocab_size"],
        "vocab_sha256": dataset_info.file_sha256(vocab),
        "splits": {},
    }
    path = os.path.join(folder, dataset_info.FILE_NAME)
    files.write_json(values, path)
    return path


def make_random_export(settings):
    """Exports models with random weights, or finds the export of an earlier run.

    Args:
      settings: dict of this command's flags.

    Returns:
      The settings of the export.
    """
    made = os.path.join(settings["work_dir"], "export_flags.json")
    if os.path.exists(made):
        return files.read_json(made)
    work = settings["work_dir"]
    data_info = write_data_info(os.path.join(work, "data"), settings)
    config = KaleidoConfig.preset(
        settings["size"],
        vocab_size=settings["vocab_size"],
        patch_feature_size=backbone_lib.FEATURE_SIZES["efficientnet_lite0"],
        patch_arm=_ARM,
    )
    if not config.contrastive_size:  # so that the signatures of vectors are there
        config = config.replace(contrastive_size=256)
    tf_keras.utils.set_random_seed(0)
    models = {"": build_matcher(config)}
    models |= {task: _task_model(config, task) for task in settings["tasks"]}
    flags = {"data_info": data_info, "output_dir": os.path.join(work, "served")}
    for task, model in models.items():
        run = os.path.join(work, f"random_weights_{task or 'matching'}")
        checkpoints.CheckpointKeeper(run, model).save(0)
        config.save(os.path.join(run, checkpoints.CONFIG_NAME))
        notes = {"task": task, "objective": "next_word"}
        names = [f"class {i}" for i in range(CLASSES.get(task, 0))]
        if task:
            notes |= {"class_names": names}
            files.write_json(notes, os.path.join(run, run_folder.TASK_NAME))
        flags[f"{task}_checkpoint" if task else "checkpoint"] = run
    flags = export.flag_page().defaults() | flags
    flags |= {key: settings[key] for key in ("precision", "beam_size", "max_length")}
    export.export(flags)
    files.write_json(flags, made)
    return flags


def _task_model(config, task):
    """A classifier, or a captioner whose searches go to their end."""
    if task != "captioning":
        return build_classifier(config, CLASSES[task])
    captioner = build_captioner(config)
    sep = tokenization.SPECIAL_TOKENS.index(tokenization.SEP)
    never = np.eye(config.vocab_size)[sep] * _NEVER_ENDS
    captioner.get_layer("mlm_head").bias.assign(never)
    return captioner
