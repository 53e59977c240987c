"""CLI: what Alignment Guided Masking masks on a data set, and why (paper section 3.4).

Of as many texts as are asked for, each with masks of its own: how many word pieces and
patches are masked because a pair said so and how many by the random fill, by level; to
which side the coin fell; how often a pair's both sides are masked in the end; and the
80 / 10 / 10 of the chosen pieces.

The coin is looked at where nothing else decides: one pair a text, which always finds
room. With all pairs, a side that is full takes no more of them.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import logging

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import masking, patches, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.input_pipeline import clean_batch

_KEPT = ("input_word_ids", "input_mask", "aligned_tokens", "aligned_patches")


def texts_with_pairs(info, tokenizer, text_length, batch_size):
    """Endless batches of the training split's texts and pairs: dict of int32."""

    def read(serialized):
        batch = clean_batch(serialized, info.shapes, tokenizer, text_length)
        return {name: batch[name] for name in _KEPT}

    shards = tf.data.TFRecordDataset(info.shard_paths("train"))
    return shards.repeat().batch(batch_size).map(read).prefetch(2)


def masked_patches(result, settings):
    """bool [B, P]: patches that the level tasks work on, of `apply_agm`'s result."""
    hot, rows = [], len(result["input_mask"])
    for level in settings.levels:
        mask = np.zeros([rows, level.num_patches], bool)
        if level.masked:
            np.put_along_axis(mask, result[f"{level.task}_positions"], True, axis=1)
        hot.append(mask)
    return np.concatenate(hot, axis=1)


def masked_pieces(result):
    """bool [B, T]: word pieces to be predicted, of `apply_agm`'s result."""
    hot = np.zeros(result["input_mask"].shape, bool)
    rows, columns = np.nonzero(result["masked_lm_weights"])
    hot[rows, result["masked_lm_positions"][rows, columns]] = True
    return hot


def count_batch(batch, state, result, settings, tokenizer):
    """What became of the words, patches and pairs of a batch.

    Args:
      batch: as it was before, arrays.
      state: `masking.follow_pairs`, arrays.
      result: `masking.apply_agm` with the same seed, arrays.
      settings: `MaskingSettings`.
      tokenizer: `Tokenizer`.

    Returns:
      dict name -> int.
    """
    words, holes = masked_pieces(result), masked_patches(result, settings)
    by_pair = {"words": state["tokens"] == masking.MASKED}
    by_pair["patches"] = state["patches"] == masking.MASKED
    token, patch = batch["aligned_tokens"], batch["aligned_patches"]
    real = (token >= 0) & (patch >= 0)
    level_of = patches.level_of_patch(settings.levels)
    masked_level = np.array([level.masked > 0 for level in settings.levels])
    usable = real & masked_level[level_of[np.where(real, patch, 0)]]
    rows = np.arange(len(token))[:, None]
    both = words[rows, np.where(usable, token, 0)]
    both &= holes[rows, np.where(usable, patch, 0)]
    was, now = batch["input_word_ids"][words], result["input_word_ids"][words]
    counts = {
        "texts": len(token),
        "texts with pairs": usable.any(axis=1).sum(),
        "usable pairs": usable.sum(),
        "pairs with both sides masked": (both & usable).sum(),
        "pieces": batch["input_mask"].sum(),
        "masked pieces": words.sum(),
        "masked pieces, by a pair": (words & by_pair["words"]).sum(),
        "masked pieces that are [MASK]": (now == tokenizer.mask_id).sum(),
        "masked pieces that stay": (now == was).sum(),
        "special pieces or padding masked": (
            words & ~masking.maskable_tokens(batch, tokenizer).numpy()
        ).sum(),
    }
    for number, level in enumerate(settings.levels):
        here = level_of == number
        name = f"level {level.level}"
        counts[f"{name} patches"] = len(token) * here.sum()
        counts[f"{name} masked"] = holes[:, here].sum()
        counts[f"{name} masked, by a pair"] = (
            holes[:, here] & by_pair["patches"][:, here]
        ).sum()
    return {name: int(value) for name, value in counts.items()}


def only_one_pair(batch, settings, seed):
    """The batch with one pair a text, drawn from those on the masked levels."""
    level_of = tf.constant(patches.level_of_patch(settings.levels))
    masked_level = tf.constant([level.masked > 0 for level in settings.levels])
    patch = batch["aligned_patches"]
    usable = (batch["aligned_tokens"] >= 0) & (patch >= 0)
    usable &= tf.gather(masked_level, tf.gather(level_of, tf.maximum(patch, 0)))
    draw = masking.uniform(seed, "one pair", tf.shape(patch))
    one = tf.argmax(tf.where(usable, draw, -1.0), axis=1)[:, None]
    alone = {}
    for name in ("aligned_tokens", "aligned_patches"):
        value = tf.gather(tf.where(usable, batch[name], -1), one, batch_dims=1)
        alone[name] = value
    return {**batch, **alone}


