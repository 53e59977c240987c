"""A parsed line of the release -> our record, clean or frozen.

Retrieval and classification lines hold clean features; a pre-training line is masked
and corrupted already (`kaleido_tf/data/frozen.py`). What the lines can't give stays
empty: rotated and grey variants, the locked box's place in the picture, aligned pairs.
"""

import numpy as np
from absl import logging

from data_prep.release import release_lines
from data_prep.release.release_lines import LineError
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import patches

# How the integers of the location columns, whose unit the release doesn't say, become
# our five numbers: what `dataset_info.json` says about it.
LOCATION_RULES = {
    "box": "x1, x2, y1, y2, w*h in [0, 1] of the locked box: from the lines' integers, "
    "relative to level 1's rectangle",
    "grid": "x1, x2, y1, y2, w*h in [0, 1] of the locked box: the levels' grids (the "
    "lines' integers were not used)",
    "stored": "x1, x2, y1, y2, w*h: the lines' integers as they are, in the unit that "
    "the release's weights expect",
}
# How far a patch may reach beyond the box: integers are rounded.
_TOLERANCE, _TOLERANCE_UNITS = 0.05, 1.5
_CAMOUFLAGE = 2  # index of its level


def locations(values, rule, stats):
    """The location input of a line.

    Args:
      values: dict of `LineParser.parse`.
      rule: key of `LOCATION_RULES`.
      stats: dict that counts lines of which the camouflage level was rebuilt.

    Returns:
      float32 [P, 5].

    Raises:
      LineError: level 1's rectangle is empty, or a patch lies outside of it.
    """
    levels = [
        values[name].reshape(-1, 5).astype(np.float64)
        for name in release_lines.LOCATION_COLUMNS
    ]
    if len(levels[_CAMOUFLAGE]) != KALEIDO_LEVELS[_CAMOUFLAGE].num_patches:
        levels[_CAMOUFLAGE] = _rebuilt(levels[0][0], KALEIDO_LEVELS[_CAMOUFLAGE].grid)
        stats["camouflage_rebuilt"] += 1
        logging.log_first_n(
            logging.WARNING,
            "The lines have 35 numbers for the nine camouflage rectangles, which need "
            "45: all nine are rebuilt as a 3 x 3 grid of level 1's rectangle",
            1,
        )
    if rule == "grid":
        return patches.patch_locations(KALEIDO_LEVELS)
    stored = np.concatenate(levels)
    if rule == "stored":
        return stored.astype(np.float32)
    return _relative(stored)


def _rebuilt(whole, grid):
    """Rectangles of a level in the integers of level 1's: float64 [grid**2, 5]."""
    x1, x2, y1, y2 = whole[:4]
    top, left, bottom, right = patches.level_rectangles(grid).T
    columns = [np.round(x1 + (x2 - x1) * side) for side in (left, right)]
    rows = [np.round(y1 + (y2 - y1) * side) for side in (top, bottom)]
    area = (columns[1] - columns[0]) * (rows[1] - rows[0])
    return np.stack([*columns, *rows, area], axis=1)


def _relative(stored):
    """Relative to level 1's rectangle: float64 [P, 5] -> float32 [P, 5]."""
    x1, x2, y1, y2 = stored[0, :4]
    if x2 <= x1 or y2 <= y1:
        raise LineError("locations", f"level 1's rectangle is {stored[0].tolist()}")
    start, size = np.array([x1, x1, y1, y1]), np.array([x2 - x1] * 2 + [y2 - y1] * 2)
    sides = (stored[:, :4] - start) / size
    outside = np.abs(sides - np.clip(sides, 0, 1)).max(axis=1)
    if outside.max() > max(_TOLERANCE, _TOLERANCE_UNITS / size.min()):
        raise LineError(
            "locations",
            f"patch {outside.argmax()} at {stored[outside.argmax()].tolist()} is not "
            f"within level 1's {stored[0].tolist()} (x1, x2, y1, y2)",
        )
    sides = np.clip(sides, 0, 1)
    area = (sides[:, 1] - sides[:, 0]) * (sides[:, 3] - sides[:, 2])
    return np.concatenate([sides, area[:, None]], axis=1).astype(np.float32)


