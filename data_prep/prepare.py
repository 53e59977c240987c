"""CLI: a catalogue -> a prepared data set. One Apache Beam pipeline, local by default.

Reads the manifest, learns or takes the vocabulary, deals the views into output shards,
and writes these in parallel workers (an element of the pipeline is a shard). Started
again after a stop, it goes on with the shards that are missing. Ends by writing
`dataset_info.json` and `skipped.jsonl`.
"""

import dataclasses
import json
import math
import os
import time

import apache_beam as beam
import numpy as np
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import fn_api_runner

from data_prep import build_vocab, shard_writer, sources
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import dataset_info, records, tokenization

SKIPPED_NAME = "skipped.jsonl"


def plan_shards(products, split, images_per_shard, output_dir, seed=0):
    """Deals the views of a split into shards.

    Args:
      products: list of `sources.Product`.
      split: "train" or "validation".
      images_per_shard: upper bound.
      output_dir: where the shards go.
      seed: of the one shuffle that decides which view goes where.

    Returns:
      list of (path, list of Product), the same for the same arguments.
    """
    chosen = [p for p in products if p.split == split]
    order = np.random.default_rng([seed, 7]).permutation(len(chosen))
    count = max(1, math.ceil(len(chosen) / images_per_shard))
    width = max(5, len(str(count)))
    shards = []
    for i, part in enumerate(np.array_split(order, count)):
        name = f"{split}-{i:0{width}d}-of-{count:0{width}d}.tfrecord"
        path = os.path.join(output_dir, name)
        shards.append((path, [chosen[j] for j in part]))
    return shards


class WriteShards(beam.DoFn):
    """Beam's side of `ShardWriter`: models are loaded once a worker.

    Args:
      settings: `shard_writer.PrepareSettings`.
      total: number of views, for the progress line.
    """

    def __init__(self, settings, total):
        self._settings = settings
        self._total = total
        self._done = 0
        self._start = None

    def setup(self):
        self._writer = shard_writer.ShardWriter(self._settings)

    def process(self, shard):
        path, products = shard
        self._start = self._start or time.time()
        receipt = self._writer.write(path, products)
        self._done += len(products)
        rate = self._done / max(time.time() - self._start, 1e-9)
        logging.info(
            "%s: %d records; this worker: %d of %d images, %.1f images/s",
            receipt["file"],
            receipt["num_examples"],
            self._done,
            self._total,
            rate,
        )
        yield path


def write_shards(shards, settings, beam_args):
    """Runs the pipeline over planned shards; returns their receipts in order."""
    total = sum(len(products) for _, products in shards)
    # DirectRunner first tries to download another runner; this is its local engine.
    local = not any(arg.startswith("--runner") for arg in beam_args)
    runner = fn_api_runner.FnApiRunner() if local else None
    with beam.Pipeline(runner, options=PipelineOptions(list(beam_args))) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards, reshuffle=len(shards) > 1)
            | "Write" >> beam.ParDo(WriteShards(settings, total))
        )
    receipts = []
    for path, _ in shards:
        with open(shard_writer.receipt_path(path), encoding="utf-8") as file:
            receipts.append(json.load(file))
    return receipts


def _split_entry(receipts):
    keys = ("file", "num_examples", "bytes", "sha256")
    return {
        "num_examples": sum(r["num_examples"] for r in receipts),
        "shards": [{key: r[key] for key in keys} for r in receipts],
    }


def _summed(receipts, key):
    totals = {}
    for receipt in receipts:
        for name, count in receipt[key].items():
            totals[name] = totals.get(name, 0) + count
    return totals


