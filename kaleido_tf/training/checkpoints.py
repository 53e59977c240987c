"""Checkpoints: numbered, the last whole one resumed, weights shared between models.

A checkpoint stores the encoder and each head under its own name, so any model of ours
loads what it has in common with the model that was saved.
"""

import json
import os

import tensorflow as tf

CHECKPOINT_FOLDER = "checkpoints"
CONFIG_NAME = "config.json"


def model_parts(model):
    """The encoder and the heads of a model by name: dict of layers."""
    parts = {layer.name: layer for layer in model.layers if _is_part(layer.name)}
    if hasattr(model, "encoder"):
        parts["encoder"] = model.encoder
    if model.name == "encoder":
        parts["encoder"] = model
    return parts


def _is_part(name):
    return name == "encoder" or name.endswith("_head")


def checkpoint_prefix(path):
    """Finds the checkpoint that `path` means.

    Args:
      path: a run folder, its checkpoints folder, or a checkpoint's prefix.

    Returns:
      The prefix of a whole checkpoint.

    Raises:
      FileNotFoundError: there is none.
    """
    for folder in (os.path.join(path, CHECKPOINT_FOLDER), path):
        whole = whole_checkpoints(folder)
        if whole:
            return whole[-1][1]
    prefix = path[: -len(".index")] if path.endswith(".index") else path
    if os.path.isfile(f"{prefix}.index"):
        return prefix
    raise FileNotFoundError(
        "The checkpoint should be a run folder, a folder of checkpoints or the prefix "
        f"of one (PREFIX.index). Received: {path}"
    )


def whole_checkpoints(folder):
    """(step, prefix) of the checkpoints in a folder that were written to their end."""
    found = []
    if not os.path.isdir(folder):
        return found
    for name in os.listdir(folder):
        if not (name.startswith("ckpt-") and name.endswith(".index")):
            continue
        prefix = os.path.join(folder, name[: -len(".index")])
        step = name[len("ckpt-") : -len(".index")]
        if step.isdigit() and _is_whole(prefix):
            found.append((int(step), prefix))
    return sorted(found)


def _is_whole(prefix):
    try:
        with open(f"{prefix}.done", encoding="utf-8") as file:
            sizes = json.load(file)
        folder = os.path.dirname(prefix)
        return all(
            os.path.getsize(os.path.join(folder, name)) == size
            for name, size in sizes.items()
        )
    except (OSError, ValueError):
        return False


def load_weights(model, path):
    """Loads the encoder and every head that `model` has, all of them or nothing.

    Args:
      model: any model of `kaleido_tf.modeling`.
      path: see `checkpoint_prefix`.

    Returns:
      The prefix that was loaded.

    Raises:
      FileNotFoundError: no checkpoint there.
      ValueError: a part of the model isn't in it, or has another shape.
    """
    prefix = checkpoint_prefix(path)
    parts = model_parts(model)
    stored = {
        name.split("/")[0] for name, _ in tf.train.list_variables(prefix) if "/" in name
    }
    missing = sorted(set(parts) - stored)
    if missing:
        raise ValueError(
            f"{prefix} should hold {sorted(parts)}. Missing: {missing}; it has "
            f"{sorted(filter(_is_part, stored))} (it was "
            "saved from a model without these heads)"
        )
    try:
        status = tf.train.Checkpoint(**parts).read(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"{prefix} should have been saved from a model of the same config. "
            f"Received: {str(error).splitlines()[0]} (use the config.json of its run)"
        ) from error
    return prefix


class CheckpointKeeper:
    """Writes numbered checkpoints of a training run and finds the last whole one.

    A checkpoint counts once its `.done` file is there, which names its files' sizes and
    is written last; what a stop leaves half-written is never resumed from.

    Args:
      run_dir: the run's folder.
      model: the model.
      optimizer: its optimizer; None stores the weights alone.
      keep: how many checkpoints are kept.
    """

    def __init__(self, run_dir, model, optimizer=None, keep=3):
        self.folder = os.path.join(run_dir, CHECKPOINT_FOLDER)
        self.keep = keep
        state = {} if optimizer is None else {"optimizer": optimizer}
        self._checkpoint = tf.train.Checkpoint(**state, **model_parts(model))

    def save(self, step):
        """Writes `ckpt-<step>`; returns its prefix."""
        os.makedirs(self.folder, exist_ok=True)
        prefix = os.path.join(self.folder, f"ckpt-{step}")
        self._checkpoint.write(prefix)
        files = [
            name
            for name in os.listdir(self.folder)
            if name.startswith(f"ckpt-{step}.") and not name.endswith(".done")
        ]
        sizes = {n: os.path.getsize(os.path.join(self.folder, n)) for n in files}
        with open(f"{prefix}.done.tmp", "w", encoding="utf-8") as file:
            json.dump(sizes, file)
        os.replace(f"{prefix}.done.tmp", f"{prefix}.done")
        for _, old in whole_checkpoints(self.folder)[: -self.keep]:
            self._remove(old)
        return prefix

    def _remove(self, prefix):
        start = os.path.basename(prefix) + "."
        names = [n for n in os.listdir(self.folder) if n.startswith(start)]
        # The .done file goes first, so that no half-removed checkpoint looks whole.
        for name in sorted(names, key=lambda n: not n.endswith(".done")):
            os.remove(os.path.join(self.folder, name))

    def restore_latest(self):
        """Restores the last whole checkpoint; returns its step, 0 if there is none."""
        whole = whole_checkpoints(self.folder)
        if not whole:
            return 0
        step, prefix = whole[-1]
        self._checkpoint.read(prefix).assert_existing_objects_matched()
        return step
