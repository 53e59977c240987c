"""Accuracies of the pre-training tasks, and means over batches of uneven weight."""

import tensorflow as tf

from kaleido_tf.modeling import losses as losses_lib


def task_accuracies(labels, outputs, config):
    """Accuracy of every task with classes.

    Args:
      labels, outputs: as for `pretraining_losses`.
      config: `KaleidoConfig`.

    Returns:
      dict name -> (accuracy float32 scalar, weight: how many answers it is a mean of).
      A pair counts where its loss counts it.
    """
    results = {}
    for name in config.loss_names:
        if name in ("grey", "blank"):
            continue
        weights = losses_lib.weights_of_pairs(labels, name, config)
        if name == "mlm":
            truth, logits = labels["masked_lm_ids"], outputs["mlm_logits"]
            weights = weights[:, None] * labels["masked_lm_weights"]
        else:
            truth, logits = labels[f"{name}_labels"], outputs[f"{name}_logits"]
            weights = weights * tf.cast(truth >= 0, tf.float32)
        hits = tf.argmax(logits, -1, output_type=tf.int32) == tf.cast(truth, tf.int32)
        accuracy = losses_lib.weighted_mean(tf.cast(hits, tf.float32), weights)
        results[name] = (accuracy, tf.reduce_sum(weights))
    return results


def chance_level(name):
    """Accuracy of guessing at a task with equally likely classes, or None."""
    return {
        "itm": 1 / 2,
        "rotation": 1 / 4,
        "jigsaw": 1 / 24,
        "camouflage": 1 / 9,
    }.get(name)
