"""A shard and its receipt: whole or not there, and known again by a later run.

A shard is written under a temporary name and renamed when whole. The receipt (JSON)
beside it says what it was made from, so a run that is started again knows what it need
not do twice.
"""

import contextlib
import hashlib
import json
import os

import tensorflow as tf

from data_prep.pictures import REFUSED
from kaleido_tf import files
from kaleido_tf.data import dataset_info


def receipt_path(shard_path):
    return f"{shard_path}.receipt.json"


def load(path):
    """The receipt of a shard as a dict."""
    with open(receipt_path(path), encoding="utf-8") as file:
        return json.load(file)


def find(path, fingerprint, source_sha256):
    """The receipt of a shard that needn't be written again, or None.

    A shard without a picture that the system refused is written again: it may be
    there now.

    Args:
      path: the shard.
      fingerprint: str, the settings that it must have been made with.
      source_sha256: hash of what it must have been made from.
    """
    try:
        receipt = load(path)
        whole = (
            receipt["fingerprint"] == fingerprint
            and receipt["source_sha256"] == source_sha256
            and receipt["bytes"] == os.path.getsize(path)
            and not any(REFUSED in row["detail"] for row in receipt.get("skipped", ()))
        )
    except (OSError, ValueError, KeyError):
        return None
    return receipt if whole else None


def write(path, serialized, stats, fingerprint, source_sha256):
    """Writes a shard and its receipt; leaves neither behind where that fails.

    Args:
      path: the shard's final path.
      serialized: iterable of bytes, the records.
      stats: dict that goes into the receipt; it may be filled while records are drawn.
      fingerprint, source_sha256: see `find`.

    Returns:
      The receipt: dict with file, num_examples, bytes, sha256, fingerprint,
      source_sha256 and `stats`.
    """
    temporary = f"{path}.tmp"
    try:
        count = 0
        with tf.io.TFRecordWriter(temporary) as writer:
            for record in serialized:
                writer.write(record)
                count += 1
        receipt = {
            "file": os.path.basename(path),
            "num_examples": count,
            "bytes": os.path.getsize(temporary),
            "sha256": dataset_info.file_sha256(temporary),
            **stats,
            "fingerprint": fingerprint,
            "source_sha256": source_sha256,
        }
        os.replace(temporary, path)
        files.write_json(receipt, receipt_path(path), indent=None)
    except Exception:
        # On a full disk half a shard would be in the way of everything else.
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    return receipt


def path_sha256(path):
    """Hash of a file, or of every file below a folder with its name: hex."""
    if not os.path.isdir(path):
        return dataset_info.file_sha256(path)
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            digest.update(os.path.relpath(file, path).encode() + b"\0")
            digest.update(dataset_info.file_sha256(file).encode())
    return digest.hexdigest()
