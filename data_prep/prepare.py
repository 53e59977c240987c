"""CLI: a catalogue -> a prepared data set. One Apache Beam pipeline, local by default.

Reads the catalogue, learns or takes the vocabulary, deals the views into output shards,
and writes these in parallel workers (an element of the pipeline is a shard). Started
again after a stop, it goes on with the shards that are missing. Ends by writing
`dataset_info.json` and `skipped.jsonl`.
"""

import dataclasses
import functools
import os
import shutil
import time

from absl import logging

from data_prep import build_vocab, sources
from data_prep import saliency as saliency_methods
from data_prep.shards import (
    describe,
    networks,
    pipeline,
    prepare_flags,
    shard_plan,
    shard_writer,
)
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import dataset_info, records, saliency_net, tokenization

_MOST_UNKNOWN = 0.05  # share of [UNK] from which a vocabulary is another language's
SALIENCY_FOLDER = "saliency"  # where the data set keeps the network that locked boxes


def make_info(settings, tokenizer, described, products, receipts):
    """The content of `dataset_info.json`.

    Args:
      settings: `PrepareSettings`.
      tokenizer: the `Tokenizer` used.
      described: `Networks.describe()`.
      products: list of `Product`; the training split's make the class tables.
      receipts: dict split -> list of receipts.
    """
    every = [r for split in receipts.values() for r in split]
    info = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": settings.patch_arm,
        "levels": [dataclasses.asdict(lv) for lv in PATCH_ARMS[settings.patch_arm]],
        "location_unit": "x1, x2, y1, y2, w*h in [0, 1] of the locked box",
        "canvas_size": settings.canvas_size,
        "coarse_patch_size": settings.coarse_patch_size,
        "feature_size": described["backbone"]["feature_size"],
        "backbone": described["backbone"],
        "vocab_size": tokenizer.vocab_size,
        "vocab_sha256": dataset_info.file_sha256(settings.vocab_file),
        "max_tokens": settings.max_tokens,
        "truncated_texts": describe.summed(every, "truncated_texts"),
        "pieces": describe.summed(every, "pieces"),
        "unknown_pieces": describe.summed(every, "unknown_pieces"),
        "boxes": describe.summed(every, "boxes"),
        "saliency": described["saliency"],
        "alignments": described["alignments"],
        **describe.class_tables(_labels(products)),
        "splits": {split: describe.split_entry(rs) for split, rs in receipts.items()},
    }
    if settings.alignments:
        counts = {k: describe.summed(every, k) for k in ("pairs", "paired_texts")}
        info["alignments"] = {**described["alignments"], **counts}
    return info


def _labels(products):
    """Labels by split and kind, for `describe.class_tables`."""
    return {
        split: {
            kind: [getattr(p, kind) for p in products if p.split == split]
            for kind in ("category", "subcategory")
        }
        for split in ("train", "validation")
    }


def _put_vocabulary(products, path, vocab_file, vocab_size):
    """Puts the data set's vocab.txt in place: the one given, or one that is learnt."""
    if vocab_file:
        build_vocab.write_vocabulary(tokenization.read_vocabulary(vocab_file), path)
    else:
        texts = (p.text for p in products if p.split == "train")
        build_vocab.learn_vocabulary(texts, vocab_size, path)


def _remove_network(folder):
    """Removes a saliency network's folder; ValueError where it holds anything else."""
    if not os.path.isdir(folder):
        return
    other = set(os.listdir(folder)) - {
        saliency_net.SETTINGS_NAME,
        saliency_net.WEIGHTS_NAME,
    }
    if other:
        raise ValueError(
            f"{folder} should hold nothing but a saliency network: it is written anew. "
            f"Received: {sorted(other)[:5]} (name another --output_dir)"
        )
    shutil.rmtree(folder)


def _keep_saliency(locker, weights, output_dir):
    """Puts the saliency network into the data set, so that serving locks the same box.

    Returns:
      Whether there is one that a serving graph can run.
    """
    folder = os.path.join(output_dir, SALIENCY_FOLDER)
    if weights and os.path.realpath(weights) == os.path.realpath(folder):
        return True  # it is the one that an earlier run left here
    _remove_network(folder)  # of an earlier run with another one
    return locker is not None and locker.export(folder)


