"""Tests of the state dict reader: values, broken files, pickles that would run code."""

import collections
import os
import pickle
import struct

import numpy as np
import pytest

from kaleido_tf.data import efficientnet_lite, torch_state


class _Global:
    """Pickles as a call of any global name, as an attacker would write it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _write_state(path, tensors, storages=()):
    """Writes PyTorch's older layout: `tensors` pickled, then (key, array) storages."""
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(tensors if isinstance(tensors, bytes) else pickle.dumps(tensors, 2))
        pickle.dump([key for key, _ in storages], file, protocol=2)
        for _, array in storages:
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path


def _tensor_pickle(shape, strides, offset=0, size=6, dtype="FloatStorage"):
    """A hand-written pickle of {"x": tensor}, without PyTorch."""
    storage = f"(Vstorage\nctorch\n{dtype}\nV7\nVcpu\nI{size}\nNtQ"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n"
    for values in (shape, strides):
        tensor += "(" + "".join(f"I{value}\n" for value in values) + "t"
    tensor += "I00\nccollections\nOrderedDict\n(tRtR"
    return f"ccollections\nOrderedDict\n(tR(Vx\n{tensor}u.".encode()


def test_state_dict_values_with_strides(tmp_path):
    array = np.arange(6, dtype=np.float32)
    path = _write_state(
        tmp_path / "state.pth", _tensor_pickle((2, 2), (1, 2), 1), [("7", array)]
    )
    state = torch_state.load_state_dict(path)
    np.testing.assert_array_equal(state["x"], [[1, 3], [2, 4]])
    assert state["x"].dtype == np.float32


@pytest.mark.parametrize(
    "shape, strides, offset",
    [((2, 3), (3, 1), 1), ((2,), (-1,), 3), ((1000, 1000), (0, 0), 0)],
)
def test_tensor_outside_its_storage(tmp_path, shape, strides, offset):
    pickled = _tensor_pickle(shape, strides, offset)
    storage = ("7", np.arange(6, dtype=np.float32))
    path = _write_state(tmp_path / "state.pth", pickled, [storage])
    with pytest.raises(ValueError, match="within its storage of 6 elements"):
        torch_state.load_state_dict(path)


def test_cut_off_file(tmp_path):
    storage = ("7", np.arange(6, dtype=np.float32))
    path = _write_state(tmp_path / "a.pth", _tensor_pickle((6,), (1,)), [storage])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="a.pth: storage 7 should have 6.*cut off"):
        torch_state.load_state_dict(path)


def test_malicious_pickle_runs_nothing(tmp_path):
    target = tmp_path / "made_by_the_pickle"
    calls = [
        _Global(os.system, f"touch {target}"),
        _Global(eval, f"open({str(target)!r}, 'w')"),
        _Global(getattr, collections.OrderedDict, "fromkeys"),
    ]
    for call in calls:
        path = _write_state(tmp_path / "bad.pth", {"x": call})
        with pytest.raises(ValueError, match="only OrderedDict, tensors and storages"):
            torch_state.load_state_dict(path)
        plain = tmp_path / "plain.pth"
        plain.write_bytes(pickle.dumps(call))
        with pytest.raises(ValueError, match="only OrderedDict, tensors and storages"):
            torch_state.load_state_dict(plain)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04zip", b"text\n", pickle.dumps(3)])
def test_not_a_state_dict(tmp_path, content):
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="odd.pth"):
        torch_state.load_state_dict(path)


def test_state_dict_of_another_network(tmp_path):
    storage = ("7", np.arange(6, dtype=np.float32))
    path = _write_state(tmp_path / "x.pth", _tensor_pickle((6,), (1,)), [storage])
    with pytest.raises(ValueError, match="245 keys missing.*1 left over .'x'."):
        efficientnet_lite.load_state(path)
