"""TFRecord shards -> batches for fine-tuning and for its evaluation.

Clean records, deterministic and resumable as in pre-training (`input_pipeline.py`); a
task's own function makes inputs and labels of them. A part of the training products,
chosen by a hash of their ids, is left out of training: on it a run chooses its best
checkpoint, so that the test split never chooses anything.
"""

import dataclasses
import functools

import tensorflow as tf

from kaleido_tf.data import candidate_lists, input_pipeline

_HASH_BUCKETS = 10_000
# Draws of the dev part are the same in every round and run.
_DEV_SEED = 20210310
# A dev part up to this size is held in memory: to find it in the shards again in every
# round means to read them all.
_HELD_BYTES = 1 << 30
# Of no use after pre-training; the graph then leaves out their decoding.
_DROPPED = ("rotated_features", "grey_features", "aligned_tokens", "aligned_patches")


def is_dev(product_id, dev_fraction):
    """Which products belong to the dev part: bool, shape of `product_id` (string)."""
    bucket = tf.strings.to_hash_bucket_fast(product_id, _HASH_BUCKETS)
    return bucket < round(dev_fraction * _HASH_BUCKETS)


@dataclasses.dataclass(frozen=True)
class FinetuningData:
    """What a fine-tuning batch is made of.

    Attributes:
      info: `DatasetInfo`.
      tokenizer: `Tokenizer` of the data set's vocabulary.
      config: `KaleidoConfig`.
      batch_size: B, all replicas together.
      seed: int.
      dev_fraction: share of the training products that makes the dev part.
      needs: keys out of "category", "subcategory", "text": records where one of them
        is empty are left out of training and dev part.
    """

    info: object
    tokenizer: object
    config: object
    batch_size: int
    seed: int = 0
    dev_fraction: float = 0.1
    needs: tuple = ()

    def __post_init__(self):
        self.info.check_config(self.config)
        input_pipeline.check_tokenizer(self.tokenizer, self.info)
        if self.batch_size < 1:
            raise ValueError(
                f"`batch_size` should be at least 1. Received: {self.batch_size}"
            )
        if not 0 < self.dev_fraction < 1:
            raise ValueError(
                "`dev_fraction` should be a share between 0 and 1: the best checkpoint "
                f"is chosen on the dev part. Received: {self.dev_fraction}"
            )

    def with_needs(self, needs):
        """The same with other `needs`; the records' table isn't read again."""
        other = dataclasses.replace(self, needs=tuple(needs))
        if "_items" in self.__dict__:
            other.__dict__["_items"] = self._items
        return other

    @functools.cached_property
    def _items(self):
        return candidate_lists.read_items(self.info, "train")

    @functools.cached_property
    def _parts(self):
        """Items of the training split: training part, dev part, left out."""
        ids = [item.product_id for item in self._items]
        dev = is_dev(tf.constant(ids, tf.string), self.dev_fraction).numpy()
        parts = ([], [], [])
        for item, in_dev in zip(self._items, dev, strict=True):
            is_whole = all(getattr(item, key) for key in self.needs)
            parts[int(in_dev) if is_whole else 2].append(item)
        return parts

    @property
    def train_items(self):
        """The records that are trained on: list of `candidate_lists.Item`."""
        return self._parts[0]

    @property
    def dev_items(self):
        """The records of the dev part: list of `candidate_lists.Item`."""
        return self._parts[1]

    @property
    def num_train_examples(self):
        return len(self.train_items)

    @property
    def num_dev_examples(self):
        return len(self.dev_items)

    @property
    def num_left_out(self):
        """Records of the training split that lack what `needs` names."""
        return len(self._parts[2])

    def steps_per_epoch(self, workers=1):
        """Whole batches of the training part: int, for any number of workers."""
        steps = self.num_train_examples // self.batch_size
        if not steps:
            raise ValueError(
                "`batch_size` should be at most the "
                f"{self.num_train_examples} examples that are left for training ("
                f"{self.num_dev_examples} are for the dev part, {self.num_left_out} "
                f"lack one of {list(self.needs)}). Received: {self.batch_size}"
            )
        return steps

    def check_dev(self):
        """Raises ValueError where no training product falls into the dev part."""
        if not self.num_dev_examples:
            raise ValueError(
                "`dev_fraction` should be large enough that a product of the training "
                f"split falls into the dev part. Received: {self.dev_fraction} with "
                f"{self.num_train_examples} training examples"
            )

    def training_dataset(self, make_batch, start_step=0, worker=0, workers=1):
        """Endless batches from step `start_step` on, dev products left out.

        Batch n depends on the seed and on n alone.

        Args:
          make_batch: function (batch, seed) -> (inputs dict, labels dict), in graph.
            `batch` is a dict of clean records: strings [B] (product_id, image_id,
            category, subcategory, text), patch_features float32 [B, P, F],
            patch_locations [B, P, 5], token_ids int32 ragged, input_word_ids,
            input_mask and input_type_ids int32 [B, T], product_ids, text_ids and
            subcategory_ids int32 [B] (`input_pipeline.clean_batch`). `seed` is int32
            [2], the run's and the batch's step.
          start_step: number of batches already consumed.
          worker, workers: index and number of the processes that read; each gets its
            own part of every batch.

        Returns:
          tf.data.Dataset of (inputs, labels), dicts; all shapes are static but what
          `make_batch` cuts, see `input_pipeline.trim_texts`.
        """
        batches, batch_size = input_pipeline.endless_batches(
            self, start_step, worker, workers
        )

        def make(serialized, seed):
            inputs, labels = make_batch(self._clean(serialized, batch_size), seed)
            return _with_rows(inputs, batch_size), _with_rows(labels, batch_size)

        return input_pipeline.map_with_seeds(
            batches, make, self.seed, start_step, worker
        )

    def epoch_reader(self, worker=0, workers=1):
        """Function of an epoch -> its records, as `PretrainingData.epoch_reader`.

        Those of the dev part are left out. Of several workers each goes through the
        common order: how many of a shard's records are left out differs.
        """
        paths, count = self.info.shard_paths("train"), self.num_train_examples
        keep = self._keep(dev=False)
        return lambda epoch: input_pipeline.shuffled_records(
            paths, self.seed, epoch, count, keep
        ).shard(workers, worker)

    def dev_dataset(self, make_batch):
        """The dev part once, in order; the last batch may be smaller.

        Args:
          make_batch: see `training_dataset`; its seeds are the same in every run.

        Raises:
          ValueError: no product of the training split falls into the dev part.
        """
        self.check_dev()
        serialized = tf.data.TFRecordDataset(self.info.shard_paths("train"))
        serialized = serialized.filter(self._keep(dev=True))
        shards = self.info.shards("train")
        record_bytes = sum(shard["bytes"] for shard in shards) / len(self._items)
        if self.num_dev_examples * record_bytes <= _HELD_BYTES:
            serialized = serialized.cache()

        def make(serialized, seed):
            return make_batch(self._clean(serialized), seed)

        return input_pipeline.map_with_seeds(
            serialized.batch(self.batch_size), make, _DEV_SEED
        )

    def split_dataset(self, split, batch_size):
        """Every clean record of a split once, in order: for evaluation.

        Args:
          split: name of the split.
          batch_size: records at once; the last batch may be smaller.

        Returns:
          tf.data.Dataset of dicts, see `training_dataset`. Nothing is left out.
        """
        serialized = tf.data.TFRecordDataset(self.info.shard_paths(split))
        return (
            serialized.batch(batch_size)
            .map(self._clean, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(2)
        )

    def _keep(self, dev):
        """Function of a serialized record: is it of the dev (or training) part?"""
        keys = ("product_id", *self.needs)
        spec = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}

        def keep(serialized):
            values = tf.io.parse_single_example(serialized, spec)
            kept = is_dev(values["product_id"], self.dev_fraction) == dev
            for key in self.needs:
                kept &= values[key] != ""
            return kept

        return keep

    def _clean(self, serialized, batch_size=None):
        """Clean batch [B] of serialized records, its rows static if that is given."""
        batch = input_pipeline.clean_batch(
            serialized, self.info.shapes, self.tokenizer, self.config.text_length
        )
        batch = {key: value for key, value in batch.items() if key not in _DROPPED}
        return _with_rows(batch, batch_size) if batch_size else batch


def _with_rows(values, rows):
    """The dict with static first dimensions where they were unknown."""
    return {
        key: tf.ensure_shape(value, [rows, *value.shape[1:]])
        if isinstance(value, tf.Tensor) and value.shape[0] is None
        else value
        for key, value in values.items()
    }
