"""TFRecord shards -> batches for the pre-trainer, deterministic and resumable.

Order, pairs, masks and corruptions of batch n depend on the seed and on n alone, so a
run that starts again at step n sees what the uninterrupted run would have seen.
"""

import contextlib
import dataclasses

import tensorflow as tf

from kaleido_tf.data import frozen, kaleido_tasks, masking, records

MASKINGS = ("aligned", "random")
TEXT_INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
ENCODER_INPUTS = (*TEXT_INPUTS, "patch_features", "patch_locations")
TRIM = 8  # a batch's texts are cut to a multiple of it: at most T / 8 shapes
_SHUFFLE_RECORDS = 4096  # serialized records held for shuffling


def shuffled_records(paths, seed, epoch, count, keep=None, worker=0, workers=1):
    """Serialized records of one epoch in that epoch's order.

    Args:
      paths: the shards.
      seed: int, the run's.
      epoch: int64 scalar.
      count: number of records.
      keep: function of a serialized record -> bool scalar, which it must pass; None
        keeps every record.
      worker, workers: of several, each reads as many shards, other ones every epoch; no
        two read the same one, and at most `workers` - 1 are left to the next epoch.
    """
    # The graph's own seed, or a global seed of 0 would break `shuffle` (it can't
    # compare a tensor with 0) and any other would change the order.
    tf.compat.v1.set_random_seed(1)
    pair = tf.stack([tf.cast(seed, tf.int64), epoch])
    order = tf.argsort(tf.random.stateless_uniform([len(paths)], pair))
    order = order[worker : len(paths) // workers * workers : workers]
    files = tf.data.Dataset.from_tensor_slices(tf.gather(tf.constant(paths), order))
    data = files.interleave(tf.data.TFRecordDataset, cycle_length=4, block_length=16)
    if keep is not None:
        data = data.filter(keep)
    return data.shuffle(min(_SHUFFLE_RECORDS, count), seed=epoch * 1000003 + seed)


def endless_batches(data, start_step, worker, workers):
    """A worker's parts of the batches of all epochs, from a step on.

    Args:
      data: `PretrainingData` or `FinetuningData`.
      start_step: number of batches already consumed.
      worker, workers: index and number of the processes that read.

    Returns:
      (tf.data.Dataset of serialized records, string [B']; B', its part of a batch).
    """
    if data.batch_size % workers:
        raise ValueError(
            f"`batch_size` should be a multiple of the {workers} workers. "
            f"Received: {data.batch_size}"
        )
    batch_size, steps = data.batch_size // workers, data.steps_per_epoch(workers)
    records_of = data.epoch_reader(worker, workers)
    epochs = tf.data.Dataset.range(start_step // steps, tf.int64.max)
    # Whole batches only: what is left over is another record every epoch.
    serialized = epochs.flat_map(lambda e: records_of(e).take(steps * batch_size))
    serialized = serialized.skip(start_step % steps * batch_size)
    return serialized.batch(batch_size, drop_remainder=True), batch_size


def map_with_seeds(batches, make, seed, start_step=0, worker=0):
    """Maps `make(batch, seed)` over batches, the first of which is `start_step`.

    Args:
      batches: tf.data.Dataset of serialized records [B].
      make: function of a batch and an int32 [2] seed, the run's and the batch's step.
      seed: int, the run's.
      start_step: number of the first batch.
      worker: index of the process that reads; each draws on its own.
    """

    def make_one(step, batch):
        pair = tf.stack([tf.cast(seed, tf.int64) + 7919 * worker, step])
        return make(batch, tf.cast(pair, tf.int32))

    return (
        batches.enumerate(start_step)
        .map(make_one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(4)
    )


def clean_batch(serialized, shapes, tokenizer, text_length):
    """Decoded records with packed texts, numbered products, padded pairs.

    Args:
      serialized: string [B].
      shapes: `RecordShapes` of the data set.
      tokenizer: `Tokenizer` of its vocabulary.
      text_length: T.

    Returns:
      dict: what `records.decode_records` returns; `input_word_ids`, `input_mask`,
      `input_type_ids` int32 [B, T]; `product_ids`, `text_ids` and `subcategory_ids`
      int32 [B], numbers that are equal where product, wording and sub-category are
      (-1: no sub-category); `aligned_tokens`, `aligned_patches` int32 [B, N].
    """
    batch = records.decode_records(serialized, shapes)
    batch.update(tokenizer.pack(batch["token_ids"], text_length))
    # Wordings are equal where the model sees the same pieces: case, spacing and what
    # is cut off make no other text.
    pieces = tf.strings.as_string(batch["input_word_ids"])
    for name, values in (
        ("product_ids", batch["product_id"]),
        ("text_ids", tf.strings.reduce_join(pieces, axis=1, separator=" ")),
        ("subcategory_ids", batch["subcategory"]),
    ):
        hashed = tf.strings.to_hash_bucket_fast(values, 2**31 - 1)
        batch[name] = tf.cast(hashed, tf.int32)
    nameless = batch["subcategory"] == ""
    batch["subcategory_ids"] = tf.where(nameless, -1, batch["subcategory_ids"])
    # Stored positions count from the first piece; [CLS] comes before it.
    tokens = batch["aligned_tokens"].to_tensor(-2) + 1
    batch["aligned_tokens"] = tf.where(tokens < text_length - 1, tokens, -1)
    batch["aligned_patches"] = batch["aligned_patches"].to_tensor(-1)
    return batch


def trim_texts(inputs, names=TEXT_INPUTS):
    """Cuts a batch's texts to the longest of them, rounded up to a multiple of 8.

    What is cut off is padding: nothing sees it, no label lies in it, and patches are
    counted from the sequence's end, so the results are the same.

    Args:
      inputs: dict with `input_mask` int32 [B, T]; B may be 0.
      names: what is cut, [B, T]: the texts, and labels that a place of theirs has each.

    Returns:
      The dict with these as [B, t], t at most T.
    """
    mask = inputs["input_mask"]
    places = tf.range(1, tf.shape(mask)[1] + 1)
    used = tf.reduce_any(mask > 0, axis=0)  # [T]
    longest = tf.reduce_max(tf.where(used, places, 1))
    length = -(-longest // TRIM) * TRIM
    return {**inputs, **{name: inputs[name][:, :length] for name in names}}


def check_tokenizer(tokenizer, info):
    """Raises ValueError for a tokenizer of another vocabulary than the data set's."""
    if tokenizer.vocab_size != info.vocab_size:
        raise ValueError(
            f"`tokenizer` should be that of {info.vocab_file} with "
            f"{info.vocab_size} pieces. Received one with {tokenizer.vocab_size}"
        )


@contextlib.contextmanager
def naming_damage(info, splits):
    """Where records of these splits are read within: an error that names the file.

    Raises:
      ValueError: instead of the DataLossError, which doesn't say which shard it was.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        found = (info.find_damage(split) for split in splits)
        raise ValueError(next(filter(None, found), str(error))) from error


@dataclasses.dataclass(frozen=True)
class PretrainingData:
    """What a pre-training batch is made of.

    Attributes:
      info: `DatasetInfo`.
      tokenizer: `Tokenizer` of the data set's vocabulary.
      config: `KaleidoConfig`.
      batch_size: B, all replicas together.
      seed: int; validation uses a fixed one, so that its figures are comparable.
      mismatch_rate, hard_rate: see `kaleido_tasks.apply_itm`.
      hard_start: step from which `hard_rate` holds; before it, it is 0.
      masking: "aligned" (the paper's) or "random" (table 4's other arm).
    """

    info: object
    tokenizer: object
    config: object
    batch_size: int
    seed: int = 0
    mismatch_rate: float = 0.5
    hard_rate: float = 0.0
    hard_start: int = 0
    masking: str = "aligned"

    def __post_init__(self):
        self.info.check_config(self.config, pretraining=True)
        if self.batch_size < 2:
            raise ValueError(
                "`batch_size` should be at least 2: mismatched pairs and camouflage "
                f"patches come from other rows. Received: {self.batch_size}"
            )
        check_tokenizer(self.tokenizer, self.info)
        if self.masking not in MASKINGS:
            raise ValueError(
                f"`masking` should be one of {MASKINGS}. Received: {self.masking!r}"
            )
        for name in ("mismatch_rate", "hard_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` should be a share from 0 to 1. "
                    f"Received: {getattr(self, name)}"
                )

    @property
    def masking_settings(self):
        return masking.MaskingSettings(
            levels=self.config.levels,
            max_predictions=self.config.max_predictions,
            aligned=self.masking == "aligned",
        )

    def steps_per_epoch(self, workers=1):
        """Whole batches of the training split: int.

        Args:
          workers: processes that read a share of their own.
        """
        steps = self.info.num_examples("train") // self.batch_size
        if not steps:
            raise ValueError(
                "`batch_size` should be at most the training split's "
                f"{self.info.num_examples('train')} examples. Received: "
                f"{self.batch_size}"
            )
        return self._dealt_steps(workers) or steps

    def _dealt_steps(self, workers):
        """Steps of an epoch whose shards are dealt out; 0 where that isn't done.

        It isn't where it would leave more than half of the records to other epochs:
        with fewer shards than workers, or with very uneven ones.
        """
        if workers == 1:
            return 0
        counts = sorted(shard["num_examples"] for shard in self.info.shards("train"))
        # Whichever shards an epoch deals to a worker, it has these many records.
        least = sum(counts[: len(counts) // workers])
        dealt = least // (self.batch_size // workers)
        return dealt if 2 * dealt * self.batch_size >= sum(counts) else 0

    def training_dataset(self, start_step=0, worker=0, workers=1):
        """Endless batches from global step `start_step` on.

        Args:
          start_step: number of batches already consumed.
          worker, workers: index and number of the processes that read; each makes its
            own part of every batch from shards of its own, see `epoch_reader`.

        Returns:
          tf.data.Dataset of (inputs, labels), dicts; all shapes are static but the
          texts' length, see `trim_texts`.
        """
        batches, batch_size = endless_batches(self, start_step, worker, workers)
        return self._finish(batches, start_step, worker, batch_size)

    def validation_dataset(self, max_examples=None):
        """The validation split once, in order, corrupted by a fixed seed.

        Args:
          max_examples: take at most so many (the first ones; the shards are shuffled).

        Returns:
          tf.data.Dataset of (inputs, labels); the last batch may be smaller.
        """
        serialized = tf.data.TFRecordDataset(self.info.shard_paths("validation"))
        if max_examples:
            serialized = serialized.take(max_examples)
        batches = serialized.batch(self.batch_size)
        fixed = dataclasses.replace(self, seed=20210310, hard_rate=0.0)
        return fixed._finish(batches, 0, 0, None)

    def epoch_reader(self, worker=0, workers=1):
        """Function of an epoch (int64 scalar) -> its training records in their order.

        They are serialized. The shards are checked at once, and not in each epoch.

        Args:
          worker, workers: of several, each reads shards of its own, as
            `shuffled_records` deals them; where they are too few to go round, each goes
            through the common order and takes every so many'th record.
        """
        paths, count = self.info.shard_paths("train"), self.info.num_examples("train")
        if self._dealt_steps(workers):
            return lambda epoch: shuffled_records(
                paths, self.seed, epoch, count // workers, None, worker, workers
            )
        return lambda epoch: shuffled_records(paths, self.seed, epoch, count).shard(
            workers, worker
        )

    def _finish(self, batches, start_step, worker, batch_size):
        def make(serialized, seed):
            return self.make_batch(serialized, seed, batch_size)

        return map_with_seeds(batches, make, self.seed, start_step, worker)

    def make_batch(self, serialized, seed, batch_size=None):
        """Serialized records [B] -> (inputs, labels): pairs, AGM, AKPM, in this order.

        Frozen examples come as they are: nothing is drawn for them. Texts are cut to
        what the batch needs.

        Args:
          serialized: string [B].
          seed: int32 [2], the run's seed and the batch's step.
          batch_size: static B, or None.
        """
        config = self.config
        if self.info.frozen:
            batch = frozen.read_batch(serialized, self.info, config)
        else:
            batch = self._corrupted_batch(serialized, seed)
        inputs = trim_texts({name: batch[name] for name in input_names(config)})
        labels = {name: batch[name] for name in label_names(config)}
        if batch_size:
            for values in (inputs, labels):
                for key, value in values.items():
                    shape = [batch_size, *value.shape[1:]]
                    values[key] = tf.ensure_shape(value, shape)
        return inputs, labels

    def _corrupted_batch(self, serialized, seed):
        """Clean records [B] with pairs, masks and corruptions drawn: dict."""
        batch = self._clean_batch(serialized)
        batch = kaleido_tasks.apply_itm(
            batch,
            masking.split_seed(seed, "itm"),
            self.mismatch_rate,
            tf.where(seed[1] >= self.hard_start, self.hard_rate, 0.0),
        )
        batch = masking.apply_agm(
            batch,
            self.masking_settings,
            self.tokenizer,
            masking.split_seed(seed, "agm"),
        )
        return kaleido_tasks.apply_akpm(
            batch,
            self.config.levels,
            self.config.active_tasks,
            masking.split_seed(seed, "akpm"),
        )

    def _clean_batch(self, serialized):
        shapes, length = self.info.shapes, self.config.text_length
        return clean_batch(serialized, shapes, self.tokenizer, length)


def input_names(config):
    """Names of the pre-trainer's inputs: list of str."""
    names = [*TEXT_INPUTS, "patch_features", "patch_locations", "masked_lm_positions"]
    return names + [
        f"{task}_positions" for task in config.active_tasks if task in ("grey", "blank")
    ]


def label_names(config):
    """Names of the labels that `pretraining_losses` reads: list of str."""
    names = ["masked_lm_ids", "masked_lm_weights", "itm_labels", "pair_weights"]
    if config.contrastive_size:
        names += ["text_groups", "image_groups"]
    for task in config.active_tasks:
        names.append(f"{task}_{'targets' if task in ('grey', 'blank') else 'labels'}")
    return names
