"""Alignment Guided Masking: which words and patches, how many, and never both."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import FIXED_LEVELS
from kaleido_tf.data import masking
from kaleido_tf.data.masking import MaskingSettings

STARTS = {"camouflage": 5, "grey": 14, "blank": 30}  # first patch of levels 3, 4, 5
COUNTS = {"camouflage": 1, "grey": 2, "blank": 3}
WORDS = "a b c d e f g h navy cotton shirt dress"  # 12 words of one piece


def masked_patches(result):
    """Set of masked places in the sequence of 55 patches for each row."""
    rows = len(result["input_word_ids"])
    return [
        {
            int(start + place)
            for task, start in STARTS.items()
            for place in result[f"{task}_positions"][n]
        }
        for n in range(rows)
    ]


def force(monkeypatch, **values):
    """Makes the draws of some names constant."""
    drawn = masking.uniform

    def uniform(seed, name, shape):
        if name in values:
            return tf.fill(shape, tf.constant(values[name], tf.float32))
        return drawn(seed, name, shape)

    monkeypatch.setattr(masking, "uniform", uniform)


def assert_equal(one, other):
    assert set(one) == set(other)
    for key, value in one.items():
        np.testing.assert_array_equal(other[key], value, err_msg=key)


PAIRS = [
    [(1, 5), (2, 20), (3, 40), (4, 3)],
    [(2, 33), (3, 14), (3, 54), (19, 6)],
    [(1, 0)],
]


@pytest.fixture(scope="module")
def batch(make_batch):
    texts = [WORDS, "un ##button ##ed shirt ##s - red", "a"]
    return make_batch(texts, PAIRS)


def test_seeds_of_different_uses_differ():
    # Names whose bytes add up to the same would share their random numbers.
    uses = {
        "batch": ("itm", "agm", "akpm"),
        "itm": ("mismatch", "side", "hard", "other"),
        "agm": ("pair order", "coin", "words", "kind", "word", "patches"),
        "akpm": ("rotation", "jigsaw", "donor", "donor place"),
    }
    for names in uses.values():
        seeds = {tuple(masking.split_seed([3, 4], name).numpy()) for name in names}
        assert len(seeds) == len(names)


def test_eager_and_in_tf_data_and_by_seed(
    agm, masked_tokens, tokenizer, settings, batch
):
    seed = tf.constant([5, 6], tf.int32)
    eager = masking.apply_agm(batch, settings, tokenizer, seed)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    data = data.map(lambda b: masking.apply_agm(b, settings, tokenizer, seed))
    assert_equal(eager, next(iter(data)))
    shapes = {key: spec.shape.as_list() for key, spec in data.element_spec.items()}
    assert shapes["masked_lm_positions"] == [None, 6]
    assert shapes["camouflage_positions"] == [None, 1]
    assert shapes["grey_positions"] == [None, 2]
    assert shapes["blank_positions"] == [None, 3]
    for key in ("masked_lm_positions", "masked_lm_ids", "blank_positions"):
        assert eager[key].dtype == tf.int32
    again = agm(batch, seed=(5, 6))
    other = agm(batch, seed=(5, 7))
    assert_equal(eager, again)
    assert masked_tokens(again) != masked_tokens(other)
    assert masked_patches(again) != masked_patches(other)


def test_rows_are_drawn_independently(make_batch, agm, masked_tokens):
    result = agm(make_batch([WORDS] * 3))
    assert len({frozenset(row) for row in masked_tokens(result)}) == 3
    assert len({frozenset(row) for row in masked_patches(result)}) == 3


@pytest.mark.parametrize("aligned", [True, False])
def test_numbers_and_what_is_never_masked(
    agm, masked_tokens, tokenizer, settings, batch, aligned
):
    many = {key: tf.repeat(value, 150, axis=0) for key, value in batch.items()}
    settings = dataclasses.replace(settings, aligned=aligned)
    result = agm(many, settings)
    for task, count in COUNTS.items():
        positions = result[f"{task}_positions"]
        places = {"camouflage": 9, "grey": 16, "blank": 25}[task]
        assert positions.shape == (450, count)
        assert positions.min() >= 0
        assert positions.max() < places
        assert (np.diff(positions, axis=1) > 0).all()  # distinct, in order
        assert len(set(positions.ravel())) == places  # each place at some time
    assert not {"rotation_positions", "jigsaw_positions"} & set(result)
    # 14 pieces x 0.3 -> 4; 9 x 0.3 -> 3; 3 x 0.3 -> 1.
    budgets = np.repeat([4, 3, 1], 150)
    ids, mask = many["input_word_ids"].numpy(), many["input_mask"].numpy()
    starts = masking.word_starts(ids, tokenizer).numpy()
    tokens = masked_tokens(result)
    for n, masked in enumerate(tokens):
        # The second text's words have 3, 2, 1 and 1 pieces: its budget may not fit.
        assert len(masked) == budgets[n] or 150 <= n < 300
        assert len(masked) <= budgets[n]
        for position in masked:
            assert mask[n, position] == 1
            assert ids[n, position] not in (0, 2, 3)
            word = np.flatnonzero(starts[n] == starts[n, position])
            assert set(word[mask[n, word] == 1]) <= masked, (
                "a word is masked as a whole"
            )
    assert {frozenset(t) for t in tokens[300:]} == {frozenset([1])}
    assert max(len(t) for t in tokens[150:300]) == 3


# --- Pairs ----------------------------------------------------------------------------


def enough_pairs(rows):
    """A pair for each of the words 1 to 9, three on each maskable level."""
    patches = [5, 9, 13, 14, 20, 29, 30, 41, 54]
    return [list(zip(range(1, 10), patches, strict=True))] * rows


def test_a_pair_masks_its_word_or_its_patch_never_both(make_batch, agm, masked_tokens):
    pairs = enough_pairs(600)
    result = agm(make_batch([WORDS] * 600, pairs))
    tokens, places = masked_tokens(result), masked_patches(result)
    for row, masked, covered in zip(pairs, tokens, places, strict=True):
        assert not any(token in masked and patch in covered for token, patch in row)
    by_word = sum(len(masked & set(range(1, 10))) for masked in tokens)
    named = {patch for _, patch in pairs[0]}
    by_patch = sum(len(covered & named) for covered in places)
    # 4 words and 6 patches have room; what the coins leave open is drawn at random.
    assert by_word > 0.8 * 600 * 4
    assert by_patch > 0.6 * 600 * 6


def test_both_sides_of_the_coin(make_batch, agm, masked_tokens):
    # One pair a row, and room for both sides: exactly one of them is masked.
    for pair in ((3, 7), (4, 28), (12, 54)):
        batch = make_batch([WORDS] * 800, [[pair]] * 800)
        result = agm(batch, seed=pair)
        word = np.array([pair[0] in masked for masked in masked_tokens(result)])
        patch = np.array([pair[1] in covered for covered in masked_patches(result)])
        assert (word ^ patch).all()
        assert 0.44 < word.mean() < 0.56


@pytest.mark.parametrize("coin", [0.0, 0.9])
def test_pairs_come_before_chance(make_batch, agm, masked_tokens, monkeypatch, coin):
    force(monkeypatch, coin=coin)
    pairs = enough_pairs(100)
    partner = dict(pairs[0])
    result = agm(make_batch([WORDS] * 100, pairs))
    named = set(partner.values())
    seen = set()
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        assert len(masked) == 4
        if coin < 0.5:  # every coin says word: no word without a pair is masked
            assert masked <= set(partner)
            assert not covered & named  # nor, by chance, a patch with a pair
            seen |= masked
        else:  # every coin says patch: all six are aligned, their words stay
            assert covered <= named
            assert not any(partner[token] in covered for token in masked & set(partner))
            seen |= covered
    assert seen == (set(partner) if coin < 0.5 else named)  # pairs in random order


def test_what_pairs_leave_open_comes_from_the_unaligned(
    make_batch, agm, masked_tokens, monkeypatch
):
    force(monkeypatch, coin=0.9)
    # Three pairs on the one patch of level 3 that may be masked: one is used, the other
    # two words stay undecided, and the words without a pair come first.
    pairs = [[(1, 5), (2, 6), (3, 7)]] * 200
    result = agm(make_batch([WORDS] * 200, pairs))
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        assert len(covered & {5, 6, 7}) == 1
        assert not masked & {1, 2, 3}
        assert not covered & set(range(8, 14))
    # Where only they are left they are taken, but never the used pair's word.
    result = agm(make_batch(["a b c"] * 200, pairs))
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        (patch,) = covered & {5, 6, 7}
        assert len(masked) == 2
        assert masked == {1, 2, 3} - {patch - 4}


def test_the_patch_of_a_masked_word_is_never_filled_in(
    make_batch, agm, masked_tokens, monkeypatch
):
    force(monkeypatch, coin=0.0)
    # Every patch of level 3 has a pair; 4 words are masked, so 5 patches are undecided.
    partner = {n + 1: n + 5 for n in range(9)}
    pairs = [list(partner.items())] * 200
    result = agm(make_batch([WORDS] * 200, pairs))
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        assert len(masked) == 4
        assert not covered & {partner[token] for token in masked}


def test_many_pairs_of_a_word_or_of_a_patch_are_used_once(
    make_batch, agm, masked_tokens
):
    of_word = [[(1, 40), (1, 41), (1, 20)]] * 300
    result = agm(make_batch([WORDS] * 300, of_word))
    sides = set()
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        side = (1 in masked, len(covered & {40, 41, 20}))
        sides.add(side)
    assert sides == {(True, 0), (False, 1)}
    of_patch = [[(1, 40), (2, 40), (3, 40)]] * 300
    result = agm(make_batch([WORDS] * 300, of_patch))
    sides = set()
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        sides.add((len(masked & {1, 2, 3}), 40 in covered))
    assert sides == {(1, False), (0, True)}


def test_levels_1_and_2_are_never_masked_for_a_pair(make_batch, agm):
    texts = [WORDS] * 3
    low = [[(n + 1, patch) for n, patch in enumerate(range(5))]] * 3
    plain = make_batch(texts, [[(-1, -1)]] * 3)
    with_low = agm(make_batch(texts, low))
    without = agm(plain)
    for key in ("input_word_ids", "masked_lm_positions", "blank_positions"):
        np.testing.assert_array_equal(with_low[key], without[key])


def test_pairs_of_special_and_absent_tokens_are_left_out(make_batch, agm):
    texts = ["a b c"] * 3
    useless = [[(0, 5), (4, 20), (9, 40), (23, 41), (2, -1)]] * 3
    result = agm(make_batch(texts, useless))
    without = agm(make_batch(texts))
    for key, value in without.items():
        np.testing.assert_array_equal(result[key], value)


@pytest.mark.parametrize("with_pairs", [True, False])
def test_without_alignments_all_is_drawn_at_random(
    make_batch, agm, masked_tokens, settings, with_pairs
):
    """`aligned=False` and data without pairs are the same, and even."""
    pairs = enough_pairs(1200) if with_pairs else None
    batch = make_batch([WORDS] * 1200, pairs)
    settings = dataclasses.replace(settings, aligned=not with_pairs)
    result = agm(batch, settings)
    plain = agm(make_batch([WORDS] * 1200))
    for key, value in plain.items():
        np.testing.assert_array_equal(result[key], value)
    words = np.bincount(np.concatenate([list(t) for t in masked_tokens(plain)]))
    np.testing.assert_allclose(words[1:13] / 1200, 4 / 12, atol=0.06)
    places = np.bincount(np.concatenate([list(p) for p in masked_patches(plain)]))
    for task, share in (("camouflage", 1 / 9), ("grey", 2 / 16), ("blank", 3 / 25)):
        count = {"camouflage": 9, "grey": 16, "blank": 25}[task]
        found = places[STARTS[task] : STARTS[task] + count] / 1200
        np.testing.assert_allclose(found, share, atol=0.045)


def test_an_aligned_piece_stands_for_its_word(
    make_batch, agm, masked_tokens, settings, monkeypatch
):
    force(monkeypatch, coin=0.0)
    text = "un ##button ##ed a shirt ##s b c d e f"
    batch = make_batch([text] * 3, [[(2, 40)], [(6, 40)], [(3, 40), (1, 41)]])
    result = agm(batch, dataclasses.replace(settings, token_rate=0.23))
    first, second, third = masked_tokens(result)  # 13 pieces x 0.23 -> 3
    assert first == {1, 2, 3}
    assert {5, 6} < second
    assert len(second) == 3
    assert third == {1, 2, 3}
    # The patch of a masked word stays.
    assert 40 not in masked_patches(result)[0]
    assert len({40, 41} & masked_patches(result)[2]) < 2


def test_a_word_that_is_too_long_for_the_budget_is_passed_by(
    make_batch, agm, masked_tokens, settings, monkeypatch
):
    force(monkeypatch, coin=0.0)
    batch = make_batch(["un ##button ##ed a b c d"] * 50, [[(1, 40)]] * 50)
    result = agm(batch, dataclasses.replace(settings, token_rate=0.2))
    for masked in masked_tokens(result):  # 9 pieces x 0.2 -> 2
        assert len(masked) == 2
        assert not masked & {1, 2, 3}


def test_fixed_arm(make_batch, agm):
    settings = MaskingSettings(levels=FIXED_LEVELS, max_predictions=6)
    batch = make_batch([WORDS] * 100, [[(1, 0), (2, 63)]] * 100)
    result = agm(batch, settings)
    assert result["blank_positions"].shape == (100, 3)
    assert result["blank_positions"].max() <= 63
    assert not {"camouflage_positions", "grey_positions"} & set(result)
    hit = [{0, 63} & set(row) for row in result["blank_positions"].tolist()]
    assert 0.3 < np.mean([len(row) for row in hit]) / 2 < 0.7
