"""Which pictures a step's batch was made of: to look at what broke a run.

Batch n depends on the seed and on n alone, so its records can be read again.
"""

import tensorflow as tf

_KEYS = ("product_id", "image_id")


def batch_ids(data, step):
    """The records of the batch that a step consumes.

    Args:
      data: `PretrainingData` or `FinetuningData`.
      step: number of batches consumed before it.

    Returns:
      List of "PRODUCT/IMAGE" in the order of the batch's rows.
    """
    epoch, place = divmod(step, data.steps_per_epoch())
    records = data.epoch_reader()(tf.constant(epoch, tf.int64))
    first = place * data.batch_size
    serialized = list(records.skip(first).take(data.batch_size))
    spec = {key: tf.io.FixedLenFeature([], tf.string, "") for key in _KEYS}
    rows = tf.io.parse_example(serialized, spec)
    columns = [[v.decode() for v in rows[key].numpy()] for key in _KEYS]
    return ["/".join(ids) for ids in zip(*columns, strict=True)]
