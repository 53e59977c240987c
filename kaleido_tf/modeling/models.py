"""The functional models: pre-trainer, matcher, classifier, captioner: an encoder each.

Every model has the encoder as its layer "encoder" and its heads as layers named
"<task>_head"; checkpoints store and restore by these names.
"""

import tensorflow as tf
import tf_keras

from kaleido_tf.config import NUM_CLASSES
from kaleido_tf.modeling import embeddings, encoder, heads

build_encoder = encoder.build_encoder


def _float32(tensor, name):
    """Outputs leave a model in float32 whatever the precision policy."""
    return tf_keras.layers.Activation("linear", dtype=tf.float32, name=name)(tensor)


def _vectors(outputs):
    names = ("text_vectors", "image_vectors")
    return {name: outputs[name] for name in names if name in outputs}


def build_pretrainer(config):
    """Encoder with the heads of every active pre-training task (sections 3.5, 3.6).

    Args:
      config: `KaleidoConfig`.

    Returns:
      tf_keras.Model. Inputs: the encoder's, and `masked_lm_positions` int32 [B, M],
      `grey_positions` int32 [B, 2] and `blank_positions` int32 [B, 3] where these
      tasks are active. Outputs, a dict of float32, those of `config.active_tasks`
      alone: `mlm_logits` [B, M, V], `itm_logits` [B, 2],
      `rotation_logits` [B, 4], `jigsaw_logits` [B, 24], `camouflage_logits` [B, 9],
      `grey_predictions` [B, 2, F], `blank_predictions` [B, 3, F]; with
      `config.contrastive_size` also `text_vectors` and `image_vectors` [B, D].
    """
    # Layers.
    core = build_encoder(config)
    word_embeddings = core.get_layer("text_embedding").word.embeddings
    mlm_head = heads.masked_lm_head(config, word_embeddings)
    itm_head = heads.MatchingHead(config, name="itm_head")

    # Functional model.
    inputs = {
        **encoder.encoder_inputs(config),
        "masked_lm_positions": tf_keras.Input(
            [None], dtype=tf.int32, name="masked_lm_positions"
        ),
    }
    for level in config.levels:
        if level.task in heads.RECONSTRUCTED and level.task in config.active_tasks:
            key = f"{level.task}_positions"
            inputs[key] = tf_keras.Input([level.masked], dtype=tf.int32, name=key)
    # Nothing else of the last layer is read, so nothing else of it is computed.
    read, positions = _positions_read(config, inputs)
    encoder_inputs = {name: inputs[name] for name in core.input}
    encoded = core({**encoder_inputs, "output_positions": positions})
    sequence = encoded["sequence_output"]
    words = inputs["masked_lm_positions"]
    first_word = sum(read.values())
    outputs = {
        "mlm_logits": mlm_head(
            sequence[:, first_word:],
            tf.zeros_like(words) + tf.range(tf.shape(words)[1]),
        ),
        "itm_logits": itm_head(encoded["pooled_output"]),
    }
    start = read.pop("first")
    for task, count in read.items():
        hidden = tf.reshape(
            sequence[:, start : start + count], [-1, count, config.hidden_size]
        )
        start += count
        name = f"{task}_head"
        if task in NUM_CLASSES:
            head = heads.LevelClassifier(config, NUM_CLASSES[task], name=name)
            outputs[f"{task}_logits"] = head(hidden)
        else:
            head = heads.FeatureRegressor(config, name=name)
            outputs[f"{task}_predictions"] = head(hidden)
    outputs = {name: _float32(value, name) for name, value in outputs.items()}
    return tf_keras.Model(inputs, {**outputs, **_vectors(encoded)}, name="pretrainer")


def _positions_read(config, inputs):
    """What the pre-training heads read of the encoder's last layer.

    The text's length is free: patches stand behind it.

    Returns:
      (dict: how many positions "first", position 0, and each active patch task reads,
      in the order of the levels; int32 [B, n], all positions: these, then the masked
      words').
    """
    length = tf.shape(inputs["input_word_ids"])[1]
    zeros = tf.zeros_like(inputs["masked_lm_positions"][:, :1])
    read, positions = {"first": 1}, [zeros]
    for level in config.levels:
        if level.task not in config.active_tasks:
            continue
        start = length + config.level_slice(level.task).start
        if level.task in heads.RECONSTRUCTED:
            places = inputs[f"{level.task}_positions"]
        else:
            places = zeros + tf.range(level.num_patches)
        read[level.task] = places.shape[1] or level.num_patches
        positions.append(places + start)
    positions.append(inputs["masked_lm_positions"])
    return read, tf.concat(positions, axis=1)


