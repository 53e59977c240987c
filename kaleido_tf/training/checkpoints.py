"""Checkpoints: numbered, the last whole one resumed, weights shared between models.

A checkpoint stores the encoder and each head under its own name, so any model of ours
loads what it has in common with the model that was saved.
"""

import os
import re
import shutil

import tensorflow as tf
from absl import logging

from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_encoder
from kaleido_tf.training import stopping

CHECKPOINT_FOLDER = "checkpoints"
# The checkpoint of a fine-tuned run with the best figure on the dev part.
BEST_FOLDER = "best"
CONFIG_NAME = "config.json"
_VECTORS = "vector_projection"
_NOT_WEIGHTS = (".done", ".round", ".tmp")  # ends of a checkpoint's other files
# What TensorFlow raises: IndexError, for one, where a data file is too short.
_BROKEN = (tf.errors.OpError, RuntimeError, IndexError, ValueError, AssertionError)


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
      path: a run folder (of a fine-tuned run its best checkpoint, of a pre-training run
        its last one), a folder of checkpoints, or a checkpoint's prefix.

    Returns:
      The prefix of a whole checkpoint.

    Raises:
      FileNotFoundError: there is none.
    """
    path = os.fspath(path)
    for name in (BEST_FOLDER, CHECKPOINT_FOLDER, ""):
        whole = whole_checkpoints(os.path.join(path, name))
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
        sizes = files.read_json(f"{prefix}.done")
        folder = os.path.dirname(prefix)
        return all(
            os.path.getsize(os.path.join(folder, name)) == size
            for name, size in sizes.items()
        )
    except (OSError, ValueError):
        return False


def run_config(path):
    """The `KaleidoConfig` of a run.

    Args:
      path: see `checkpoint_prefix`.

    Raises:
      FileNotFoundError: no checkpoint there, or it lies outside of its run folder.
    """
    prefix = checkpoint_prefix(path)
    config = run_file(prefix, CONFIG_NAME)
    if config is None:
        raise FileNotFoundError(
            f"{prefix} should lie in its run folder, which holds {CONFIG_NAME}. "
            "Received: no such file there"
        )
    return KaleidoConfig.from_json(config)


def run_file(prefix, name):
    """Path of a file in the run folder that a checkpoint lies in, or None."""
    folder = os.path.dirname(prefix)
    for place in (folder, os.path.dirname(folder)):
        if os.path.isfile(os.path.join(place, name)):
            return os.path.join(place, name)
    return None


def stored_parts(prefix):
    """Names of the encoder and the heads that a checkpoint of ours holds: set."""
    try:
        variables = tf.train.list_variables(prefix)
    except _BROKEN as error:
        raise ValueError(_damaged(prefix, error)) from error
    return {name.split("/")[0] for name, _ in variables if _is_part(name.split("/")[0])}


def load_weights(model, path):
    """Loads the encoder and every head that `model` has, all of them or nothing.

    Args:
      model: any model of `kaleido_tf.modeling`. Where it has the alignment before
        fusion and the checkpoint hasn't, that alone keeps its own values.
      path: see `checkpoint_prefix`.

    Returns:
      The prefix that was loaded.

    Raises:
      FileNotFoundError: no checkpoint there.
      ValueError: a part of the model isn't in it or has another shape, or a file is
        truncated.
    """
    prefix = checkpoint_prefix(path)
    parts, stored = model_parts(model), stored_parts(prefix)
    if missing := sorted(set(parts) - stored):
        raise ValueError(
            f"{prefix} should hold {sorted(parts)}. Missing: {missing}; it has "
            f"{sorted(stored)} (it was saved from a model without these heads)"
        )
    if has_vectors(parts["encoder"]) and not stores_vectors(prefix, model):
        logging.warning("%s has no alignment before fusion: it stays fresh", prefix)
    read_parts(prefix, parts)
    return prefix


def has_vectors(encoder):
    """Whether an encoder has the alignment before fusion: bool."""
    return any(layer.name == _VECTORS for layer in encoder.layers)


def stores_vectors(prefix, model):
    """Whether a checkpoint has the alignment before fusion: bool.

    Args:
      prefix: of the checkpoint; the config of its run tells.
      model: what is answered for where there is no config, as it must be the same.
    """
    if run_file(prefix, CONFIG_NAME) is None:
        return has_vectors(model_parts(model)["encoder"])
    return bool(run_config(prefix).contrastive_size)


def read_parts(prefix, parts):
    """Reads encoder and heads from a checkpoint of ours that has all of them.

    Args:
      prefix: of the checkpoint.
      parts: dict name -> layer. The encoder may differ from the stored one by the
        alignment before fusion.

    Raises:
      ValueError: other sizes, or a damaged file.
    """
    encoder = parts.get("encoder")
    if encoder is None or run_file(prefix, CONFIG_NAME) is None:
        return _read(prefix, parts)
    config = run_config(prefix)
    if bool(config.contrastive_size) == has_vectors(encoder):
        return _read(prefix, parts)
    # A stored layer goes by its place among the encoder's, which the alignment shifts.
    source = build_encoder(config)
    _read(prefix, {**parts, "encoder": source})
    stored = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in encoder.layers:
        if layer.name in stored:
            layer.set_weights(stored[layer.name].get_weights())
    return None


def _read(prefix, parts):
    try:
        status = tf.train.Checkpoint(**parts).read(prefix)
        status.assert_existing_objects_matched().expect_partial()
    except _BROKEN as error:
        raise ValueError(_damaged(prefix, error)) from error


def _damaged(prefix, error):
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"{prefix} should hold a model of the same sizes, whole. Received: {reason[0]} "
        "(use the config.json of its run; if its files are truncated or damaged, copy "
        "them again)"
    )


class CheckpointKeeper:
    """Writes numbered checkpoints of a training run and finds the last whole one.

    A checkpoint counts once its `.done` file is there, which names its files' sizes and
    is written last; what a stop leaves half-written is never resumed from.

    Args:
      run_dir: the run's folder.
      model: the model.
      optimizer: its optimizer; None stores the weights alone.
      keep: how many checkpoints are kept.
      folder: name of their folder within the run's.
      writes: False on workers other than the chief, which read only. Weights and slots
        are the same on every worker, so that none but the chief need write.
    """

    def __init__(
        self,
        run_dir,
        model,
        optimizer=None,
        keep=3,
        folder=CHECKPOINT_FOLDER,
        writes=True,
    ):
        self.folder = os.path.join(run_dir, folder)
        self.keep, self.writes = keep, writes
        self._weights = model.trainable_variables
        state = {} if optimizer is None else {"optimizer": optimizer}
        self._checkpoint = tf.train.Checkpoint(**state, **model_parts(model))

    def save(self, step, round_state=None):
        """Writes `ckpt-<step>`, where this process writes at all.

        Where a whole checkpoint of that step is there already (a stop and its round's
        end fall on one step), its weights stay: they are the same.

        Args:
          step: int.
          round_state: what belongs to a round that isn't over, as JSON has it.

        Returns:
          Its prefix, or None.

        Raises:
          OSError: there is no room, or the folder can't be written; what was begun is
            removed, and the last whole checkpoint stays.
          ValueError: a weight isn't finite; nothing is written.
        """
        if not self.writes:
            return None
        self._check_finite(step)
        os.makedirs(self.folder, exist_ok=True)
        prefix = os.path.join(self.folder, f"ckpt-{step}")
        try:
            if _is_whole(prefix):
                self._write_round(prefix, round_state)
            else:
                self._write(prefix, round_state)
        except (OSError, tf.errors.OpError) as error:
            if not _is_whole(prefix):
                self._remove_begun(prefix)
            reason = str(error).strip().splitlines()[0]
            raise OSError(
                f"{self.folder} should have room for a checkpoint. Received: {reason} "
                f"(the last whole one is {self.latest() or 'none'}; make room and "
                "start again with the same command, it goes on from there)"
            ) from error
        for _, old in whole_checkpoints(self.folder)[: -self.keep]:
            self.remove(old)
        return prefix

    def _write(self, prefix, round_state):
        for name in self._files(prefix):  # what an earlier process left there
            os.remove(os.path.join(self.folder, name))
        self._checkpoint.write(prefix)
        if round_state is not None:
            files.write_json(round_state, f"{prefix}.round")
        self._write_done(prefix, self._files(prefix))

    def _write_round(self, prefix, round_state):
        """Gives a whole checkpoint another round state; it stays whole throughout."""
        weights = [n for n in self._files(prefix) if not n.endswith(_NOT_WEIGHTS)]
        self._write_done(prefix, weights)
        if os.path.exists(f"{prefix}.round"):
            os.remove(f"{prefix}.round")
        if round_state is not None:
            files.write_json(round_state, f"{prefix}.round")
            self._write_done(prefix, [*weights, f"{os.path.basename(prefix)}.round"])

    def _files(self, prefix):
        """Names of a checkpoint's files."""
        start = os.path.basename(prefix) + "."
        return [name for name in os.listdir(self.folder) if name.startswith(start)]

    def _write_done(self, prefix, names):
        """Writes down that these files are whole, once they are on the disk."""
        paths = {name: os.path.join(self.folder, name) for name in names}
        for path in paths.values():
            files.sync(path)
        sizes = {name: os.path.getsize(path) for name, path in paths.items()}
        files.write_json(sizes, f"{prefix}.done", synced=True)

    def _check_finite(self, step):
        if not all(_is_finite(weight) for weight in self._weights):
            raise ValueError(
                f"The weights should be finite. Received NaN or infinity after step "
                f"{step}; nothing was saved. Start again to go on from "
                f"{self.latest() or 'the start'}; a lower --learning_rate or "
                "--precision=float32 needs a new --run_dir"
            )

    def latest(self):
        """Prefix of the last whole checkpoint, or None."""
        whole = whole_checkpoints(self.folder)
        return whole[-1][1] if whole else None

    def remove(self, prefix):
        """Takes a checkpoint away, where this process writes at all."""
        if not self.writes:
            return
        names = self._files(prefix)
        # The .done file goes first, so that no half-removed checkpoint looks whole.
        for name in sorted(names, key=lambda n: not n.endswith(".done")):
            os.remove(os.path.join(self.folder, name))

    def _remove_begun(self, prefix):
        """Takes away all that writing a checkpoint has begun, its temporary folder."""
        self.remove(prefix)
        shutil.rmtree(f"{prefix}_temp", ignore_errors=True)

    def remove_half_written(self, after):
        """Takes away what a killed process had begun after step `after`."""
        if not (self.writes and os.path.isdir(self.folder)):
            return
        whole = {step for step, _ in whole_checkpoints(self.folder)}
        found = (re.match(r"ckpt-(\d+)[._]", n) for n in os.listdir(self.folder))
        for step in {int(match[1]) for match in found if match}:
            if step > after and step not in whole:
                self._remove_begun(os.path.join(self.folder, f"ckpt-{step}"))

    def restore_state(self):
        """Restores the last whole checkpoint.

        Returns:
          (its step, 0 if there is none; its round's state, None at a round's end).

        Raises:
          ValueError: the files are of the right sizes, yet can't be read.
        """
        whole = whole_checkpoints(self.folder)
        if not whole:
            return 0, None
        step, prefix = whole[-1]
        try:
            status = self._checkpoint.read(prefix)
            status.assert_existing_objects_matched()
        except tf.errors.OpError as error:
            if isinstance(error, stopping.LOST):
                raise
            raise ValueError(
                f"{prefix} should be readable. Received: {str(error).splitlines()[0]} "
                "(remove its files to go on from the checkpoint before it)"
            ) from error
        if f"{os.path.basename(prefix)}.round" not in files.read_json(f"{prefix}.done"):
            return step, None
        return step, files.read_json(f"{prefix}.round")


def _is_finite(weight):
    return bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(weight))))
