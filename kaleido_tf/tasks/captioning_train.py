"""Captioning, its training: what is asked of a text, and the job for the shared loop.

Three objectives on the pre-trainer's own weights (encoder and MLM head), one row of
`OBJECTIVES` each. Source: docs/tasks.md, captioning.
"""

import dataclasses
import typing

import tensorflow as tf

from kaleido_tf.data import masking
from kaleido_tf.data.input_pipeline import TEXT_INPUTS, trim_texts
from kaleido_tf.modeling import build_captioner, decoding, losses
from kaleido_tf.training import finetuning

MASK_RATE = 0.7  # UniLM's for fine-tuning (Dong et al., 2019)


@dataclasses.dataclass(frozen=True)
class Objective:
    """One way to train a captioner.

    Attributes:
      attention: who sees whom, see `build_captioner`.
      make: function (batch, seed, tokenizer) -> (text inputs, labels), in graph.
    """

    attention: str
    make: typing.Callable


def _text_inputs(batch, **changes):
    return {**{name: batch[name] for name in TEXT_INPUTS}, **changes}


def next_word(batch, seed, tokenizer):
    """Every place predicts the token after it; [SEP] is a target, padding isn't.

    Args:
      batch: dict of clean records, see `FinetuningData.training_dataset`.
      seed: int32 [2], not used.
      tokenizer: `Tokenizer`, not used.

    Returns:
      (text inputs int32 [B, T], labels: `caption_ids` int32 [B, T], the token that each
      place predicts; `caption_weights` float32 [B, T], 1 where it counts).
    """
    del seed, tokenizer
    following = [[0, 0], [0, 1]]
    labels = {
        "caption_ids": tf.pad(batch["input_word_ids"][:, 1:], following),
        "caption_weights": tf.cast(
            tf.pad(batch["input_mask"][:, 1:], following), tf.float32
        ),
    }
    return _text_inputs(batch), labels


def masked(batch, seed, tokenizer):
    """0.7 of a text's tokens are [MASK] and predicted in their places, as in UniLM.

    [SEP] is one of them, [CLS] isn't. A chosen token always becomes [MASK], since that
    is what decoding asks with. Arguments and result as `next_word`.
    """
    ids = batch["input_word_ids"]
    candidates = (batch["input_mask"] > 0) & (tf.range(tf.shape(ids)[1]) > 0)
    count = tf.reduce_sum(tf.cast(candidates, tf.float32), axis=1)
    wanted = tf.maximum(tf.cast(tf.round(MASK_RATE * count), tf.int32), 1)
    draw = masking.uniform(seed, "caption", tf.shape(ids))
    draw = tf.where(candidates, draw, 2.0)
    rank = tf.argsort(tf.argsort(draw, axis=1), axis=1)
    chosen = candidates & (rank < wanted[:, None])
    inputs = _text_inputs(
        batch, input_word_ids=tf.where(chosen, tokenizer.mask_id, ids)
    )
    return inputs, {"caption_ids": ids, "caption_weights": tf.cast(chosen, tf.float32)}


def mask_all(batch, seed, tokenizer):
    """The whole text is [MASK], the arm to beat; result as `next_word`.

    The input doesn't tell the text's length: T places, the last of them [SEP], and the
    text's own [SEP] is a target. What stands after it isn't.
    """
    del seed
    ids = batch["input_word_ids"]
    rows, length = tf.shape(ids)[0], ids.shape[1]
    inputs = decoding.mask_all_inputs(rows, length, tokenizer)
    is_masked = inputs["input_word_ids"] == tokenizer.mask_id
    weights = tf.cast(is_masked & (batch["input_mask"] > 0), tf.float32)
    return inputs, {"caption_ids": ids, "caption_weights": weights}


def drop_words(inputs, seed, tokenizer, rate):
    """Hides a share of the words that are read; all of them are still foretold.

    A model that reads whole texts soon knows a catalogue's phrases by heart, and looks
    at the words before a place rather than at the picture (word dropout, Bowman et
    al., 2016).

    Args:
      inputs: dict with `input_word_ids`, `input_mask` int32 [B, T].
      seed: int32 [2].
      tokenizer: `Tokenizer`.
      rate: share of the pieces that become [MASK]; neither padding nor special ones.

    Returns:
      The dict with other `input_word_ids`.
    """
    ids = inputs["input_word_ids"]
    hidden = masking.uniform(seed, "word dropout", tf.shape(ids)) < rate
    hidden &= masking.maskable_tokens(inputs, tokenizer)
    return {**inputs, "input_word_ids": tf.where(hidden, tokenizer.mask_id, ids)}


OBJECTIVES = {
    "next_word": Objective("sequence_to_sequence", next_word),
    "masked": Objective("sequence_to_sequence", masked),
    "mask_all": Objective("bidirectional", mask_all),
}


def find_objective(name):
    """(name, row) of `OBJECTIVES`; the first one for None."""
    name = name or next(iter(OBJECTIVES))
    if name not in OBJECTIVES:
        raise ValueError(
            f"`objective` should be one of {tuple(OBJECTIVES)}. Received: {name!r}"
        )
    return name, OBJECTIVES[name]


def caption_losses(labels, outputs):
    """Cross entropy over the predicted tokens: {"caption": float32 scalar}.

    Args:
      labels: dict, see `next_word`.
      outputs: dict of the captioner.
    """
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels["caption_ids"], tf.cast(outputs["caption_logits"], tf.float32)
    )
    return {"caption": losses.weighted_mean(entropy, labels["caption_weights"])}


def caption_accuracies(labels, outputs):
    """Share of the predicted tokens that are right: {"caption": (share, tokens)}."""
    best = tf.argmax(outputs["caption_logits"], axis=-1, output_type=tf.int32)
    hits = tf.cast(best == labels["caption_ids"], tf.float32)
    weights = labels["caption_weights"]
    return {"caption": (losses.weighted_mean(hits, weights), tf.reduce_sum(weights))}


def make_job(context):
    """The job of `context.settings["objective"]` for `training.finetuning`."""
    name, objective = find_objective(context.settings["objective"])
    rate = context.settings["word_dropout"]

    def make_batch(batch, seed):
        inputs, labels = objective.make(batch, seed, context.tokenizer)
        # Where all is masked every place is read, and nothing is cut.
        cut = trim_texts({**inputs, **labels}, (*inputs, *labels))
        inputs = {name: cut[name] for name in inputs}
        for key in ("patch_features", "patch_locations"):
            inputs[key] = batch[key]
        return inputs, {name: cut[name] for name in labels}

    def augment(inputs, seed):
        return drop_words(inputs, seed, context.tokenizer, rate)

    return finetuning.Job(
        model=build_captioner(context.config, objective.attention),
        make_batch=make_batch,
        losses=caption_losses,
        accuracies=caption_accuracies,
        loss_names=("caption",),
        accuracy_names=("caption",),
        best="loss/caption",
        best_is="min",
        extras={"objective": name, "attention": objective.attention},
        needs=("text",),
        counts=lambda labels: {"caption": tf.reduce_sum(labels["caption_weights"])},
        # The other objectives mask what is read themselves.
        augment=augment if rate and name == "next_word" else None,
    )


def train(settings):
    """Fine-tunes a captioner; see `training.finetuning.train`."""
    return finetuning.train(settings, make_job)