class Converter:
    """Parsed lines -> records.

    Args:
      kind: key of `release_lines.SCHEMAS`.
      feature_size: F.
      tokenizer: `Tokenizer` of the vocabulary that the release used.
      location_rule: key of `LOCATION_RULES`.
    """

    def __init__(self, kind, feature_size, tokenizer, location_rule):
        self._kind = kind
        self._feature_size = feature_size
        self._tokenizer = tokenizer
        self._rule = location_rule

    def convert(self, values, name, stats):
        """One line's values as a record, or as a frozen example.

        Args:
          values: dict of `LineParser.parse`.
          name: image_id of a pre-training line, which has none.
          stats: dict of counts that this adds to.

        Raises:
          LineError: numbers out of their range.
        """
        shape = (-1, self._feature_size)
        features = [values[c].reshape(shape) for c in release_lines.FEATURE_COLUMNS]
        if np.any(values["image_mask"] != 1):
            # The released model attends to every patch, whatever this column says.
            stats["image_masks_ignored"] += 1
        base = {
            "category": "",
            "subcategory": "",
            "patch_features": np.concatenate(features),
            "patch_locations": locations(values, self._rule, stats),
            "rotated_features": np.zeros([0, self._feature_size], np.float32),
            "grey_features": np.zeros([0, self._feature_size], np.float32),
            "box": patches.FULL_BOX,
        }
        if self._kind == "pretrain":
            return {**base, **self._frozen(values, name, stats)}
        return {**base, **self._clean(values, stats)}

    def _clean(self, values, stats):
        ids, length = self._text(values)
        record = {
            "product_id": values["image_prod_id"].strip(),
            "image_id": values["prod_img_id"].strip(),
            "text": values["prod_desc"].strip(),
            "token_ids": ids[1 : length - 1].tolist(),
        }
        if values["text_prod_id"].strip() != record["product_id"]:
            raise LineError(
                "product ids",
                f"text of {values['text_prod_id']!r}, image of "
                f"{record['product_id']!r}",
            )
        if self._kind == "classification":
            for kind in ("category", "subcategory"):
                label = record[kind] = values[f"img_{kind}"].strip()
                ids_of = stats["release_ids"][kind].setdefault(label, [])
                number = int(values[f"img_{kind}_id"][0])
                if number not in ids_of:
                    ids_of.append(number)
        return record

    def _frozen(self, values, name, stats):
        ids, length = self._text(values)
        example = {
            "input_word_ids": ids,
            "input_mask": values["input_mask"],
            "input_type_ids": _within(values, "segment_ids", 2),
            "masked_lm_positions": _within(values, "masked_lm_positions", length),
            "masked_lm_ids": _within(
                values, "masked_lm_ids", self._tokenizer.vocab_size
            ),
            "masked_lm_weights": values["masked_lm_weights"],
            "grey_targets": values["img_grey_mask_gt"].reshape(-1, self._feature_size),
        }
        for key, column, limit in (
            ("grey_positions", "img_grey_lm_ids", 16),
            ("blank_positions", "img_blank_lm_ids", 25),
        ):
            example[key] = _within(values, column, limit)
        for key, column, limit in (
            ("itm_labels", "nx_sent_labels", 2),
            ("rotation_labels", "img_rotate_gt", 4),
            ("jigsaw_labels", "img_jigsaw_gt", 24),
            ("camouflage_labels", "img_camouflage_gt", 9),
        ):
            example[key] = int(_within(values, column, limit)[0])
        self._check_blank(values, example["blank_positions"])
        if "img_subtasks_flag" in values:
            flag = int(values["img_subtasks_flag"][0])
            key = f"match {example['itm_labels']}, flag {flag}"
            stats["subtask_flags"][key] = stats["subtask_flags"].get(key, 0) + 1
        return {**example, **self._hidden_text(example, length), **_named(name)}

    def _check_blank(self, values, positions):
        """The blank patches are their own targets: they must not be blank yet."""
        level = values[release_lines.FEATURE_COLUMNS[-1]]
        chosen = level.reshape(-1, self._feature_size)[positions]
        if not chosen.any(axis=1).all():
            raise LineError(
                "blank targets",
                f"a patch at img_blank_lm_ids {positions.tolist()} is zero already",
            )

    def _hidden_text(self, example, length):
        """The text as it was before it was masked: dict."""
        ids = example["input_word_ids"].copy()
        used = example["masked_lm_weights"] > 0
        ids[example["masked_lm_positions"][used]] = example["masked_lm_ids"][used]
        pieces = ids[1 : length - 1].tolist()
        return {"token_ids": pieces, "text": self._tokenizer.decode(pieces)}

    def _text(self, values):
        """(input_ids, their number without padding), checked."""
        ids = _within(values, "input_ids", self._tokenizer.vocab_size)
        mask = values["input_mask"]
        length = int((mask != 0).sum())
        if not np.array_equal(mask, np.arange(len(mask)) < length) or length < 3:
            raise LineError("input_mask", "should be ones, at least three, then zeros")
        ends = self._tokenizer.cls_id, self._tokenizer.sep_id
        if (ids[0], ids[length - 1]) != ends:
            raise LineError(
                "input_ids",
                f"should go from [CLS] {ends[0]} to [SEP] {ends[1]}, received "
                f"{ids[0]} to {ids[length - 1]} (is it the release's vocabulary?)",
            )
        return ids, length


def _named(name):
    return {"product_id": name, "image_id": name}


def _within(values, column, limit):
    """A column's integers, all of them from 0 to below `limit`."""
    found = values[column]
    if found.min() < 0 or found.max() >= limit:
        raise LineError(
            "range",
            f"`{column}` should be from 0 to {limit - 1}, received from {found.min()} "
            f"to {found.max()}",
        )
    return found


def empty_stats():
    """The counts that `Converter` adds to."""
    return {
        "camouflage_rebuilt": 0,
        "image_masks_ignored": 0,
        "subtask_flags": {},
        "release_ids": {"category": {}, "subcategory": {}},
    }
