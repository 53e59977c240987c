"""Which pictures a step's batch was made of: to look at what broke a run.

Batch n depends on the seed and on n alone, so its records can be read again.
"""

import tensorflow as tf

_KEYS = ("product_id", "image_id")


def batch_ids(data, step, workers=1):
    """The records of the batch that a step consumes.

    Args:
      data: `PretrainingData` or `FinetuningData`.
      step: number of batches consumed before it.
      workers: processes that make their own part of it (`--worker_data=own_share`); 1
        where each makes the whole batch.

    Returns:
      List of "PRODUCT/IMAGE" in the order of the batch's rows.
    """
    epoch, place = divmod(step, data.steps_per_epoch(workers))
    rows, serialized = data.batch_size // workers, []
    for worker in range(workers):
        records = data.epoch_reader(worker, workers)(tf.constant(epoch, tf.int64))
        serialized += list(records.skip(place * rows).take(rows))
    spec = {key: tf.io.FixedLenFeature([], tf.string, "") for key in _KEYS}
    rows = tf.io.parse_example(serialized, spec)
    columns = [[v.decode() for v in rows[key].numpy()] for key in _KEYS]
    return ["/".join(ids) for ids in zip(*columns, strict=True)]
