"""What pre-training and fine-tuning do alike: start, compile, feed and fit a model."""

import dataclasses
import functools
import hashlib
import math
import os
import typing

import tensorflow as tf
import tf_keras
from absl import logging

from kaleido_tf import files
from kaleido_tf.training import (
    batch_ids,
    callbacks,
    distribution,
    optimization,
    profiling,
    round_state,
    stopping,
)
from kaleido_tf.training.watch import SKIPPED_NAME, Watch


def start_process(flags, least_rows=1):
    """Sets precision and seeds; returns the strategy. Before a model is built.

    Args:
      flags: dict.
      least_rows: that a part of a batch must have: a replica's micro-batch.
    """
    strategy = distribution.make_strategy(flags["strategy"])
    distribution.check_batch_size(
        flags["batch_size"], strategy, flags.get("accumulate_steps", 1), least_rows
    )
    distribution.set_precision(flags["precision"])
    tf_keras.utils.set_random_seed(flags["seed"])
    return strategy


def step_settings(flags):
    """The keyword arguments of `TrainingModel` that flags decide: dict."""
    return {
        "accumulate_steps": flags.get("accumulate_steps", 1),
        "skips_bad_steps": flags.get("skip_nan_steps", 0) > 0,
        "seed": flags["seed"],
    }


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


def resume(run_dir, keeper, strategy):
    """Restores a run's last whole checkpoint, and clears what came after it.

    Args:
      run_dir: the run's folder.
      keeper: its `CheckpointKeeper`.
      strategy: the run's strategy. All workers call this: nothing is cleared before
        they are found to stand at the same step.

    Returns:
      (step, 0 if there is none; state of the round that it is in the middle of, or
      None).
    """
    start_step, state = keeper.restore_state()
    distribution.check_same_start(strategy, start_step, run_dir)
    keeper.remove_half_written(after=start_step)
    if keeper.writes:
        callbacks.drop_rows_after(run_dir, last_row_step(start_step, state))
        files.drop_rows_after(os.path.join(run_dir, SKIPPED_NAME), start_step)
    if start_step:
        logging.info("going on from step %d of %s", start_step, run_dir)
    return start_step, state


def last_row_step(start_step, state):
    """The last step whose rows of metrics.jsonl stand where a run goes on: int.

    Those of a round that isn't over will be written by its end.

    Args:
      start_step, state: see `resume`.
    """
    return start_step - 1 if state is not None or not start_step else start_step


@dataclasses.dataclass(frozen=True)
class Feed:
    """Datasets as fit takes them under a strategy.

    Attributes:
      training: function of a step -> the training data from there on.
      held_out: what every round is measured on.
      held_out_steps: its batches, where the strategy can't count them, or None.
    """

    training: typing.Callable
    held_out: object
    held_out_steps: int | None = None


def feed(flags, strategy, training, held_out, num_held_out):
    """`Feed` of a strategy: who of its workers and replicas reads what.

    Replicas take a batch's rows in their order, so that batch n is the same for any
    number of replicas. Workers make the whole batch and take their rows, or with
    worker_data="own_share" batches of their own share of the records.

    Args:
      flags: dict with `batch_size` and `worker_data`.
      strategy: the strategy.
      training: function (start step, worker, workers) -> training dataset.
      held_out: dataset of batches of `batch_size`; the last one may be smaller.
      num_held_out: its examples.
    """
    if strategy.num_replicas_in_sync == 1:
        # A strategy that deals out shards by itself would read past our order.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF
        )
        return Feed(
            lambda step: training(step, 0, 1).with_options(options),
            held_out.with_options(options),
        )
    worker, workers = distribution.worker_of(strategy)
    per_replica = flags["batch_size"] // strategy.num_replicas_in_sync

    def of_worker(step):
        if _has_own_share(flags):
            data = training(step, worker, workers)
        else:
            data = distribution.rows_for_worker(training(step, 0, 1), worker, workers)
        return data.rebatch(per_replica, drop_remainder=True)

    def distributed(step):
        return strategy.distribute_datasets_from_function(lambda _: of_worker(step))

    parts = strategy.distribute_datasets_from_function(
        lambda _: distribution.split_for_replicas(held_out, strategy)
    )
    replicas, batch_size = strategy.num_replicas_in_sync, flags["batch_size"]
    if num_held_out < replicas:
        raise ValueError(
            "There should be a held-out example for every replica. Received: "
            f"{num_held_out} examples, {replicas} replicas"
        )
    steps = num_held_out // batch_size + (num_held_out % batch_size >= replicas)
    return Feed(distributed, parts, steps)


