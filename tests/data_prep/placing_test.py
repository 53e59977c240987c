"""By what a shard is known again: its products and their pictures' files."""

import os

from data_prep import sources
from data_prep.shards import placing


def test_a_picture_of_the_same_size_is_another(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"first picture")
    product = sources.Product("p", "a", str(path), "Bag", "", "", "train")
    status = path.stat()
    first = placing.source_sha256([product])
    path.read_bytes()
    assert placing.source_sha256([product]) == first  # reading changes nothing
    path.write_bytes(b"other picture")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    second = placing.source_sha256([product])
    assert path.stat().st_size == status.st_size
    assert second != first
    os.utime(path, ns=(0, status.st_mtime_ns))
    assert placing.source_sha256([product]) == first
    path.unlink()
    assert placing.source_sha256([product]) not in (first, second)
