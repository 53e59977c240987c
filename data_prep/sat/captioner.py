"""A trained captioner's folder: what belongs to it, and how it is read again.

`show_attend_tell` writes it; the alignment generator (`alignment`) reads it.
"""

import dataclasses
import hashlib
import json
import os

from data_prep.sat import sat_grids, sat_words
from data_prep.sat.sat_model import SatConfig, ShowAttendTell

CONFIG_NAME, WORDS_NAME = "config.json", "words.txt"
WEIGHTS_NAME = "weights.safetensors"
FILES = (CONFIG_NAME, WORDS_NAME, WEIGHTS_NAME)


@dataclasses.dataclass(frozen=True)
class Captioner:
    """A trained captioner and what belongs to it.

    Attributes:
      model: `ShowAttendTell`.
      table: `sat_words.WordTable`.
      extractor: `sat_grids.GridExtractor`.
      placing: `sat_grids.Placer.describe` of the images it was trained on.
      sha256: see `captioner_sha256`.
    """

    model: ShowAttendTell
    table: sat_words.WordTable
    extractor: sat_grids.GridExtractor
    placing: dict
    sha256: str


def captioner_sha256(folder):
    """Hash of what makes a captioner: its config, words and weights; hex.

    Raises:
      FileNotFoundError: no trained captioner there.
    """
    digest = hashlib.sha256()
    for name in FILES:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                "A captioner's folder should hold what data_prep.show_attend_tell "
                f"writes. Received: {folder} without {name} (train one, or let its "
                "training end)"
            )
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def load(folder, backbone_weights=None):
    """Reads a trained captioner.

    Args:
      folder: what `--output_dir` named.
      backbone_weights: file with the backbone's weights, if it was trained with one.

    Returns:
      `Captioner`.

    Raises:
      FileNotFoundError: no trained captioner there.
      ValueError: the files don't fit each other, or the backbone has other weights.
    """
    sha256 = captioner_sha256(folder)
    with open(os.path.join(folder, CONFIG_NAME), encoding="utf-8") as file:
        values = json.load(file)
    recorded = values["backbone"]
    extractor = sat_grids.GridExtractor(recorded["name"], backbone_weights)
    if extractor.backbone.weights_hash != recorded["weights_hash"]:
        raise ValueError(
            "The backbone should have the weights that the captioner was trained with "
            f"({recorded['weights']}). Received: {extractor.backbone.weights_id} (name "
            "their file)"
        )
    model = ShowAttendTell(SatConfig(**values["model"]))
    model.load(os.path.join(folder, WEIGHTS_NAME))
    table = sat_words.WordTable.load(os.path.join(folder, WORDS_NAME))
    if len(table) != model.config.num_words:
        raise ValueError(
            f"{folder}/{WORDS_NAME} should hold {model.config.num_words} words. "
            f"Received: {len(table)} (train the captioner again)"
        )
    return Captioner(model, table, extractor, values["placing"], sha256)
