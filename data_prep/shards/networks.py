"""The networks of data preparation, built once a process: backbone, saliency, AAG."""

import dataclasses
import json
import os

from absl import logging

from data_prep import saliency
from data_prep.shards import placing
from kaleido_tf.data import backbone as backbone_lib


@dataclasses.dataclass(frozen=True)
class Networks:
    """What a shard is computed with.

    Attributes:
      backbone: `Backbone`: patch -> feature.
      locker: `saliency.Locker`; None where the patch arm locks no boxes.
      aligner: `alignment.Aligner`; None where no pairs are wanted.
    """

    backbone: object
    locker: object
    aligner: object

    def describe(self):
        """What the networks are, for `dataset_info.json` and fingerprints: dict.

        Weights count by their hash, wherever their files lie.
        """
        return {
            "backbone": self.backbone.describe(),
            "saliency": self.locker and self.locker.describe(),
            "alignments": self.aligner and self.aligner.settings(),
        }


def build_networks(settings):
    """Builds the networks that settings name.

    Args:
      settings: `shard_writer.PrepareSettings`.

    Returns:
      `Networks`.

    Raises:
      ValueError, FileNotFoundError: weights that aren't there or don't fit.
      OSError: the backbone's default weights can't be had.
    """
    try:
        backbone = backbone_lib.build_backbone(
            settings.backbone, settings.patch_size, settings.backbone_weights
        )
    except RuntimeError as error:  # weights that can't be had
        raise OSError(str(error)) from error
    locker = None
    if settings.locks_boxes:
        locker = saliency.make_locker(settings.saliency, settings.saliency_weights)
    aligner = make_aligner(settings) if settings.alignments else None
    if aligner:
        _compare_placing(settings, locker, aligner)
    return Networks(backbone, locker, aligner)


def _compare_placing(settings, locker, aligner):
    """Warns where the captioner learnt from pictures that were placed otherwise."""
    placed = placing.describe(settings.patch_arm, settings.canvas_size, locker)
    if placed != aligner.captioner.placing:
        logging.warning(
            "the captioner of --alignments was trained on pictures placed by %s; these "
            "are placed by %s, and it may look beside the words",
            aligner.captioner.placing,
            placed,
        )


def make_aligner(settings):
    """The alignment generator of a trained captioner's folder."""
    # The captioner places its training pictures by `shard_writer`, which uses this.
    from data_prep import alignment
    from data_prep.sat import captioner

    captioner.captioner_sha256(settings.alignments)  # says where files are missing
    path = os.path.join(settings.alignments, captioner.CONFIG_NAME)
    with open(path, encoding="utf-8") as file:
        trained_with = json.load(file)["backbone"]["name"]
    # A file of weights is that of the captioner's backbone too, if it is the same.
    same = trained_with == settings.backbone
    weights = settings.backbone_weights if same else None
    return alignment.Aligner(settings.alignments, backbone_weights=weights)
