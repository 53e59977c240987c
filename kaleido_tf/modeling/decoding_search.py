"""The search for a caption, word after word, by tf-models-official's loops.

Station between a captioner's logits and its captions; `decoding.py` is the front.
"""

import numpy as np
import tensorflow as tf
from official.nlp.modeling.ops import beam_search, sampling_module

from kaleido_tf.modeling import decoding_cache

_NEVER = -1e9  # logit of a token that isn't to come


class Tokens:
    """The special tokens: their ids, and which may come when."""

    def __init__(self, tokenizer):
        self.pad_id, self.cls_id = tokenizer.pad_id, tokenizer.cls_id
        self.sep_id, self.mask_id = tokenizer.sep_id, tokenizer.mask_id
        # A caption has at least one piece, so [SEP] doesn't come first.
        first = np.zeros(tokenizer.vocab_size, bool)
        first[tokenizer.special_ids] = True
        later = first.copy()
        later[self.sep_id] = False
        self._never_first, self._never_later = first, later

    def allowed(self, logits, is_first):
        """Logits in float32 without the tokens that mustn't come: [..., V].

        Args:
          logits: [..., V].
          is_first: bool, broadcasts with [..., 1]: the caption's first place.
        """
        never = tf.where(is_first, self._never_first, self._never_later)
        return tf.where(never, _NEVER, tf.cast(logits, tf.float32))


def length_norm(length, alpha):
    """Divisor of the log probability of a caption with `length` tokens."""
    return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, alpha)


def cut(ids, tokens):
    """Tokens -> caption: int32 [..., n] -> ([..., n], lengths, whether it ended).

    From the first [SEP] on there is [PAD]; the length counts [SEP].
    """
    is_end = tf.cast(ids == tokens.sep_id, tf.int32)
    inside = tf.cumsum(is_end, axis=-1) == 0
    ended = tf.reduce_any(ids == tokens.sep_id, axis=-1)
    length = tf.reduce_sum(tf.cast(inside, tf.int32), -1) + tf.cast(ended, tf.int32)
    return tf.where(inside, ids, tokens.pad_id), length, ended


class WordByWord:
    """Word after word, by the search loops of tf-models-official."""

    def __init__(self, captioner, config, tokens, settings, max_length):
        self._encoder = captioner.get_layer("encoder")
        self._head = captioner.get_layer("mlm_head")
        self._tokens, self._settings = tokens, settings
        self._vocab_size, self._max_length = config.vocab_size, max_length
        self._beams = settings.beam_size if settings.method == "beam" else 1
        self._masks = settings.objective == "masked"
        self._cached = decoding_cache.CachedEncoder(
            self._encoder, config, max_length + 1
        )

    def __call__(self, features, locations):
        batch = tf.shape(features)[0]
        start = tf.fill([batch], self._tokens.cls_id)
        if self._settings.use_cache:
            image = self._cached.read_image(features, locations)
            cache = self._cached.empty_cache(batch)

            def ask(ids, index, cache):
                return self._ask_cached(ids, index, image, cache)
        else:
            rows = [tf.repeat(x, self._beams, axis=0) for x in (features, locations)]
            cache = {}

            def ask(ids, index, cache):
                return self._ask_whole(ids, index, *rows), cache

        find = self._beam if self._settings.method == "beam" else self._greedy
        return self._finish(*find(ask, start, cache))

    def _ask_cached(self, ids, index, image, cache):
        """Logits of the token after `ids` int32 [R, index + 1]: [R, V], and cache."""
        new = ids[:, -1][:, None]
        if self._masks:
            new = tf.concat([new, tf.fill(tf.shape(new), self._tokens.mask_id)], axis=1)
        hidden, cache = self._cached.step(new, index, image, cache)
        last = tf.fill([tf.shape(new)[0], 1], new.shape[1] - 1)
        return self._logits(hidden, last, index), cache

    def _ask_whole(self, ids, index, features, locations):
        """The same by the whole sequence of text and patches."""
        if self._masks:
            ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=self._tokens.mask_id)
        inputs = {
            "input_word_ids": ids,
            "input_mask": tf.ones_like(ids),
            "input_type_ids": tf.zeros_like(ids),
            "patch_features": features,
            "patch_locations": locations,
        }
        hidden = self._encoder(inputs, training=False)["sequence_output"]
        last = tf.fill([tf.shape(ids)[0], 1], tf.shape(ids)[1] - 1)
        return self._logits(hidden, last, index)

    def _logits(self, hidden, position, index):
        """[R, n, H], int32 [R, 1] -> float32 [R, V]."""
        logits = self._head(hidden, position)[:, 0]
        return self._tokens.allowed(logits, index == 0)

    def _beam(self, ask, start, cache):
        """Tokens with [CLS] int32 [B, K, n], scores [B, K]."""
        return beam_search.sequence_beam_search(
            ask,
            start,
            cache,
            vocab_size=self._vocab_size,
            beam_size=self._beams,
            alpha=self._settings.length_penalty,
            max_decode_length=self._max_length,
            eos_id=self._tokens.sep_id,
        )

    def _greedy(self, ask, start, cache):
        """The same for K = 1; scores not yet divided by the length penalty."""
        # A beam of one is something else: there, a [SEP] that comes second ends it.
        module = sampling_module.SamplingModule(
            ask,
            vocab_size=self._vocab_size,
            max_decode_length=self._max_length,
            eos_id=self._tokens.sep_id,
            padded_decode=False,
            enable_greedy=True,
        )
        ids, scores = module.generate(start, cache)
        return ids[:, None], scores

    def _finish(self, ids, scores):
        ids = ids[:, :, 1:]
        missing = self._max_length - tf.shape(ids)[2]
        ids, length, ended = cut(ids, self._tokens)
        norm = length_norm(length, self._settings.length_penalty)
        if self._settings.method == "greedy":
            return _fill_up(ids, missing, self._tokens), scores / norm
        # The search gives hypotheses that didn't end where an image has no other, with
        # a score of another kind; where it has others, they only fill the list up.
        some_ended = tf.reduce_any(ended, axis=1, keepdims=True)
        scores = tf.where(ended, scores, tf.where(some_ended, -np.inf, scores / norm))
        ids = tf.where((ended | ~some_ended)[:, :, None], ids, self._tokens.pad_id)
        return _fill_up(ids, missing, self._tokens), scores


def _fill_up(ids, missing, tokens):
    """[B, K, n] -> [B, K, n + missing]."""
    return tf.pad(ids, [[0, 0], [0, 0], [0, missing]], constant_values=tokens.pad_id)
