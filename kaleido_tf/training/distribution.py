"""Strategies and precision: where the replicas run and in which number format."""

import tensorflow as tf
import tf_keras

STRATEGIES = ("one_device", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


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
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"`name` should be one of {STRATEGIES}. Received: {name!r}")


def worker_of(strategy):
    """(index, number) of this process among those of the strategy."""
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    spec = resolver.cluster_spec().as_dict()
    count = sum(len(spec.get(kind, ())) for kind in ("chief", "worker"))
    index = resolver.task_id
    if resolver.task_type == "worker" and "chief" in spec:
        index += 1
    return index, max(count, 1)


def set_precision(name):
    """Sets the Keras policy; variables, losses, norms and softmax stay in float32."""
    if name not in PRECISIONS:
        raise ValueError(f"`name` should be one of {PRECISIONS}. Received: {name!r}")
    tf_keras.mixed_precision.set_global_policy(name)
