"""CLI: how many aligned pairs point to where the embedded catalogue drew the thing.

The catalogue knows which words of a description name which attribute, and the
rectangles in which it drew that attribute in each picture. Two questions are put:

right   does the patch overlap a rectangle of an attribute that its word names?
half    does at least half of the patch lie in one, or half of one in the patch?

Beside them stands the share of the level's patches for which that is so: what a patch
drawn at random would reach. A patch of 3 x 3 touches much; the second question is the
sharper one.

Pairs come from the records of a prepared data set, or, with --sat, are made anew by a
captioner from the same images, boxes and texts.
"""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from benchmarks import results_file
from benchmarks.alignment_truth import judge, load_truth, summaries
from data_prep import alignment, pictures, sources
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import patches, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo

_BATCH = 16


def read_records(info, split, most):
    """Up to `most` records of a split, without their features."""
    kept = ("image_id", "text", "token_ids", "box", "aligned_tokens", "aligned_patches")
    found = []
    for path in info.shard_paths(split):
        for record in records.read_shard(path, info.shapes):
            row = {key: record[key] for key in kept}
            row["image_id"] = row["image_id"].decode()
            row["text"] = row["text"].decode()
            found.append(row)
            if len(found) == most:
                return found
    return found


def align_anew(rows, aligner, catalogue, info, tokenizer):
    """Puts an aligner's pairs in the place of the records' own."""
    products = sources.read_manifest(
        os.path.join(catalogue, "manifest.jsonl"), sources.SkipList()
    )
    paths = {product.image_id: product.image_path for product in products}
    size = info.values["canvas_size"]
    for first in range(0, len(rows), _BATCH):
        batch = rows[first : first + _BATCH]
        images = [pictures.read_picture(paths[row["image_id"]]) for row in batch]
        found = aligner.align(
            tf.stack([patches.to_canvas(image, size)[0] for image in images]).numpy(),
            np.stack([row["box"] for row in batch]),
            [row["text"] for row in batch],
            [row["token_ids"].tolist() for row in batch],
            tokenizer,
            PATCH_ARMS[info.patch_arm],
        )
        for row, (tokens, aligned, _) in zip(batch, found, strict=True):
            row["aligned_tokens"], row["aligned_patches"] = tokens, aligned
        logging.log_every_n_seconds(
            logging.INFO, "aligned %d of %d", 15, first + len(batch), len(rows)
        )


def run(settings):
    """Measures; returns and prints the figures.

    Args:
      settings: dict of the command's flags.
    """
    info = DatasetInfo.load(settings["data_dir"])
    tokenizer = tokenization.Tokenizer.from_file(info.vocab_file)
    levels = PATCH_ARMS[info.patch_arm]
    truth = load_truth(settings["catalogue"])
    aligner, results = None, {}
    if settings["sat"]:
        aligner = alignment.Aligner(
            settings["sat"], settings["words"], min_lift=settings["min_lift"]
        )
        results["aligner"] = aligner.settings()
    for split in ("train", "validation"):
        rows = read_records(info, split, settings["max_images"])
        if aligner:
            align_anew(rows, aligner, settings["catalogue"], info, tokenizer)
        judged = [j for row in rows for j in judge(row, truth, tokenizer, levels)]
        results[split] = {
            "images": len(rows),
            **coverage(rows, tokenizer),
            "figures": summaries(judged),
        }
        print(format_table(split, results[split]))
    results_file.write(results, settings["output"])
    return results


def coverage(rows, tokenizer):
    """Pairs and words of a text that are aligned: dict of means."""
    words = [len(set(map(int, row["aligned_tokens"]))) for row in rows]
    nameable = [
        sum(
            alignment.is_named(word)
            for word, _ in alignment.words_of_pieces(row["token_ids"], tokenizer)
        )
        for row in rows
    ]
    return {
        "pairs_per_text": float(np.mean([len(row["aligned_tokens"]) for row in rows])),
        "words_per_text": float(np.mean(words)),
        "nameable_words_per_text": float(np.mean(nameable)),
        "texts_with_pairs": float(np.mean([count > 0 for count in words])),
    }


def format_table(split, results):
    """The figures of a split as text."""
    lines = [
        f"{split}: {results['images']} images, {results['pairs_per_text']:.1f} pairs a "
        f"text of {results['words_per_text']:.1f} of its "
        f"{results['nameable_words_per_text']:.1f} words that could be aligned; "
        f"{results['texts_with_pairs']:.1%} of texts have pairs",
        f"{'':27} {'pairs':>6} {'right':>6} {'random':>6} {'x':>4} {'half':>6} "
        f"{'random':>6} {'x':>4}",
    ]
    for name, row in results["figures"].items():
        cells = [f"{name:27} {row['pairs']:6d}"]
        for question in ("right", "half"):
            chance = row[f"{question}_random"]
            ratio = row[question] / chance if chance else 0.0
            cells.append(f"{row[question]:6.3f} {chance:6.3f} {ratio:4.1f}")
        lines.append(" ".join(cells))
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Judges aligned pairs by the embedded catalogue's truth.")
    page.string("data_dir", None, "Prepared data set of it.", required=True)
    page.string(
        "catalogue", None, "Folder that data_prep.catalogue wrote.", required=True
    )
    page.string(
        "sat", None, "Captioner to make pairs anew with; default: the records' own."
    )
    page.enum(
        "words",
        alignment.WORDS[0],
        list(alignment.WORDS),
        "With --sat: align the words that it says, or all that it reads.",
    )
    page.float("min_lift", alignment.MIN_LIFT, "With --sat, see data_prep.alignment.")
    page.integer("max_images", 1000, "Of each split.", lower_bound=1)
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
