"""The seven losses of pre-training (3.6, equations 1 to 8), and the optional eighth.

All in float32. Each is a mean over what it counts; `labels["pair_weights"]` takes
mismatched pairs out of the losses that `config.matched_only_losses` names. A class
label of -1 is a row that has no label (no other product was there to take a camouflage
patch from) and isn't counted.
"""

import tensorflow as tf

# Labels of pre-training's pairs, whose sides may be of different products.
PAIR_GROUPS = ("text_groups", "image_groups")


def pretraining_losses(labels, outputs, config):
    """Every loss by name.

    Args:
      labels: dict: `masked_lm_ids` int [B, M], `masked_lm_weights` float [B, M];
        `itm_labels`, `rotation_labels`, `jigsaw_labels`, `camouflage_labels` int [B];
        `grey_targets` float [B, 2, F], `blank_targets` [B, 3, F]; optionally
        `pair_weights` float [B], 1 where text and image match (absent: all count),
        and for the eighth loss `text_groups`, `image_groups` int [B, 2].
      outputs: the pre-trainer's dict.
      config: `KaleidoConfig`.

    Returns:
      dict name -> float32 scalar in the order of `config.loss_names`; the total is
      their sum (equation 8). With `config.contrastive_size` and the product labels,
      also "contrastive", already times its weight.
    """
    losses = {}
    for name in config.loss_names:
        weights = weights_of_pairs(labels, name, config)
        if name == "mlm":
            losses[name] = masked_lm_loss(labels, outputs, weights)
        elif name in ("grey", "blank"):
            losses[name] = reconstruction_loss(
                labels[f"{name}_targets"], outputs[f"{name}_predictions"], weights
            )
        else:
            losses[name] = classification_loss(
                labels[f"{name}_labels"], outputs[f"{name}_logits"], weights
            )
    if config.contrastive_size and "text_groups" in labels:
        losses["contrastive"] = alignment_loss(
            labels, outputs, config, config.contrastive_weight, *PAIR_GROUPS
        )
    return losses


def alignment_loss(labels, outputs, config, weight, text_groups, image_groups):
    """The eighth loss on a batch's vectors, times its weight: float32 scalar.

    Args:
      labels: dict with the groups of texts and images, int [B, n].
      outputs: dict with `text_vectors` and `image_vectors` [B, D].
      config: `KaleidoConfig`.
      weight: factor.
      text_groups, image_groups: names of these labels; the same name twice where both
        sides of every row belong together.
    """
    return weight * contrastive_loss(
        outputs["text_vectors"],
        outputs["image_vectors"],
        labels[text_groups],
        labels[image_groups],
        config.contrastive_temperature,
    )


def weights_of_pairs(labels, name, config):
    """Weight of each pair in a loss.

    Args:
      labels: dict with `itm_labels` int [B] or [B, 1], and `pair_weights` [B] (1 where
        text and image belong together), without which every pair counts.
      name: the loss; those in `config.matched_only_losses` count matched pairs alone.
      config: `KaleidoConfig`.

    Returns:
      float32 [B].
    """
    everyone = tf.ones([tf.shape(labels["itm_labels"])[0]], tf.float32)
    if name not in config.matched_only_losses or "pair_weights" not in labels:
        return everyone
    return tf.cast(tf.reshape(labels["pair_weights"], [-1]), tf.float32)


def weighted_mean(values, weights):
    """Mean by weights; 0 where nothing counts.

    Args:
      values, weights: float32 of the same shape.

    Returns:
      float32 scalar.
    """
    return tf.math.divide_no_nan(
        tf.reduce_sum(values * weights), tf.reduce_sum(weights)
    )


def masked_lm_loss(labels, outputs, pair_weights):
    """Equation 1: cross entropy over masked tokens, sum(w * l) / (sum(w) + 1e-5).

    Args:
      labels: dict with `masked_lm_ids` int [B, M] and `masked_lm_weights` float [B, M],
        0 where a place holds no masked piece.
      outputs: dict with `mlm_logits` float [B, M, V].
      pair_weights: float32 [B].

    Returns:
      float32 scalar.
    """
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.cast(labels["masked_lm_ids"], tf.int32),
        tf.cast(outputs["mlm_logits"], tf.float32),
    )
    weights = tf.cast(labels["masked_lm_weights"], tf.float32) * pair_weights[:, None]
    return tf.reduce_sum(weights * entropy) / (tf.reduce_sum(weights) + 1e-5)


def classification_loss(labels, logits, pair_weights):
    """Equations 2 to 5: cross entropy.

    Args:
      labels: int [B] or [B, 1]; -1 is left out.
      logits: float [B, C].
      pair_weights: float32 [B].

    Returns:
      float32 scalar.
    """
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.maximum(labels, 0), tf.cast(logits, tf.float32)
    )
    return weighted_mean(entropy, pair_weights * tf.cast(labels >= 0, tf.float32))


def reconstruction_loss(targets, predictions, pair_weights):
    """Equations 6 and 7: KL(softmax(target) || softmax(prediction)) per patch.

    The release's grey loss takes one softmax over both masked patches together (2F
    numbers); here it is per patch, as the paper describes it.

    Args:
      targets: float [B, n, F].
      predictions: float [B, n, F].
      pair_weights: float32 [B].

    Returns:
      float32 scalar.
    """
    target_log = tf.nn.log_softmax(tf.cast(targets, tf.float32))
    predicted_log = tf.nn.log_softmax(tf.cast(predictions, tf.float32))
    divergence = tf.reduce_sum(tf.exp(target_log) * (target_log - predicted_log), -1)
    weights = tf.broadcast_to(pair_weights[:, None], tf.shape(divergence))
    return weighted_mean(divergence, weights)


def contrastive_loss(text, image, text_groups, image_groups, temperature):
    """Symmetric InfoNCE over the batch (not in the paper; as CLIP, ALBEF).

    Every text is compared with every image of the batch. Corruption pairs half of the
    texts with a foreign image, yet a text's own product's image is mostly somewhere in
    the batch: sides of one product, or of one wording, are the positives, not rows.

    Args:
      text, image: unit vectors, float32 [B, D].
      text_groups, image_groups: int [B, n]; sides that share any column's number
        belong together.
      temperature: divides the cosines.

    Returns:
      float32 scalar.
    """
    logits = tf.matmul(text, image, transpose_b=True) / temperature
    together = tf.reduce_any(text_groups[:, None] == image_groups[None, :], axis=2)
    positive = tf.cast(together, tf.float32)
    return 0.5 * (
        _multi_positive(logits, positive)
        + _multi_positive(tf.transpose(logits), tf.transpose(positive))
    )


def _multi_positive(logits, positive):
    """Cross entropy with the positives of a row sharing its target equally."""
    count = tf.reduce_sum(positive, axis=1)
    target = tf.math.divide_no_nan(positive, count[:, None])
    entropy = -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=1)
    return weighted_mean(entropy, tf.cast(count > 0, tf.float32))
