"""Tests of how aligned pairs are judged by the embedded catalogue's truth."""

import json

import numpy as np
import pytest

from benchmarks import alignment, alignment_truth
from kaleido_tf.config import KALEIDO_LEVELS

# The locked box is the middle half of a picture of 256 pixels: 64 to 192.
BOX = [0.25, 0.25, 0.75, 0.75]
# x1, y1, x2, y2: the upper right ninth, and a sliver across the bottom.
COLLAR = [192 - 128 // 3, 64, 192, 64 + 128 // 3]
HEM = [64, 188, 192, 192]
ATTRIBUTES = {
    "collar": {"named": True, "words": ["red", "collar"], "parts": [COLLAR]},
    "hem": {"named": True, "words": ["red", "hem"], "parts": [HEM]},
    "print": {"named": False, "words": [], "parts": [COLLAR]},
    "cuff": {"named": True, "words": ["cuffs"], "parts": []},
}


def test_named_rectangles():
    names, parts = alignment_truth.named_rectangles(ATTRIBUTES, "collar", BOX)
    assert names == ["collar"]
    np.testing.assert_allclose(parts, [[0, 2 / 3, 1 / 3, 1]], atol=0.01)
    names, parts = alignment_truth.named_rectangles(ATTRIBUTES, "red", BOX)
    assert names == ["collar", "hem"] and parts.shape == (2, 4)
    for word in ("cuffs", "print", None):
        assert alignment_truth.named_rectangles(ATTRIBUTES, word, BOX)[0] == []


def test_shared_area():
    first = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    second = np.array([[0.25, 0.25, 0.75, 0.5]])
    found = alignment_truth.shared_area(first, second)
    np.testing.assert_allclose(found, [[0.0625], [0.0]])


def _judge(tokenizer, vocabulary, pairs):
    """Pairs (piece, patch) of the text "navy . red collar"."""
    pieces = ["navy", ".", "red", "collar"]
    record = {
        "image_id": "i",
        "token_ids": [vocabulary.index(piece) for piece in pieces],
        "box": BOX,
        "aligned_tokens": [pieces.index(piece) for piece, _ in pairs],
        "aligned_patches": [patch for _, patch in pairs],
    }
    truth = {"i": (ATTRIBUTES, 2)}  # "navy ." is the title
    return alignment_truth.judge(record, truth, tokenizer, KALEIDO_LEVELS)


def test_judge(tokenizer, vocabulary):
    # Level 3's patches start at 5: the upper right one is 5 + 2. At level 4, 14 + 2 is
    # touched by a third of its side; at level 5, 30 + 4 lies inside.
    pairs = [("collar", 7), ("collar", 5), ("collar", 16), ("collar", 34)]
    found = _judge(tokenizer, vocabulary, pairs)
    assert [j.level for j in found] == [3, 3, 4, 5]
    assert [j.right for j in found] == [True, False, True, True]
    assert [j.half for j in found] == [True, False, False, True]
    assert [j.right_chance for j in found] == [1 / 9, 1 / 9, 4 / 16, 4 / 25]
    assert [j.half_chance for j in found] == [1 / 9, 1 / 9, 1 / 16, 3 / 25]
    assert all(j.located and j.attributes == ("collar",) for j in found)
    # A word that names two attributes may point to either.
    either = _judge(tokenizer, vocabulary, [("red", 7), ("red", 13), ("red", 8)])
    assert [j.right for j in either] == [True, True, False]
    assert [j.half for j in either] == [True, False, False]
    assert either[0].attributes == ("collar", "hem")
    assert _judge(tokenizer, vocabulary, [("navy", 7), (".", 7)]) == []


def test_summaries(tokenizer, vocabulary):
    pairs = [("collar", 7), ("collar", 5), ("collar", 34), ("collar", 0)]
    rows = alignment_truth.summaries(_judge(tokenizer, vocabulary, pairs))
    located = rows["located, levels 3 to 5"]
    assert located["pairs"] == 3 and located["right"] == pytest.approx(2 / 3)
    assert located["right_random"] == pytest.approx((1 / 9 + 1 / 9 + 4 / 25) / 3)
    assert rows["located, level 3"]["half"] == pytest.approx(1 / 2)
    assert rows["everywhere, levels 3 to 5"]["pairs"] == 0
    assert rows["collar"] == located
    results = {"images": 1, "figures": rows}
    results |= alignment.coverage(
        [{"token_ids": [], "aligned_tokens": [0, 0, 4]}], tokenizer
    )
    assert results["pairs_per_text"] == 3 and results["words_per_text"] == 2
    assert "located, level 3" in alignment.format_table("train", results)


def test_load_truth(tmp_path):
    (tmp_path / "truth").mkdir()
    row = {"image_id": "i", "attributes": ATTRIBUTES}
    (tmp_path / "truth" / "attributes.jsonl").write_text(json.dumps(row) + "\n")
    row = {"image_id": "i", "title": "Red V-neck Dress"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    truth = alignment_truth.load_truth(tmp_path)
    assert truth["i"] == (ATTRIBUTES, 6)  # red v - neck dress .
    with pytest.raises(FileNotFoundError, match="folder of data_prep.catalogue"):
        alignment_truth.load_truth(tmp_path / "truth")
