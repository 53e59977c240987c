"""Fine-tuning the matching head on groups: a pair, and mismatched pairs made of it.

The paper fine-tunes for retrieval with the pairs of pre-training: one label a pair. To
rank is to tell a partner from its rivals, so here every pair of a batch is scored with
some of them: its text with other images, its image with other texts, and the head
learns both which of a group is right and, as before, whether a pair matches. Rivals are
of the same sub-category, and those that the alignment's vectors find alike (as ALBEF
draws them, arXiv 2107.07651).

What stands before the fusion layers is cheap and computed once a batch
(`MatcherParts`): every row takes part in the alignment and can be a rival, but only the
first rows are the heart of a group, so that a step fuses as many pairs as its batch has
rows. Rivals come from a pool that is three times as large, which is what makes them
hard.
"""

import tensorflow as tf
import tf_keras

from kaleido_tf.data.masking import split_seed, uniform
from kaleido_tf.modeling import build_matcher, losses
from kaleido_tf.tasks.matcher_parts import MatcherParts

_BEYOND = 1e4  # more than logits and noise together
ID_INPUTS = ("product_ids", "text_ids", "subcategory_ids")


def draw_negatives(ids, seed, groups, count, hard_rate, logits=None):
    """For the first rows of a batch some rows of another product and another wording.

    Args:
      ids: dict of `ID_INPUTS`, int32 [B]: numbers that are equal where product, wording
        and sub-category are (-1: no sub-category).
      seed: int32 [2].
      groups: G, rows that negatives are drawn for.
      count: K, rows to draw; as many as the batch has, where it is smaller.
      hard_rate: share of the draws that take a row of the same sub-category, where the
        batch has one. A row may be drawn once so and once among all.
      logits: float32 [G, B], drawn with the probability softmax(logits) without
        replacement; None for all alike.

    Returns:
      (rows int32 [G, K], found bool [G, K]): where nothing was found, a row is its own
      product's or wording's and doesn't count.
    """
    products, texts, classes = (ids[name] for name in ID_INPUTS)
    size = products.shape[0] or tf.shape(products)[0]
    count = min(count, size) if isinstance(size, int) else tf.minimum(count, size)
    # Another product with the very same words is no mismatch.
    own_class = classes[:groups, None]
    other = (products[:groups, None] != products) & (texts[:groups, None] != texts)
    hard = other & (own_class == classes) & (own_class >= 0)
    # The largest of logits with Gumbel noise are a draw from their softmax.
    noise = -tf.math.log(-tf.math.log(uniform(seed, "other", [groups, size]) + 1e-20))
    chance = noise if logits is None else noise + logits
    anyone = tf.math.top_k(tf.where(other, chance, -_BEYOND), count).indices
    chance += _BEYOND * tf.cast(hard, tf.float32)
    hardest = tf.math.top_k(tf.where(other, chance, -_BEYOND), count).indices
    want_hard = uniform(seed, "hard", [groups, count]) < hard_rate
    rows = tf.where(want_hard, hardest, anyone)
    return rows, tf.gather(other, rows, batch_dims=1)


