"""Served graph, station "features and text -> answer": what the models are asked.

Plain objects around the training code's own models: a SavedModel tracks their
variables (`variables`), not their layers.
"""

import tensorflow as tf

from kaleido_tf.serving import requests

_PAIRS = 64  # pairs in a pass through the fusion layers
_CAPTIONED = 8  # images captioned at once


class Matching:
    """The matching head and the vectors before fusion, by `MatcherParts`.

    Args:
      parts: `MatcherParts`.
      tokenizer: `Tokenizer`.
      locations: float32 [P, 5], see `patches.patch_locations`.
      variables: of the matcher.
    """

    def __init__(self, parts, tokenizer, locations, variables):
        self.parts, self.config = parts, parts.config
        self.variables = list(variables)
        self._tokenizer, self._locations = tokenizer, locations

    def read(self, text):
        """string [M] -> (the encoder's text inputs, text embeddings [M, t, H])."""
        inputs = requests.read_texts(self._tokenizer, text, self.config.text_length)
        return inputs, self.parts.embed_text(
            inputs["input_word_ids"], inputs["input_type_ids"]
        )

    def look(self, patch_features):
        """float32 [N, P, F] -> patch embeddings [N, P, H]."""
        locations = tile(self._locations, patch_features)
        return self.parts.embed_patches(patch_features, locations)

    def match(self, patch_features, text):
        """Answers to pairs, see `requests.pair_rows`.

        Each side is embedded once, however many partners it has.

        Returns:
          dict of float32 [K]: `score`, probability of a match; `margin`, its log-odds.
        """
        counts = tf.shape(patch_features)[0], tf.size(text)
        with requests.require_pairs(*counts, "patch_features"):
            rows = requests.pair_rows(*counts)
        inputs, texts = self.read(text)
        patches = self.look(patch_features)

        def margins(start, image_rows, text_rows):
            del start
            logits = self.parts.logits(
                tf.gather(texts, text_rows),
                tf.gather(inputs["input_mask"], text_rows),
                tf.gather(patches, image_rows),
            )
            return (logits[:, 1] - logits[:, 0],)

        spec = (tf.TensorSpec([None]),)
        (found,) = requests.in_chunks(margins, rows, _PAIRS, spec)
        # softmax([a, b])[1] = sigmoid(b - a)
        return {"score": tf.sigmoid(found), "margin": found}

    def text_vectors(self, text):
        """string [B] -> unit vectors float32 [B, D]."""
        inputs, embedded = self.read(text)
        # Each side's vector is its own; the other one's isn't computed.
        return self.parts.vectors(embedded, inputs["input_mask"], embedded)[0]

    def image_vectors(self, patch_features):
        """float32 [B, P, F] -> unit vectors float32 [B, D]."""
        embedded = self.look(patch_features)
        mask = tf.ones(tf.shape(embedded)[:2], tf.int32)
        return self.parts.vectors(embedded, mask, embedded)[1]


class Classification:
    """Category or sub-category.

    Args:
      model: of `build_classifier`.
      config: its `KaleidoConfig`.
      names: the classes, list of str.
      tokenizer, locations: as for `Matching`.
    """

    def __init__(self, model, config, names, tokenizer, locations):
        self.variables, self.config, self.names = model.weights, config, list(names)
        self._model, self._tokenizer, self._locations = model, tokenizer, locations

    def classify(self, patch_features, text):
        """Classes of products, the most probable first.

        Args:
          patch_features: float32 [B, P, F].
          text: string [B].

        Returns:
          dict: `labels` string [B, C], `probabilities` float32 [B, C].
        """
        counts = tf.shape(patch_features)[0], tf.size(text)
        with requests.require_same(*counts, "patch_features"):
            text = tf.identity(text)
        inputs = requests.read_texts(self._tokenizer, text, self.config.text_length)
        keys = sorted(inputs)

        def probabilities(start, features, *texts):
            del start
            batch = dict(zip(keys, texts, strict=True))
            batch |= {
                "patch_features": features,
                "patch_locations": tile(self._locations, features),
            }
            logits = self._model(batch, training=False)["class_logits"]
            return (tf.nn.softmax(logits),)

        rows = (patch_features, *(inputs[key] for key in keys))
        spec = (tf.TensorSpec([None, len(self.names)]),)
        (found,) = requests.in_chunks(probabilities, rows, _PAIRS, spec)
        # Of equal probabilities the class that comes first, as in evaluation.
        order = tf.argsort(found, direction="DESCENDING", stable=True)
        return {
            "labels": tf.gather(tf.constant(self.names), order),
            "probabilities": tf.gather(found, order, batch_dims=1),
        }


class Captioning:
    """Captions by beam search.

    Args:
      decoder: `CaptionDecoder`.
      variables: of its captioner.
      config: `KaleidoConfig`.
      tokenizer, locations: as for `Matching`.
    """

    def __init__(self, decoder, variables, config, tokenizer, locations):
        self.variables, self.config = list(variables), config
        self._decoder, self._locations = decoder, locations
        self._joiner = PieceJoiner(tokenizer)

    def caption(self, patch_features):
        """Captions of images, best first.

        Args:
          patch_features: float32 [B, P, F].

        Returns:
          dict: `captions` string [B, K], `scores` float32 [B, K], see
          `CaptionDecoder.decode`; an empty caption with the score -inf stands where
          the search found fewer.
        """
        count, length = self._decoder.num_captions, self._decoder.max_length
        specs = (
            tf.TensorSpec([None, count, length], tf.int32),
            tf.TensorSpec([None, count]),
        )

        def decode(start, features):
            del start
            found = self._decoder.decode(features, tile(self._locations, features))
            return found["caption_ids"], found["caption_scores"]

        ids, scores = requests.in_chunks(decode, (patch_features,), _CAPTIONED, specs)
        return {"captions": self._joiner.join(ids), "scores": scores}


class PieceJoiner:
    """`Tokenizer.decode` in graph: pieces joined to words, special tokens left out."""

    def __init__(self, tokenizer):
        self._dropped = set(tokenizer.special_ids.tolist()) - {tokenizer.unknown_id}
        self._first = self._table(tokenizer, lambda piece: piece)
        self._later = self._table(
            tokenizer, lambda piece: piece[2:] if piece[:2] == "##" else " " + piece
        )

    def _table(self, tokenizer, form):
        return [
            "" if i in self._dropped else form(piece)
            for i, piece in enumerate(tokenizer.vocabulary)
        ]

    def join(self, ids):
        """int32 [..., L] -> string [...]."""
        kept = tf.reduce_all(ids[..., None] != sorted(self._dropped), axis=-1)
        kept = tf.cast(kept, tf.int32)
        is_first = tf.cumsum(kept, axis=-1) == kept  # of those that are kept
        pieces = tf.where(
            is_first,
            tf.gather(tf.constant(self._first), ids),
            tf.gather(tf.constant(self._later), ids),
        )
        return tf.strings.reduce_join(pieces, axis=-1)


def tile(locations, patch_features):
    """float32 [P, 5] for every row of [B, P, F]: float32 [B, P, 5]."""
    count = tf.shape(patch_features)[0]
    return tf.tile(tf.constant(locations, tf.float32)[None], [count, 1, 1])
