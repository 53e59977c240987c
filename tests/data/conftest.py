"""What the tests of masking share: batches of texts with pairs, and AGM in a graph."""

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import masking
from kaleido_tf.data.masking import MaskingSettings

LENGTH = 20
SETTINGS = MaskingSettings(levels=KALEIDO_LEVELS, max_predictions=6, token_rate=0.3)


@pytest.fixture(scope="session")
def settings():
    """At most 6 pieces, 30 % of a text."""
    return SETTINGS


@pytest.fixture(scope="session")
def make_batch(tokenizer):
    """Makes a batch of packed pieces [B, 20] with pairs (position in it, patch)."""

    def make(texts, pairs=None):
        rows = [
            [tokenizer.vocabulary.index(piece) for piece in t.split()] for t in texts
        ]
        ragged = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
        batch = tokenizer.pack(ragged, LENGTH)
        if pairs is not None:
            width = max(len(row) for row in pairs)
            table = np.full([2, len(pairs), width], -1, np.int32)
            for n, row in enumerate(pairs):
                for i, pair in enumerate(row):
                    table[:, n, i] = pair
            batch["aligned_tokens"], batch["aligned_patches"] = map(tf.constant, table)
        return batch

    return make


@pytest.fixture(scope="session")
def agm(tokenizer):
    """`apply_agm` in a graph, as arrays."""

    def run(batch, settings=SETTINGS, seed=(1, 2)):
        step = tf.function(lambda b, s: masking.apply_agm(b, settings, tokenizer, s))
        result = step(batch, tf.constant(seed, tf.int32))
        return {key: value.numpy() for key, value in result.items()}

    return run


@pytest.fixture(scope="session")
def masked_tokens():
    """Set of masked positions for each row of a result."""

    def found(result):
        rows = zip(
            result["masked_lm_positions"], result["masked_lm_weights"], strict=True
        )
        return [{int(p) for p in places[used > 0]} for places, used in rows]

    return found
