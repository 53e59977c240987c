"""CLI: the original release's text shards -> a prepared data set.

Lines of its retrieval and classification files become clean records; its pre-training
lines, which are masked and corrupted already, become frozen examples that the same
reader feeds to the same model.
"""

import dataclasses
import functools
import os
import time

from absl import logging

from data_prep import build_vocab
from data_prep.release import release_examples, release_lines, release_shards
from data_prep.shards import describe, pipeline, shard_plan
from kaleido_tf import cli
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import dataset_info, records, tokenization

PATCH_ARM = "kaleido+saliency"


def make_info(schema, kind, vocab_file, location_rule, by_split):
    """The content of `dataset_info.json`.

    Args:
      schema: schema string.
      kind: key of `release_lines.SCHEMAS`.
      vocab_file: the data set's vocab.txt.
      location_rule: key of `release_examples.LOCATION_RULES`.
      by_split: dict split -> list of receipts.
    """
    sizes = release_shards.sizes_of(release_lines.parse_schema(schema))
    every = [r for of_split in by_split.values() for r in of_split]
    info = {
        "schema_version": records.SCHEMA_VERSION,
        "source": f"{kind} files of the original release",
        "release_schema": schema,
        "patch_arm": PATCH_ARM,
        "levels": [dataclasses.asdict(level) for level in KALEIDO_LEVELS],
        "location_rule": location_rule,
        "location_unit": release_examples.LOCATION_RULES[location_rule],
        "feature_size": sizes["feature_size"],
        # What made the features isn't in the files: ResNet-50, says the paper.
        "backbone": {
            "name": "original release",
            "feature_size": sizes["feature_size"],
            "weights": "unknown",
            "weights_hash": None,
        },
        "has_variants": False,
        "vocab_size": len(tokenization.read_vocabulary(vocab_file)),
        "vocab_sha256": dataset_info.file_sha256(vocab_file),
        **describe.class_tables(
            {split: _labels(of_split) for split, of_split in by_split.items()}
        ),
        **{
            key: describe.summed(every, key)
            for key in ("camouflage_rebuilt", "image_masks_ignored", "subtask_flags")
        },
        "release_ids": _release_ids(every),
        "splits": {split: describe.split_entry(rs) for split, rs in by_split.items()},
    }
    if kind == "pretrain":
        info["frozen"] = {k: sizes[k] for k in ("text_length", "max_predictions")}
    return info


def _labels(of_split):
    """Labels of a split as (name, count): dict by kind."""
    return {
        kind: [item for r in of_split for item in r["labels"][kind].items()]
        for kind in ("category", "subcategory")
    }


def _release_ids(every):
    """The release's own class numbers: dict kind -> name -> numbers it came with."""
    found = {"category": {}, "subcategory": {}}
    for receipt in every:
        for kind, numbers in receipt["release_ids"].items():
            for name, ids in numbers.items():
                found[kind][name] = sorted({*found[kind].get(name, ()), *ids})
    return {kind: dict(sorted(names.items())) for kind, names in found.items()}


