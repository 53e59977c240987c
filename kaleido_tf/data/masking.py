"""Alignment Guided Masking, AGM (paper section 3.4): batched, in graph, dict -> dict.

Decides which word pieces are masked and which patches the level tasks work on. Aligned
<token, patch> pairs come first: for each a coin says whether its word or its patch is
masked, never both. What is still missing is drawn at random from what no pair names,
words and patches independently. Drawn afresh for every batch from an explicit seed.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from kaleido_tf.data import patches

OPEN, MASKED, KEPT = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class MaskingSettings:
    """How much is masked, and how.

    Attributes:
      levels: table of `KaleidoLevel`; its `masked` says how many of a level's patches.
      max_predictions: M, at most this many word pieces.
      token_rate: share of a text's word pieces, [CLS] and [SEP] counted as BERT does.
      mask_rate, random_rate: of the chosen pieces, the share that becomes [MASK] or a
        random piece; the rest stays.
      aligned: False masks at random whatever pairs there are (table 4's "random" arm).
    """

    levels: tuple
    max_predictions: int = 10
    token_rate: float = 0.15
    mask_rate: float = 0.8
    random_rate: float = 0.1
    aligned: bool = True


def split_seed(seed, name):
    """A seed of its own for each use of a batch's seed: int32 [2] -> int32 [2].

    Names of one sum of bytes (anagrams) get the same one.
    """
    return tf.random.experimental.stateless_fold_in(seed, sum(name.encode()) * 7919)


def uniform(seed, name, shape):
    """Draws of the seed's use `name`: float32 of `shape`, in [0, 1)."""
    return tf.random.stateless_uniform(shape, split_seed(seed, name))


def word_starts(word_ids, tokenizer):
    """Position of the first piece of each piece's word: int32 [B, T] -> [B, T]."""
    continues = tf.gather(tf.constant(tokenizer.continues_word), word_ids)
    positions = tf.range(tf.shape(word_ids)[1])[None, :]
    continues &= positions > 1  # before the first piece there is [CLS] alone
    # A start holds its own position; a continuation takes the last start before it.
    starts = tf.where(continues, 0, positions)
    return _running_max(starts)


def _running_max(values):
    """Running maximum along the last axis: int32 [B, T] -> [B, T]."""
    length = tf.shape(values)[1]
    lower = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    return tf.reduce_max(tf.where(lower[None], values[:, None, :], 0), axis=2)


def apply_agm(batch, settings, tokenizer, seed):
    """Masks the texts of a batch and picks the patches of the level tasks.

    Args:
      batch: dict with `input_word_ids`, `input_mask` int32 [B, T] and, where the data
        have alignments, `aligned_tokens`, `aligned_patches` int32 [B, N]: a position
        in `input_word_ids` and an index into the patch sequence; -1 pads. Pairs of
        mismatched rows must have been taken out.
      settings: `MaskingSettings`.
      tokenizer: `Tokenizer`.
      seed: int32 [2].

    Returns:
      The batch with `input_word_ids` masked and added: `masked_lm_positions` int32
      [B, M], `masked_lm_ids` int32 [B, M], `masked_lm_weights` float32 [B, M] (0 pads,
      with position 0), and `<task>_positions` int32 [B, n] within the level for each
      level with `masked` = n > 0.
    """
    state = follow_pairs(batch, settings, tokenizer, seed)
    chosen = _fill_words(batch, state, settings, tokenizer, seed)
    result = dict(batch)
    result.update(_mask_tokens(batch, chosen, settings, tokenizer, seed))
    result.update(_fill_patches(state, settings, seed))
    return result


def token_budget(batch, settings):
    """How many word pieces of each text are to be masked: int32 [B]."""
    length = tf.cast(tf.reduce_sum(batch["input_mask"], axis=1), tf.float32)
    wanted = tf.cast(tf.round(length * settings.token_rate), tf.int32)
    most = settings.max_predictions if settings.token_rate > 0 else 0
    return tf.clip_by_value(wanted, min(1, most), most)


def maskable_tokens(batch, tokenizer):
    """bool [B, T]: neither padding nor special."""
    ids = batch["input_word_ids"]
    special = tf.reduce_any(ids[:, :, None] == tokenizer.special_ids, axis=2)
    unknown = ids == tokenizer.unknown_id
    return (batch["input_mask"] > 0) & (~special | unknown)


def follow_pairs(batch, settings, tokenizer, seed):
    """Goes through the pairs in random order, a coin for each.

    A word or patch is open, masked, or kept (its partner is masked). A pair is used
    while both its sides are open and the side that the coin names still has room.

    Args:
      batch, settings, tokenizer, seed: see `apply_agm`, which fills up what is missing.

    Returns:
      dict: `starts` int32 [B, T], see `word_starts`; `tokens` int32 [B, T] and
      `patches` int32 [B, P], `OPEN`, `MASKED` or `KEPT`; `named_tokens` and
      `named_patches`, bool of the same shapes, what a usable pair names; `room` int32
      [B] and `level_room` int32 [B, levels], how much is still to be masked.
    """
    ids = batch["input_word_ids"]
    rows, length = tf.shape(ids)[0], tf.shape(ids)[1]
    level_of = patches.level_of_patch(settings.levels)
    level_room = np.array([level.masked for level in settings.levels], np.int32)
    state = {
        "starts": word_starts(ids, tokenizer),
        "tokens": tf.zeros([rows, length], tf.int32),
        "named_tokens": tf.zeros([rows, length], tf.bool),
        "patches": tf.zeros([rows, len(level_of)], tf.int32),
        "named_patches": tf.zeros([rows, len(level_of)], tf.bool),
        "room": token_budget(batch, settings),
        "level_room": tf.tile(level_room[None], [rows, 1]),
    }
    if not settings.aligned or "aligned_tokens" not in batch:
        return state
    pairs = _shuffled_pairs(batch, settings, tokenizer, state["starts"], seed)
    return _pair_loop(pairs, state, level_of)


def _shuffled_pairs(batch, settings, tokenizer, starts, seed):
    """Usable pairs in random order with a coin each: dict of [B, N]."""
    token, patch = batch["aligned_tokens"], batch["aligned_patches"]
    usable = (token >= 0) & (token < tf.shape(starts)[1]) & (patch >= 0)
    token = tf.where(usable, token, 0)
    patch = tf.where(usable, patch, 0)
    usable &= tf.gather(maskable_tokens(batch, tokenizer), token, batch_dims=1)
    # Levels 1 and 2 have tasks of their own and are never masked (section 3.4).
    level_of = tf.constant(patches.level_of_patch(settings.levels))
    maskable = tf.constant([level.masked > 0 for level in settings.levels])
    usable &= tf.gather(maskable, tf.gather(level_of, patch))
    order = tf.argsort(uniform(seed, "pair order", tf.shape(token)))
    shuffled = {
        "word": tf.gather(starts, token, batch_dims=1),
        "patch": patch,
        "usable": usable,
        "coin": uniform(seed, "coin", tf.shape(token)) < 0.5,
    }
    return {k: tf.gather(v, order, batch_dims=1) for k, v in shuffled.items()}


def _pair_loop(pairs, state, level_of):
    """Applies the pairs one after the other, all rows of the batch at once."""
    level_of = tf.constant(level_of)
    num_levels = state["level_room"].shape[1]
    num_patches = state["patches"].shape[1]
    length = tf.shape(state["tokens"])[1]
    word_length = _word_lengths(state["starts"], state["tokens"])

    def step(i, tokens, named_tokens, patch, named_patches, room, level_room):
        word_hot = tf.one_hot(pairs["word"][:, i], length, True, False)
        in_word = state["starts"] == pairs["word"][:, i, None]
        patch_hot = tf.one_hot(pairs["patch"][:, i], num_patches, True, False)
        usable = pairs["usable"][:, i]
        named_tokens |= in_word & usable[:, None]
        named_patches |= patch_hot & usable[:, None]

        token_open = tf.reduce_any(word_hot & (tokens == OPEN), axis=1)
        patch_open = tf.reduce_any(patch_hot & (patch == OPEN), axis=1)
        both_open = usable & token_open & patch_open
        pieces = tf.gather(word_length, pairs["word"][:, i], batch_dims=1)
        level = tf.gather(level_of, pairs["patch"][:, i])
        level_hot = tf.one_hot(level, num_levels, dtype=tf.int32)
        has_room = tf.reduce_sum(level_hot * level_room, axis=1) > 0
        coin = pairs["coin"][:, i]
        mask_word = both_open & coin & (pieces <= room)
        mask_patch = both_open & ~coin & has_room

        tokens = tf.where(in_word & mask_word[:, None], MASKED, tokens)
        tokens = tf.where(in_word & mask_patch[:, None], KEPT, tokens)
        patch = tf.where(patch_hot & mask_patch[:, None], MASKED, patch)
        patch = tf.where(patch_hot & mask_word[:, None], KEPT, patch)
        room -= tf.where(mask_word, pieces, 0)
        level_room -= level_hot * tf.cast(mask_patch, tf.int32)[:, None]
        return i + 1, tokens, named_tokens, patch, named_patches, room, level_room

    names = ("tokens", "named_tokens", "patches", "named_patches", "room", "level_room")
    count = tf.shape(pairs["word"])[1]
    final = tf.while_loop(
        lambda i, *_: i < count, step, (0, *(state[name] for name in names))
    )
    return {**state, **dict(zip(names, final[1:], strict=True))}


def _word_lengths(starts, like):
    """Pieces of the word that starts at a position, 0 elsewhere: int32 [B, T]."""
    length = tf.shape(like)[1]
    return tf.reduce_sum(tf.one_hot(starts, length, dtype=tf.int32), axis=1)


def _fill_words(batch, state, settings, tokenizer, seed):
    """Masked pieces after the random fill with whole words: bool [B, T]."""
    starts, tokens = state["starts"], state["tokens"]
    length = tf.shape(starts)[1]
    maskable = maskable_tokens(batch, tokenizer)
    is_start = starts == tf.range(length)[None, :]
    # Unnamed words come first; a named but undecided word only where they run out.
    free = maskable & is_start & (tokens == OPEN)
    priority = uniform(seed, "words", tf.shape(starts))
    priority += tf.cast(~state["named_tokens"], tf.float32)
    order = tf.argsort(tf.where(free, priority, -1.0), direction="DESCENDING")
    word_length = _word_lengths(starts, tokens)
    # No more words than predictions can be taken, so only the first few need a look;
    # some more than that, since a word that is too long for what is left is passed by.
    most = tf.minimum(length, 2 * settings.max_predictions + 4)

    def step(i, taken, room):
        word = order[:, i]
        pieces = tf.gather(word_length, word, batch_dims=1)
        fits = tf.gather(free, word, batch_dims=1) & (pieces <= room)
        hot = tf.one_hot(word, length, True, False)
        return i + 1, taken | (hot & fits[:, None]), room - tf.where(fits, pieces, 0)

    nothing = tf.zeros_like(maskable)
    _, words, _ = tf.while_loop(
        lambda i, *_: i < most, step, (0, nothing, state["room"])
    )
    pieces = tf.gather(words, starts, batch_dims=1) & (batch["input_mask"] > 0)
    return (pieces & maskable) | (tokens == MASKED)


def _mask_tokens(batch, chosen, settings, tokenizer, seed):
    """Applies 80 / 10 / 10 to the chosen pieces and lists them."""
    ids = batch["input_word_ids"]
    shape = tf.shape(ids)
    kind = uniform(seed, "kind", shape)
    ordinary = np.setdiff1d(np.arange(tokenizer.vocab_size), tokenizer.special_ids)
    drawn = tf.random.stateless_uniform(
        shape, split_seed(seed, "word"), maxval=len(ordinary), dtype=tf.int32
    )
    random_ids = tf.gather(tf.constant(ordinary.astype(np.int32)), drawn)
    new = tf.where(kind < settings.mask_rate, tokenizer.mask_id, ids)
    random_end = settings.mask_rate + settings.random_rate
    use_random = (kind >= settings.mask_rate) & (kind < random_end)
    new = tf.where(use_random, random_ids, new)

    most = settings.max_predictions
    first = tf.argsort(tf.where(chosen, 0, 1), axis=1, stable=True)[:, :most]
    used = tf.gather(chosen, first, batch_dims=1)
    positions = tf.where(used, first, 0)
    pad = [[0, 0], [0, most - tf.shape(positions)[1]]]
    return {
        "input_word_ids": tf.where(chosen, new, ids),
        "masked_lm_positions": _pad_to(positions, pad, most),
        "masked_lm_ids": _pad_to(
            tf.where(used, tf.gather(ids, positions, batch_dims=1), 0), pad, most
        ),
        "masked_lm_weights": _pad_to(tf.cast(used, tf.float32), pad, most),
    }


def _pad_to(values, pad, most):
    return tf.ensure_shape(tf.pad(values, pad), [None, most])


def _fill_patches(state, settings, seed):
    """Positions within each masked level: dict `<task>_positions` int32 [B, n]."""
    masked = state["patches"] == MASKED
    kept = state["patches"] == KEPT
    # Tiers: masked by a pair, named by no pair, named but undecided, kept.
    tier = tf.where(masked, 3.0, tf.where(state["named_patches"], 1.0, 2.0))
    score = tf.where(kept, 0.0, tier)
    score += uniform(seed, "patches", tf.shape(score))
    positions, start = {}, 0
    for level in settings.levels:
        if level.masked:
            part = score[:, start : start + level.num_patches]
            picked = tf.math.top_k(part, level.masked).indices
            positions[f"{level.task}_positions"] = tf.sort(picked, axis=1)
        start += level.num_patches
    return positions
