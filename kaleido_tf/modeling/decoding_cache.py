"""Steps of the captioner that remember keys and values (docs/tasks.md).

Patches see no text, so their keys and values are those of the image, computed once and
shared by all its beams; a step computes the newest text positions alone.

Neither tf-models-official's TransformerEncoderBlock nor Keras's MultiHeadAttention has
an interface for that, so `_Block` reads their sub-layers, private attributes of
release 2.20: `_attention_layer` with its `_query_dense`, `_key_dense`, `_value_dense`
and `_output_dense`; `_attention_layer_norm`, `_intermediate_dense`,
`_intermediate_activation_layer`, `_output_dense`, `_output_layer_norm`. The tests
compare every step with the whole forward pass, so another release that moves them is
noticed.

Letters: B images, K beams, R = B * K rows, n new positions, t cached ones, N heads, D
numbers a head.
"""

import tensorflow as tf
import tf_keras


class _Block:
    """A post-LayerNorm TransformerEncoderBlock, taken apart around its attention."""

    def __init__(self, block):
        self.whole = block
        self._attention = block._attention_layer
        self._attention_norm = block._attention_layer_norm
        self._inner = block._intermediate_dense
        self._activation = block._intermediate_activation_layer
        self._output = block._output_dense
        self._output_norm = block._output_layer_norm

    def keys_and_values(self, hidden):
        """[R, n, H] -> two [R, N, n, D]."""
        hidden = tf.cast(hidden, self.whole.compute_dtype)
        keys = self._attention._key_dense(hidden)
        values = self._attention._value_dense(hidden)
        return _heads_first(keys), _heads_first(values)

    def queries(self, hidden):
        """[R, n, H] -> [R, N, n, D], divided by sqrt(D)."""
        hidden = tf.cast(hidden, self.whole.compute_dtype)
        queries = _heads_first(self._attention._query_dense(hidden))
        return queries * queries.shape[-1] ** -0.5

    def finish(self, hidden, context):
        """What follows on attention: [R, n, H], [R, N, n, D] -> [R, n, H] float32."""
        context = tf.transpose(context, [0, 2, 1, 3])
        attended = self._attention._output_dense(context)
        attended += tf.cast(hidden, attended.dtype)
        attended = self._attention_norm(attended)
        inner = self._activation(self._inner(attended))
        output = tf.cast(self._output(inner), tf.float32)
        return self._output_norm(output + attended)


def _heads_first(projected):
    """[R, n, N, D] -> [R, N, n, D]."""
    return tf.transpose(projected, [0, 2, 1, 3])


class CachedEncoder:
    """The sequence-to-sequence encoder, one step at a time; inference alone.

    Args:
      encoder: model of `build_encoder(config, "sequence_to_sequence")`.
      config: `KaleidoConfig`.
      num_positions: text positions that will be asked for at most.
    """

    def __init__(self, encoder, config, num_positions):
        self._text = encoder.get_layer("text_embedding")
        names = ("patch_features", "patch_locations")
        self._patch_embeddings = tf_keras.Model(
            {name: encoder.input[name] for name in names},
            encoder.get_layer("patch_sequence").output,
        )
        self._blocks = [
            _Block(encoder.get_layer(f"layer_{i}")) for i in range(config.num_layers)
        ]
        self._num_heads = config.num_heads
        self._hidden_size = config.hidden_size
        self._num_positions = num_positions

    def read_image(self, patch_features, patch_locations):
        """What every step needs of the images.

        Args:
          patch_features: float32 [B, P, F].
          patch_locations: float32 [B, P, 5].

        Returns:
          dict: `keys`, `values`, lists of [B, N, P, D], one a layer; `positions`, the
          embeddings of the text positions [1, num_positions, H].
        """
        hidden = self._patch_embeddings(
            {"patch_features": patch_features, "patch_locations": patch_locations},
            training=False,
        )
        keys, values = [], []
        for block in self._blocks:
            key, value = block.keys_and_values(hidden)
            keys.append(key)
            values.append(value)
            hidden = block.whole(hidden)  # patches see all patches: no mask
        # The layer knows rows from 0 on alone, so a step picks its own out of all.
        like = tf.zeros([1, self._num_positions, self._hidden_size])
        return {
            "keys": keys,
            "values": values,
            "positions": self._text.position(like),
        }

    def empty_cache(self, batch):
        """The cache of a text without tokens: dict of float32 [batch, N, 0, D].

        float32 under every precision, as the search of tf-models-official wants it.
        """
        size = self._hidden_size // self._num_heads
        empty = tf.zeros([batch, self._num_heads, 0, size])
        return {
            f"layer_{i}": {"keys": empty, "values": empty}
            for i in range(len(self._blocks))
        }

    def step(self, ids, index, image, cache):
        """The hidden states of the newest positions.

        Args:
          ids: int32 [R, n]: the token at place `index`, and what may follow it there.
          index: int32 scalar, place of the first of them: number of cached tokens.
          image: what `read_image` gave.
          cache: see `empty_cache`, [R, N, index, D].

        Returns:
          (float32 [R, n, H], the cache with the first of the new tokens added).
        """
        hidden = self._embed(ids, index, image["positions"])
        new_cache = {}
        for i, block in enumerate(self._blocks):
            name = f"layer_{i}"
            keys, values = block.keys_and_values(hidden)
            keys = _append(cache[name]["keys"], keys)
            values = _append(cache[name]["values"], values)
            patches = image["keys"][i], image["values"][i]
            context = _attend(block.queries(hidden), keys, values, *patches)
            hidden = block.finish(hidden, context)
            new_cache[name] = {
                "keys": tf.cast(keys[:, :, : index + 1], tf.float32),
                "values": tf.cast(values[:, :, : index + 1], tf.float32),
            }
        return hidden, new_cache

    def _embed(self, ids, index, positions):
        """int32 [R, n] at places from `index` on -> [R, n, H]."""
        words = self._text.word(ids)
        size = [1, ids.shape[1], self._hidden_size]
        places = tf.slice(positions, [0, index, 0], size)
        return self._text.end(words + places + self._text.type(tf.zeros_like(ids)))


