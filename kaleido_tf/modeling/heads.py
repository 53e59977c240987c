"""Heads of the pre-training tasks (paper section 3.6), one a row of the level table."""

import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers as nlp_layers

from kaleido_tf.modeling import embeddings, encoder

RECONSTRUCTED = ("grey", "blank")


class MatchingHead(tf_keras.layers.Dense):
    """Equation 2: pooled output [B, H] -> logits [B, 2]; class 1 is "they match"."""

    def __init__(self, config, **kwargs):
        super().__init__(
            2, kernel_initializer=embeddings.truncated_normal(config), **kwargs
        )


class LevelClassifier(tf_keras.layers.Layer):
    """Equations 3 to 5: a level's hidden states, concatenated -> classes.

    Call: [B, p, H] -> [B, C] logits.
    """

    def __init__(self, config, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.logits = tf_keras.layers.Dense(
            num_classes,
            kernel_initializer=embeddings.truncated_normal(config),
            name="logits",
        )

    def call(self, hidden):
        patches, width = hidden.shape[1:]
        return self.logits(tf.reshape(hidden, [-1, patches * width]))


class FeatureRegressor(tf_keras.layers.Layer):
    """Equations 6 and 7: hidden states of the masked patches -> features.

    Call: [B, n, H] -> [B, n, F], to be soft-maxed by the loss.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.projection = tf_keras.layers.Dense(
            config.patch_feature_size,
            use_bias=False,
            kernel_initializer=embeddings.truncated_normal(config),
            name="projection",
        )

    def call(self, hidden):
        return self.projection(hidden)


class _MaskedLM(nlp_layers.MaskedLM):
    """The library's, whose LayerNorm has an epsilon of its own."""

    def __init__(self, layer_norm_epsilon, **kwargs):
        super().__init__(**kwargs)
        self._epsilon = layer_norm_epsilon

    def build(self, input_shape):
        super().build(input_shape)
        self.layer_norm.epsilon = self._epsilon


def masked_lm_head(config, word_embeddings):
    """Equation 1: dense, GELU, LayerNorm, tied to the word embeddings, plus bias."""
    return _MaskedLM(
        layer_norm_epsilon=config.layer_norm_epsilon,
        embedding_table=word_embeddings,
        activation=encoder.GELU[config.gelu],
        initializer=embeddings.truncated_normal(config),
        name="mlm_head",
    )
