"""Captions against a drawn truth: which attributes they name, and which are true.

Beside the captioning figures, for catalogues that know what is in their pictures (the
embedded one). Reads a truth folder: attributes.jsonl, one line a picture: image_id,
attributes (attribute -> value, and box, null where the attribute isn't seen in this
picture); and phrases.json (`attribute_lexicon`).

Of several readings of a sentence the one with most truth in it counts.
"""

import collections
import dataclasses
import json
import os
import re

from kaleido_tf.tasks.attribute_lexicon import Claim, Lexicon, check_file
from kaleido_tf.tasks.caption_text import words_of

TRUTH_NAME = "attributes.jsonl"
# The garment is judged apart from its attributes.
GARMENT = "subcategory"


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is true of a picture.

    Attributes:
      values: dict attribute -> value, of the product.
      visible: set of the attributes that are seen in this picture.
    """

    values: dict
    visible: frozenset


def load_truth(folder, image_ids):
    """The truth of some pictures: dict image_id -> `Truth`.

    Args:
      folder: a truth folder.
      image_ids: the pictures that are wanted.

    Raises:
      FileNotFoundError: no truth there.
      ValueError: a picture that it doesn't know, so it is of another catalogue.
    """
    path = os.path.join(folder, TRUTH_NAME)
    check_file(path, "the truth about a catalogue's pictures")
    wanted, found = set(image_ids), {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["image_id"] in wanted:
                found[row["image_id"]] = _truth(row["attributes"])
    if missing := sorted(wanted - set(found)):
        raise ValueError(
            f"{path} should know every picture of the split. Received none for "
            f"{missing[:5]} ({len(missing)} in all: the truth of another catalogue?)"
        )
    return found


def _truth(attributes):
    values = {name: entry["value"] for name, entry in attributes.items()}
    visible = frozenset(n for n, entry in attributes.items() if entry["box"])
    return Truth(values, visible)


def read_caption(caption, lexicon, truth):
    """What a caption says of a picture.

    Args:
      caption: str.
      lexicon: `Lexicon`.
      truth: `Truth`; it chooses between readings.

    Returns:
      (list of `Claim` without repetitions, number of sentences, number of these that
      no template matches).
    """
    claims, count, unread = {}, 0, 0
    for sentence in re.split(r"[.!?]+", caption):
        words = words_of(sentence)
        if not words:
            continue
        count += 1
        readings = lexicon.readings(words)
        if not readings:
            unread += 1
            continue
        best = max(readings, key=lambda reading: _truth_in(reading, truth.values))
        claims |= dict.fromkeys(_narrowed(claim, truth.values) for claim in best)
    return list(claims), count, unread


def _truth_in(reading, values):
    right = sum(claim.holds(values) for claim in reading)
    return right - (len(reading) - right), right


def _narrowed(claim, values):
    """A claim with one value, so that two ways to say the same count once."""
    if claim.holds(values):
        return Claim(claim.attribute, (values[claim.attribute],))
    return claim


def attribute_figures(captions, truths, lexicon):
    """Precision and recall of the attributes that captions name.

    Precision: of the attribute values that the captions name, the share that is true of
    the product (in sight or not). Recall: of the attributes that are seen in the
    picture and that the lexicon has a phrase for, the share that is named with its
    value. Both over all captions together; a value named twice in a caption counts
    once. `garment` is the same for the sub-category, `attributes` for each attribute.

    Args:
      captions: dict image_id -> str.
      truths: dict image_id -> `Truth`; a value "subcategory" judges the garment.
      lexicon: `Lexicon`.

    Returns:
      dict: num_images, num_sentences, num_unread_sentences; precision, recall (None
      where nothing is named or to be named), num_named, num_right, num_visible; garment
      and attributes, dicts of the last five.
    """
    counts = collections.defaultdict(collections.Counter)
    sentences = unread = 0
    for image_id, caption in captions.items():
        truth = truths[image_id]
        claims, count, missed = read_caption(caption, lexicon, truth)
        sentences, unread = sentences + count, unread + missed
        _count(claims, truth, lexicon, counts)
    garment = counts.pop(GARMENT, collections.Counter())
    return {
        "num_images": len(captions),
        "num_sentences": sentences,
        "num_unread_sentences": unread,
        **_shares(sum(counts.values(), collections.Counter())),
        "garment": _shares(garment),
        "attributes": {name: _shares(counts[name]) for name in sorted(counts)},
    }


def _count(claims, truth, lexicon, counts):
    seen = truth.visible | ({GARMENT} & set(truth.values))
    for name in seen:
        if lexicon.can_say(name, truth.values[name]):
            counts[name]["visible"] += 1
    for claim in claims:
        right = claim.holds(truth.values)
        counts[claim.attribute]["named"] += 1
        counts[claim.attribute]["right"] += right
        counts[claim.attribute]["found"] += right and claim.attribute in seen


def _shares(count):
    def share(part, whole):
        return count[part] / count[whole] if count[whole] else None

    return {
        "precision": share("right", "named"),
        "recall": share("found", "visible"),
        "num_named": count["named"],
        "num_right": count["right"],
        "num_visible": count["visible"],
    }


@dataclasses.dataclass(frozen=True)
class Judge:
    """What captions of some pictures are judged by.

    Attributes:
      lexicon: `Lexicon`.
      truths: dict image_id -> `Truth`.
    """

    lexicon: Lexicon
    truths: dict

    @classmethod
    def load(cls, folder, garments):
        """Of a truth folder; errors as `load_truth`.

        Args:
          folder: the truth folder.
          garments: dict image_id -> sub-category, of the pictures that are wanted.
        """
        truths = {
            image_id: Truth(truth.values | {GARMENT: garments[image_id]}, truth.visible)
            for image_id, truth in load_truth(folder, garments).items()
        }
        return cls(Lexicon.load(folder), truths)

    def figures(self, captions):
        """`attribute_figures` of a dict image_id -> str."""
        return attribute_figures(captions, self.truths, self.lexicon)

    def claims(self, image_id, caption):
        """What a caption says: list of dicts with attribute, value and right."""
        truth = self.truths[image_id]
        claims, _, _ = read_caption(caption, self.lexicon, truth)
        return [
            {
                "attribute": claim.attribute,
                "value": " or ".join(claim.values),
                "right": claim.holds(truth.values),
            }
            for claim in claims
        ]