def build_matcher(config):
    """Encoder and matching head: does this text describe this image?

    Returns:
      tf_keras.Model. Inputs: the encoder's. Outputs, a dict: `itm_logits` float32
      [B, 2] (the score for ranking is the probability of class 1), and the vectors
      where the config has them.
    """
    core = build_encoder(config)
    inputs = encoder.encoder_inputs(config)
    encoded = core(inputs)
    logits = heads.MatchingHead(config, name="itm_head")(encoded["pooled_output"])
    outputs = {"itm_logits": _float32(logits, "itm_logits"), **_vectors(encoded)}
    return tf_keras.Model(inputs, outputs, name="matcher")


def build_classifier(config, num_classes, dropout=0.1):
    """Encoder and one dense layer on the pooled output (paper section 4.2, CR, SUB).

    Args:
      config: `KaleidoConfig`.
      num_classes: number of classes.
      dropout: rate on the pooled output.

    Returns:
      tf_keras.Model. Inputs: the encoder's. Outputs, a dict: `class_logits` float32
      [B, num_classes].
    """
    core = build_encoder(config)
    inputs = encoder.encoder_inputs(config)
    pooled = tf_keras.layers.Dropout(dropout)(core(inputs)["pooled_output"])
    logits = tf_keras.layers.Dense(
        num_classes,
        kernel_initializer=embeddings.truncated_normal(config),
        name="class_head",
    )(pooled)
    return tf_keras.Model(
        inputs, {"class_logits": _float32(logits, "class_logits")}, name="classifier"
    )


def build_captioner(config, attention="sequence_to_sequence"):
    """Encoder and the tied MLM head at every text position (docs/tasks.md).

    The paper gives no recipe, its author named mask-all decoding; the weights are the
    pre-trainer's own, so its checkpoint is the start of either kind of captioner.

    Args:
      config: `KaleidoConfig`.
      attention: "sequence_to_sequence", or "bidirectional" for decoding that masks the
        whole text. Same weights, so a checkpoint loads into both.

    Raises:
      ValueError: another `attention`.

    Returns:
      tf_keras.Model. Inputs: the encoder's. Outputs, a dict: `caption_logits` float32
      [B, T, V].
    """
    core = build_encoder(config, attention)
    # No caption depends on these: no gradient, no decay, yet in every checkpoint.
    for layer in core.layers:
        layer.trainable = layer.name not in ("pooler", "vector_projection")
    word_embeddings = core.get_layer("text_embedding").word.embeddings
    mlm_head = heads.masked_lm_head(config, word_embeddings)
    inputs = encoder.encoder_inputs(config)
    ids = inputs["input_word_ids"]
    positions = tf.zeros_like(ids) + tf.range(tf.shape(ids)[1])[None, :]
    # [B, T + P, H], [B, T] -> [B, T, V]
    logits = mlm_head(core(inputs)["sequence_output"], positions)
    outputs = {"caption_logits": _float32(logits, "caption_logits")}
    return tf_keras.Model(inputs, outputs, name="captioner")


def build_vectorizer(config):
    """The alignment vectors alone, without the transformer: cheap first-stage search.

    Args:
      config: `KaleidoConfig` with a `contrastive_size`.

    Returns:
      tf_keras.Model: inputs the encoder's, outputs `text_vectors` and `image_vectors`
      float32 [B, D]. It keeps the whole encoder, so that a checkpoint of any model of
      this config loads into it, and computes what stands before the layers.

    Raises:
      ValueError: the config has no vectors.
    """
    if not config.contrastive_size:
        raise ValueError(
            "`config.contrastive_size` should be positive for vectors. Received: 0 "
            "(pre-train with --contrastive_size)"
        )
    core = build_encoder(config)
    outputs = {name: core.output[name] for name in ("text_vectors", "image_vectors")}
    model = tf_keras.Model(core.input, outputs, name="vectorizer")
    model.encoder = core  # the whole of it, so that checkpoints fit
    return model


def count_parameters(model):
    """Number of trainable numbers: int."""
    return int(sum(tf.size(v).numpy() for v in model.trainable_variables))
