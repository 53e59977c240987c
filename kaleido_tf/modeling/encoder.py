"""The cross-modality encoder (paper section 3.5): one BERT over text and patches."""

import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers as nlp_layers

from kaleido_tf.config import level_offsets
from kaleido_tf.modeling import block, embeddings


def gelu(x):
    """GELU in its tanh approximation, as in BERT's TensorFlow code."""
    return tf_keras.activations.gelu(x, approximate=True)


def exact_gelu(x):
    """GELU by the error function: what Hugging Face's BERT weights call "gelu"."""
    return tf_keras.activations.gelu(x, approximate=False)


GELU = {"tanh": gelu, "exact": exact_gelu}  # `KaleidoConfig.gelu`


def encoder_inputs(config, text_length=None):
    """Symbolic inputs of the encoder: dict name -> KerasTensor.

    Args:
      config: `KaleidoConfig`.
      text_length: T, or None for any length up to `max_position_embeddings`.
    """

    def text(name):
        return tf_keras.Input([text_length], dtype=tf.int32, name=name)

    def patch(name, width):
        return tf_keras.Input([config.num_patches, width], dtype=tf.float32, name=name)

    return {
        **{n: text(n) for n in ("input_word_ids", "input_mask", "input_type_ids")},
        "patch_features": patch("patch_features", config.patch_feature_size),
        "patch_locations": patch("patch_locations", 5),
    }


class SequenceToSequenceMask(tf_keras.layers.Layer):
    """Patches see patches; a text position sees all patches and the text up to itself.

    What makes the encoder a captioner (UniLM's mask with the image as the source).
    Padding is seen by nobody.

    Call: sequence [B, T + P, H], mask int32 [B, T + P] -> [B, T + P, T + P] of the
    sequence's type, 1 where a row's position sees a column's.

    Args:
      num_patches: P.
    """

    def __init__(self, num_patches, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches

    def call(self, sequence, mask):
        length = tf.shape(sequence)[1]
        query, key = tf.range(length)[:, None], tf.range(length)[None, :]
        first_patch = length - self.num_patches
        earlier_text = (key <= query) & (query < first_patch)
        sees = (key >= first_patch) | earlier_text
        # [S, S], [B, S] -> [B, S, S]
        sees = tf.cast(sees, sequence.dtype)[None]
        return sees * tf.cast(mask, sequence.dtype)[:, None, :]


# Layers of one name, without weights and at one place: a checkpoint fits whichever.
ATTENTION_MASKS = {
    "bidirectional": lambda config, name: nlp_layers.SelfAttentionMask(name=name),
    "sequence_to_sequence": lambda config, name: SequenceToSequenceMask(
        config.num_patches, name=name
    ),
}


class Encoder(tf_keras.Model):
    """The functional encoder, which can be asked for some positions alone.

    What nobody reads of the last layer need not be computed. With `output_positions`
    int32 [B, n] beside the inputs, `sequence_output` is [B, n, H]: these positions in
    this order. The first of them has to be 0, since the pooler reads what stands first;
    that isn't checked.
    """

    def call(self, inputs, training=None, mask=None):
        inputs = dict(inputs)
        positions = inputs.pop("output_positions", None)
        if positions is None:
            return super().call(inputs, training=training, mask=mask)
        last = max(
            (layer for layer in self.layers if isinstance(layer, block.EncoderBlock)),
            key=lambda layer: int(layer.name.rpartition("_")[2]),
        )
        with last.only(positions):
            return super().call(inputs, training=training, mask=mask)


def build_encoder(config, attention="bidirectional"):
    """The encoder as a functional Keras model named "encoder".

    Args:
      config: `KaleidoConfig`.
      attention: who sees whom, key of `ATTENTION_MASKS`: "bidirectional", the paper's
        (everyone sees everyone but padding), or "sequence_to_sequence" for captions.

    Returns:
      `Encoder`. Inputs, a dict: `input_word_ids`, `input_mask`, `input_type_ids`
      int32 [B, T]; `patch_features` float32 [B, P, F]; `patch_locations` float32
      [B, P, 5]. Outputs, a dict: `sequence_output` float32 [B, T + P, H], text first,
      then the levels in order, anything in padding's rows (`packing`);
      `pooled_output` [B, H] in the policy's compute dtype;
      with `config.contrastive_size`, `text_vectors` and `image_vectors` float32
      [B, D].

    Raises:
      ValueError: another `attention`.

    Example:
      >>> config = KaleidoConfig.preset("tiny", vocab_size=100, patch_feature_size=8)
      >>> build_encoder(config).output_shape["sequence_output"]
      (None, None, 128)
    """
    if attention not in ATTENTION_MASKS:
        raise ValueError(
            f"`attention` should be one of {tuple(ATTENTION_MASKS)}. "
            f"Received: {attention!r}"
        )
    # Layers.
    text_embedding = embeddings.TextEmbedding(config, name="text_embedding")
    position_projection = tf_keras.layers.Dense(
        config.hidden_size,
        use_bias=False,
        kernel_initializer=embeddings.truncated_normal(config),
        # A ported model's locations are pixels; their area overflows float16.
        dtype=tf.float32,
        name="position_projection",
    )
    patch_embeddings = [
        embeddings.PatchEmbedding(config, level, name=f"{level.task}_embedding")
        for level in config.levels
    ]
    blocks = [_block(config, i) for i in range(config.num_layers)]
    pooler = tf_keras.layers.Dense(
        config.hidden_size,
        activation="tanh",
        kernel_initializer=embeddings.truncated_normal(config),
        name="pooler",
    )

    # Functional model.
    inputs = encoder_inputs(config)
    text = text_embedding(inputs["input_word_ids"], inputs["input_type_ids"])
    locations = position_projection(inputs["patch_locations"])
    parts = []
    for embed, start in zip(
        patch_embeddings, level_offsets(config.levels), strict=True
    ):
        part = slice(start, start + embed.level.num_patches)
        parts.append(embed(inputs["patch_features"][:, part], locations[:, part]))
    patches = tf_keras.layers.Concatenate(axis=1, name="patch_sequence")(parts)
    # [B, T, H], [B, P, H] -> [B, T + P, H]
    sequence = tf_keras.layers.Concatenate(axis=1, name="sequence")([text, patches])
    patch_mask = tf.ones_like(inputs["patch_locations"][:, :, 0], dtype=tf.int32)
    mask = tf.concat([inputs["input_mask"], patch_mask], axis=1)
    make_mask = ATTENTION_MASKS[attention]
    attention_mask = make_mask(config, "attention_mask")(sequence, mask)
    for layer in blocks:
        sequence = layer([sequence, attention_mask])
    outputs = {
        "sequence_output": sequence,
        "pooled_output": pooler(sequence[:, 0]),
    }
    if config.contrastive_size:
        # One projection for both sides: what it aligns are the embeddings themselves,
        # so that attention, too, finds a word's patch by similarity.
        project = embeddings.ContrastiveProjection(config, name="vector_projection")
        outputs["text_vectors"] = project(text, inputs["input_mask"])
        outputs["image_vectors"] = project(patches, patch_mask)
    return Encoder(inputs, outputs, name="encoder")


def _block(config, index):
    """One post-LayerNorm transformer layer."""
    return block.EncoderBlock(
        config.num_heads,
        config.intermediate_size,
        GELU[config.gelu],
        kernel_initializer=embeddings.truncated_normal(config),
        norm_epsilon=config.layer_norm_epsilon,
        output_dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        name=f"layer_{index}",
    )
