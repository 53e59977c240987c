"""Speed of the input pipeline alone: from shards to masked and corrupted batches.

  python -m benchmarks.input_pipeline --output=input_pipeline.json

Writes made-up records of the paper's sizes (55 patches of 2048 numbers with their
rotated and grey variants, texts of 20 to 60 word pieces, aligned pairs) and measures

- reading: serialized records and nothing else;
- decoding: parsed and turned into arrays;
- training batches: the whole of what a step is fed, pairs, AGM and AKPM included;
- the release's text lines, parsed by TensorFlow's string operations on all cores: what
  one would do without records (`release_text.py`);

in records a second and bytes a record. --train_step names the JSON that
`benchmarks.train_step` wrote: the pipeline is compared with its fastest step. The
kinds take turns, so that the machine's moods hit all; medians of --rounds rounds.
"""

import contextlib
import json
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks import release_text, results_file, step_data, train_step
from data_prep.release import release_lines
from kaleido_tf import cli, files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import dataset_info, input_pipeline, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo

_SHARDS = 4
_PAIRS = 8  # aligned pairs of a record


def made_up_vocabulary():
    """As many pieces as BERT's: list of str."""
    special = list(tokenization.SPECIAL_TOKENS)
    others = step_data.VOCABULARY - len(special)
    return special + [f"{'##' if i % 5 == 0 else ''}w{i}" for i in range(others)]


def made_up_record(number, shapes, rng):
    """A record of the paper's sizes with random content: dict."""
    low, high = step_data.CATALOGUE_PIECES
    tokens = rng.integers(step_data.TEXT_LENGTH, step_data.VOCABULARY, high)
    tokens = tokens[: rng.integers(low, high + 1) - 2]
    record = {
        # Two views of a product, as catalogues have them.
        "product_id": f"p{number // 2}",
        "image_id": f"i{number}",
        "category": "clothing",
        "subcategory": f"s{number % 7}",
        "text": " ".join(["word"] * len(tokens)),
        "token_ids": tokens,
        "box": [0.0, 0.0, 1.0, 1.0],
        "aligned_tokens": rng.integers(0, len(tokens), _PAIRS),
        "aligned_patches": rng.integers(0, shapes.num_patches, _PAIRS),
        "aligned_scores": rng.random(_PAIRS),
    }
    for key, shape in shapes.arrays.items():
        record[key] = rng.random(shape, np.float32)
    return record


def write_data_set(folder, count):
    """A prepared data set of made-up records with a training split: `DatasetInfo`."""
    vocab_file = os.path.join(folder, dataset_info.VOCAB_NAME)
    with open(vocab_file, "w", encoding="utf-8") as file:
        file.write("\n".join(made_up_vocabulary()) + "\n")
    values = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": "kaleido+saliency",
        "feature_size": step_data.FEATURES,
        "vocab_size": step_data.VOCABULARY,
        "vocab_sha256": dataset_info.file_sha256(vocab_file),
        "categories": ["clothing"],
        "subcategories": [f"s{i}" for i in range(7)],
        "splits": {"train": {"num_examples": count, "shards": []}},
    }
    shapes, rng = DatasetInfo(folder, values).shapes, np.random.default_rng(0)
    for shard in range(_SHARDS):
        name = f"train-{shard}.tfrecord"
        numbers = range(shard, count, _SHARDS)
        with tf.io.TFRecordWriter(os.path.join(folder, name)) as writer:
            for number in numbers:
                record = made_up_record(number, shapes, rng)
                writer.write(records.encode_record(record, shapes))
        path = os.path.join(folder, name)
        values["splits"]["train"]["shards"].append(
            {
                "file": name,
                "num_examples": len(numbers),
                "bytes": os.path.getsize(path),
                "sha256": dataset_info.file_sha256(path),
            }
        )
    files.write_json(values, os.path.join(folder, dataset_info.FILE_NAME))
    return DatasetInfo.load(folder)


def make_lines(count):
    """(release's lines of a pre-training example, its columns)."""
    columns = release_lines.parse_schema(release_lines.SCHEMAS["pretrain"])
    tokenizer = tokenization.Tokenizer(made_up_vocabulary())
    rng = np.random.default_rng(0)
    return [
        release_text.make_line(columns, tokenizer, rng) for _ in range(count)
    ], columns


