"""What preparation says about a data set: `dataset_info.json` and `skipped.jsonl`."""

import collections
import os

from absl import logging

from kaleido_tf import files
from kaleido_tf.data import dataset_info

SKIPPED_NAME = "skipped.jsonl"
REFUSED_NAME = "refused.jsonl"


def split_entry(of_split):
    """A split in `dataset_info.json`, from the receipts of its shards."""
    keys = ("file", "num_examples", "bytes", "sha256")
    return {
        "num_examples": sum(r["num_examples"] for r in of_split),
        "shards": [{key: r[key] for key in keys} for r in of_split],
    }


def summed(of_shards, key):
    """Sum over receipts of a count, or by name where it is a dict of counts."""
    counts = [receipt.get(key, 0) for receipt in of_shards]  # an older one lacks some
    if all(isinstance(count, int) for count in counts):
        return sum(counts)
    totals = {}
    for names in counts:
        for name, count in names.items():
            totals[name] = totals.get(name, 0) + count
    return totals


def class_tables(labels):
    """Class tables of the training split, and what validation has beyond them.

    Args:
      labels: dict split -> dict ("category", "subcategory") -> list of names or of
        (name, count) pairs, "" for none.

    Returns:
      dict with `categories`, `subcategories` (sorted: the index is the class) and
      `unseen_labels`: {"category": {name: number of images}, "subcategory": ...}.
    """
    tables, unseen = {}, {}
    for kind, name in (("category", "categories"), ("subcategory", "subcategories")):
        counts = {split: _counts(labels[split][kind]) for split in labels}
        known = set(counts.get("train", ()))
        tables[name] = sorted(known)
        held = counts.get("validation", {})
        unseen[kind] = {label: held[label] for label in sorted(set(held) - known)}
        if unseen[kind] and known:
            logging.warning(
                "%s labels of validation that training hasn't: %s. They have no class: "
                "every prediction for them counts as an error",
                kind,
                unseen[kind],
            )
    return {**tables, "unseen_labels": unseen}


def _counts(names):
    counted = collections.Counter()
    for name in names:
        name, count = name if isinstance(name, tuple) else (name, 1)
        if name:
            counted[name] += count
    return counted


def check_bad(rows, read, max_bad_fraction, output_dir, what="manifest's"):
    """Lists what was left out; raises ValueError where that is too much.

    While the folder holds a finished data set its own list stays: that of a run which
    is refused goes beside it, `REFUSED_NAME`.

    Args:
      rows: the skip list's rows.
      read: number of lines read.
      max_bad_fraction: share of them that may be unusable.
      output_dir: where the list goes.
      what: whose lines they are, for the message.
    """
    too_many = len(rows) > max_bad_fraction * read
    finished = os.path.exists(os.path.join(output_dir, dataset_info.FILE_NAME))
    listed = os.path.join(output_dir, REFUSED_NAME if finished else SKIPPED_NAME)
    if too_many or not finished:
        files.write_rows(listed, rows)
    if too_many:
        raise ValueError(
            f"At most {max_bad_fraction:.1%} of the {what} {read} lines should be "
            f"unusable (--max_bad_fraction). Received: {len(rows)}, listed with the "
            f"reasons in {listed}"
        )


def write_info(info, output_dir):
    """Writes `dataset_info.json`, with which the data set is whole."""
    path = os.path.join(output_dir, dataset_info.FILE_NAME)
    files.write_json(info, path)


def remove_info(output_dir):
    """While shards are rewritten nobody should read them."""
    path = os.path.join(output_dir, dataset_info.FILE_NAME)
    if os.path.exists(path):
        os.remove(path)
