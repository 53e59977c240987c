"""What pre-training and fine-tuning do alike: start, compile, feed and fit a model."""

import math

import tensorflow as tf
import tf_keras

from kaleido_tf.training import callbacks, distribution, optimization


def start_process(flags):
    """Sets precision and seeds; returns the strategy. Before a model is built."""
    strategy = distribution.make_strategy(flags["strategy"])
    distribution.set_precision(flags["precision"])
    tf_keras.utils.set_random_seed(flags["seed"])
    callbacks.use_reseedable_dropout()
    return strategy


def whole_rounds(flags):
    """`num_steps` rounded up to whole rounds: int."""
    rounds = math.ceil(flags["num_steps"] / flags["steps_per_round"])
    return rounds * flags["steps_per_round"]


def compile_model(flags, model, num_steps):
    """Compiles a `TrainingModel`, in the strategy's scope; returns it."""
    warmup = flags["warmup_steps"]
    if warmup is None:
        warmup = min(5000, num_steps // 10)
    optimizer = optimization.make_optimizer(
        flags["learning_rate"],
        num_steps,
        warmup,
        weight_decay=flags["weight_decay"],
        clip_norm=flags["clip_norm"],
        loss_scaling=flags["precision"] == "mixed_float16",
    )
    model.compile(optimizer=optimizer)
    # Slots must exist before a checkpoint is read into them.
    optimizer.build(model.network.trainable_variables)
    return model


def feed(flags, strategy, training, held_out):
    """Datasets as fit takes them under the strategy.

    Args:
      flags: dict with `batch_size`.
      strategy: the strategy.
      training: function (worker, workers) -> training dataset.
      held_out: dataset that every worker sees whole.

    Returns:
      (training, held out).
    """
    worker, workers = distribution.worker_of(strategy)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    held_out = held_out.with_options(options)
    if workers == 1:
        return training(0, 1).with_options(options), held_out
    per_replica = flags["batch_size"] // strategy.num_replicas_in_sync

    def for_worker(_):
        return training(worker, workers).rebatch(per_replica, drop_remainder=True)

    return strategy.distribute_datasets_from_function(for_worker), held_out


def fit(flags, model, datasets, round_end, start_step, num_steps):
    """Keras fit in rounds from `start_step` to `num_steps`.

    Args:
      flags: dict with `batch_size`, `steps_per_round` and `seed`.
      model: compiled `TrainingModel`.
      datasets: (training, held out), see `feed`.
      round_end: `callbacks.RoundEnd`.
      start_step: steps already done.
      num_steps: length of the run, whole rounds.

    Raises:
      NonFiniteLossError: the loss became NaN or infinite.
    """
    training, held_out = datasets
    batch_size, steps_per_round = flags["batch_size"], flags["steps_per_round"]
    if not start_step:
        round_end.start(model.evaluate(held_out, verbose=0, return_dict=True))
    model.fit(
        training,
        validation_data=held_out,
        epochs=num_steps // steps_per_round,
        initial_epoch=start_step // steps_per_round,
        steps_per_epoch=steps_per_round,
        callbacks=[
            callbacks.Reseed(model.network, flags["seed"]),
            callbacks.Progress(num_steps, batch_size, start_step),
            round_end,
        ],
        verbose=0,
    )
