"""Alignment Guided Masking: which words and patches, how many, and never both."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import FIXED_LEVELS, KALEIDO_LEVELS
from kaleido_tf.data import masking
from kaleido_tf.data.masking import MaskingSettings

LENGTH = 20
SETTINGS = MaskingSettings(levels=KALEIDO_LEVELS, max_predictions=6, token_rate=0.3)
STARTS = {"camouflage": 5, "grey": 14, "blank": 30}  # first patch of levels 3, 4, 5
COUNTS = {"camouflage": 1, "grey": 2, "blank": 3}
WORDS = "a b c d e f g h navy cotton shirt dress"  # 12 words of one piece


def make_batch(tokenizer, texts, pairs=None):
    """A batch of packed pieces; `pairs` are (position in input_word_ids, patch)."""
    rows = [[tokenizer.vocabulary.index(piece) for piece in t.split()] for t in texts]
    batch = tokenizer.pack(tf.ragged.constant(rows, tf.int32, ragged_rank=1), LENGTH)
    if pairs is not None:
        width = max(len(row) for row in pairs)
        table = np.full([2, len(pairs), width], -1, np.int32)
        for n, row in enumerate(pairs):
            for i, pair in enumerate(row):
                table[:, n, i] = pair
        batch["aligned_tokens"], batch["aligned_patches"] = map(tf.constant, table)
    return batch


def agm(batch, tokenizer, settings=SETTINGS, seed=(1, 2)):
    """`apply_agm` in a graph, as arrays."""
    step = tf.function(
        lambda b, s: masking.apply_agm(b, settings, tokenizer, s), reduce_retracing=True
    )
    result = step(batch, tf.constant(seed, tf.int32))
    return {key: value.numpy() for key, value in result.items()}


def masked_tokens(result):
    """Set of masked positions for each row."""
    return [
        {int(p) for p, w in zip(positions, weights, strict=True) if w}
        for positions, weights in zip(
            result["masked_lm_positions"], result["masked_lm_weights"], strict=True
        )
    ]


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
def batch(tokenizer):
    texts = [WORDS, "un ##button ##ed shirt ##s - red", "a"]
    return make_batch(tokenizer, texts, PAIRS)


def test_word_starts(tokenizer):
    texts = ["un ##button ##ed a shirt ##s", "red", ""]
    ids = make_batch(tokenizer, texts)["input_word_ids"][:, :9]
    assert masking.word_starts(ids, tokenizer).numpy().tolist() == [
        [0, 1, 1, 1, 4, 5, 5, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
    ]


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


def test_eager_and_in_tf_data_and_by_seed(tokenizer, batch):
    seed = tf.constant([5, 6], tf.int32)
    eager = masking.apply_agm(batch, SETTINGS, tokenizer, seed)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    data = data.map(lambda b: masking.apply_agm(b, SETTINGS, tokenizer, seed))
    assert_equal(eager, next(iter(data)))
    shapes = {key: spec.shape.as_list() for key, spec in data.element_spec.items()}
    assert shapes["masked_lm_positions"] == [None, 6]
    assert shapes["camouflage_positions"] == [None, 1]
    assert shapes["grey_positions"] == [None, 2]
    assert shapes["blank_positions"] == [None, 3]
    for key in ("masked_lm_positions", "masked_lm_ids", "blank_positions"):
        assert eager[key].dtype == tf.int32
    again = agm(batch, tokenizer, seed=(5, 6))
    other = agm(batch, tokenizer, seed=(5, 7))
    assert_equal(eager, again)
    assert masked_tokens(again) != masked_tokens(other)
    assert masked_patches(again) != masked_patches(other)


def test_rows_are_drawn_independently(tokenizer):
    result = agm(make_batch(tokenizer, [WORDS] * 3), tokenizer)
    assert len({frozenset(row) for row in masked_tokens(result)}) == 3
    assert len({frozenset(row) for row in masked_patches(result)}) == 3


@pytest.mark.parametrize("aligned", [True, False])
def test_numbers_and_what_is_never_masked(tokenizer, batch, aligned):
    many = {key: tf.repeat(value, 150, axis=0) for key, value in batch.items()}
    settings = dataclasses.replace(SETTINGS, aligned=aligned)
    result = agm(many, tokenizer, settings)
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


def test_lists_of_masked_pieces(tokenizer, batch):
    clean = batch["input_word_ids"].numpy()
    result = agm(batch, tokenizer)
    for n in range(3):
        positions = result["masked_lm_positions"][n]
        weights = result["masked_lm_weights"][n]
        count = int(weights.sum())
        assert weights.tolist() == [1.0] * count + [0.0] * (6 - count)
        assert (np.diff(positions[:count]) > 0).all()
        assert not positions[count:].any()
        expected = clean[n, positions[:count]].tolist() + [0] * (6 - count)
        assert result["masked_lm_ids"][n].tolist() == expected
        untouched = np.setdiff1d(np.arange(LENGTH), positions[:count])
        np.testing.assert_array_equal(
            result["input_word_ids"][n, untouched], clean[n, untouched]
        )
    np.testing.assert_array_equal(result["input_mask"], batch["input_mask"])


@pytest.mark.parametrize(
    ("words", "rate", "most", "expected"),
    [(12, 0.15, 10, 2), (17, 0.3, 4, 4), (1, 0.15, 10, 1), (12, 0.0, 10, 0)],
)
def test_token_budget(tokenizer, words, rate, most, expected):
    batch = make_batch(tokenizer, [" ".join("a" * words)] * 3)
    settings = MaskingSettings(KALEIDO_LEVELS, max_predictions=most, token_rate=rate)
    assert masking.token_budget(batch, settings).numpy().tolist() == [expected] * 3
    result = agm(batch, tokenizer, settings)
    assert result["masked_lm_weights"].sum(axis=1).tolist() == [expected] * 3


def test_empty_texts_and_texts_shorter_than_the_predictions(tokenizer):
    settings = MaskingSettings(KALEIDO_LEVELS, max_predictions=LENGTH + 5)
    result = agm(make_batch(tokenizer, ["", "[UNK]", ""]), tokenizer, settings)
    assert result["masked_lm_positions"].shape == (3, LENGTH + 5)
    assert masked_tokens(result) == [set(), {1}, set()]  # an unknown word may be masked
    assert result["masked_lm_ids"][1, 0] == tokenizer.unknown_id


# --- Pairs ----------------------------------------------------------------------------


def enough_pairs(rows):
    """A pair for each of the words 1 to 9, three on each maskable level."""
    patches = [5, 9, 13, 14, 20, 29, 30, 41, 54]
    return [list(zip(range(1, 10), patches, strict=True))] * rows


def test_a_pair_masks_its_word_or_its_patch_never_both(tokenizer):
    pairs = enough_pairs(600)
    result = agm(make_batch(tokenizer, [WORDS] * 600, pairs), tokenizer)
    tokens, places = masked_tokens(result), masked_patches(result)
    for row, masked, covered in zip(pairs, tokens, places, strict=True):
        assert not any(token in masked and patch in covered for token, patch in row)
    by_word = sum(len(masked & set(range(1, 10))) for masked in tokens)
    named = {patch for _, patch in pairs[0]}
    by_patch = sum(len(covered & named) for covered in places)
    # 4 words and 6 patches have room; what the coins leave open is drawn at random.
    assert by_word > 0.8 * 600 * 4
    assert by_patch > 0.6 * 600 * 6


def test_both_sides_of_the_coin(tokenizer):
    # One pair a row, and room for both sides: exactly one of them is masked.
    for pair in ((3, 7), (4, 28), (12, 54)):
        batch = make_batch(tokenizer, [WORDS] * 800, [[pair]] * 800)
        result = agm(batch, tokenizer, seed=pair)
        word = np.array([pair[0] in masked for masked in masked_tokens(result)])
        patch = np.array([pair[1] in covered for covered in masked_patches(result)])
        assert (word ^ patch).all()
        assert 0.44 < word.mean() < 0.56


@pytest.mark.parametrize("coin", [0.0, 0.9])
def test_pairs_come_before_chance(tokenizer, monkeypatch, coin):
    force(monkeypatch, coin=coin)
    pairs = enough_pairs(100)
    partner = dict(pairs[0])
    result = agm(make_batch(tokenizer, [WORDS] * 100, pairs), tokenizer)
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


def test_what_pairs_leave_open_comes_from_the_unaligned(tokenizer, monkeypatch):
    force(monkeypatch, coin=0.9)
    # Three pairs on the one patch of level 3 that may be masked: one is used, the other
    # two words stay undecided, and the words without a pair come first.
    pairs = [[(1, 5), (2, 6), (3, 7)]] * 200
    result = agm(make_batch(tokenizer, [WORDS] * 200, pairs), tokenizer)
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        assert len(covered & {5, 6, 7}) == 1
        assert not masked & {1, 2, 3}
        assert not covered & set(range(8, 14))
    # Where only they are left they are taken, but never the used pair's word.
    result = agm(make_batch(tokenizer, ["a b c"] * 200, pairs), tokenizer)
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        (patch,) = covered & {5, 6, 7}
        assert len(masked) == 2
        assert masked == {1, 2, 3} - {patch - 4}


def test_the_patch_of_a_masked_word_is_never_filled_in(tokenizer, monkeypatch):
    force(monkeypatch, coin=0.0)
    # Every patch of level 3 has a pair; 4 words are masked, so 5 patches are undecided.
    partner = {n + 1: n + 5 for n in range(9)}
    pairs = [list(partner.items())] * 200
    result = agm(make_batch(tokenizer, [WORDS] * 200, pairs), tokenizer)
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        assert len(masked) == 4
        assert not covered & {partner[token] for token in masked}


def test_many_pairs_of_a_word_or_of_a_patch_are_used_once(tokenizer):
    of_word = [[(1, 40), (1, 41), (1, 20)]] * 300
    result = agm(make_batch(tokenizer, [WORDS] * 300, of_word), tokenizer)
    sides = set()
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        side = (1 in masked, len(covered & {40, 41, 20}))
        sides.add(side)
    assert sides == {(True, 0), (False, 1)}
    of_patch = [[(1, 40), (2, 40), (3, 40)]] * 300
    result = agm(make_batch(tokenizer, [WORDS] * 300, of_patch), tokenizer)
    sides = set()
    for masked, covered in zip(
        masked_tokens(result), masked_patches(result), strict=True
    ):
        sides.add((len(masked & {1, 2, 3}), 40 in covered))
    assert sides == {(1, False), (0, True)}


def test_levels_1_and_2_are_never_masked_for_a_pair(tokenizer):
    texts = [WORDS] * 3
    low = [[(n + 1, patch) for n, patch in enumerate(range(5))]] * 3
    plain = make_batch(tokenizer, texts, [[(-1, -1)]] * 3)
    with_low = agm(make_batch(tokenizer, texts, low), tokenizer)
    without = agm(plain, tokenizer)
    for key in ("input_word_ids", "masked_lm_positions", "blank_positions"):
        np.testing.assert_array_equal(with_low[key], without[key])


def test_pairs_of_special_and_absent_tokens_are_left_out(tokenizer):
    texts = ["a b c"] * 3
    useless = [[(0, 5), (4, 20), (9, 40), (LENGTH + 3, 41), (2, -1)]] * 3
    result = agm(make_batch(tokenizer, texts, useless), tokenizer)
    without = agm(make_batch(tokenizer, texts), tokenizer)
    for key, value in without.items():
        np.testing.assert_array_equal(result[key], value)


@pytest.mark.parametrize("with_pairs", [True, False])
def test_without_alignments_all_is_drawn_at_random(tokenizer, with_pairs):
    """`aligned=False` and data without pairs are the same, and even."""
    pairs = enough_pairs(1200) if with_pairs else None
    batch = make_batch(tokenizer, [WORDS] * 1200, pairs)
    settings = dataclasses.replace(SETTINGS, aligned=not with_pairs)
    result = agm(batch, tokenizer, settings)
    plain = agm(make_batch(tokenizer, [WORDS] * 1200), tokenizer)
    for key, value in plain.items():
        np.testing.assert_array_equal(result[key], value)
    words = np.bincount(np.concatenate([list(t) for t in masked_tokens(plain)]))
    np.testing.assert_allclose(words[1:13] / 1200, 4 / 12, atol=0.06)
    places = np.bincount(np.concatenate([list(p) for p in masked_patches(plain)]))
    for task, share in (("camouflage", 1 / 9), ("grey", 2 / 16), ("blank", 3 / 25)):
        count = {"camouflage": 9, "grey": 16, "blank": 25}[task]
        found = places[STARTS[task] : STARTS[task] + count] / 1200
        np.testing.assert_allclose(found, share, atol=0.045)


def test_an_aligned_piece_stands_for_its_word(tokenizer, monkeypatch):
    force(monkeypatch, coin=0.0)
    text = "un ##button ##ed a shirt ##s b c d e f"
    batch = make_batch(
        tokenizer, [text] * 3, [[(2, 40)], [(6, 40)], [(3, 40), (1, 41)]]
    )
    result = agm(batch, tokenizer, dataclasses.replace(SETTINGS, token_rate=0.23))
    first, second, third = masked_tokens(result)  # 13 pieces x 0.23 -> 3
    assert first == {1, 2, 3}
    assert {5, 6} < second
    assert len(second) == 3
    assert third == {1, 2, 3}
    # The patch of a masked word stays.
    assert 40 not in masked_patches(result)[0]
    assert len({40, 41} & masked_patches(result)[2]) < 2


def test_a_word_that_is_too_long_for_the_budget_is_passed_by(tokenizer, monkeypatch):
    force(monkeypatch, coin=0.0)
    batch = make_batch(tokenizer, ["un ##button ##ed a b c d"] * 50, [[(1, 40)]] * 50)
    result = agm(batch, tokenizer, dataclasses.replace(SETTINGS, token_rate=0.2))
    for masked in masked_tokens(result):  # 9 pieces x 0.2 -> 2
        assert len(masked) == 2
        assert not masked & {1, 2, 3}


def test_fixed_arm(tokenizer):
    settings = MaskingSettings(levels=FIXED_LEVELS, max_predictions=6)
    batch = make_batch(tokenizer, [WORDS] * 100, [[(1, 0), (2, 63)]] * 100)
    result = agm(batch, tokenizer, settings)
    assert result["blank_positions"].shape == (100, 3)
    assert result["blank_positions"].max() <= 63
    assert not {"camouflage_positions", "grey_positions"} & set(result)
    hit = [{0, 63} & set(row) for row in result["blank_positions"].tolist()]
    assert 0.3 < np.mean([len(row) for row in hit]) / 2 < 0.7


# --- What becomes of a masked piece ---------------------------------------------------


def kinds(tokenizer, **rates):
    """Shares of masked pieces that became [MASK], another piece, or stayed."""
    settings = dataclasses.replace(SETTINGS, token_rate=0.4, **rates)
    batch = make_batch(tokenizer, [WORDS] * 900)
    result = agm(batch, tokenizer, settings)
    positions, used = result["masked_lm_positions"], result["masked_lm_weights"] > 0
    assert used.all()
    now = np.take_along_axis(result["input_word_ids"], positions, axis=1)
    mask = now == tokenizer.mask_id
    same = now == result["masked_lm_ids"]
    other = now[~mask & ~same]
    assert not np.isin(other, tokenizer.special_ids).any()
    return mask.mean(), 1 - mask.mean() - same.mean(), same.mean(), set(other.tolist())


def test_shares_of_80_10_10(tokenizer):
    masked, other, same, pieces = kinds(tokenizer)
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
def test_forced_rates(tokenizer, rates, expected):
    shares = kinds(tokenizer, mask_rate=rates[0], random_rate=rates[1])
    assert shares[:3] == expected


def test_all_random(tokenizer):
    masked, other, _, pieces = kinds(tokenizer, mask_rate=0.0, random_rate=1.0)
    assert masked == 0
    assert other > 0.9
    assert len(pieces) == tokenizer.vocab_size - 5
