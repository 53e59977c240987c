"""Port: checkpoints of ours as a start for a model that isn't quite the same.

A classifier takes the encoder of a pre-trainer and keeps its own fresh head; a model
with the alignment before fusion starts from one without, or the other way round.
`training.checkpoints.load_weights` is for the same model.
"""

import os
import re

import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_encoder
from kaleido_tf.port import mapping, readers
from kaleido_tf.port.names import EASYTRANSFER_NAMES
from kaleido_tf.port.report import Entry, PortError, PortReport
from kaleido_tf.training import checkpoints

_HEADS = {row[0].split(".")[0] for row in EASYTRANSFER_NAMES} - {"encoder"}
_VECTORS = "vector_projection"


def run_config(path):
    """The `KaleidoConfig` of a run.

    Args:
      path: its folder, its checkpoints folder, or a prefix there.
    """
    prefix = checkpoints.checkpoint_prefix(path)
    for folder in (os.path.dirname(prefix), os.path.dirname(os.path.dirname(prefix))):
        config = os.path.join(folder, checkpoints.CONFIG_NAME)
        if os.path.isfile(config):
            return KaleidoConfig.from_json(config)
    raise FileNotFoundError(
        f"{prefix} should lie in its run folder, which holds "
        f"{checkpoints.CONFIG_NAME}. Received: no such file there"
    )


def load_checkpoint(model, path, allow_missing=()):
    """Loads the encoder and the heads that a checkpoint of ours shares with `model`.

    Args:
      model: any model of `kaleido_tf.modeling` that contains the encoder.
      path: run folder, its checkpoints folder, or a prefix there.
      allow_missing: regular expressions of pre-training heads that may start fresh.
        Heads of the model's own task and the alignment before fusion always may.

    Returns:
      `PortReport`.

    Raises:
      FileNotFoundError: no checkpoint, or no config.json of its run.
      PortError: a pre-training head is missing.
      ValueError: other sizes, or a damaged file.
    """
    prefix, config = checkpoints.checkpoint_prefix(path), run_config(path)
    parts = checkpoints.model_parts(model)
    stored = {name.split("/")[0] for name in readers.CheckpointReader(prefix).shapes}
    common = {name: part for name, part in parts.items() if name in stored}
    same_vectors = bool(config.contrastive_size) == _has_vectors(parts["encoder"])
    report = PortReport(prefix, "checkpoint of ours")
    for name, variable in mapping.distinct_variables(model, parts):
        fresh = None
        if name.split(".")[0] not in common:
            fresh = _why_fresh(name.split(".")[0], allow_missing)
        elif name.startswith(f"encoder.{_VECTORS}.") and not same_vectors:
            fresh = "the stored model has no alignment before fusion: fresh"
        _add(report, name, tuple(variable.shape), fresh)
    for name in sorted((stored & _HEADS) - set(parts)):
        report.unused.append(Entry(name, (), note=f"the model has no {name}"))
    if report.differences:
        raise PortError(report)
    if same_vectors:
        _read(prefix, common)
    else:
        source = build_encoder(config)
        _read(prefix, {**common, "encoder": source})
        _copy_layers(source, parts["encoder"])
    return report


def _add(report, name, shape, fresh):
    """Lists a variable of the model: loaded, or missing with the note `fresh`."""
    if fresh is None:
        report.loaded.append(Entry(name, shape, name, shape))
    else:
        report.missing.append(Entry(None, None, name, shape, fresh))


def _why_fresh(part, allow_missing):
    """The note on a part that isn't stored; "" where nothing allows that."""
    if any(re.fullmatch(pattern, part) for pattern in allow_missing):
        return "allowed by allow_missing"
    return "" if part in _HEADS else "of its own task: fresh"


def _has_vectors(encoder):
    return any(layer.name == _VECTORS for layer in encoder.layers)


def _copy_layers(source, encoder):
    """Copies layers by name between encoders that differ in the alignment alone."""
    stored = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in encoder.layers:
        if layer.name in stored:
            layer.set_weights(stored[layer.name].get_weights())


def _read(prefix, parts):
    try:
        status = tf.train.Checkpoint(**parts).read(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except (*readers.BROKEN, AssertionError) as error:
        raise ValueError(
            f"{prefix} should hold a model of the same sizes, whole. Received: "
            f"{str(error).splitlines()[0]} (use the config.json of its run)"
        ) from error
