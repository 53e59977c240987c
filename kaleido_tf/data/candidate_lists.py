"""Frozen candidate lists of the sampled retrieval protocol: items, format, hashes.

Data preparation writes such a list (`data_prep.retrieval_lists`), evaluation reads it
(`kaleido_tf.tasks.retrieval`); what the file holds stands here and nowhere else:

| key | what |
|---|---|
| format | version of this table |
| direction | "itr": image query, text candidates; "tir": text query, image candidates |
| split, seed | of which records, drawn by which seed |
| dataset_sha256 | hash over the split's image and product ids, see `split_sha256` |
| num_candidates | size of every query's list, the positive among them |
| requested_candidates | what was asked for, where the split is too small for it |
| queries | [{"query": image_id, "positive": image_id, "candidates": [image_id]}] |
| filled | negatives from outside the sub-category: {"category": n, "anywhere": n} |
| without_text | products left out because none of their views has a text |
| sha256 | hash over all of the above, see `content_sha256` |

An item is always named by an image_id: its record holds the image and the text.
"""

import hashlib
import json
import os
import typing

import tensorflow as tf

from kaleido_tf import files
from kaleido_tf.data import records

FORMAT = 1
_BATCH = 256
DIRECTIONS = ("itr", "tir")
COMMAND = (
    "python -m data_prep.retrieval_lists --data_dir=PREPARED --output_dir=DIR "
    "--split=validation"
)
_KEYS = {
    "format",
    "direction",
    "split",
    "seed",
    "dataset_sha256",
    "num_candidates",
    "requested_candidates",
    "queries",
    "filled",
    "without_text",
    "sha256",
}


class Item(typing.NamedTuple):
    """What the lists need to know of a record; all str."""

    image_id: str
    product_id: str
    category: str
    subcategory: str
    text: str


def fold_text(text):
    """A text without case and double spaces: where it is equal, so is the answer."""
    return " ".join(text.casefold().split())


def read_items(info, split):
    """The items of a prepared data set's split, in record order.

    Args:
      info: `DatasetInfo`.
      split: name of the split.

    Returns:
      list of `Item`.

    Raises:
      ValueError: unknown split, or a damaged shard (file and record are named).
    """
    items = []
    paths = info.shard_paths(split)
    for path, shard in zip(paths, info.shards(split), strict=True):
        serialized = list(records.read_shard(path, expected=shard["num_examples"]))
        for start in range(0, len(serialized), _BATCH):
            items += _parse(serialized[start : start + _BATCH])
    return items


def _parse(serialized):
    # Only the strings: decoding the features takes a hundred times as long.
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in Item._fields}
    batch = tf.io.parse_example(tf.constant(serialized), spec)
    columns = [batch[key].numpy().tolist() for key in Item._fields]
    return [
        Item(*(value.decode() for value in row)) for row in zip(*columns, strict=True)
    ]


def split_sha256(pairs):
    """Hash of a split: its image ids with their product ids, in any order.

    Args:
      pairs: iterable of (image_id, product_id).

    Returns:
      str, SHA-256 in hex.
    """
    lines = sorted(f"{image_id}\t{product_id}\n" for image_id, product_id in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_sha256(candidate_list):
    """SHA-256, hex, of a list's canonical JSON without its `sha256`."""
    content = {k: v for k, v in candidate_list.items() if k != "sha256"}
    canonical = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def negative_shares(candidate_list):
    """Where a list's negatives were drawn: dict "subcategory", "category", "anywhere".

    Args:
      candidate_list: a whole one; its counts are of all of its queries.
    """
    size = candidate_list["num_candidates"] - 1
    total = max(len(candidate_list["queries"]) * size, 1)
    shares = {name: count / total for name, count in candidate_list["filled"].items()}
    return {"subcategory": 1.0 - sum(shares.values()), **shares}


def file_name(direction, seed):
    """Name of a list's file within its folder."""
    return f"{direction}_seed{seed}.json"


def save_list(candidate_list, directory):
    """Writes a list under its own name, whole or not at all; returns the path."""
    name = file_name(candidate_list["direction"], candidate_list["seed"])
    path = os.path.join(directory, name)
    files.write_json(candidate_list, path, indent=None)
    return path


def load_list(path):
    """Reads a candidate list and verifies its hash.

    Args:
      path: a file that `save_list` wrote.

    Returns:
      dict, see the table above.

    Raises:
      FileNotFoundError: no such file; says which command makes it.
      ValueError: not such a list, or changed since it was made.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path} should be a frozen candidate list. Received: no such file (make "
            f"the lists by `{COMMAND}`)"
        )
    with open(path, encoding="utf-8") as file:
        try:
            candidate_list = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} should be JSON. Received: {error}") from error
    _check(candidate_list, path)
    return candidate_list


def _check(candidate_list, path):
    if not isinstance(candidate_list, dict) or _KEYS - set(candidate_list):
        received = sorted(candidate_list) if isinstance(candidate_list, dict) else "?"
        raise ValueError(
            f"{path} should hold the keys {sorted(_KEYS)}. Received: {received} (make "
            f"the lists by `{COMMAND}`)"
        )
    if candidate_list["format"] != FORMAT:
        raise ValueError(
            f"{path} should have format {FORMAT}. Received: "
            f"{candidate_list['format']!r} (make the lists again by `{COMMAND}`)"
        )
    received = content_sha256(candidate_list)
    if received != candidate_list["sha256"]:
        raise ValueError(
            f"{path} should have the content hash {candidate_list['sha256'][:12]}... "
            f"that it states. Received: {received[:12]}... (the file was changed after "
            f"it was made: restore it, or make the lists again by `{COMMAND}`)"
        )


def load_lists(directory, num_lists):
    """The lists of both directions and the seeds 0 to num_lists - 1.

    Args:
      directory: folder of `data_prep.retrieval_lists`.
      num_lists: how many seeds.

    Returns:
      dict: direction -> list of candidate lists by seed.

    Raises:
      FileNotFoundError, ValueError: see `load_list`; also if they are of different
        splits or data sets.
    """
    lists = {
        direction: [
            load_list(os.path.join(directory, file_name(direction, seed)))
            for seed in range(num_lists)
        ]
        for direction in DIRECTIONS
    }
    origins = {
        (one["split"], one["dataset_sha256"]) for each in lists.values() for one in each
    }
    if len(origins) != 1:
        raise ValueError(
            f"{directory} should hold lists of one split of one data set. Received: "
            f"{sorted(origins)} (use one folder per data set and split)"
        )
    return lists
