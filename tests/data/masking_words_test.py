"""Masked words: which pieces make a word, how many, and what becomes of them."""

import dataclasses

import numpy as np
import pytest

from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import masking
from kaleido_tf.data.masking import MaskingSettings

WORDS = "a b c d e f g h navy cotton shirt dress"  # 12 words of one piece


def test_word_starts(make_batch, tokenizer):
    texts = ["un ##button ##ed a shirt ##s", "red", ""]
    ids = make_batch(texts)["input_word_ids"][:, :9]
    assert masking.word_starts(ids, tokenizer).numpy().tolist() == [
        [0, 1, 1, 1, 4, 5, 5, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
    ]


def test_lists_of_masked_pieces(make_batch, agm):
    batch = make_batch([WORDS, "un ##button ##ed shirt ##s - red", "a"])
    clean = batch["input_word_ids"].numpy()
    result = agm(batch)
    for n in range(3):
        positions = result["masked_lm_positions"][n]
        weights = result["masked_lm_weights"][n]
        count = int(weights.sum())
        assert weights.tolist() == [1.0] * count + [0.0] * (6 - count)
        assert (np.diff(positions[:count]) > 0).all()
        assert not positions[count:].any()
        expected = clean[n, positions[:count]].tolist() + [0] * (6 - count)
        assert result["masked_lm_ids"][n].tolist() == expected
        untouched = np.setdiff1d(np.arange(clean.shape[1]), positions[:count])
        np.testing.assert_array_equal(
            result["input_word_ids"][n, untouched], clean[n, untouched]
        )
    np.testing.assert_array_equal(result["input_mask"], batch["input_mask"])


@pytest.mark.parametrize(
    ("words", "rate", "most", "expected"),
    [(12, 0.15, 10, 2), (17, 0.3, 4, 4), (1, 0.15, 10, 1), (12, 0.0, 10, 0)],
)
def test_token_budget(make_batch, agm, words, rate, most, expected):
    batch = make_batch([" ".join("a" * words)] * 3)
    settings = MaskingSettings(KALEIDO_LEVELS, max_predictions=most, token_rate=rate)
    assert masking.token_budget(batch, settings).numpy().tolist() == [expected] * 3
    result = agm(batch, settings)
    assert result["masked_lm_weights"].sum(axis=1).tolist() == [expected] * 3


def test_empty_texts_and_texts_shorter_than_the_predictions(
    make_batch, agm, masked_tokens, tokenizer
):
    settings = MaskingSettings(KALEIDO_LEVELS, max_predictions=25)
    result = agm(make_batch(["", "[UNK]", ""]), settings)
    assert result["masked_lm_positions"].shape == (3, 25)
    assert masked_tokens(result) == [set(), {1}, set()]  # an unknown word may be masked
    assert result["masked_lm_ids"][1, 0] == tokenizer.unknown_id


# --- What becomes of a masked piece ---------------------------------------------------


@pytest.fixture
def kinds(make_batch, agm, tokenizer, settings):
    """Shares of masked pieces that became [MASK], another piece, or stayed."""

    def count(**rates):
        changed = dataclasses.replace(settings, token_rate=0.4, **rates)
        batch = make_batch([WORDS] * 900)
        result = agm(batch, changed)
        positions, used = result["masked_lm_positions"], result["masked_lm_weights"] > 0
        assert used.all()
        now = np.take_along_axis(result["input_word_ids"], positions, axis=1)
        mask = now == tokenizer.mask_id
        same = now == result["masked_lm_ids"]
        other = now[~mask & ~same]
        assert not np.isin(other, tokenizer.special_ids).any()
        return (
            mask.mean(),
            1 - mask.mean() - same.mean(),
            same.mean(),
            set(other.tolist()),
        )

    return count


def test_shares_of_80_10_10(kinds, tokenizer):
    masked, other, same, pieces = kinds()
    assert masked == pytest.approx(0.8, abs=0.02)
    ordinary = tokenizer.vocab_size - 5
    # A random piece is the word's own now and then.
    assert other == pytest.approx(0.1 * (1 - 1 / ordinary), abs=0.015)
    assert same == pytest.approx(0.1 * (1 + 1 / ordinary), abs=0.015)
    assert len(pieces) == ordinary


@pytest.mark.parametrize(
    ("rates", "expected"),
    [((1.0, 0.0), (1, 0, 0)), ((0.0, 0.0), (0, 0, 1))],
)
def test_forced_rates(kinds, rates, expected):
    shares = kinds(mask_rate=rates[0], random_rate=rates[1])
    assert shares[:3] == expected


def test_all_random(kinds, tokenizer):
    masked, other, _, pieces = kinds(mask_rate=0.0, random_rate=1.0)
    assert masked == 0
    assert other > 0.9
    assert len(pieces) == tokenizer.vocab_size - 5
