"""Ways to score pairs of text and image.

A scorer is any object with `score(text_indices, image_indices) -> float [n]` (higher is
a better match; what is ranked), `shown(scores)` (the same order as people read it: a
probability of a match, where there is one), a `name` and a `threshold` (a score above
it is a match; None where scores have no such point). Indices are places in a
`RetrievalSplit`, whose every record has a text and an image.
"""

import contextlib
import functools
import time

import numpy as np
import tensorflow as tf
from absl import logging

from kaleido_tf.data.input_pipeline import TRIM
from kaleido_tf.modeling import fused
from kaleido_tf.tasks.matcher_parts import EmbeddedSplit, MatcherParts

SCORES = ("match", "cosine", "both")
_COMPILE_FROM = 4096  # pairs


def probabilities(margins):
    """Log-odds -> probabilities: float64.

    softmax(itm_logits)[:, 1] = sigmoid(logit1 - logit0).
    """
    margins = np.asarray(margins, np.float64)
    small = np.exp(-np.abs(margins))  # can't overflow
    return np.where(margins >= 0, 1.0, small) / (1.0 + small)


def trimmed(lengths):
    """How many places a batch of texts with these lengths needs: int."""
    return -(-int(np.max(lengths)) // TRIM) * TRIM


class PairScorer:
    """The matching head's log-odds of a match: logit1 - logit0.

    The probability's order, without the ties of probabilities that are rounded to 1.
    Pairs go through the fusion layers sorted by the length of their texts, in batches
    that are cut to their longest: what is cut off is padding, which nothing sees.

    Args:
      embedded: `EmbeddedSplit`.
      batch_size: pairs a pass; the last batch is filled up.
    """

    name = "match"
    threshold = 0.0
    shown = staticmethod(probabilities)

    def __init__(self, embedded, batch_size=256):
        self._embedded, self._batch_size = embedded, batch_size

    @functools.cached_property
    def _margins(self):
        return self._make_margins()

    @functools.cached_property
    def _compiled_margins(self):
        """The same, faster, after some seconds for each length of the texts."""
        return self._make_margins(fused.compiling)

    def _make_margins(self, scope=contextlib.nullcontext):
        parts, patches = self._embedded.parts, self._embedded.patches
        rows = self._batch_size
        text = tf.TensorSpec([rows, None], tf.int32)
        images = tf.TensorSpec([rows, *patches.shape[1:]], patches.dtype)

        @tf.function(input_signature=[text, text, text, images])
        def margins(word_ids, type_ids, mask, patches):
            with scope():
                text = parts.embed_text(word_ids, type_ids)
                logits = parts.logits(text, mask, patches)
            return logits[:, 1] - logits[:, 0]

        return margins

    def score(self, text_indices, image_indices):
        """Log-odds of the pairs: float64 [n]; raises ValueError where one is NaN."""
        text_indices, image_indices = map(np.asarray, (text_indices, image_indices))
        start, scores = time.time(), np.zeros(len(text_indices))
        many = len(scores) >= _COMPILE_FROM
        margins = self._compiled_margins if many else self._margins
        # The longest first, so that what doesn't fit into memory fails at once.
        order = np.argsort(-self._embedded.lengths[text_indices], kind="stable")
        for first in range(0, len(order), self._batch_size):
            rows = order[first : first + self._batch_size]
            filled = np.resize(rows, self._batch_size)
            inputs = self._inputs(text_indices[filled], image_indices[filled])
            scores[rows] = margins(*inputs).numpy()[: len(rows)]
            _log_progress(first + len(rows), len(order), time.time() - start)
        if np.isnan(scores).any():
            raise ValueError(
                f"Scores should be numbers. Received: {np.isnan(scores).sum()} NaN of "
                f"{scores.size} (the model diverged, or its weights are damaged)"
            )
        return scores

    def _inputs(self, texts, images):
        """Tensors of a batch, its texts cut to a multiple of `TRIM`."""
        length = trimmed(self._embedded.lengths[texts])
        keys = ("input_word_ids", "input_type_ids", "input_mask")
        arrays = [self._embedded.texts[key][texts, :length] for key in keys]
        return map(tf.convert_to_tensor, [*arrays, self._embedded.patches[images]])


def _log_progress(done, total, seconds):
    rate = done / max(seconds, 1e-9)
    logging.log_every_n_seconds(
        logging.INFO,
        "%d of %d pairs, %.0f pairs/s, ETA %.0f s",
        30,
        done,
        total,
        rate,
        (total - done) / rate,
    )


class VectorScorer:
    """Cosine of a text's and an image's vector, from before the fusion layers.

    Args:
      text_vectors, image_vectors: float32 [N, D], unit length.
    """

    name = "cosine"
    threshold = None

    def __init__(self, text_vectors, image_vectors):
        self.text_vectors, self.image_vectors = text_vectors, image_vectors

    @staticmethod
    def shown(scores):
        """Cosines as they are."""
        return scores

    def score(self, text_indices, image_indices):
        """Cosines of the pairs: float32 [n]."""
        blocks = np.array_split(
            np.stack([text_indices, image_indices]), len(text_indices) // 65536 + 1, 1
        )
        return np.concatenate(
            [
                np.einsum("nd,nd->n", self.text_vectors[t], self.image_vectors[i])
                for t, i in blocks
            ]
        )


class SumScorer:
    """Log-odds of a match and cosine over temperature, added.

    Both are logits of "this is the partner": the matching head's among pairs, the
    alignment loss's among a batch. Their sum is shown as a probability; nothing
    calibrates it, so it has no threshold.

    Args:
      match: `PairScorer`, or a `MemoScorer` around one.
      cosine: `VectorScorer`.
      temperature: the model's `contrastive_temperature`.
    """

    threshold = None
    shown = staticmethod(probabilities)

    def __init__(self, match, cosine, temperature):
        self._match, self._cosine = match, cosine
        self._temperature = temperature
        self.name = f"{match.name} + {cosine.name}"

    def score(self, text_indices, image_indices):
        """Sums of the pairs: float64 [n]."""
        cosines = self._cosine.score(text_indices, image_indices)
        return self._match.score(text_indices, image_indices) + (
            cosines.astype(np.float64) / self._temperature
        )


class MemoScorer:
    """Another scorer, asked once for a pair: several lists of a small split overlap.

    Args:
      scorer: the scorer; its name, threshold and `shown` are taken over.
      split: the `RetrievalSplit`. Records of the same text share it, and so do records
        of the same image: they score the same to the last bit, and tie.
      text_length: see `RetrievalSplit.same_text`.
    """

    def __init__(self, scorer, split, text_length=None):
        self.name, self.threshold, self.shown = (
            scorer.name,
            scorer.threshold,
            scorer.shown,
        )
        self.num_scored = 0
        self._scorer, self._split = scorer, split
        self._same_text = split.same_text(text_length)
        self._keys, self._scores = np.zeros(0, np.int64), np.zeros(0)

    def score(self, text_indices, image_indices):
        """Scores of the pairs: float64 [n]."""
        size = len(self._split)
        keys = self._same_text[text_indices] * size
        keys = keys + self._split.same_image[image_indices]
        new = np.setdiff1d(keys, self._keys)
        if new.size:
            scores = self._scorer.score(*np.divmod(new, size))
            self.num_scored += new.size
            keys_all = np.concatenate([self._keys, new])
            order = np.argsort(keys_all)
            self._keys = keys_all[order]
            self._scores = np.concatenate([self._scores, scores])[order]
        return self._scores[np.searchsorted(self._keys, keys)]


def make_scorers(kind, matcher, split, tokenizer, config, batch_size):
    """What ranks, and what searches first.

    Args:
      kind: one of `SCORES`.
      matcher, config: model of `build_matcher` and its `KaleidoConfig`.
      split: `RetrievalSplit`.
      tokenizer: `Tokenizer` of the data set.
      batch_size: pairs, or records, a pass.

    Returns:
      (scorer, first stage): the first stage is the `VectorScorer` of the model, None
      where the model has no vectors.
    """
    if kind not in SCORES:
        raise ValueError(f"`score` should be one of {SCORES}. Received: {kind!r}")
    embedded = EmbeddedSplit(
        MatcherParts(matcher, config), split, tokenizer, batch_size
    )
    cosine = None
    if config.contrastive_size or kind != "match":
        cosine = VectorScorer(*embedded.vectors)
    if kind == "cosine":
        return cosine, cosine
    match = MemoScorer(PairScorer(embedded, batch_size), split, config.text_length)
    if kind == "match":
        return match, cosine
    return SumScorer(match, cosine, config.contrastive_temperature), cosine
