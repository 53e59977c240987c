"""CLI: how many aligned pairs point to where the embedded catalogue drew the thing.

The catalogue knows which words of a description name which attribute, and the
rectangles in which it drew that attribute in each picture. A pair is right if its patch
overlaps one of the rectangles of an attribute that its word names. Beside it stands the
share of the level's patches that do so: what patches drawn at random would reach.

Pairs come from the records of a prepared data set, or, with --sat, are made anew by a
captioner from the same images, boxes and texts.
"""

import collections
import dataclasses
import json
import os

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import alignment, pictures, sat_words, sources
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import patches, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo

# An attribute is somewhere if its rectangles cover at most so much of the locked box.
# Of one that is everywhere, such as the cloth's colour, no patch can be wrong.
LOCATED_AREA = 0.25
_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Judged:
    """One pair with its verdict.

    Attributes:
      level: number of the patch's level.
      attributes: tuple of the names of the attributes that its word names.
      located: whether they are in a part of the locked box only.
      right: whether the patch overlaps.
      chance: share of the level's patches that overlap.
    """

    level: int
    attributes: tuple
    located: bool
    right: bool
    chance: float


def load_truth(catalogue):
    """dict image_id -> (attributes by name, number of words of the title).

    Args:
      catalogue: folder that `data_prep.catalogue` wrote.

    Raises:
      FileNotFoundError: no truth there.
    """
    truth, titles = os.path.join(catalogue, "truth", "attributes.jsonl"), {}
    if not os.path.isfile(truth):
        raise FileNotFoundError(
            f"`catalogue` should be a folder of data_prep.catalogue. Received: {truth} "
            "isn't there"
        )
    with open(os.path.join(catalogue, "manifest.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    titles = sat_words.split_texts([f"{row['title']}." for row in rows])
    lengths = {row["image_id"]: len(t) for row, t in zip(rows, titles, strict=True)}
    with open(truth, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {
        row["image_id"]: (row["attributes"], lengths[row["image_id"]]) for row in rows
    }


def named_rectangles(attributes, word, box, side=256):
    """Where what a word names was drawn.

    Args:
      attributes: of one picture, see `data_prep.catalogue`.
      word: str, of the description.
      box: float [4], the locked box, y1, x1, y2, x2 in [0, 1] of the picture.
      side: of the picture, which is square, in pixels.

    Returns:
      (names of attributes, float [n, 4] y1, x1, y2, x2 in [0, 1] of the locked box).
    """
    names, rectangles = [], []
    top, left, bottom, right = box
    for name, value in attributes.items():
        if not value["named"] or word not in value["words"]:
            continue
        parts = np.array(value["parts"], np.float64).reshape(-1, 4) / side
        y = np.clip((parts[:, [1, 3]] - top) / (bottom - top), 0, 1)
        x = np.clip((parts[:, [0, 2]] - left) / (right - left), 0, 1)
        seen = (y[:, 1] > y[:, 0]) & (x[:, 1] > x[:, 0])
        if seen.any():
            names.append(name)
            rectangles.append(
                np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)[seen]
            )
    return names, np.concatenate([np.zeros((0, 4)), *rectangles])


def shared_area(first, second):
    """Area that rectangles have in common: [P, 4], [n, 4] -> [P, n]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)


def judge(record, truth, tokenizer, levels):
    """Judges the pairs of one record.

    Args:
      record: dict with image_id, token_ids, box, aligned_tokens, aligned_patches.
      truth: see `load_truth`.
      tokenizer: `Tokenizer`.
      levels: table of `KaleidoLevel`.

    Returns:
      list of `Judged`; pairs of words of the title, or that name no attribute that is
      seen in this view, can't be judged and are left out.
    """
    attributes, title = truth[record["image_id"]]
    words = alignment.words_of_pieces(record["token_ids"], tokenizer)
    described = {place: word for word, place in words[title:]}
    rectangles, level_of = (
        patches.patch_rectangles(levels),
        patches.level_of_patch(levels),
    )
    judged = []
    for token, patch in zip(
        record["aligned_tokens"], record["aligned_patches"], strict=True
    ):
        word = described.get(int(token))
        names, parts = named_rectangles(attributes, word, record["box"])
        if not names:
            continue
        overlaps = (shared_area(rectangles, parts) > 1e-6).any(axis=1)
        same_level = level_of == level_of[patch]
        # Parts may lie on each other: the area is at most their sum.
        area = shared_area(np.array([[0, 0, 1, 1]]), parts).sum()
        judged.append(
            Judged(
                levels[level_of[patch]].level,
                tuple(names),
                bool(area <= LOCATED_AREA),
                bool(overlaps[patch]),
                float(overlaps[same_level].mean()),
            )
        )
    return judged


def summary(judged):
    """Share of right pairs and what chance gives: dict."""
    right = float(np.mean([j.right for j in judged])) if judged else 0.0
    chance = float(np.mean([j.chance for j in judged])) if judged else 0.0
    ratio = right / chance if chance else 0.0
    return {"pairs": len(judged), "right": right, "random": chance, "ratio": ratio}


def summaries(judged):
    """All figures of a list of `Judged`: dict name -> `summary`."""
    fine = [j for j in judged if j.level >= 3]
    located = [j for j in fine if j.located]
    rows = {
        "located, levels 3 to 5": summary(located),
        "everywhere, levels 3 to 5": summary([j for j in fine if not j.located]),
    }
    for level in sorted({j.level for j in located}):
        rows[f"located, level {level}"] = summary(
            [j for j in located if j.level == level]
        )
    by_attribute = collections.defaultdict(list)
    for pair in fine:
        for name in pair.attributes:
            by_attribute[name].append(pair)
    for name in sorted(by_attribute):
        rows[name] = summary(by_attribute[name])
    return rows


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


def align_anew(rows, sat, catalogue, info, tokenizer, min_lift):
    """Puts a captioner's pairs in the place of the records' own."""
    aligner = alignment.Aligner(sat, min_lift=min_lift)
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
    results = {}
    for split in ("train", "validation"):
        rows = read_records(info, split, settings["max_images"])
        if settings["sat"]:
            align_anew(
                rows,
                settings["sat"],
                settings["catalogue"],
                info,
                tokenizer,
                settings["min_lift"],
            )
        judged = [j for row in rows for j in judge(row, truth, tokenizer, levels)]
        results[split] = {
            "images": len(rows),
            **coverage(rows, tokenizer),
            "figures": summaries(judged),
        }
        print(format_table(split, results[split]))
    if settings["output"]:
        with open(settings["output"], "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
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
        f"{'':28} {'pairs':>7} {'right':>7} {'random':>7} {'ratio':>6}",
    ]
    for name, row in results["figures"].items():
        lines.append(
            f"{name:28} {row['pairs']:7d} {row['right']:7.3f} {row['random']:7.3f} "
            f"{row['ratio']:6.2f}"
        )
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
    page.float("min_lift", 1.0, "With --sat, see data_prep.alignment.")
    page.integer("max_images", 1000, "Of each split.", lower_bound=1)
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