def convert(
    output_dir,
    vocab_file,
    train=None,
    validation=None,
    kind="pretrain",
    schema=None,
    locations="box",
    lines_per_shard=256,
    max_lines=None,
    max_bad_fraction=0.02,
    beam_args=(),
):
    """Converts the release's files; the flags of the command line, see their help.

    Returns:
      The content of `dataset_info.json`.

    Raises:
      ValueError: a split without a line; or more than `max_bad_fraction` of the lines
        can't be used, which are listed in `skipped.jsonl`.
    """
    schema = schema or release_lines.SCHEMAS[kind]
    columns = release_lines.parse_schema(schema)
    kind = release_lines.schema_kind(columns)
    files = {
        split: release_lines.list_files(names)
        for split, names in (("train", train), ("validation", validation))
        if names
    }
    if not files:
        raise ValueError(
            "`--train` or `--validation` should name files. Received: neither"
        )
    vocabulary = tokenization.read_vocabulary(vocab_file)
    os.makedirs(output_dir, exist_ok=True)
    vocab = os.path.join(output_dir, dataset_info.VOCAB_NAME)
    build_vocab.write_vocabulary(vocabulary, vocab)
    make_writer = functools.partial(
        release_shards.ReleaseWriter, schema, vocab, locations
    )
    make_writer()  # errors of the settings should come at once
    describe.remove_info(output_dir)
    shards, left_out = {}, {}
    for split, paths in files.items():
        ranges, left_out[split] = release_shards.plan_ranges(
            paths, split, columns, lines_per_shard, max_lines
        )
        count = len(ranges)
        shards[split] = [
            (shard_plan.shard_path(output_dir, split, i, count), lines)
            for i, lines in enumerate(ranges)
        ]
        logging.info("%s: %d shards, left out %s", split, count, dict(left_out[split]))
    for split, rows in shards.items():
        if not rows:
            raise ValueError(
                f"The files of {split!r} should hold lines to convert. Received: none "
                f"in {files[split]} (left out: {dict(left_out[split])})"
            )
    every = [shard for of_split in shards.values() for shard in of_split]
    written = iter(pipeline.write_shards(every, make_writer, beam_args))
    by_split = {split: [next(written) for _ in rows] for split, rows in shards.items()}
    skipped = [row for rs in by_split.values() for r in rs for row in r["skipped"]]
    read = sum(len(lines) for _, lines in every)
    describe.check_bad(skipped, read, max_bad_fraction, output_dir, "files'")
    info = make_info(schema, kind, vocab, locations, by_split)
    info |= {"left_out": left_out, "skipped": len(skipped)}
    describe.write_info(info, output_dir)
    return info


def _page():
    page = cli.FlagPage(
        "Converts the text shards of the original Kaleido-BERT release into TFRecords."
    )
    page.heading("Input")
    page.string(
        "train",
        None,
        "Training files: a .list_csv, a pattern such as 'train/part-*', or paths "
        "joined by commas.",
    )
    page.string("validation", None, "Validation files, likewise.")
    page.enum(
        "kind",
        "pretrain",
        list(release_lines.SCHEMAS),
        "Which of the release's three schemas the lines have.",
    )
    page.string(
        "schema", None, "Schema string, name:type:length,..., instead of the kind's."
    )
    page.string(
        "vocab_file",
        None,
        "The vocab.txt of the release's checkpoint (BERT's, uncased).",
        required=True,
    )
    page.integer("max_lines", None, "Take only the first so many lines of a split.")
    page.float(
        "max_bad_fraction",
        0.02,
        "Fail when more than this share of lines can't be used; they are listed in "
        "skipped.jsonl either way.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.heading("Output")
    page.string("output_dir", None, "Folder of the data set.", required=True)
    page.enum(
        "locations",
        "box",
        list(release_examples.LOCATION_RULES),
        "What becomes of the patches' places, integers of an unknown unit. box: "
        "relative to level 1's rectangle, as in all our data. grid: the levels' own "
        "grids. stored: as they are, for a model ported from the release.",
    )
    page.integer("lines_per_shard", 256, "Upper bound, lines.", lower_bound=1)
    page.heading("Apache Beam")
    page.list("beam_args", [], "Options for Beam, comma-separated.")
    return page


def main(page):
    start = time.time()
    info = convert(**page.values())
    counts = {split: info["splits"][split]["num_examples"] for split in info["splits"]}
    left_out = {split: dict(reasons) for split, reasons in info["left_out"].items()}
    print(
        f"converted {counts} in {time.time() - start:.0f} s; left out {left_out}; "
        f"malformed {info['skipped']} ({describe.SKIPPED_NAME})"
    )


if __name__ == "__main__":
    PAGE = _page()
    cli.run(lambda: main(PAGE), PAGE)