def make_info(settings, tokenizer, backbone, products, receipts):
    """The content of `dataset_info.json`.

    Args:
      settings: `PrepareSettings`.
      tokenizer: the `Tokenizer` used.
      backbone: `Backbone.describe()`.
      products: list of `Product`; the training split's make the class tables.
      receipts: dict split -> list of receipts.
    """
    trained = [p for p in products if p.split == "train"]
    every = [r for split in receipts.values() for r in split]
    return {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": settings.patch_arm,
        "levels": [dataclasses.asdict(lv) for lv in PATCH_ARMS[settings.patch_arm]],
        "location_unit": "x1, x2, y1, y2, w*h in [0, 1] of the locked box",
        "canvas_size": settings.canvas_size,
        "coarse_patch_size": settings.coarse_patch_size,
        "feature_size": backbone["feature_size"],
        "backbone": backbone,
        "vocab_size": tokenizer.vocab_size,
        "vocab_sha256": dataset_info.file_sha256(settings.vocab_file),
        "max_tokens": settings.max_tokens,
        "truncated_texts": sum(r["truncated_texts"] for r in every),
        "boxes": _summed(every, "boxes"),
        "categories": sorted({p.category for p in trained if p.category}),
        "subcategories": sorted({p.subcategory for p in trained if p.subcategory}),
        "splits": {split: _split_entry(rs) for split, rs in receipts.items()},
    }


def _vocabulary(products, output_dir, vocab_file, vocab_size):
    """Puts the data set's vocab.txt in place; returns its path."""
    path = os.path.join(output_dir, dataset_info.VOCAB_NAME)
    if vocab_file:
        build_vocab.write_vocabulary(tokenization.read_vocabulary(vocab_file), path)
    elif os.path.exists(path):
        tokenization.read_vocabulary(path)
        logging.info("%s is there already and is kept (remove it for another)", path)
    else:
        texts = (p.text for p in products if p.split == "train")
        build_vocab.write_vocabulary(
            build_vocab.build_vocabulary(texts, vocab_size), path
        )
    return path


def _write_skipped(rows, output_dir):
    path = os.path.join(output_dir, SKIPPED_NAME)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def _check_bad(rows, read, max_bad_fraction, output_dir):
    """Lists what was left out; raises ValueError where that is too much."""
    listed = _write_skipped(rows, output_dir)
    if len(rows) > max_bad_fraction * read:
        raise ValueError(
            f"At most {max_bad_fraction:.1%} of the manifest's {read} lines should be "
            f"unusable (--max_bad_fraction). Received: {len(rows)}, listed with the "
            f"reasons in {listed}"
        )


def _write_info(info, path):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(info, file, indent=1)
    os.replace(f"{path}.tmp", path)


def _describe_backbone(settings):
    """Builds the backbone once in this process: its errors should come at once."""
    try:
        backbone = backbone_lib.build_backbone(
            settings.backbone, settings.patch_size, settings.backbone_weights
        )
    except RuntimeError as error:  # weights that can't be had
        raise OSError(str(error)) from error
    return backbone.describe()


def prepare(
    manifest,
    output_dir,
    patch_arm="kaleido+saliency",
    backbone="efficientnet_lite0",
    backbone_weights=None,
    patch_size=64,
    coarse_patch_size=128,
    canvas_size=256,
    vocab_file=None,
    vocab_size=4000,
    max_tokens=510,
    images_per_shard=256,
    images_per_batch=16,
    validation_fraction=0.1,
    max_images=None,
    max_bad_fraction=0.02,
    beam_args=(),
):
    """Prepares a catalogue; the flags of the command line, see their help.

    Returns:
      The content of `dataset_info.json`.

    Raises:
      ValueError: more than `max_bad_fraction` of the lines or pictures can't be used;
        everything is listed in `skipped.jsonl` first.
    """
    os.makedirs(output_dir, exist_ok=True)
    skipped = sources.SkipList()
    products = sources.read_manifest(
        manifest, skipped, validation_fraction, max_images=max_images or None
    )
    read = len(products) + len(skipped.rows)
    _check_bad(skipped.rows, read, max_bad_fraction, output_dir)
    vocab = _vocabulary(products, output_dir, vocab_file, vocab_size)
    settings = shard_writer.PrepareSettings(
        patch_arm=patch_arm,
        backbone=backbone,
        backbone_weights=backbone_weights or None,
        patch_size=patch_size,
        coarse_patch_size=coarse_patch_size,
        canvas_size=canvas_size,
        vocab_file=vocab,
        max_tokens=max_tokens,
        images_per_batch=images_per_batch,
    )
    backbone = _describe_backbone(settings)
    info_path = os.path.join(output_dir, dataset_info.FILE_NAME)
    if os.path.exists(info_path):  # while shards are rewritten nobody should read them
        os.remove(info_path)
    plans = {
        split: plan_shards(products, split, images_per_shard, output_dir)
        for split in ("train", "validation")
    }
    receipts = write_shards([s for p in plans.values() for s in p], settings, beam_args)
    by_split = {
        "train": receipts[: len(plans["train"])],
        "validation": receipts[len(plans["train"]) :],
    }
    rows = skipped.rows + [row for r in receipts for row in r["skipped"]]
    _check_bad(rows, read, max_bad_fraction, output_dir)
    tokenizer = tokenization.Tokenizer.from_file(vocab)
    info = make_info(settings, tokenizer, backbone, products, by_split)
    info["skipped"] = len(rows)
    _write_info(info, info_path)
    return info