def make_kinds(info, settings, lines, columns):
    """What is measured: dict name -> (endless dataset, records of an element)."""
    config = KaleidoConfig.preset("base", patch_feature_size=info.feature_size)
    tokenizer = tokenization.Tokenizer.from_file(info.vocab_file)
    rows = settings["batch_size"]
    data = input_pipeline.PretrainingData(info, tokenizer, config, batch_size=rows)
    serialized = tf.data.TFRecordDataset(info.shard_paths("train")).repeat()
    batched = serialized.batch(rows, drop_remainder=True)
    text = tf.data.Dataset.from_tensor_slices(lines).repeat()
    return {
        "reading": (batched.prefetch(4), rows),
        "decoding": (
            batched.map(
                lambda batch: records.decode_records(batch, info.shapes),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).prefetch(4),
            rows,
        ),
        "training batches": (data.training_dataset(), rows),
        "text lines": (
            text.map(
                release_text.tensorflow_parser(columns),
                num_parallel_calls=tf.data.AUTOTUNE,
            ).prefetch(4),
            1,
        ),
    }


def measure(kinds, rounds, seconds):
    """Records a second of each kind by round, after one round that isn't counted.

    Args:
      kinds: see `make_kinds`.
      rounds: how often each kind has its turn.
      seconds: length of a turn, at least one element.

    Returns:
      dict name -> float [rounds].
    """
    rates = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name, (dataset, rows) in kinds.items():
            # A pipeline of its own each turn: none reads on in another's.
            iterator = iter(dataset)
            for _ in range(6):  # what was prefetched beside the start isn't counted
                next(iterator)
            start, count = time.perf_counter(), 0
            while not count or time.perf_counter() - start < seconds:
                next(iterator)
                count += rows
            if number:
                rates[name].append(count / (time.perf_counter() - start))
            del iterator
    return {name: np.array(each) for name, each in rates.items()}


def fastest_step(path):
    """Most samples a second that a step of ours took in `benchmarks.train_step`."""
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    return max(
        row["samples_per_second"]["ours"]
        for row in rows
        if row["workload"].startswith("train")
    )


def format_table(content):
    """The rows as lines of text."""
    place, rates = content["environment"], content["records_per_second"]
    lines = [
        f"{place['processor']}, {place['cores']} cores; batches of "
        f"{content['batch_size']}, medians of {content['rounds']} rounds",
        f"{'':18}  records/s  x text lines  bytes a record",
    ]
    for name, rate in rates.items():
        sizes = content["bytes_per_record"]
        size = sizes["text line" if name == "text lines" else "record"]
        ratio = rate / rates["text lines"]
        lines.append(f"{name:18}  {rate:9.1f}  {ratio:12.1f}  {size:14,.0f}")
    if content["fastest_step"]:
        ahead = rates["training batches"] / content["fastest_step"]
        lines.append(
            f"The fastest step takes {content['fastest_step']:.1f} records/s: training "
            f"batches come {ahead:.0f} times as fast"
        )
    return "\n".join(lines)


def run(settings):
    """Measures, prints the table, writes the JSON: returns its content."""
    step = fastest_step(settings["train_step"]) if settings["train_step"] else None
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        info = write_data_set(folder, settings["records"])
        lines, columns = make_lines(settings["lines"])
        kinds = make_kinds(info, settings, lines, columns)
        rates = measure(kinds, settings["rounds"], settings["seconds"])
        stored = sum(s["bytes"] for s in info.values["splits"]["train"]["shards"])
    content = {
        "environment": train_step.environment(os.cpu_count()),
        "batch_size": settings["batch_size"],
        "rounds": settings["rounds"],
        "records_per_second": {k: float(np.median(v)) for k, v in rates.items()},
        "bytes_per_record": {
            "record": stored / settings["records"],
            "text line": float(np.mean([len(line) for line in lines])),
        },
        "fastest_step": step,
    }
    print(format_table(content))
    results_file.write(content, settings["output"])
    return content


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("The input pipeline alone, beside parsing text lines.")
    page.heading("Measurement")
    page.integer("records", 512, "Made-up records, 0.3 MB each.", lower_bound=64)
    page.integer("lines", 16, "Different text lines.", lower_bound=1)
    page.integer("batch_size", 32, "Records a batch.", lower_bound=2)
    page.integer("rounds", 5, "Turns of each kind.", lower_bound=1)
    page.float("seconds", 2.0, "Length of a turn.", lower_bound=0.0)
    page.string("train_step", None, "JSON of benchmarks.train_step to compare with.")
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
