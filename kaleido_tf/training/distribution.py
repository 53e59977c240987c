"""Strategies and precision: where the replicas run and in which number format."""

import contextlib
import functools
import hashlib
import os
import signal

import tensorflow as tf
import tf_keras
from absl import logging
from tensorflow.python.eager import context as eager_context

STRATEGIES = ("one_device", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
JOIN_SECONDS = 600  # for workers to find each other; TensorFlow's own patience: an hour


def make_strategy(name):
    """A tf.distribute strategy.

    Args:
      name: "one_device", "mirrored" (every GPU of this machine, or its virtual CPU
        devices) or "multi_worker" (the machines of TF_CONFIG).
    """
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = tf.config.list_logical_devices(kind)
        if kind == "CPU":
            logging.warning(
                "TensorFlow finds no GPU: mirrored trains on %d CPU device(s) "
                "(docs/training.md says what installs the CUDA libraries)",
                len(devices),
            )
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        with _limited_waiting():
            return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"`name` should be one of {STRATEGIES}. Received: {name!r}")


@contextlib.contextmanager
def _limited_waiting():
    """Where workers find each other: none waits much longer than `JOIN_SECONDS`.

    Without the first worker, TensorFlow ends the wait of the others with an error. The
    first one itself waits deep within TensorFlow, where Python isn't heard: SIGALRM's
    own effect ends its process.
    """
    context = eager_context.context()
    context.configure_coordination_service = functools.partial(
        context.configure_coordination_service,
        cluster_register_timeout_in_ms=1000 * JOIN_SECONDS,
    )
    signal.alarm(JOIN_SECONDS + 5)
    try:
        yield
    finally:
        signal.alarm(0)


def num_workers(name):
    """Number of processes that train together by this strategy's name: int."""
    if name != "multi_worker":
        return 1
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        count = _count_workers(resolver)
    except (ValueError, TypeError, AttributeError):
        count = 0
    if not count:  # or every machine would train on its own into the same folder
        raise ValueError(
            "TF_CONFIG should name the cluster's workers and this one's task. "
            f"Received: {os.environ.get('TF_CONFIG')!r} (see docs/training.md; "
            "--strategy=mirrored takes the GPUs of one machine)"
        )
    return count


def _count_workers(resolver):
    """Number of the processes that train in a cluster: int."""
    spec = resolver.cluster_spec().as_dict()
    return sum(len(spec.get(kind, ())) for kind in ("chief", "worker"))


def worker_of(strategy):
    """(index, number) of this process among those of the strategy."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    index = resolver.task_id
    if resolver.task_type == "worker" and "chief" in resolver.cluster_spec().jobs:
        index += 1
    return index, _count_workers(resolver)


def is_chief(strategy):
    """Whether this process writes checkpoints, rows and logs: bool."""
    return worker_of(strategy)[0] == 0


def check_batch_size(batch_size, strategy, accumulate_steps=1, least=1):
    """Raises ValueError for a global batch that the parts can't share evenly.

    Args:
      batch_size: rows.
      strategy: the strategy.
      accumulate_steps: micro-batches of a replica.
      least: rows that a part must have.
    """
    replicas = strategy.num_replicas_in_sync
    parts = replicas * accumulate_steps
    if batch_size % parts or batch_size // parts < least:
        rows = f", with at least {least} rows each" if least > 1 else ""
        raise ValueError(
            f"`batch_size` should be a multiple of the {replicas} replicas times "
            f"accumulate_steps={accumulate_steps}{rows}. Received: {batch_size}"
        )


def of_all_workers(strategy, value):
    """A number of every worker, in their order: list of int. All workers must call it.

    It also waits for all of them.
    """
    if worker_of(strategy)[1] == 1:
        return [value]
    per_worker = strategy.num_replicas_in_sync // worker_of(strategy)[1]

    @tf.function
    def gather():
        def own():
            context = tf.distribute.get_replica_context()
            return context.all_gather(tf.constant([value], tf.int64), axis=0)

        return strategy.run(own)

    gathered = strategy.experimental_local_results(gather())[0].numpy()
    return [int(number) for number in gathered[::per_worker]]


def check_same_start(strategy, start_step, run_dir):
    """Raises ValueError where workers found different checkpoints to go on from."""
    steps = of_all_workers(strategy, start_step)
    if len(set(steps)) > 1:
        raise ValueError(
            "`run_dir` should be a folder that all workers share, with the same "
            f"checkpoints for all. Received: {run_dir}, where worker by worker the "
            f"last whole checkpoint is of step {steps}"
        )


def check_same(strategy, value, what):
    """Raises ValueError where workers would train with something different.

    Args:
      strategy: the strategy. All workers must call it.
      value: function without arguments -> bytes of what must be the same.
      what: what that is, and what may be wrong, for the error.
    """
    if worker_of(strategy)[1] == 1:
        return
    digest = int.from_bytes(hashlib.sha256(value()).digest()[:7], "big")
    found = of_all_workers(strategy, digest)
    if others := [i for i, each in enumerate(found) if each != found[0]]:
        raise ValueError(
            f"All workers should have the same {what}. Received: others than worker "
            f"0's on workers {others}"
        )


def rows_for_worker(dataset, worker, workers):
    """The worker's own rows of every global batch of a dataset."""
    if workers == 1:
        return dataset

    def own(*batch):
        def rows(value):
            share = value.shape[0] // workers
            return value[worker * share : (worker + 1) * share]

        return tf.nest.map_structure(rows, batch)

    return dataset.map(own)


def split_for_replicas(dataset, strategy):
    """Batches of any size, cut into as many parts as there are replicas.

    A replica without a row can't compute: a batch with fewer rows than there are
    replicas is left out.

    Args:
      dataset: of structures of tensors with the same number of rows.
      strategy: the strategy.

    Returns:
      tf.data.Dataset of the parts that this worker's replicas take in turn.
    """
    replicas = strategy.num_replicas_in_sync
    worker, workers = worker_of(strategy)
    own = replicas // workers

    def rows(*batch):
        return tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]

    def part(batch, index):
        count = rows(*batch)
        start, end = index * count // replicas, (index + 1) * count // replicas
        return tf.nest.map_structure(lambda value: value[start:end], batch)

    def parts(*batch):
        indices = tf.data.Dataset.range(worker * own, (worker + 1) * own)
        return indices.map(functools.partial(part, batch))

    whole = dataset.filter(lambda *batch: rows(*batch) >= replicas)
    return whole.flat_map(parts)


def set_precision(name):
    """Sets the Keras policy; variables, losses, norms and optimizer stay float32."""
    if name not in PRECISIONS:
        raise ValueError(f"`name` should be one of {PRECISIONS}. Received: {name!r}")
    tf_keras.mixed_precision.set_global_policy(name)
