"""Ways to score pairs of text and image.

A scorer is any object with `score(text_indices, image_indices) -> float [n]`, a `name`
and a `threshold` (above it a pair is a match; None where scores have no such point).
Indices are places in a `RetrievalSplit`, whose every record has a text and an image.
"""

import time

import numpy as np
import tensorflow as tf
from absl import logging


class PairScorer:
    """Probability of a match by the matching head, one forward pass a pair.

    Args:
      matcher: model of `kaleido_tf.modeling.build_matcher`.
      split: `RetrievalSplit`.
      tokenizer: `Tokenizer` of the data set.
      config: the model's `KaleidoConfig`.
      batch_size: pairs a pass; the last batch is filled up.
    """

    name = "match"
    threshold = 0.5

    def __init__(self, matcher, split, tokenizer, config, batch_size=256):
        self._inputs = _BatchInputs(split, tokenizer, config, batch_size)

        @tf.function(input_signature=[self._inputs.signature])
        def margins(inputs):
            logits = matcher(_model_inputs(inputs), training=False)["itm_logits"]
            logits = tf.cast(logits, tf.float32)
            return logits[:, 1] - logits[:, 0]

        self._margins = margins

    def score(self, text_indices, image_indices):
        """Probabilities of class 1 of the pairs: float64 [n].

        softmax(itm_logits)[:, 1] = sigmoid(logit1 - logit0), taken in float64: in
        float32 all pairs with a margin above 17 would tie at 1.
        """
        start, done, parts = time.time(), 0, [np.zeros(0)]
        for batch, size in self._inputs.batches(text_indices, image_indices):
            parts.append(self._margins(batch).numpy()[:size])
            done += size
            _log_progress(done, len(text_indices), time.time() - start)
        margins = np.concatenate(parts)
        # Written by exp(-|x|), which cannot overflow.
        small = np.exp(-np.abs(margins))
        return np.where(margins >= 0, 1.0, small) / (1.0 + small)


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

    @classmethod
    def from_matcher(cls, matcher, split, tokenizer, config, batch_size=256):
        """Computes the vectors of all records of a split; arguments as PairScorer's.

        Raises:
          ValueError: a model without these vectors.
        """
        if not config.contrastive_size:
            raise ValueError(
                "`contrastive_size` of the model should be above 0 for scores by "
                "cosine. Received: 0 (use --score=match, or a model pre-trained with "
                "the alignment before fusion)"
            )
        inputs = _BatchInputs(split, tokenizer, config, batch_size)

        @tf.function(input_signature=[inputs.signature])
        def vectors(batch):
            # The graph leaves out the fusion layers, which these don't need.
            outputs = matcher(_model_inputs(batch), training=False)
            return [
                tf.cast(outputs[key], tf.float32)
                for key in ("text_vectors", "image_vectors")
            ]

        places = np.arange(len(split))
        parts = [
            [value.numpy()[:size] for value in vectors(batch)]
            for batch, size in inputs.batches(places, places)
        ]
        texts, images = zip(*parts, strict=True)
        return cls(np.concatenate(texts), np.concatenate(images))

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
    """Sum of several scorers' scores.

    Args:
      scorers: the scorers.
    """

    threshold = None

    def __init__(self, scorers):
        self.scorers = tuple(scorers)
        self.name = " + ".join(scorer.name for scorer in self.scorers)

    def score(self, text_indices, image_indices):
        """Sums of the pairs: float [n]."""
        return sum(s.score(text_indices, image_indices) for s in self.scorers)


class MemoScorer:
    """Another scorer, asked once for a pair: several lists of a small split overlap.

    Args:
      scorer: the scorer; its name and threshold are taken over.
      split: the `RetrievalSplit`; records with the same token ids share their text.
    """

    def __init__(self, scorer, split):
        self.name, self.threshold = scorer.name, scorer.threshold
        self.num_scored = 0
        self._scorer, self._num_images = scorer, len(split)
        first = {}
        for place, ids in enumerate(split.token_ids):
            first.setdefault(ids.tobytes(), place)
        self._text = np.array([first[ids.tobytes()] for ids in split.token_ids])
        self._keys, self._scores = np.zeros(0, np.int64), np.zeros(0)

    def score(self, text_indices, image_indices):
        """Scores of the pairs: float64 [n]."""
        keys = self._text[text_indices] * self._num_images + np.asarray(image_indices)
        new = np.setdiff1d(keys, self._keys)
        if new.size:
            scores = self._scorer.score(*np.divmod(new, self._num_images))
            self.num_scored += new.size
            keys_all = np.concatenate([self._keys, new])
            order = np.argsort(keys_all)
            self._keys = keys_all[order]
            self._scores = np.concatenate([self._scores, scores])[order]
        return self._scores[np.searchsorted(self._keys, keys)]


class _BatchInputs:
    """Model inputs of pairs by index, in batches of one constant shape."""

    def __init__(self, split, tokenizer, config, batch_size):
        self._split, self._batch_size = split, batch_size
        self._text = split.text_inputs(tokenizer, config.text_length)
        arrays = {**self._text, **self._image_arrays()}
        self.signature = {
            key: tf.TensorSpec((batch_size, *array.shape[1:]), array.dtype, name=key)
            for key, array in arrays.items()
        }

    def _image_arrays(self):
        return {
            "patch_features": self._split.patch_features,
            "patch_locations": self._split.patch_locations,
        }

    def batches(self, text_indices, image_indices):
        """Yields (dict of tensors, number of pairs that count)."""
        text_indices, image_indices = (
            np.asarray(text_indices),
            np.asarray(image_indices),
        )
        for start in range(0, len(text_indices), self._batch_size):
            stop = start + self._batch_size
            texts, images = text_indices[start:stop], image_indices[start:stop]
            size = len(texts)
            if size < self._batch_size:
                texts = np.resize(texts, self._batch_size)
                images = np.resize(images, self._batch_size)
            batch = {key: array[texts] for key, array in self._text.items()}
            batch |= {k: array[images] for k, array in self._image_arrays().items()}
            yield {k: tf.convert_to_tensor(v) for k, v in batch.items()}, size


def _model_inputs(batch):
    features = tf.cast(batch["patch_features"], tf.float32)
    return {**batch, "patch_features": features}
