"""A profile of some steps, for TensorBoard's profiler (docs/training.md)."""

import os

import tensorflow as tf
import tf_keras
from absl import logging


class ProfileSteps(tf_keras.callbacks.Callback):
    """Traces the steps from the first to the last one, both included.

    Args:
      run_dir: the run's folder; the trace goes to its logs/profile.
      first, last: numbers of steps; 1 is the run's first.
      start_step: steps already done.
    """

    def __init__(self, run_dir, first, last, start_step=0):
        super().__init__()
        self._supports_tf_logs = True  # or every step waits for its means
        self.folder = os.path.join(run_dir, "logs", "profile")
        self.first, self.last, self.step = first, last, start_step
        self._runs = False

    def on_train_batch_begin(self, batch, logs=None):
        if self.step + 1 == self.first:
            tf.profiler.experimental.start(self.folder)
            self._runs = True

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self._runs and self.step == self.last:
            # What runs on a GPU is behind: the last step's kernels belong to it.
            float(next(iter(logs.values())))
            self._end()

    def on_train_end(self, logs=None):
        if self._runs:
            self._end()

    def _end(self):
        tf.profiler.experimental.stop()
        self._runs = False
        logging.info("profile of steps up to %d written to %s", self.step, self.folder)


def parse_steps(values):
    """The flag --profile_steps=A,B: (first, last), or None for no profile."""
    values = [value for value in values or () if value != ""]
    if not values:
        return None
    try:
        first, last = (int(value) for value in values)
    except ValueError:
        first, last = 0, 0
    if not 1 <= first <= last:
        raise ValueError(
            "`profile_steps` should be the first and the last step to trace, A,B with "
            f"1 <= A <= B. Received: {','.join(map(str, values))}"
        )
    return first, last
