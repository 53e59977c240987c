"""The release's text lines: made up, and parsed by us and by TensorFlow's string ops.

Part of `benchmarks/prepare.py`.
"""

import os
import time
from concurrent import futures

import numpy as np
import tensorflow as tf

from data_prep.release import release_lines, release_shards
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import patches, tokenization

_THREADS = 4
_BOX = 256  # side of the locked box, in the unit of the location columns


def _locations():
    """The five columns of integers, by name."""
    columns = {}
    for level, name in zip(KALEIDO_LEVELS, release_lines.LOCATION_COLUMNS, strict=True):
        y1, x1, y2, x2 = np.round(_BOX * patches.level_rectangles(level.grid)).T
        rows = np.stack([x1, x2, y1, y2, (x2 - x1) * (y2 - y1)], axis=1).astype(int)
        columns[name] = rows.reshape(-1)
    return columns


def make_line(columns, tokenizer, rng):
    """A pre-training line of the release's sizes, with made-up numbers: bytes."""
    given = _locations()
    length = {column.name: column.length for column in columns}
    ids = np.full(length["input_ids"], tokenizer.pad_id)
    ids[:20] = tokenizer.vocab_size - 1
    ids[0], ids[19] = tokenizer.cls_id, tokenizer.sep_id
    given["input_ids"] = ids
    given["input_mask"] = (np.arange(len(ids)) < 20).astype(int)
    given["image_mask"] = np.ones(length["image_mask"], int)
    given["masked_lm_positions"] = np.arange(1, length["masked_lm_positions"] + 1)
    fields = []
    for column in columns:
        values = given.get(column.name)
        if values is None and column.type == "float":
            # As ResNet-50's pooled features are: positive, mostly below 2.
            values = np.abs(rng.normal(0.4, 0.5, column.length)).astype(np.float32)
        if values is None:
            values = np.zeros(column.length, int)
        fields.append(",".join(str(v) for v in values[: column.length].tolist()))
    return "\t".join(fields).encode() + b"\n"


def tensorflow_parser(columns):
    """Function of a line (string scalar) -> list of tensors, by TensorFlow's ops."""

    def parse(line):
        fields = tf.strings.split(line, "\t")
        values = []
        for i, column in enumerate(columns):
            kind = tf.int64 if column.type == "int" else tf.float32
            values.append(tf.strings.to_number(tf.strings.split(fields[i], ","), kind))
        return values

    return parse


def _seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(folder, vocab_file, lines):
    """Lines a second of both parsers and of the whole conversion.

    Args:
      folder: for temporary files.
      vocab_file: any vocab.txt.
      lines: how many lines; a quarter as many different ones.

    Returns:
      dict: "one thread" and "all threads" with ours and tensorflow, and converted.
    """
    schema = release_lines.SCHEMAS["pretrain"]
    columns = release_lines.parse_schema(schema)
    tokenizer = tokenization.Tokenizer.from_file(vocab_file)
    rng = np.random.default_rng(0)
    different = [make_line(columns, tokenizer, rng) for _ in range(max(1, lines // 4))]
    made = [different[i % len(different)] for i in range(lines)]
    parser = release_lines.LineParser(columns)
    theirs = tensorflow_parser(columns)
    serial = tf.function(theirs, input_signature=[tf.TensorSpec([], tf.string)])
    _check(parser.parse(made[0]), [v.numpy() for v in serial(made[0])], columns)

    data = tf.data.Dataset.from_tensor_slices(made)
    data = data.map(theirs, num_parallel_calls=tf.data.AUTOTUNE)

    def tf_data():
        for _ in data:
            pass

    def threads():
        with futures.ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(parser.parse, made))

    runs = {
        "one thread": {
            "ours": lambda: [parser.parse(line) for line in made],
            "tensorflow": lambda: [serial(line) for line in made],
        },
        "all threads": {"ours": threads, "tensorflow": tf_data},
    }
    rates = {
        name: {who: lines / _seconds(run) for who, run in pair.items()}
        for name, pair in runs.items()
    }
    return {**rates, "converted": _converted(folder, vocab_file, schema, made)}


def _check(ours, theirs, columns):
    for column, values in zip(columns, theirs, strict=True):
        np.testing.assert_array_equal(ours[column.name], values)


def _converted(folder, vocab_file, schema, made):
    """Lines a second from the file to a written shard."""
    path = os.path.join(folder, "lines.tsv")
    with open(path, "wb") as file:
        file.writelines(made)
    columns = release_lines.parse_schema(schema)
    ranges, _ = release_shards.plan_ranges([path], "train", columns, len(made))
    writer = release_shards.ReleaseWriter(schema, vocab_file, "box")
    receipt = {}
    seconds = _seconds(
        lambda: receipt.update(writer.write(os.path.join(folder, "lines"), ranges[0]))
    )
    if receipt["num_examples"] != len(made):
        raise ValueError(
            f"Every line should be converted. Received: {receipt['skipped'][:1]}"
        )
    return len(made) / seconds
