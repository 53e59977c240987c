"""Tests of the captioner's words: vocabulary, batches, BLEU."""

import numpy as np
import pytest
import tensorflow as tf

from data_prep.sat import sat_model, sat_words
from data_prep.sat.sat_model import END, PAD, UNKNOWN
from kaleido_tf.data import tokenization


def test_words_are_those_that_pieces_join_to(tokenizer):
    text = "Unbuttoned NAVY Café-shirts! Long sleeve."
    words = sat_words.split_texts([text])[0]
    assert " ".join(words) == "unbuttoned navy cafe - shirts ! long sleeve ."
    ids = tokenizer.tokenize(tf.constant([text]))[0].numpy()
    joined = tokenizer.decode(ids).split()
    assert len(joined) == len(words)  # "shirts" has no pieces here: [UNK]
    assert [w for w in joined if w != tokenization.UNKNOWN] == [
        w for w, j in zip(words, joined, strict=True) if j != tokenization.UNKNOWN
    ]
    assert sat_words.split_texts([]) == []


def test_word_table(tmp_path):
    texts = [["red", "shirt"], ["red", "dress"], ["blue", "shirt"], ["red"]]
    table = sat_words.WordTable.of(texts, min_count=2)
    assert table.words == [*sat_model.SPECIAL_WORDS, "red", "shirt"]
    ids = table.encode(["red", "blue", "shirt", "shirt"], max_words=3)
    assert ids.tolist() == [4, UNKNOWN, 5, END]
    assert table.decode([5, 4, END, 4, PAD]) == ["shirt", "red"]
    table.save(tmp_path / "words.txt")
    assert sat_words.WordTable.load(tmp_path / "words.txt").words == table.words
    assert len(sat_words.WordTable.of(texts, most=5, min_count=1)) == 5
    with pytest.raises(ValueError, match="occurs 4 times"):
        sat_words.WordTable.of(texts, min_count=4)


def test_epoch_batches():
    lengths = np.random.default_rng(0).integers(3, 40, 103)
    batches = sat_words.epoch_batches(lengths, 10, seed=7, epoch=2)
    rows = np.concatenate(batches)
    assert len(batches) == 10 and len(set(rows)) == 100
    again = sat_words.epoch_batches(lengths, 10, seed=7, epoch=2)
    np.testing.assert_array_equal(rows, np.concatenate(again))
    other = sat_words.epoch_batches(lengths, 10, seed=7, epoch=3)
    assert np.any(rows != np.concatenate(other))
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.3 * np.ptp(lengths)  # of about equal length
    means = [lengths[batch].mean() for batch in batches]
    assert means != sorted(means)  # but not the short ones first


def test_bleu4():
    texts = [["a", "b", "c", "d", "e"], ["a", "b"]]
    references = [["a", "b", "c", "d", "f", "g"], ["a", "x", "b", "y"]]
    # 1-grams 6 of 7, 2-grams 3 of 5, 3-grams 2 of 3, 4-grams 1 of 2; 7 words for 10
    wanted = (6 / 7 * 3 / 5 * 2 / 3 * 1 / 2) ** 0.25 * np.exp(1 - 10 / 7)
    assert sat_words.bleu4(texts, references) == pytest.approx(wanted)
    assert sat_words.bleu4(references, references) == pytest.approx(1.0)
    assert sat_words.bleu4([["a"]], [["a"]]) == 0.0


def test_bleu4_is_that_of_the_caption_metrics():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rng = np.random.default_rng(1)
    texts = [[str(w) for w in rng.integers(0, 4, rng.integers(4, 12))] for _ in "abcd"]
    references = [[*text[:-2], "9", *text[3:]] for text in texts]
    scores, _ = bleu.Bleu(4).compute_score(
        {i: [" ".join(r)] for i, r in enumerate(references)},
        {i: [" ".join(t)] for i, t in enumerate(texts)},
        verbose=0,
    )
    assert sat_words.bleu4(texts, references) == pytest.approx(scores[3], rel=1e-6)