class GroupMatcher(tf_keras.Model):
    """A matcher that scores G of B own pairs, each with 2 K mismatched ones.

    Inputs: the encoder's, `ID_INPUTS` int32 [B], and `draw_seed` int32 [B, 2], the same
    in every row. Outputs, a dict: `margins` float32 [G, 1 + 2 K], the log-odds of a
    match of the own pair, of the own text with K other images, and of the own image
    with K other texts; `found` bool [G, 2 K], which of these are mismatched; and the
    alignment's vectors [B, D] where the config has them.

    In training G = B / (1 + 2 K), rounded up, else G = B.

    Checkpoints are the matcher's: the layers "encoder" and "itm_head" are its own.

    Args:
      config: `KaleidoConfig`.
      negatives, hard_rate: K and share of hard ones in training, see `draw_negatives`;
        the more alike by the vectors, where the config has them, the likelier.
      dev_negatives: K when nothing is trained. All are hard then, and drawn without
        the vectors: rounds are compared on the same ones.
    """

    def __init__(self, config, negatives, hard_rate, dev_negatives=4):
        # No casting of inputs to 16 bits: an area in pixels overflows float16. The
        # parts cast the features themselves.
        super().__init__(name="group_matcher", autocast=False)
        matcher = build_matcher(config)
        self.encoder = matcher.get_layer("encoder")
        self.itm_head = matcher.get_layer("itm_head")
        self._parts = MatcherParts(matcher, config)
        self._negatives, self._hard_rate = negatives, hard_rate
        self._dev_negatives = dev_negatives

    def call(self, inputs, training=False):
        parts, mask = self._parts, inputs["input_mask"]
        text = parts.embed_text(
            inputs["input_word_ids"], inputs["input_type_ids"], training=training
        )
        patches = parts.embed_patches(
            inputs["patch_features"], inputs["patch_locations"], training=training
        )
        outputs = {}
        if parts.config.contrastive_size:
            names = ("text_vectors", "image_vectors")
            outputs |= zip(names, parts.vectors(text, mask, patches), strict=True)
        images, texts = self._draw(inputs, outputs, training)
        groups, count = tf.unstack(tf.shape(images[0]))
        own = tf.range(groups)
        repeated = tf.repeat(own, count)
        text_rows = tf.concat([own, repeated, tf.reshape(texts[0], [-1])], 0)
        image_rows = tf.concat([own, tf.reshape(images[0], [-1]), repeated], 0)
        logits = parts.logits(
            tf.gather(text, text_rows),
            tf.gather(mask, text_rows),
            tf.gather(patches, image_rows),
            training=training,
        )
        margins = logits[:, 1] - logits[:, 0]
        # [G + G K + G K] -> [G, 1 + 2 K]
        columns = [margins[:groups, None]]
        for part in tf.split(margins[groups:], 2):
            columns.append(tf.reshape(part, [groups, count]))
        outputs["margins"] = tf.concat(columns, axis=1)
        outputs["found"] = tf.concat([images[1], texts[1]], axis=1)
        return outputs

    def _draw(self, inputs, vectors, training):
        """What `draw_negatives` returns for other images, and for other texts."""
        size = inputs["draw_seed"].shape[0] or tf.shape(inputs["draw_seed"])[0]
        groups, count, hard_rate = size, self._dev_negatives, 1.0
        if training:
            count, hard_rate = self._negatives, self._hard_rate
            groups = (size + 2 * count) // (1 + 2 * count)
        result = []
        for other, own in (("image", "text"), ("text", "image")):
            logits = None
            if training and vectors:
                logits = tf.matmul(
                    vectors[f"{own}_vectors"][:groups],
                    vectors[f"{other}_vectors"],
                    transpose_b=True,
                )
                logits /= self._parts.config.contrastive_temperature
                logits = tf.stop_gradient(logits)
            seed = split_seed(inputs["draw_seed"][0], other)
            result.append(
                draw_negatives(inputs, seed, groups, count, hard_rate, logits)
            )
        return result


def _sides(outputs):
    """Yields (margins [G, K], found bool [G, K]) of either kind of mismatched pairs."""
    margins = tf.split(outputs["margins"][:, 1:], 2, axis=1)
    yield from zip(margins, tf.split(outputs["found"], 2, axis=1), strict=True)


def ranking_loss(outputs):
    """Cross entropy of the own pair against its text's, and its image's, mismatches.

    Args:
      outputs: `GroupMatcher`'s.

    Returns:
      float32 scalar, the mean over both sides of all rows that have a mismatch.
    """
    own, entropies, weights = outputs["margins"][:, :1], [], []
    for margins, found in _sides(outputs):
        rivals = tf.where(found, margins, -1e9)
        group = tf.concat([own, rivals], axis=1)
        entropies.append(tf.reduce_logsumexp(group, axis=1) - own[:, 0])
        weights.append(tf.cast(tf.reduce_any(found, axis=1), tf.float32))
    return losses.weighted_mean(tf.concat(entropies, 0), tf.concat(weights, 0))


def pair_loss(outputs):
    """Equation 2 on all pairs of the groups, matched and mismatched in balance.

    It keeps the score a probability, which a ranking alone doesn't.
    """
    own, rivals = outputs["margins"][:, 0], outputs["margins"][:, 1:]
    found = tf.cast(outputs["found"], tf.float32)
    matched = tf.reduce_mean(tf.nn.softplus(-own))
    mismatched = losses.weighted_mean(tf.nn.softplus(rivals), found)
    return 0.5 * (matched + mismatched)


def group_accuracies(outputs):
    """How well groups are ranked and pairs are told: dict name -> (value, weight).

    "rank1": share of groups whose own pair scores above all the others; ties count
    against the model. "itm": accuracy of "match or not", both kinds weighing the same.
    """
    own, hits, weights = outputs["margins"][:, :1], [], []
    for margins, found in _sides(outputs):
        beaten = tf.reduce_all((own > margins) | ~found, axis=1)
        hits.append(tf.cast(beaten, tf.float32))
        weights.append(tf.cast(tf.reduce_any(found, axis=1), tf.float32))
    hits, weights = tf.concat(hits, 0), tf.concat(weights, 0)
    found = tf.cast(outputs["found"], tf.float32)
    matched = tf.reduce_mean(tf.cast(own > 0, tf.float32))
    refused = tf.cast(outputs["margins"][:, 1:] <= 0, tf.float32)
    told = 0.5 * (matched + losses.weighted_mean(refused, found))
    return {
        "rank1": (losses.weighted_mean(hits, weights), tf.reduce_sum(weights)),
        "itm": (told, tf.reduce_sum(found)),
    }