def _append(cached, new):
    """[R, N, t, D], [R, N, n, D] -> [R, N, t + n, D]."""
    # The search's loop keeps the last dimension alone.
    cached.set_shape([None, *new.shape[1:2], None, new.shape[3]])
    return tf.concat([tf.cast(cached, new.dtype), new], axis=2)


def _attend(queries, keys, values, patch_keys, patch_values):
    """Attention of the new positions to the text up to themselves and all patches.

    Args:
      queries: [R, N, n, D]; keys, values: [R, N, t + n, D].
      patch_keys, patch_values: [B, N, P, D].

    Returns:
      [R, N, n, D].
    """
    text_scores = tf.matmul(queries, keys, transpose_b=True)
    if queries.shape[2] > 1:
        text_scores += _future(queries, keys)
    by_image = _beams_together(queries, patch_keys)
    patch_scores = tf.matmul(by_image, patch_keys, transpose_b=True)
    patch_scores = _beams_apart(patch_scores, queries)
    weights = tf.nn.softmax(tf.concat([patch_scores, text_scores], axis=-1))
    num_patches = patch_keys.shape[2]
    on_patches = tf.ensure_shape(
        weights[..., :num_patches], [*queries.shape[:3], num_patches]
    )
    on_patches = tf.matmul(_beams_together(on_patches, patch_values), patch_values)
    return tf.matmul(weights[..., num_patches:], values) + _beams_apart(
        on_patches, queries
    )


def _future(queries, keys):
    """What hides later places among the new ones: [n, t + n], large and negative."""
    new, all_keys = queries.shape[2], tf.shape(keys)[2]
    query = tf.range(all_keys - new, all_keys)[:, None]
    hidden = tf.range(all_keys)[None, :] > query
    return tf.where(hidden, tf.constant(keys.dtype.min / 2, keys.dtype), 0)


def _beams_together(rows, image):
    """[R, N, n, *] -> [B, N, K * n, *] for `image` [B, N, P, D]."""
    batch, (heads, new, size) = tf.shape(image)[0], rows.shape[1:]
    rows = tf.reshape(rows, [batch, -1, heads, new, size])
    return tf.reshape(tf.transpose(rows, [0, 2, 1, 3, 4]), [batch, heads, -1, size])


def _beams_apart(together, rows):
    """[B, N, K * n, *] -> [R, N, n, *], n as in `rows`."""
    batch, (heads, new) = tf.shape(together)[0], rows.shape[1:3]
    size = together.shape[-1]
    together = tf.reshape(together, [batch, heads, -1, new, size])
    return tf.reshape(tf.transpose(together, [0, 2, 1, 3, 4]), [-1, heads, new, size])
