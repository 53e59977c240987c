"""Served graph: which words and which patches of a pair answer to each other.

The measure is attention in both directions, from the matcher's layers: how much more a
word looks at a patch than at the image's patches on average, and how much more the
patch looks at the word than at the text's tokens on average. Both are means over layers
and heads, 1.0 is what even attention would give, and what is answered is their mean. It
shows where the layers move information from; it is no proof of what decided a score.
"""

import tensorflow as tf

from kaleido_tf.serving import requests

_PAIRS = 16  # at once: a map is [heads, T + P, T + P] per layer


def explain(matching, tokenizer, patch_features, text):
    """Attention between the tokens of a text and the patches of an image.

    Args:
      matching: `answers.Matching`.
      tokenizer: `Tokenizer`.
      patch_features: float32 [B, P, F].
      text: string [B].

    Returns:
      dict: `tokens` string [B, t], the word pieces with [CLS] and [SEP]; `token_mask`
      int32 [B, t], 0 for padding; `attention` float32 [B, t, P], 0 for padding.
    """
    counts = tf.shape(patch_features)[0], tf.size(text)
    with requests.require_same(*counts, "patch_features"):
        text = tf.identity(text)
    inputs, texts = matching.read(text)
    mask = inputs["input_mask"]

    length, most = tf.shape(mask)[1], matching.config.text_length

    def attend(start, texts, mask, features):
        del start
        found = _attention(matching.parts, texts, mask, matching.look(features))
        return (tf.pad(found, [[0, 0], [0, most - length], [0, 0]]),)

    spec = (tf.TensorSpec([None, most, matching.config.num_patches]),)
    rows = (texts, mask, patch_features)
    (attention,) = requests.in_chunks(attend, rows, _PAIRS, spec)
    pieces = tf.constant(tokenizer.vocabulary)
    return {
        "tokens": tf.gather(pieces, inputs["input_word_ids"]),
        "token_mask": mask,
        "attention": attention[:, :length],
    }


def _attention(parts, text, text_mask, patches):
    """[B, t, H], int32 [B, t], [B, P, H] -> float32 [B, t, P]."""
    length = tf.shape(text)[1]
    sequence = tf.concat([text, patches], axis=1)
    patch_mask = tf.ones(tf.shape(patches)[:2], text_mask.dtype)
    mask = tf.concat([text_mask, patch_mask], axis=1)
    attention_mask = parts.encoder.get_layer("attention_mask")(sequence, mask)
    total = 0.0
    num_layers = parts.config.num_layers
    for i in range(num_layers):
        block = parts.encoder.get_layer(f"layer_{i}")
        total += _both_ways(_scores(block, sequence, attention_mask), length, text_mask)
        sequence = block([sequence, attention_mask], training=False)
    return total / num_layers * tf.cast(text_mask, tf.float32)[:, :, None]


def _scores(block, sequence, attention_mask):
    """Attention of a layer: float32 [B, heads, t + P, t + P], rows add up to 1."""
    # A private attribute of tf-models-official 2.20, as in `modeling.decoding_cache`.
    sequence = tf.cast(sequence, block.compute_dtype)
    _, scores = block._attention_layer(
        sequence, sequence, attention_mask=attention_mask, return_attention_scores=True
    )
    return tf.cast(scores, tf.float32)


def _both_ways(scores, length, text_mask):
    """Attention of words to patches and back, over its average: float32 [B, t, P]."""
    by_word = scores[:, :, :length, length:]
    by_patch = tf.linalg.matrix_transpose(scores[:, :, length:, :length])
    num_patches = tf.cast(tf.shape(by_word)[3], tf.float32)
    num_words = tf.reduce_sum(tf.cast(text_mask, tf.float32), axis=1)
    by_word *= num_patches / tf.maximum(
        tf.reduce_sum(by_word, axis=3, keepdims=True), 1e-12
    )
    by_patch *= num_words[:, None, None, None] / tf.maximum(
        tf.reduce_sum(by_patch, axis=2, keepdims=True), 1e-12
    )
    return tf.reduce_mean(by_word + by_patch, axis=1) / 2.0