@dataclasses.dataclass
class Run:
    """A run that is to be trained on: what `fit` needs besides flags and data.

    Attributes:
      model: compiled `TrainingModel`.
      strategy: the strategy it was built under.
      keeper: `CheckpointKeeper`.
      round_end: `callbacks.RoundEnd`.
      start_step: steps already done.
      state: of the round that `start_step` is in the middle of, or None.
      data: `PretrainingData` or `FinetuningData`, to name a batch's records.
    """

    model: object
    strategy: object
    keeper: object
    round_end: object
    start_step: int
    state: dict | None
    data: object


def fit(flags, run, datasets):
    """Keras fit in rounds from where the run stands to its end.

    Args:
      flags: dict with `batch_size`, `steps_per_round`, `num_steps` and `seed`.
      run: `Run`.
      datasets: `Feed`.

    Raises:
      NonFiniteLossError: the loss became NaN or infinite.
      SystemExit: a signal has stopped the run, see `stopping`.
    """
    distribution.check_same(
        run.strategy,
        lambda: _weights_digest(run.model),
        "weights to start from (is --init_checkpoint still being written?)",
    )
    with stopping.StopRequest().listening() as request:
        _fit(flags, run, datasets, request)


def _weights_digest(model):
    digest = hashlib.sha256()
    for variable in model.network.trainable_variables:
        digest.update(variable.numpy().tobytes())
    return digest.digest()


def _fit(flags, run, datasets, request):
    model, steps_per_round = run.model, flags["steps_per_round"]
    if not run.start_step:
        run.round_end.start(_evaluate(model, datasets))
    if run.state is not None and not run.start_step % steps_per_round:
        _close_round(flags, run, datasets)
    watchers = _callbacks(flags, run, request)
    for start, steps in stretches(run.start_step, whole_rounds(flags), steps_per_round):
        if model.stop_training:
            return
        rounds = math.ceil(steps / steps_per_round)
        done = start // steps_per_round
        model.fit(
            datasets.training(start),
            validation_data=datasets.held_out,
            validation_steps=datasets.held_out_steps,
            epochs=done + rounds,
            initial_epoch=done,
            steps_per_epoch=min(steps, steps_per_round),
            callbacks=watchers,
            verbose=0,
        )


def _evaluate(model, datasets):
    return model.evaluate(
        datasets.held_out,
        steps=datasets.held_out_steps,
        verbose=0,
        return_dict=True,
    )


def stretches(start, end, steps_per_round):
    """From `start` to `end`, in calls of fit: list of (first step, number of steps).

    A round that was stopped in its middle is a stretch of its own: what is left of it.
    """
    left = -start % steps_per_round
    parts = [(start, left), (start + left, end - start - left)]
    return [(first, steps) for first, steps in parts if steps > 0]


def _callbacks(flags, run, request):
    num_steps = whole_rounds(flags)
    watch = Watch(
        run.keeper,
        request,
        run.strategy,
        flags["steps_per_round"],
        run.start_step,
        run.state,
        flags.get("save_steps", 0),
        flags.get("skip_nan_steps", 0),
        functools.partial(batch_ids.batch_ids, run.data, workers=_shares(flags, run)),
        flags["run_dir"],
    )
    progress = callbacks.Progress(num_steps, flags["batch_size"], run.start_step)
    watchers = [progress, run.round_end, watch]
    steps = profiling.parse_steps(flags.get("profile_steps"))
    if steps and distribution.is_chief(run.strategy):
        profile = profiling.ProfileSteps(flags["run_dir"], *steps, run.start_step)
        watchers.insert(0, profile)
    return watchers


def _shares(flags, run):
    """Processes that make a batch's parts from records of their own."""
    return distribution.worker_of(run.strategy)[1] if _has_own_share(flags) else 1


def _has_own_share(flags):
    return flags.get("worker_data", "same_batch") == "own_share"


def _close_round(flags, run, datasets):
    """Ends a round whose last step was done when the run stopped."""
    model, round_end = run.model, run.round_end
    logging.info("step %d: the end of its round is still to be done", run.start_step)
    round_state.write(model, run.state)
    run.state = None
    values = {mean.name: mean.result().numpy() for mean in model.metrics}
    held_out = _evaluate(model, datasets)
    values |= {f"val_{name}": value for name, value in held_out.items()}
    model.stop_training = False
    round_end.set_model(model)
    round_end.on_epoch_end(run.start_step // flags["steps_per_round"] - 1, values)
