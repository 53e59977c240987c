"""The shards of an index: mapped files, many of them, and those that are old."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from kaleido_tf.search import mapped
from kaleido_tf.search.shards import Shards


def test_more_shards_than_open_files(tmp_path):
    """Also what was removed meanwhile can be read: an older state of the index."""
    script = """
import resource, shutil, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
from kaleido_tf.search.shards import Shards
fields = {"x": ((2,), np.dtype(np.float16)), "y": ((0,), np.dtype(np.float32))}
shards = Shards(sys.argv[1], fields)
for n in range(100):
    shards.append([f"k{n}"], {"x": [[n, n]], "y": np.zeros((1, 0))})
shards = Shards(sys.argv[1], fields)
shutil.rmtree(sys.argv[1])
print(shards.read("x", [f"k{n}" for n in range(100)]).sum(dtype=int))
"""
    run = [sys.executable, "-c", script, str(tmp_path / "x")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.stdout == "9900\n", done.stderr


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES])
def test_limits_are_no_damage(tmp_path, monkeypatch, number):
    fields = {"x": ((2,), np.dtype(np.float32))}
    Shards(tmp_path, fields).append(["a"], {"x": [[1, 1]]})

    def refuse(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("kaleido_tf.search.shards.mapped.load", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        Shards(tmp_path, fields)
    assert caught.value.errno == number and "delete" not in str(caught.value)


def test_arrays_are_mapped(tmp_path):
    path = tmp_path / "x.npy"
    for array in (
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.zeros((3, 0), np.float16),
    ):
        np.save(path, array)
        found = mapped.load(path)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and not found.flags.writeable
    path.write_bytes(b"")
    with pytest.raises(ValueError):
        mapped.load(path)
    np.save(path, np.array(["a", None]), allow_pickle=True)
    with pytest.raises(ValueError, match="of object"):
        mapped.load(path)


def test_little_used_shards_are_written_anew(tmp_path):
    shards = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    shards.append(["a", "b", "c"], {"x": [[1, 1], [2, 2], [3, 3]]})
    shards.append(["d"], {"x": [[4, 4]]})
    assert shards.remove_dead({"c", "d"}) == 2
    assert sorted(os.listdir(tmp_path)) == ["000001", "000002"]
    again = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    assert "a" not in again and len(again) == 2
    np.testing.assert_array_equal(again.read("x", ["d", "c"]), [[4, 4], [3, 3]])
    os.makedirs(tmp_path / "000003.unfinished")  # of a killed run: no shard
    again = Shards(tmp_path, {"x": ((2,), np.dtype(np.float32))})
    assert len(again) == 2 and again.remove_dead({"c", "d"}) == 0
    assert sorted(os.listdir(tmp_path)) == ["000001", "000002"]
