"""What retrieval brings to the fine-tuning loop: groups of pairs, losses, dev figures.

The best checkpoint is chosen by a small retrieval on the dev part, "rank1": the own
pair against four rivals of the same sub-category as far as the batch has them, both
ways. The accuracy of single pairs says little: it is near 1 long before ranks are good,
and a model can gain in one and lose in the other.
"""

import tensorflow as tf

from kaleido_tf.data.input_pipeline import ENCODER_INPUTS, trim_texts
from kaleido_tf.tasks import matching_groups
from kaleido_tf.tasks.matching_groups import ID_INPUTS, GroupMatcher
from kaleido_tf.training import finetuning, shares

NEGATIVES = 1  # other images for a text, and other texts for an image


def make_job(context):
    """The loop's `Job` for --task=retrieval.

    Args:
      context: `finetuning.Context`.
    """
    settings, config = context.settings, context.config
    if settings["batch_size"] < 2:
        raise ValueError(
            "`batch_size` should be at least 2: mismatched pairs are made of other "
            f"rows. Received: {settings['batch_size']}"
        )
    weight = settings["contrastive_weight"]
    if weight is None:
        weight = config.contrastive_weight
    aligns = bool(config.contrastive_size and weight)
    alignment = None
    if aligns:
        alignment = shares.contrastive_alignment(config, weight, "groups", "groups")

    def loss(labels, outputs):
        result = {
            "ranking": matching_groups.ranking_loss(outputs),
            "itm": matching_groups.pair_loss(outputs),
        }
        if alignment:
            result[alignment.name] = alignment.loss(labels, outputs)
        return result

    return finetuning.Job(
        model=GroupMatcher(config, NEGATIVES, settings["hard_rate"]),
        make_batch=make_batch,
        losses=loss,
        accuracies=lambda labels, outputs: matching_groups.group_accuracies(outputs),
        loss_names=("ranking", "itm") + (("contrastive",) if aligns else ()),
        accuracy_names=("rank1", "itm"),
        best="accuracy/rank1",
        best_is="max",
        extras={
            "negatives": NEGATIVES,
            "hard_rate": settings["hard_rate"],
            "contrastive_weight": weight if aligns else 0.0,
        },
        needs=("text",),
        alignment=alignment,
    )


def make_batch(batch, seed):
    """Clean records [B] and an int32 [2] seed -> (inputs, labels)."""
    inputs = trim_texts({name: batch[name] for name in (*ENCODER_INPUTS, *ID_INPUTS)})
    rows = tf.shape(batch["product_ids"])[0]
    inputs["draw_seed"] = tf.tile(seed[None], [rows, 1])
    groups = tf.stack([batch["product_ids"], batch["text_ids"]], axis=1)
    return inputs, {"groups": groups}