def _write_all(products, settings, images_per_shard, output_dir, beam_args):
    """Plans and writes the shards of both splits: dict split -> list of receipts."""
    plans = {
        split: shard_plan.plan_shards(products, split, images_per_shard, output_dir)
        for split in ("train", "validation")
    }
    receipts = pipeline.write_shards(
        [shard for plan in plans.values() for shard in plan],
        functools.partial(shard_writer.ShardWriter, settings),
        beam_args,
    )
    count = len(plans["train"])
    return {"train": receipts[:count], "validation": receipts[count:]}


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
    source="manifest",
    text_fields=None,
    saliency=saliency_methods.DEFAULT_METHOD,
    saliency_weights=None,
    alignments=None,
    **paths,
):
    """Prepares a catalogue; the flags of the command line, see their help.

    Args:
      manifest: the catalogue of the source "manifest"; None with others.
      **paths: arguments that name the files of other sources, see `sources.SOURCES`.

    Returns:
      The content of `dataset_info.json`.

    Raises:
      ValueError: more than `max_bad_fraction` of the lines or pictures can't be used;
        everything is listed in `skipped.jsonl` first.
    """
    skipped = sources.SkipList()
    products = sources.read(
        source,
        skipped,
        {"manifest": manifest, **paths},
        validation_fraction=validation_fraction,
        text_fields=tuple(text_fields) if text_fields else None,
        max_images=max_images or None,
    )
    os.makedirs(output_dir, exist_ok=True)
    read = len(products) + len(skipped.rows)
    check = functools.partial(
        describe.check_bad,
        read=read,
        max_bad_fraction=max_bad_fraction,
        output_dir=output_dir,
        what=f"{source}'s",
    )
    check(skipped.rows)
    if vocab_file:
        tokenization.read_vocabulary(vocab_file)  # its errors should come at once
    vocab = os.path.join(output_dir, dataset_info.VOCAB_NAME)
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
        saliency=saliency,
        saliency_weights=saliency_weights or None,
        alignments=alignments or None,
    )
    built = networks.build_networks(settings)  # and its errors
    described = built.describe()
    describe.remove_info(output_dir)
    _put_vocabulary(products, vocab, vocab_file, vocab_size)
    kept = _keep_saliency(built.locker, settings.saliency_weights, output_dir)
    del built
    receipts = _write_all(products, settings, images_per_shard, output_dir, beam_args)
    rows = skipped.rows + [
        row for split in receipts.values() for r in split for row in r["skipped"]
    ]
    check(rows)
    tokenizer = tokenization.Tokenizer.from_file(vocab)
    info = make_info(settings, tokenizer, described, products, receipts)
    info |= {"source": source, "skipped": len(rows)}
    info["text_fields"] = [*(text_fields or sources.default_text_fields(source))]
    if kept:
        info["saliency"] = {**info["saliency"], "folder": SALIENCY_FOLDER}
    describe.write_info(info, output_dir)
    if info["unknown_pieces"] > _MOST_UNKNOWN * info["pieces"]:
        logging.warning(
            "%d of %d word pieces are [UNK]: the vocabulary isn't of these texts "
            "(another language, capital letters, or too small)",
            info["unknown_pieces"],
            info["pieces"],
        )
    if alignments and not info["alignments"]["pairs"]:
        logging.warning(
            "no word of the texts is aligned with a patch: the captioner of "
            "--alignments says none of their words, or looks nowhere in particular"
        )
    return info


def main(page):
    values = page.values()
    values["patch_arm"] = values.pop("patches")
    start = time.time()
    info = prepare(**values)
    counts = {split: info["splits"][split]["num_examples"] for split in info["splits"]}
    unseen = {kind: list(names) for kind, names in info["unseen_labels"].items()}
    aligned = ""
    if info["alignments"]:
        aligned = "aligned {pairs} pairs in {paired_texts} texts; ".format(
            **info["alignments"]
        )
    print(
        f"prepared {counts} in {time.time() - start:.0f} s; boxes {info['boxes']}; "
        f"left out {info['skipped']} ({describe.SKIPPED_NAME}); "
        f"texts cut {info['truncated_texts']}; "
        f"{aligned}[UNK] {info['unknown_pieces']} of {info['pieces']} pieces; "
        f"labels of validation that training hasn't {unseen}"
    )


if __name__ == "__main__":
    PAGE = prepare_flags.page()
    cli.run(lambda: main(PAGE), PAGE)
