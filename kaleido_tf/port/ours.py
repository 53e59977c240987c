"""Port: checkpoints of ours as a start for a model that isn't quite the same.

A classifier takes the encoder of a pre-trainer and keeps its own fresh head; a model
with the alignment before fusion starts from one without, or the other way round.
`training.checkpoints.load_weights` is for the same model.
"""

import re

from kaleido_tf.port import mapping
from kaleido_tf.port.names import EASYTRANSFER_NAMES
from kaleido_tf.port.report import Entry, PortError, PortReport
from kaleido_tf.training import checkpoints

_HEADS = {row[0].split(".")[0] for row in EASYTRANSFER_NAMES} - {"encoder"}
_VECTORS = "vector_projection"


def load_checkpoint(model, path, allow_missing=(), fresh=()):
    """Loads the encoder and the heads that a checkpoint of ours shares with `model`.

    Args:
      model: any model of `kaleido_tf.modeling` that contains the encoder.
      path: run folder, its checkpoints folder, or a prefix there.
      allow_missing: regular expressions of pre-training heads that may start fresh.
        Heads of the model's own task and the alignment before fusion always may.
      fresh: names of heads that start fresh although they are stored (those of
        another set of classes).

    Returns:
      `PortReport`.

    Raises:
      FileNotFoundError: no checkpoint, or no config.json of its run.
      PortError: a pre-training head is missing.
      ValueError: other sizes, or a damaged file.
    """
    prefix = checkpoints.checkpoint_prefix(path)
    config = checkpoints.run_config(prefix)
    parts = checkpoints.model_parts(model)
    stored = checkpoints.stored_parts(prefix) - set(fresh)
    common = {name: part for name, part in parts.items() if name in stored}
    no_vectors = not config.contrastive_size
    report = PortReport(prefix, "checkpoint of ours")
    for name, variable in mapping.distinct_variables(model, parts):
        part, note = name.split(".")[0], None
        if part in fresh:
            note = "of another set of classes: fresh"
        elif part not in common:
            note = _why_fresh(part, allow_missing)
        elif name.startswith(f"encoder.{_VECTORS}.") and no_vectors:
            note = "the stored model has no alignment before fusion: fresh"
        _add(report, name, tuple(variable.shape), note)
    for name in sorted((stored & _HEADS) - set(parts)):
        report.unused.append(Entry(name, (), note=f"the model has no {name}"))
    if report.differences:
        raise PortError(report)
    checkpoints.read_parts(prefix, common)
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