def _page():
    page = cli.FlagPage(
        "Prepares a catalogue: images and texts -> TFRecord shards of patch features."
    )
    page.heading("Input")
    page.string(
        "manifest",
        None,
        "Catalogue: JSON lines or CSV, one line an image, with product_id, image "
        "(path relative to the manifest), a text in text, title or description, and "
        "optionally image_id, category, subcategory, split.",
        required=True,
    )
    page.float(
        "validation_fraction",
        0.1,
        "Share of products held out where the manifest names no split.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.integer("max_images", None, "Take only the first so many lines (images).")
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
    page.integer("images_per_shard", 256, "Upper bound, images.", lower_bound=1)
    page.heading("Text")
    page.string("vocab_file", None, "A BERT vocab.txt; without it one is learnt.")
    page.integer(
        "vocab_size",
        4000,
        "Upper bound of a learnt vocabulary, word pieces.",
        lower_bound=200,
    )
    page.integer(
        "max_tokens",
        510,
        "Word pieces stored of a text; longer ones are cut.",
        lower_bound=1,
    )
    page.heading("Patches and features")
    page.enum(
        "patches",
        "kaleido+saliency",
        list(PATCH_ARMS),
        "fixed: one 8 x 8 grid over the picture. kaleido: 55 patches at five scales. "
        "kaleido+saliency: the same within the locked box of the object.",
    )
    page.enum(
        "backbone",
        "efficientnet_lite0",
        sorted(backbone_lib.FEATURE_SIZES),
        "Network that turns a patch into a vector (1280 or 2048 numbers).",
    )
    page.string(
        "backbone_weights",
        None,
        "File with the backbone's ImageNet weights; without it the ones from its "
        "package (efficientnet_lite0) or Keras's download (resnet50).",
    )
    page.integer(
        "patch_size",
        64,
        "Side of a patch for the backbone, pixels; 224 as published.",
        lower_bound=32,
    )
    page.integer(
        "coarse_patch_size",
        128,
        "Side of level 1's patch and its rotations, pixels, where that is larger than "
        "patch_size: the whole object shows poorly at 64.",
        lower_bound=0,
    )
    page.integer(
        "canvas_size",
        256,
        "Side that pictures are brought to first, pixels.",
        lower_bound=32,
    )
    page.integer(
        "images_per_batch",
        16,
        "Pictures whose patches share a batch (x 74 patches).",
        lower_bound=1,
    )
    page.heading("Apache Beam")
    page.list(
        "beam_args",
        [],
        "Options for Beam, comma-separated, such as "
        "--runner=FlinkRunner,--parallelism=8; the default runs on this machine.",
    )
    return page


def main(page):
    values = page.values()
    values["patch_arm"] = values.pop("patches")
    start = time.time()
    info = prepare(**values)
    counts = {split: info["splits"][split]["num_examples"] for split in info["splits"]}
    print(
        f"prepared {counts} in {time.time() - start:.0f} s; boxes {info['boxes']}; "
        f"left out {info['skipped']} ({SKIPPED_NAME}); "
        f"texts cut {info['truncated_texts']}"
    )


if __name__ == "__main__":
    PAGE = _page()
    cli.run(lambda: main(PAGE), PAGE)
