"""An index made again for another model: refused, replaced, never mixed."""

import errno
import json
import shutil

import pytest

from kaleido_tf import files
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine


def test_an_index_of_another_export_is_refused(export, catalogue, tmp_path, counted):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    other = counted()
    other.identity, other.path = "f" * 64, "/another/1"
    for use in (
        lambda: build_index(other, folder, catalogue),
        lambda: SearchEngine(other, folder),
    ):
        with pytest.raises(ValueError, match="one of another export .*by --replace"):
            use()
    done = build_index(other, folder, catalogue, replace=True)
    assert done["computed"] == other.pictures == 7
    with pytest.raises(ValueError, match="one of another export"):
        SearchEngine(export, folder)
    # Of the same export nothing is thrown away.
    assert build_index(other, folder, catalogue, replace=True)["computed"] == 0
    build_index(export, folder, catalogue, replace=True)
    values = json.loads((folder / "index.json").read_text())
    files.write_json({**values, "format": 0}, folder / "index.json")
    with pytest.raises(ValueError, match="should have format 1. Received: 0"):
        SearchEngine(export, folder)
    with pytest.raises(FileNotFoundError, match="kaleido_tf.search.index"):
        SearchEngine(export, tmp_path / "nowhere")


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_an_interrupted_replacement_leaves_no_old_shard(
    export, catalogue, tmp_path, monkeypatch, removed, counted
):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    other, left, remove = counted(), removed, shutil.rmtree
    other.identity, other.path = "f" * 64, "/another/1"

    def interrupted(path, *args, **kwargs):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        remove(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("kaleido_tf.search.store.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(other, folder, catalogue, replace=True)
    with pytest.raises(ValueError, match="one that is being replaced"):
        SearchEngine(other, folder)
    with pytest.raises(ValueError, match="one of another export"):
        build_index(export, folder, catalogue)
    done = build_index(other, folder, catalogue)  # goes on, whatever it is told
    assert done["computed"] == other.pictures == 7 and done["encoded"] == 5
    assert "emptying" not in json.loads((folder / "index.json").read_text())


def test_what_cant_be_removed_is_said(
    export, catalogue, tmp_path, monkeypatch, counted
):
    build_index(export, tmp_path / "index", catalogue)
    other = counted()
    other.identity = "f" * 64

    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr("kaleido_tf.search.store.shutil.rmtree", refuse)
        with pytest.raises(PermissionError):
            build_index(other, tmp_path / "index", catalogue, replace=True)


def test_shards_of_nobody_are_refused(export, catalogue, tmp_path, counted):
    folder = tmp_path / "index"
    build_index(export, folder, catalogue)
    (folder / "index.json").unlink()
    for replace in (False, True):
        with pytest.raises(ValueError, match="tables/1 and no index.json"):
            build_index(export, folder, catalogue, replace=replace)
    # What isn't of an index stays.
    (tmp_path / "other" / "pictures").mkdir(parents=True)
    (tmp_path / "other" / "pictures" / "1.png").write_bytes(b"a picture")
    for identity in (export.identity, "f" * 64):
        other = counted()
        other.identity = identity
        build_index(other, tmp_path / "other", catalogue, replace=True)
    assert (tmp_path / "other" / "pictures" / "1.png").exists()
