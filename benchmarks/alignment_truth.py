"""The embedded catalogue's truth about aligned pairs: what a word names, and where.

Used by `alignment.py`, which explains the two questions put to a pair.
"""

import collections
import dataclasses
import json
import os

import numpy as np

from data_prep import alignment
from data_prep.sat import sat_words
from kaleido_tf.data import patches

# An attribute is somewhere if its rectangles cover at most so much of the locked box.
# Of one that is everywhere, such as the cloth's colour, no patch can be wrong.
LOCATED_AREA = 0.25


@dataclasses.dataclass(frozen=True)
class Judged:
    """One pair with its verdict.

    Attributes:
      level: number of the patch's level.
      attributes: tuple of the names of the attributes that its word names.
      located: whether they are in a part of the locked box only.
      right, half: whether the patch overlaps, see above.
      right_chance, half_chance: share of the level's patches that do.
    """

    level: int
    attributes: tuple
    located: bool
    right: bool
    right_chance: float
    half: bool
    half_chance: float


def load_truth(catalogue):
    """What the catalogue drew, and which words belong to the title.

    Args:
      catalogue: folder that `data_prep.catalogue` wrote.

    Returns:
      dict image_id -> (dict of attributes by name, number of words of the title).

    Raises:
      FileNotFoundError: no truth there.
    """
    truth = os.path.join(catalogue, "truth", "attributes.jsonl")
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
    rectangles = patches.patch_rectangles(levels)
    level_of = patches.level_of_patch(levels)
    judged = []
    for token, patch in zip(
        record["aligned_tokens"], record["aligned_patches"], strict=True
    ):
        word = described.get(int(token))
        names, parts = named_rectangles(attributes, word, record["box"])
        if not names:
            continue
        level = level_of[patch]
        shared = shared_area(rectangles[level_of == level], parts)
        place = patch - np.searchsorted(level_of, level)
        touched = (shared > 1e-6).any(axis=1)
        areas = np.prod(parts[:, 2:] - parts[:, :2], axis=1)
        least = 0.5 * np.minimum(areas, 1 / levels[level].num_patches)
        held = (shared >= least - 1e-9).any(axis=1)
        judged.append(
            Judged(
                level=levels[level].level,
                attributes=tuple(names),
                # Parts may lie on each other: together they are at most their sum.
                located=bool(areas.sum() <= LOCATED_AREA),
                right=bool(touched[place]),
                right_chance=float(touched.mean()),
                half=bool(held[place]),
                half_chance=float(held.mean()),
            )
        )
    return judged


def summary(judged):
    """Shares of a list of `Judged` with what chance gives: dict."""
    row = {"pairs": len(judged)}
    for question in ("right", "half"):
        found = [getattr(j, question) for j in judged]
        chance = [getattr(j, f"{question}_chance") for j in judged]
        row[question] = float(np.mean(found)) if found else 0.0
        row[f"{question}_random"] = float(np.mean(chance)) if chance else 0.0
    return row


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
