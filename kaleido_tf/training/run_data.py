"""Which data a run was trained on: written into its folder, compared where it is used.

Sizes alone don't tell: another vocabulary of as many pieces, or features of another
backbone as long, would train, evaluate and serve without an error, and wrongly.
"""

import hashlib
import json
import os

from absl import logging

from kaleido_tf import files
from kaleido_tf.data.dataset_info import VOCAB_NAME
from kaleido_tf.data.tokenization import check_same_vocabulary
from kaleido_tf.training import checkpoints

FILE_NAME = "data.json"
# What dataset_info.json says of the meaning of pieces and features: name -> path in it.
_MEANING = {
    "vocabulary": ("vocab_sha256",),
    "backbone": ("backbone", "name"),
    "backbone's weights": ("backbone", "weights_hash"),
    "patch size": ("backbone", "patch_size"),
    "level 1's patch size": ("coarse_patch_size",),
    "canvas size": ("canvas_size",),
    "patch arm": ("patch_arm",),
    "level table": ("levels",),
    "location rule": ("location_rule",),
    "saliency": ("saliency", "method"),
    "saliency's weights": ("saliency", "weights_sha256"),
}
# Where these differ, a model's numbers are about something else. A run that starts from
# its weights may learn other features, but not other pieces.
PIECES = ("vocabulary", "level table")
_DECISIVE = (*PIECES, "backbone", "backbone's weights")
# A server makes the features anew: there, what else decides them must be the same too.
FEATURES = (
    *_DECISIVE,
    "patch size",
    "level 1's patch size",
    "canvas size",
    "patch arm",
)


def describe(info):
    """What a run notes of its data: dict.

    Args:
      info: `DatasetInfo`.

    Returns:
      "records": SHA-256 over the shards' own, hex; and the names of `_MEANING` with
      what dataset_info.json has there, None where it has nothing.
    """
    shards = [
        (split, shard["file"], shard["sha256"])
        for split, values in sorted(info.values["splits"].items())
        for shard in values["shards"]
    ]
    digest = hashlib.sha256(json.dumps(shards).encode()).hexdigest()
    found = {name: _at(info, path) for name, path in _MEANING.items()}
    found["location rule"] = found["location rule"] or "box"  # `prepare` has no other
    return {"records": digest, **found}


def _at(info, path):
    value = info.values
    for key in path:
        value = (value or {}).get(key)
    return value


def check_same(run_dir, info):
    """Raises ValueError where a run that goes on would go on with other data.

    Args:
      run_dir: the run's folder; one without the note is older than it, and passes.
      info: `DatasetInfo`.
    """
    before = _read(os.path.join(run_dir, FILE_NAME))
    if before is None:
        return
    changed = _changed(before, describe(info))
    if changed:
        raise ValueError(
            f"The data should be those {run_dir} was trained on. Received other ones in"
            f" {info.directory}: {', '.join(changed)} changed. Name another --run_dir "
            "to train on them, with --init_checkpoint to start from these weights"
        )


def check_fits(path, info, decisive=_DECISIVE):
    """Compares the data of a checkpoint's run with those it is to be used on.

    Args:
      path: see `checkpoints.checkpoint_prefix`; a checkpoint that isn't ours, or has
        neither a note of its data nor a vocabulary, passes.
      info: `DatasetInfo`.
      decisive: names of what must be the same; the rest is logged where it differs.

    Raises:
      ValueError: one of `decisive` differs, or the vocabulary that was ported with it.
    """
    try:
        prefix = checkpoints.checkpoint_prefix(path)
    except FileNotFoundError:
        return
    # A ported checkpoint has no note of data, but its vocabulary.
    vocabulary = checkpoints.run_file(prefix, VOCAB_NAME)
    if vocabulary:
        check_same_vocabulary(info.vocab_file, vocabulary)
    before = _read(checkpoints.run_file(prefix, FILE_NAME))
    if before is None:
        return
    now = describe(info)
    changed = [name for name in _changed(before, now) if name != "records"]
    wrong = [name for name in changed if name in decisive]
    if wrong:
        shown = "; ".join(
            f"{name} {_short(before.get(name))} there, {_short(now[name])} here"
            for name in wrong
        )
        raise ValueError(
            f"The data should be prepared as those {path} was trained on. Received "
            f"another {shown} ({info.directory}). Prepare them again with that run's "
            "flags (--vocab_file, --backbone, --backbone_weights and sizes), or train "
            "on them"
        )
    if changed:
        logging.warning(
            "%s was trained on data with another %s than %s",
            path,
            ", ".join(changed),
            info.directory,
        )


def _changed(before, now):
    return [n for n in now if n in before and before[n] != now[n]]


def _short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _read(path):
    if path is None or not os.path.exists(path):
        return None
    return files.read_json(path)
