"""Port, first step: the variables of a file by name, whatever wrote it.

A reader has `path`, `kind`, `shapes` (name -> tuple) and `read(name)` -> float32 array.
"""

import os

import numpy as np
import safetensors
import tensorflow as tf
from safetensors import safe_open

# How object-based TensorFlow 2 checkpoints, ours among them, store their graph.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Weights of Hugging Face's that aren't read.
_OTHER_WEIGHTS = (".safetensors.index.json", "pytorch_model.bin", ".h5", ".msgpack")
# What TensorFlow's reader raises: IndexError, for one, where a data file is too short.
BROKEN = (tf.errors.OpError, RuntimeError, IndexError, ValueError)


def checkpoint_prefix(path):
    """The prefix of a TensorFlow checkpoint that `path` means.

    Args:
      path: a prefix, one of its files, or a folder which holds one checkpoint (or a
        `checkpoint` file that names the last one).

    Raises:
      FileNotFoundError: no checkpoint there, or a part of it is missing.
      ValueError: a folder with several checkpoints.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        path = _only_checkpoint(path)
    folder, name = os.path.split(path)
    name = name.removesuffix(".index").split(".data-00")[0]
    prefix = os.path.join(folder, name)
    _refuse_other_weights(path)
    present = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    has_data = any(entry.startswith(f"{name}.data-") for entry in present)
    if f"{name}.index" not in present:
        raise FileNotFoundError(
            f"The checkpoint should have a file {prefix}.index. Received: "
            + ("its data without it" if has_data else "nothing of that name")
            + " (a checkpoint is PREFIX.index and PREFIX.data-00000-of-0000N together; "
            "a name that is no path here isn't downloaded)"
        )
    if not has_data:
        raise FileNotFoundError(
            f"The checkpoint should have files {prefix}.data-*. Received: its index "
            "without them (copy the .data files beside it)"
        )
    return prefix


def _only_checkpoint(folder):
    latest = tf.train.latest_checkpoint(folder)
    if latest:
        return latest
    indices = sorted(n for n in os.listdir(folder) if n.endswith(".index"))
    if len(indices) > 1:
        raise ValueError(
            f"{folder} should hold one checkpoint. Received: {indices} (name the "
            "prefix of one)"
        )
    if not indices:
        for name in sorted(os.listdir(folder)):
            _refuse_other_weights(name)
        raise FileNotFoundError(
            f"{folder} should hold a checkpoint (PREFIX.index). Received: none"
        )
    return os.path.join(folder, indices[0].removesuffix(".index"))


def _refuse_other_weights(path):
    """Raises ValueError for a file of weights that isn't read, saying what to do."""
    name = os.path.basename(path)
    if name.endswith(_OTHER_WEIGHTS):
        raise ValueError(
            "Weights should be a TensorFlow checkpoint or one model.safetensors. "
            f"Received: {name} (in an environment with transformers: "
            "AutoModelForPreTraining.from_pretrained(FOLDER).save_pretrained(OTHER, "
            'max_shard_size="20GB") writes one)'
        )


class CheckpointReader:
    """A TensorFlow checkpoint, name-based (TF1) or object-based.

    Args:
      path: see `checkpoint_prefix`.
    """

    kind = "TensorFlow checkpoint"

    def __init__(self, path):
        self.path = checkpoint_prefix(path)
        try:
            self._reader = tf.train.load_checkpoint(self.path)
        except BROKEN as error:
            raise ValueError(
                f"{self.path}.index should be a whole checkpoint index. Received: "
                f"{_first_line(error)} (copy the file again)"
            ) from error
        shapes = self._reader.get_variable_to_shape_map()
        self.shapes = {name: tuple(shape) for name, shape in sorted(shapes.items())}

    def read(self, name):
        try:
            value = self._reader.get_tensor(name)
        except BROKEN as error:
            raise ValueError(
                f"{self.path}.data-* should hold {name}, whole. Received: "
                f"{_first_line(error)} (the data file is truncated or damaged; copy "
                "it again)"
            ) from error
        return as_float32(value, name, self.path)


class SafetensorsReader:
    """A `model.safetensors` file, read without torch.

    Args:
      path: the file, or the folder that holds it as `model.safetensors`.
    """

    kind = "safetensors file"

    def __init__(self, path):
        path = os.fspath(path)
        if os.path.isdir(path):
            path = os.path.join(path, "model.safetensors")
        self.path = path
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"Hugging Face weights should be a model.safetensors. Received: {path},"
                " which isn't there (pytorch_model.bin isn't read: save the model "
                "with safe_serialization=True)"
            )
        try:
            self._file = safe_open(path, framework="np")
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{path} should be a whole safetensors file. Received: "
                f"{_first_line(error)} (truncated or damaged; copy it again)"
            ) from error
        names = sorted(self._file.keys())
        self.shapes = {n: tuple(self._file.get_slice(n).get_shape()) for n in names}

    def read(self, name):
        try:
            value = self._file.get_tensor(name)
        except AttributeError as error:  # a format that NumPy has no name for
            raise ValueError(
                f"{name} of {self.path} should hold floats of 16, 32 or 64 bits. "
                f"Received: {self._file.get_slice(name).get_dtype()}"
            ) from error
        return as_float32(value, name, self.path)


def as_float32(value, name, source):
    """A float array (float16, bfloat16, float32, float64) as float32, finite.

    Raises:
      ValueError: integers, or values that aren't finite.
    """
    value = np.asarray(value)
    if not np.issubdtype(value.dtype, np.floating) and value.dtype.name != "bfloat16":
        raise ValueError(
            f"{name} of {source} should hold floats. Received: {value.dtype}"
        )
    value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise ValueError(
            f"{name} of {source} should hold finite numbers. Received: NaN or infinity "
            "(the run that saved it had diverged)"
        )
    return value


def _first_line(error):
    text = str(getattr(error, "message", error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
