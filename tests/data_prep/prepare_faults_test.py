"""What data preparation does when something goes wrong in the middle of it."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import cv2
import pytest
import tensorflow as tf

from data_prep import pictures, prepare
from data_prep.shards import pipeline, receipts
from kaleido_tf import files
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import DatasetInfo

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {
    "patch_size": 32,
    "coarse_patch_size": 0,
    "canvas_size": 32,
    "vocab_size": 300,
    "images_per_shard": 3,
    "images_per_batch": 2,
}


def stored(folder):
    """Serialized records of a finished data set by shard."""
    info = DatasetInfo.load(str(folder))
    return {
        os.path.basename(path): list(records.read_shard(path))
        for split in ("train", "validation")
        for path in info.shard_paths(split)
    }


# A run that is killed while it writes the fifth of eight records.
KILLED = """
import os, signal, sys
import tensorflow as tf
sys.path.insert(0, {tests!r})
import conftest
from data_prep import pictures, prepare
from kaleido_tf.data import backbone
backbone.build_backbone = lambda name, size, *_: conftest.MeanColour(size)
class Writer(tf.io.TFRecordWriter):
    count = 0
    def write(self, record):
        super().write(record)
        Writer.count += 1
        if Writer.count == 5:
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)
tf.io.TFRecordWriter = Writer
prepare.prepare({manifest!r}, {out!r}, **{settings!r})
"""


@pytest.mark.long
def test_a_run_that_was_killed_goes_on(catalogue, tmp_path, mean_colour):
    whole, out = tmp_path / "whole", tmp_path / "data"
    prepare.prepare(str(catalogue), str(whole), **SMALL)
    code = KILLED.format(
        tests=str(pathlib.Path(__file__).parent),
        manifest=str(catalogue),
        out=str(out),
        settings=SMALL,
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    (half,) = out.glob("*.tmp")
    assert half.stat().st_size > 0
    assert not (out / "dataset_info.json").exists()
    finished = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord")}
    assert 1 <= len(finished) <= 2  # of four; which comes first is Beam's choice

    info = prepare.prepare(str(catalogue), str(out), **SMALL)
    assert info == json.loads((whole / "dataset_info.json").read_text())
    assert stored(out) == stored(whole)
    for name, time in finished.items():
        assert (out / name).stat().st_mtime_ns == time
    assert not list(out.glob("*.tmp"))


def test_a_full_disk(catalogue, tmp_path, mean_colour, monkeypatch):
    out = tmp_path / "data"
    count = []

    class FullDisk(tf.io.TFRecordWriter):
        def write(self, record):
            count.append(1)
            if len(count) > 4:
                message = f"{out}/x; No space left on device"
                raise tf.errors.ResourceExhaustedError(None, None, message)
            super().write(record)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", FullDisk)
        with pytest.raises(OSError, match="No space left on device .*goes on"):
            prepare.prepare(str(catalogue), str(out), **SMALL)
        assert not list(out.glob("*.tmp"))  # half a shard makes room again
        assert 1 <= len(list(out.glob("*.tfrecord"))) <= 2
        assert not (out / "dataset_info.json").exists()
    info = prepare.prepare(str(catalogue), str(out), **SMALL)
    assert [info["splits"][s]["num_examples"] for s in info["splits"]] == [7, 1]


def test_a_receipt_that_cannot_be_written(tmp_path, monkeypatch):
    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = str(tmp_path / "a.tfrecord")
    monkeypatch.setattr(files, "write_json", no_room)
    with pytest.raises(OSError, match="No space left"):
        receipts.write(path, [b"record"], {}, "settings", "source")
    assert receipts.find(path, "settings", "source") is None  # to be written again


def test_a_folder_without_rights(catalogue, tmp_path, mean_colour, monkeypatch):
    # The tests may run as root, whom no mode stops.
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "makedirs", refused)
        with pytest.raises(PermissionError, match="Permission denied: .*/data'"):
            prepare.prepare(str(catalogue), str(tmp_path / "data"), **SMALL)
    write_json = files.write_json

    def refuse_shards(values, path, **kwargs):
        if ".tfrecord." in path:
            refused(path)
        write_json(values, path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", refuse_shards)
        with pytest.raises(OSError, match="Permission denied: .*tfrecord.receipt.json"):
            prepare.prepare(str(catalogue), str(tmp_path / "data"), **SMALL)

    # Pictures that can't be opened are listed as others that can't be read, and are
    # tried again by the same command.
    def open_most(path, *args):
        return refused(path) if str(path).endswith("v3.png") else open(path, *args)

    settings = {**SMALL, "max_bad_fraction": 0.2}
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "open", open_most, raising=False)
        info = prepare.prepare(str(catalogue), str(tmp_path / "data"), **settings)
    assert info["skipped"] == 1
    listed = json.loads((tmp_path / "data" / "skipped.jsonl").read_text())
    assert listed["detail"] == "can't be read now: Permission denied"
    again = prepare.prepare(str(catalogue), str(tmp_path / "data"), **settings)
    assert again["skipped"] == 0


def test_a_folder_of_the_users_is_not_removed(catalogue, tmp_path, mean_colour):
    own = tmp_path / "data" / "saliency"
    own.mkdir(parents=True)
    (own / "masks.txt").write_text("mine")
    with pytest.raises(ValueError, match="nothing but a saliency network.*masks.txt"):
        prepare.prepare(str(catalogue), str(tmp_path / "data"), **SMALL)
    assert (own / "masks.txt").read_text() == "mine"


def test_one_picture_in_a_hundred_is_broken(tmp_path, mean_colour, draw_picture):
    rows = []
    for n in range(100):
        picture = draw_picture(32, 32, (8, 8, 20, 24), (2 * n, 80, 200))
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture)
        row = {"product_id": f"p{n}", "image": f"{n}.png", "title": f"Shirt {n}"}
        rows.append({**row, "split": "train" if n % 10 else "validation"})
    (tmp_path / "57.png").write_bytes((tmp_path / "57.png").read_bytes()[:-20])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**SMALL, "images_per_shard": 40, "images_per_batch": 16}
    info = prepare.prepare(str(manifest), str(tmp_path / "data"), **settings)
    assert info["skipped"] == 1
    assert info["splits"]["train"]["num_examples"] == 89
    assert info["splits"]["validation"]["num_examples"] == 10
    listed = json.loads((tmp_path / "data" / "skipped.jsonl").read_text())
    assert (listed["image_id"], listed["reason"]) == ("57", "unreadable image")


def test_two_identical_image_ids(catalogue, tmp_path, mean_colour):
    again = catalogue.read_text().splitlines()[2].replace("number 2", "said twice")
    catalogue.write_text(catalogue.read_text() + again + "\n")
    settings = {**SMALL, "max_bad_fraction": 0.2}
    info = prepare.prepare(str(catalogue), str(tmp_path / "data"), **settings)
    assert info["skipped"] == 1
    listed = json.loads((tmp_path / "data" / "skipped.jsonl").read_text())
    assert (listed["line"], listed["reason"]) == (9, "duplicate image_id")
    texts = [r for rows in stored(tmp_path / "data").values() for r in rows]
    assert len(texts) == 8
    assert not any(b"said twice" in row for row in texts)


def test_a_worker_process_that_is_killed_ends_the_run(monkeypatch):
    """Beam itself only lets the thread that watches the process die."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")

    def died():
        raise RuntimeError("Worker subprocess exited with return code 137")

    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # pytest's own
    hook, handler = threading.excepthook, signal.getsignal(signal.SIGUSR1)
    with (
        pytest.raises(OSError, match="code 137.*killed, .*goes on from there"),
        pipeline._plain_errors(),
        pipeline._watched(),
    ):
        threading.Thread(target=died).start()
        threading.Event().wait(60)  # as Beam waits for its worker
    assert threading.excepthook is hook
    assert signal.getsignal(signal.SIGUSR1) == handler


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("OSError: [Errno 28] No space [while running 'Write']", OSError, "No space"),
        ("PermissionError: [Errno 13] No [while running 'W']", OSError, "13.*goes on"),
        ("x\nValueError: `a` should be 1 [while running 'W']", ValueError, "^`a` sho"),
        ("KeyError: 'a' [while running 'Write']", RuntimeError, "KeyError"),
    ],
)
def test_errors_of_workers(text, kind, message):
    with pytest.raises(kind, match=message), pipeline._plain_errors():
        raise RuntimeError(text)


def test_errors_of_workers_that_beam_raises_again():
    with pytest.raises(ValueError, match="^no rows$"), pipeline._plain_errors():
        raise ValueError("no rows [while running 'Write']")
    with (
        pytest.raises(OSError, match=r"^no room \(.*goes on"),
        pipeline._plain_errors(),
    ):
        raise OSError("no room [while running 'Write']")
