"""Text and patch embeddings (paper section 3.5): ids and features -> [B, *, H]."""

import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers as nlp_layers

from kaleido_tf.modeling import fused


def truncated_normal(config):
    """A fresh initializer of the config's range (a shared one would repeat itself)."""
    return tf_keras.initializers.TruncatedNormal(stddev=config.initializer_range)


class _NormAndDropout(tf_keras.layers.Layer):
    """LayerNorm in float32, then dropout: the end of every embedding."""

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.norm = tf_keras.layers.LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype=tf.float32, name="norm"
        )
        self.dropout = tf_keras.layers.Dropout(config.hidden_dropout)

    def build(self, input_shape):
        # Called by their parts (`fused.py`), they aren't built by being called.
        with tf.name_scope(self.norm.name):
            self.norm.build(input_shape)
        self.dropout.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=None):
        dropping = bool(training) and self.dropout.rate > 0
        return fused.norm_dropout(
            inputs,
            self.norm.gamma,
            self.norm.beta,
            fused.draw_seed(self.dropout) if dropping else tf.constant(fused.NO_SEED),
            rate=self.dropout.rate if dropping else 0.0,
            epsilon=self.norm.epsilon,
            dtype=self.compute_dtype,
            compiled=bool(training),
        )


class Dropout(tf_keras.layers.Dropout):
    """Keras's dropout, its mask drawn in the pass that applies it (`fused.py`)."""

    def call(self, inputs, training=None):
        if not training or not self.rate:
            return inputs
        seed = fused.draw_seed(self)
        return fused.dropout(inputs, seed, rate=self.rate, compiled=True)


class TextEmbedding(tf_keras.layers.Layer):
    """Word + position + segment, then LayerNorm and dropout, as in BERT.

    Call: ids int32 [B, T], types int32 [B, T] -> [B, T, H].
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.word = nlp_layers.OnDeviceEmbedding(
            config.vocab_size,
            config.hidden_size,
            initializer=truncated_normal(config),
            name="word",
        )
        self.position = nlp_layers.PositionEmbedding(
            config.max_position_embeddings,
            initializer=truncated_normal(config),
            name="position",
        )
        self.type = nlp_layers.OnDeviceEmbedding(
            config.type_vocab_size,
            config.hidden_size,
            initializer=truncated_normal(config),
            use_one_hot=True,
            name="type",
        )
        self.end = _NormAndDropout(config, name="end")

    def call(self, word_ids, type_ids):
        words = self.word(word_ids)
        return self.end(words + self.position(words) + self.type(type_ids))


class PatchEmbedding(tf_keras.layers.Layer):
    """FC(feature) + segment + FC(position) of one level, then LayerNorm and dropout.

    One class for all five levels; the release has five copies. As there, a level has
    a projection without bias (dropout on its input), a type table of its own of which
    it reads its own row, and its own LayerNorm; FC(position) is shared and comes in
    already computed.

    Call: features [B, p, F], projected locations [B, p, H] -> [B, p, H].

    Args:
      config: `KaleidoConfig`.
      level: the `KaleidoLevel`.
    """

    def __init__(self, config, level, **kwargs):
        super().__init__(**kwargs)
        self.level = level
        self.input_dropout = Dropout(config.feature_dropout)
        self.projection = tf_keras.layers.Dense(
            config.hidden_size,
            use_bias=False,
            kernel_initializer=truncated_normal(config),
            name="projection",
        )
        self.end = _NormAndDropout(config, name="end")
        self._type_shape = (config.patch_type_vocab_size, config.hidden_size)
        self._type_initializer = truncated_normal(config)

    def build(self, input_shape):
        self.type_table = self.add_weight(
            "type_table", self._type_shape, initializer=self._type_initializer
        )
        super().build(input_shape)

    def call(self, features, locations):
        projected = self.projection(self.input_dropout(features))
        segment = tf.cast(self.type_table[self.level.level], projected.dtype)
        return self.end(projected + segment + tf.cast(locations, projected.dtype))


class ContrastiveProjection(tf_keras.layers.Layer):
    """Mean embedding of one modality -> a unit vector: [B, n, H] -> [B, D] float32.

    Not in the paper: the optional alignment of text and image before fusion. The mean
    is taken over the places where `mask` [B, n] is 1.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.projection = tf_keras.layers.Dense(
            config.contrastive_size,
            use_bias=False,
            kernel_initializer=tf_keras.initializers.Orthogonal(),
            dtype=tf.float32,
            name="projection",
        )

    def call(self, embeddings, mask):
        weights = tf.cast(mask, tf.float32)[:, :, None]
        total = tf.reduce_sum(tf.cast(embeddings, tf.float32) * weights, axis=1)
        mean = total / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
        return tf.math.l2_normalize(self.projection(mean), axis=-1)
