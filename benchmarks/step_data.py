"""Batches for `benchmarks/train_step.py`: the same texts and patches for both sides."""

import numpy as np

FULL, CATALOGUE = "full", "catalogue"
TEXT_LENGTH, NUM_PATCHES, FEATURES = 64, 55, 2048
VOCABULARY, PREDICTIONS = 30522, 8
CATALOGUE_PIECES = (20, 60)  # word pieces of a text, [CLS] and [SEP] included
_FIRST_WORD, _CLS, _SEP, _MASK = 999, 101, 102, 103


def text_lengths(texts, batch_size, rng):
    """Pieces of each text: int [B]; all of them, or as a catalogue has them."""
    if texts == FULL:
        return np.full(batch_size, TEXT_LENGTH)
    low, high = CATALOGUE_PIECES
    return rng.integers(low, high + 1, batch_size)


def make_batch(texts, batch_size, seed):
    """A masked pre-training batch by our names: dict of arrays [B, ...].

    Every text has as many masked pieces as 15 % of the longest, so that the losses of
    both sides count the same; padding is 0.
    """
    rng = np.random.default_rng(seed)
    lengths = text_lengths(texts, batch_size, rng)
    mask = np.arange(TEXT_LENGTH)[None] < lengths[:, None]
    words = rng.integers(_FIRST_WORD, VOCABULARY, (batch_size, TEXT_LENGTH)) * mask
    rows = np.arange(batch_size)
    words[:, 0], words[rows, lengths - 1] = _CLS, _SEP
    places = np.stack(
        [np.sort(rng.permutation(n - 2)[:PREDICTIONS]) + 1 for n in lengths]
    )
    hidden = np.take_along_axis(words, places, axis=1)
    np.put_along_axis(words, places, _MASK, axis=1)
    features = rng.random((batch_size, NUM_PATCHES, FEATURES), np.float32)
    return {
        "input_word_ids": words.astype(np.int32),
        "input_mask": mask.astype(np.int32),
        "input_type_ids": np.zeros_like(words, np.int32),
        "patch_features": features,
        "patch_locations": rng.random((batch_size, NUM_PATCHES, 5), np.float32),
        "masked_lm_positions": places.astype(np.int32),
        "masked_lm_ids": hidden.astype(np.int32),
        "itm_labels": rng.integers(0, 2, batch_size).astype(np.int32),
    }
