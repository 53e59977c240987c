"""A file is written whole or not at all, whatever had its name before."""

import os

import pytest

from kaleido_tf import files


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_takes_its_name_at_the_end(tmp_path, synced):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with files.whole(path, synced=synced) as file:
        file.write("é\n")
        file.flush()
        assert path.read_text() == "before"
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), files.whole(path, "wb") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(TypeError):
        files.write_json({"no": object()}, path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_json_and_its_lines(tmp_path):
    path = tmp_path / "a.json"
    content = {"é": [1, None]}
    files.write_json(content, path)
    assert files.read_json(path) == content
    files.write_json(content, path, indent=None)
    assert path.read_text() == '{"é": [1, null]}\n'
    path.write_text("{")
    with pytest.raises(ValueError, match="a.json should be JSON. Received: "):
        files.read_json(path)
    files.write_rows(path, [{"a": 1}, {"a": 2}])
    with open(path, "a") as file:
        file.write('{"a": ')
    assert files.read_rows(path) == [{"a": 1}, {"a": 2}]
