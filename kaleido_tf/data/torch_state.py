"""Data line, station "patch -> feature": reads a PyTorch state dict without PyTorch.

The ImageNet weights of EfficientNet-Lite0 are published as a state dict in PyTorch's
older file layout (`torch.save` up to version 1.5): three pickles (magic number,
protocol, system facts), the pickled dict whose tensors only name their storages, the
pickled list of storage keys, and the storages' raw bytes one after the other.

A pickle can run any code when loaded. The unpickler here resolves three kinds of names
only (OrderedDict, `torch._utils._rebuild_tensor_v2` and storages, which become plain
data); every other name raises before anything is called.
"""

import collections
import io
import math
import pickle
import struct
from typing import NamedTuple

import numpy as np

# The first pickle of the layout: "torch" in PyTorch's serialization.py.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Storage(NamedTuple):
    """A flat array that the file holds after the pickles."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def _rebuild_tensor(storage, offset, shape, strides, *_unused):
    """Stands in for torch._utils._rebuild_tensor_v2; nothing is read yet."""
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickles dicts of tensors and refuses every other global name."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(
            f"a state dict should name only OrderedDict, tensors and storages. "
            f"Received: {module}.{name} (the file is not a plain state dict and may "
            "run code when loaded: do not trust it)"
        )

    def persistent_load(self, pid):
        kind, dtype, key, _device, size, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(
                "a persistent id should be a whole storage. "
                f"Received: {pid!r} (save the state dict again without views)"
            )
        return _Storage(key, dtype, size)


def load_state_dict(path):
    """Reads a state dict in PyTorch's older layout without running any code of it.

    Args:
        path: the file (.pth), written by `torch.save(state_dict, path)` of PyTorch up
            to 1.5, or of a later one with `_use_new_zipfile_serialization=False`.

    Returns:
        dict: key -> NumPy array, in the file's order and with the file's dtypes.

    Raises:
        ValueError: when the file is not of this layout, is cut off, or names anything
            but tensors. The message says which.
        OSError: when the file can't be read.
    """
    with open(path, "rb") as file:
        stream = io.BytesIO(file.read())
    try:
        tensors = _read_tensors(stream)
        storages = _read_storages(stream, _storages_of(tensors))
        return {key: _view(tensor, storages) for key, tensor in tensors.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # Pickle's opcodes raise nearly every kind of error.
        raise ValueError(
            f"`path` should be a PyTorch state dict in the layout before PyTorch 1.6. "
            f"Received: {path}, which fails with {type(error).__name__}: {error}"
        ) from error


def _read_tensors(stream):
    magic = _RestrictedUnpickler(stream).load()
    protocol = _RestrictedUnpickler(stream).load()
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError(
            f"the file should start with PyTorch's magic number and protocol "
            f"{_PROTOCOL}. Received: {magic!r}, {protocol!r}"
        )
    system = _RestrictedUnpickler(stream).load()
    if not system.get("little_endian"):
        raise ValueError("the file should be little-endian. Received: big-endian")
    tensors = _RestrictedUnpickler(stream).load()
    odd = [key for key, value in tensors.items() if not isinstance(value, _Tensor)]
    if odd:
        raise ValueError(f"a state dict should hold tensors only. Received: {odd[:5]}")
    return tensors


def _storages_of(tensors):
    return {tensor.storage.key: tensor.storage for tensor in tensors.values()}


def _read_storages(stream, expected):
    """Reads each storage: its length as int64, then its elements."""
    arrays = {}
    for key in _RestrictedUnpickler(stream).load():
        storage = expected[key]
        header = stream.read(8)
        data = stream.read(storage.size * storage.dtype.itemsize)
        size = len(data) // storage.dtype.itemsize
        if header != struct.pack("<q", storage.size) or size != storage.size:
            raise ValueError(
                f"storage {key} should have {storage.size} elements. Received: {size} "
                "(the file is cut off or broken: get it again)"
            )
        arrays[key] = np.frombuffer(data, storage.dtype)
    return arrays


def _view(tensor, storages):
    """Copies a strided view out of its storage; refuses to read past its end."""
    flat = storages[tensor.storage.key]
    last = tensor.offset + sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    inside = min((tensor.offset, *tensor.strides, *tensor.shape)) >= 0
    if not inside or last >= flat.size or math.prod(tensor.shape) > flat.size:
        raise ValueError(
            f"a tensor should lie within its storage of {flat.size} elements. "
            f"Received: {tensor.shape} with strides {tensor.strides} at {tensor.offset}"
        )
    steps = [stride * flat.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, steps, writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.shape)
