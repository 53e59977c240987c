"""The matcher taken apart at the fusion layers: each side's embeddings, and their pair.

What stands before the fusion layers doesn't depend on the partner. Scoring computes it
once an image instead of once a pair, and training makes many pairs of one batch.
"""

import functools

import numpy as np
import tensorflow as tf


class MatcherParts:
    """A matcher's layers, called in pieces with the matcher's own weights.

    Only position 0 of the last layer is computed: the matching head reads nothing else.
    The scores are the matcher's, up to rounding.

    Args:
      matcher: model of `kaleido_tf.modeling.build_matcher`.
      config: its `KaleidoConfig`.
    """

    def __init__(self, matcher, config):
        core = matcher.get_layer("encoder")
        self._text_embedding = core.get_layer("text_embedding")
        self._position_projection = core.get_layer("position_projection")
        self._patch_embeddings = [
            (core.get_layer(f"{level.task}_embedding"), config.level_slice(level.task))
            for level in config.levels
        ]
        self._attention_mask = core.get_layer("attention_mask")
        self._blocks = [core.get_layer(f"layer_{i}") for i in range(config.num_layers)]
        self._pooler = core.get_layer("pooler")
        self._head = matcher.get_layer("itm_head")
        self._project = None
        if config.contrastive_size:
            self._project = core.get_layer("vector_projection")
        self.encoder, self.config = core, config

    def embed_text(self, word_ids, type_ids, training=False):
        """int32 [B, T], [B, T] -> [B, T, H]."""
        return self._text_embedding(word_ids, type_ids, training=training)

    def embed_patches(self, features, locations, training=False):
        """[B, P, F], float32 [B, P, 5] -> [B, P, H]."""
        locations = self._position_projection(locations)
        features = tf.cast(features, locations.dtype)
        parts = [
            embed(features[:, part], locations[:, part], training=training)
            for embed, part in self._patch_embeddings
        ]
        return tf.concat(parts, axis=1)

    def logits(self, text, text_mask, patches, training=False):
        """The matching head's answer to pairs.

        Args:
          text: [B, T, H] of `embed_text`.
          text_mask: int32 [B, T].
          patches: [B, P, H] of `embed_patches`.

        Returns:
          float32 [B, 2]; class 1 is "they match".
        """
        sequence = tf.concat([text, patches], axis=1)
        patch_mask = tf.ones(tf.shape(patches)[:2], text_mask.dtype)
        mask = tf.concat([text_mask, patch_mask], axis=1)
        attention_mask = self._attention_mask(sequence, mask)
        for block in self._blocks[:-1]:
            sequence = block([sequence, attention_mask], training=training)
        first = self._blocks[-1](
            [sequence, attention_mask], output_range=1, training=training
        )
        return tf.cast(self._head(self._pooler(first[:, 0])), tf.float32)

    def vectors(self, text, text_mask, patches):
        """The alignment's unit vectors: two float32 [B, D].

        Raises:
          ValueError: a model without them.
        """
        if self._project is None:
            raise ValueError(
                "`contrastive_size` of the model should be above 0 for scores by "
                "cosine. Received: 0 (use --score=match, or a model trained with the "
                "alignment before fusion)"
            )
        patch_mask = tf.ones(tf.shape(patches)[:2], text_mask.dtype)
        return self._project(text, text_mask), self._project(patches, patch_mask)


class EmbeddedSplit:
    """A split and what a model makes of each of its sides on its own, computed once.

    Args:
      parts: `MatcherParts`.
      split: `RetrievalSplit`.
      tokenizer: `Tokenizer` of the data set.
      batch_size: records at once; the last batch is filled up.

    Attributes:
      texts: dict of int32 [N, T] arrays, T the longest text of the split.
      lengths: int [N], pieces of each text.
    """

    def __init__(self, parts, split, tokenizer, batch_size=256):
        self.parts, self.split = parts, split
        self.texts = split.text_inputs(tokenizer, parts.config.text_length)
        self.lengths = self.texts["input_mask"].sum(axis=1)
        self._batch_size = batch_size

    @functools.cached_property
    def patches(self):
        """Patch embeddings of all images: [N, P, H] of the model's compute type.

        Memory: N x P x H x 4 bytes (2 in 16 bit). The text side's embeddings are
        look-ups, cheaper to repeat than to keep.
        """
        split = self.split
        spec = [(split.patch_features, tf.float16), (split.patch_locations, tf.float32)]
        (embedded,) = self._map(lambda f, x: [self.parts.embed_patches(f, x)], spec)
        return embedded

    @functools.cached_property
    def vectors(self):
        """Alignment vectors (texts, images): float32 [N, D], unit length.

        Equal texts have the same vector to the last bit, and so have equal images:
        their scores tie, whichever batch they were computed in.
        """
        texts = self.texts

        def vectors(ids, types, mask, patches):
            text = self.parts.embed_text(ids, types)
            return self.parts.vectors(text, mask, patches)

        keys = ("input_word_ids", "input_type_ids", "input_mask")
        spec = [(texts[key], tf.int32) for key in keys]
        spec.append((self.patches, self.patches.dtype))
        text_vectors, image_vectors = self._map(vectors, spec)
        same_text = self.split.same_text(self.parts.config.text_length)
        return text_vectors[same_text], image_vectors[self.split.same_image]

    def _map(self, function, spec):
        """Maps a function over the rows of (array, dtype) pairs, in batches."""
        arrays = [array for array, _ in spec]
        size = self._batch_size
        function = tf.function(
            function,
            input_signature=[
                tf.TensorSpec((size, *array.shape[1:]), dtype) for array, dtype in spec
            ],
        )
        parts = []
        for start in range(0, len(self.split), size):
            rows = [array[start : start + size] for array in arrays]
            count = len(rows[0])
            # np.resize repeats the rows, whatever their type.
            filled = [row[np.resize(np.arange(count), size)] for row in rows]
            results = function(*map(tf.convert_to_tensor, filled))
            parts.append([result.numpy()[:count] for result in results])
        return [np.concatenate(each) for each in zip(*parts, strict=True)]