def measure(info, tokenizer, settings, text_length, examples, batch_size=250, seed=0):
    """Counts over `examples` texts, rounded up to whole batches.

    Args:
      info: `DatasetInfo`.
      tokenizer: of its vocabulary.
      settings: `MaskingSettings`.
      text_length: T.
      examples: how many texts; the split is gone through again where it has fewer.
      batch_size: texts at a time.
      seed: int, of the masks.

    Returns:
      (dict name -> int, see `count_batch`; dict side of the coin -> int).
    """
    roomy = dataclasses.replace(settings, token_rate=1.0, max_predictions=text_length)

    @tf.function
    def mask(batch, seed):
        single = only_one_pair(batch, settings, seed)
        coin = masking.follow_pairs(single, roomy, tokenizer, seed)
        return (
            masking.follow_pairs(batch, settings, tokenizer, seed),
            masking.apply_agm(batch, settings, tokenizer, seed),
            {name: coin[name] == masking.MASKED for name in ("tokens", "patches")},
        )

    totals, coins = {}, {"word": 0, "patch": 0}
    batches = texts_with_pairs(info, tokenizer, text_length, batch_size)
    for step, batch in enumerate(batches.take(-(-examples // batch_size))):
        found = mask(batch, tf.constant([seed, step], tf.int32))
        state, result, coin = tf.nest.map_structure(lambda t: t.numpy(), found)
        arrays = {name: value.numpy() for name, value in batch.items()}
        counts = count_batch(arrays, state, result, settings, tokenizer)
        for name, value in counts.items():
            totals[name] = totals.get(name, 0) + value
        coins["word"] += int(coin["tokens"].any(axis=1).sum())
        coins["patch"] += int(coin["patches"].any(axis=1).sum())
    return totals, coins


def format_table(totals, coins, settings):
    """The counts as text."""

    def share(part, whole):
        return f"{part / whole:7.1%}" if whole else "    -  "

    flips = coins["word"] + coins["patch"]
    pieces = totals["masked pieces"]
    texts = totals["texts"]
    kept = totals["masked pieces that stay"]
    hidden = totals["masked pieces that are [MASK]"]
    rows = [
        ("texts with a pair on a masked level", totals["texts with pairs"], texts),
        ("one pair a text: the word is masked", coins["word"], flips),
        ("one pair a text: the patch is masked", coins["patch"], flips),
        ("pieces of texts that are masked", pieces, totals["pieces"]),
        ("of these by a pair", totals["masked pieces, by a pair"], pieces),
        ("of these [MASK]", hidden, pieces),
        ("of these another piece", pieces - hidden - kept, pieces),
        ("of these unchanged", kept, pieces),
        ("special or padding", totals["special pieces or padding masked"], pieces),
    ]
    for level in settings.levels:
        name = f"level {level.level}"
        masked = totals[f"{name} masked"]
        rows.append((f"{name}: patches masked", masked, totals[f"{name} patches"]))
        if level.masked:
            by_pair = totals[f"{name} masked, by a pair"]
            rows.append((f"{name}: of these by a pair", by_pair, masked))
    both = totals["pairs with both sides masked"]
    rows.append(("pairs with both sides masked", both, totals["usable pairs"]))
    lines = [f"{name:40} {share(part, whole)} of {whole}" for name, part, whole in rows]
    mean = totals["usable pairs"] / texts
    return "\n".join([f"{texts} texts, {mean:.1f} usable pairs a text", *lines])


def run(settings):
    """Measures; returns and prints the figures.

    Args:
      settings: dict of the command's flags.
    """
    info = DatasetInfo.load(settings["data_dir"])
    tokenizer = tokenization.Tokenizer.from_file(info.vocab_file)
    agm = masking.MaskingSettings(levels=PATCH_ARMS[info.patch_arm])
    totals, coins = measure(
        info, tokenizer, agm, settings["text_length"], settings["examples"]
    )
    if not totals["usable pairs"]:
        logging.warning(
            "the records of %s hold no aligned pairs (data_prep.prepare --alignments)",
            settings["data_dir"],
        )
    print(format_table(totals, coins, agm))
    results = {"counts": totals, "coin": coins}
    results_file.write(results, settings["output"])
    return results


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Counts what Alignment Guided Masking masks, and why.")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.integer(
        "examples", 10_000, "Texts; shorter splits are repeated.", lower_bound=1
    )
    page.integer("text_length", 64, "Longest text, word pieces.", lower_bound=3)
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
