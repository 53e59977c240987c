"""What a part of the global batch contributes: replicas and micro-batches.

Every loss is a mean over what it counts (masked words, matched pairs), and parts of a
batch count unevenly: the mean of their means isn't the batch's mean. So a part's loss
weighs by its share of the count, and the weighted losses and gradients of all parts add
up to those of the whole batch on one device.
"""

import dataclasses
import typing

import tensorflow as tf

from kaleido_tf.modeling import losses as losses_lib


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A loss that compares every row of the global batch with every other.

    No share of it belongs to a part: the vectors of all parts are gathered, the loss is
    taken on them, and each part is given the gradient at its own vectors.

    Attributes:
      name: the loss's name.
      outputs: names of the network's outputs [B, D] that it reads.
      labels: names of the labels [B, ...] that it reads.
      loss: function (labels, outputs) of dicts of these -> float32 scalar.
    """

    name: str
    outputs: tuple
    labels: tuple
    loss: typing.Callable


def pretraining_counts(labels, config):
    """What each loss of `pretraining_losses` is a mean over: dict name -> scalar.

    Args:
      labels: dict, as for `pretraining_losses`.
      config: `KaleidoConfig`.
    """
    counts = {}
    for name in config.loss_names:
        weights = losses_lib.weights_of_pairs(labels, name, config)
        if name == "mlm":
            words = tf.cast(labels["masked_lm_weights"], tf.float32)
            # The release's masked language loss has this in its denominator.
            counts[name] = tf.reduce_sum(words * weights[:, None]) + 1e-5
        elif name in ("grey", "blank"):
            counts[name] = tf.reduce_sum(weights)
        else:
            has_label = tf.reshape(labels[f"{name}_labels"], [-1]) >= 0
            counts[name] = tf.reduce_sum(weights * tf.cast(has_label, tf.float32))
    return counts


def contrastive_alignment(config, weight, text_groups, image_groups):
    """`Alignment` of the loss on a batch's vectors.

    Args:
      config, weight, text_groups, image_groups: see `losses.alignment_loss`.
    """
    groups = (text_groups, image_groups)
    return Alignment(
        "contrastive",
        ("text_vectors", "image_vectors"),
        tuple(dict.fromkeys(groups)),
        lambda labels, outputs: losses_lib.alignment_loss(
            labels, outputs, config, weight, *groups
        ),
    )


def pretraining_alignment(config):
    """`Alignment` of the eighth loss, or None where the config hasn't it."""
    if not config.contrastive_size:
        return None
    return contrastive_alignment(
        config, config.contrastive_weight, *losses_lib.PAIR_GROUPS
    )


def split(values, parts):
    """Rows of every tensor of a structure in equal parts: list of structures."""
    if parts == 1:
        return [values]
    cut = [tf.split(value, parts) for value in tf.nest.flatten(values)]
    pack = tf.nest.pack_sequence_as
    return [pack(values, list(part)) for part in zip(*cut, strict=True)]


def rows_of(values):
    """Number of rows of a structure of tensors: int32 scalar."""
    return tf.shape(tf.nest.flatten(values)[0])[0]


def sum_over_replicas(value, replicas):
    """The sum of a tensor over all replicas; in a replica's context."""
    if replicas == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def gather_replicas(values, replicas):
    """Rows of all replicas, in their order: dict name -> [B, ...]."""
    if replicas == 1:
        return values
    context = tf.distribute.get_replica_context()
    # A function's results bear no device, and gathering asks where they are.
    return context.all_gather(tf.nest.map_structure(tf.identity, values), axis=0)


def replica_index():
    """Which replica this is: int32 scalar."""
    return tf.convert_to_tensor(
        tf.distribute.get_replica_context().replica_id_in_sync_group
    )
