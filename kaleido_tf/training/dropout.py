"""Dropout that depends on seed and step alone, whatever the number of replicas.

Keras draws dropout from counters inside the operations, which start anew in a process
that resumes. Here a layer's draw is a function of the run's seed, the step, the layer's
place in the model and the place of a row in the global batch: a run goes on from any
step, and cut into replicas or micro-batches it drops what one device drops. The numbers
are hashes (`modeling/fused.py`), the same with and without XLA.
"""

import collections
import contextlib
import threading

import tensorflow as tf
import tf_keras

from kaleido_tf.modeling import fused


class _Current(threading.local):
    """What is drawn from while a step is traced; replicas trace in threads."""

    key = None
    part = None
    calls = None


_current = _Current()


@contextlib.contextmanager
def drawing(seed, step, part):
    """Where a model is called within: prepared dropout layers draw from these.

    Args:
      seed: int, the run's.
      step: int64 scalar, batches already consumed.
      part: int64 scalar, which of the equal parts of the global batch is computed:
        0 is its first rows.
    """
    before = (_current.key, _current.part, _current.calls)
    high = tf.constant((seed % 2**32) << 32, tf.uint64)
    _current.key = (tf.cast(step, tf.uint64) + high)[None]
    _current.part = tf.cast(part, tf.uint64)
    _current.calls = collections.Counter()
    try:
        yield
    finally:
        _current.key, _current.part, _current.calls = before


class StepDraws(tf.__internal__.tracking.AutoTrackable):
    """A dropout layer's random generator within `drawing`; elsewhere Keras's own.

    Args:
      own: the layer's `RandomGenerator`.
      place: number of the layer in its model.
    """

    def __init__(self, own, place):
        super().__init__()
        self._own, self._place = own, place

    def __getattr__(self, name):
        if name.startswith("__") or name == "_own":
            raise AttributeError(name)
        return getattr(self._own, name)

    def dropout(self, inputs, rate, noise_shape=None):
        """`inputs` with a share of `rate` set to zero, the rest scaled up."""
        if _current.key is None:
            return self._own.dropout(inputs, rate, noise_shape=noise_shape)
        shape = tf.shape(inputs) if noise_shape is None else noise_shape
        kept = fused.kept(shape, fused.step_seed(*self.next_counter()), rate)
        return fused.scaled_where(kept, inputs, rate)

    def next_counter(self):
        """What a draw elsewhere (`modeling/fused.py`) depends on, or None.

        Returns:
          (key uint64 [1], part uint64 scalar, place int, call int): of seed and step,
          of the rows, of the layer and of its calls in this step.
        """
        if _current.key is None:
            return None
        call = _current.calls[self._place]
        _current.calls[self._place] += 1
        return _current.key, _current.part, self._place, call


def prepare(model):
    """Lets every dropout layer of a built model draw within `drawing`."""
    layers = [m for m in model.submodules if isinstance(m, tf_keras.layers.Dropout)]
    for place, layer in enumerate(layers):
        own = layer._random_generator
        if not isinstance(own, StepDraws):
            layer._random_generator = StepDraws(own, place)
