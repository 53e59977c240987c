"""What happens while fit runs: progress lines, and the end of every round."""

import math
import os
import time

import tensorflow as tf
import tf_keras
from absl import logging

from kaleido_tf import files

METRICS_NAME = "metrics.jsonl"
_PROGRESS_SECONDS = 15.0


# What to do where a loss, gradient or weight isn't finite.
NAN_HINT = (
    "Start again to go on from the last checkpoint; a lower --learning_rate, or "
    "--precision=float32 if it was a 16 bit format, needs a new --run_dir, which may "
    "start from this one's weights by --init_checkpoint"
)


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite; nothing since the last checkpoint was saved."""


class Progress(tf_keras.callbacks.Callback):
    """Logs step, losses, samples a second and the time that is left.

    Args:
      num_steps: length of the run, steps.
      batch_size: samples a step.
      start_step: steps already done.
      seconds: between lines.
    """

    def __init__(self, num_steps, batch_size, start_step, seconds=_PROGRESS_SECONDS):
        super().__init__()
        self._supports_tf_logs = True  # or every step waits for its means
        self.num_steps, self.batch_size = num_steps, batch_size
        self.step = start_step
        self.seconds = seconds
        self._mark = None  # time and step of the last line

    def on_epoch_begin(self, epoch, logs=None):
        self._mark = self._mark or (time.time(), self.step)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        now = time.time()
        since, step = self._mark
        if now - since < self.seconds:
            return
        rate = (self.step - step) / (now - since)
        left = (self.num_steps - self.step) / rate
        values = {k: v for k, v in (logs or {}).items() if k.startswith("loss/")}
        shown = " ".join(f"{k[5:]} {float(v):.3f}" for k, v in values.items())
        logging.info(
            "step %d of %d: %s | %.0f samples/s, %d:%02d left",
            self.step,
            self.num_steps,
            shown,
            rate * self.batch_size,
            left // 60,
            left % 60,
        )
        self._mark = (now, self.step)


class RoundEnd(tf_keras.callbacks.Callback):
    """Ends a round: checks the loss, saves, writes metrics and TensorBoard scalars.

    Args:
      run_dir: the run's folder.
      keeper: `CheckpointKeeper`.
      steps_per_round: steps.
      batch_size: samples a step.
      writes_logs: False on workers other than the first.
      held_out: name of what fit validates on, in rows and logs.
      chooser: `best.BestKeeper` that may end the run early, or None.

    Attributes:
      closed: last step whose round has ended.
    """

    def __init__(
        self,
        run_dir,
        keeper,
        steps_per_round,
        batch_size,
        writes_logs=True,
        held_out="validation",
        chooser=None,
    ):
        super().__init__()
        self._supports_tf_logs = True
        self.run_dir, self.keeper = run_dir, keeper
        self.steps_per_round, self.batch_size = steps_per_round, batch_size
        self.writes_logs = writes_logs
        self.held_out, self.chooser = held_out, chooser
        self.closed = 0
        self._writers = {}
        self._started, self._steps = 0.0, 0

    def start(self, values):
        """Notes the figures from before the first step."""
        if self.writes_logs:
            self.write(0, self.held_out, values)

    def on_epoch_begin(self, epoch, logs=None):
        self._started, self._steps = time.time(), 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1

    def on_test_begin(self, logs=None):
        self._trained = time.time()

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self.steps_per_round
        values = {name: float(value) for name, value in logs.items()}
        for name in ("loss/total", "val_loss/total"):
            if not math.isfinite(values.get(name, 0.0)):
                raise NonFiniteLossError(
                    f"The loss should be finite. Received {values[name]} ({name}) "
                    f"between steps {step - self.steps_per_round} and {step}; nothing "
                    f"of this round was saved. {NAN_HINT}"
                )
        # The rows come first: a stop in between repeats the round and its rows.
        if self.writes_logs:
            self._write_rows(step, values)
        if self.chooser:
            self.chooser.consider(step, _held_out(values))
        self.keeper.save(step)
        self.closed = step
        if self.chooser and self.chooser.exhausted:
            self.model.stop_training = True

    def _write_rows(self, step, values):
        seconds = getattr(self, "_trained", time.time()) - self._started
        # A round that was resumed: the steps of this process.
        rate = self._steps * self.batch_size / max(seconds, 1e-9)
        splits = {
            "train": {k: v for k, v in values.items() if not k.startswith("val_")},
            self.held_out: _held_out(values),
        }
        if self._steps:
            splits["train"]["samples_per_second"] = rate
        for split, row in splits.items():
            if row:
                self.write(step, split, row)

    def write(self, step, split, values):
        """Appends a row to metrics.jsonl and to TensorBoard's log of that split."""
        row = {"step": step, "split": split, **values}
        path = os.path.join(self.run_dir, METRICS_NAME)
        files.append_row(path, row)
        try:
            self._write_summary(step, split, values)
        except tf.errors.OpError as error:  # a full disk; the rows have it all
            logging.warning("TensorBoard's log can't be written: %s", error.message)
        shown = " ".join(f"{name} {value:.3f}" for name, value in values.items())
        logging.info("step %d, %s: %s", step, split, shown)

    def _write_summary(self, step, split, values):
        if split not in self._writers:
            folder = os.path.join(self.run_dir, "logs", split)
            self._writers[split] = tf.summary.create_file_writer(folder)
        with self._writers[split].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writers[split].flush()


def _held_out(values):
    """The figures that Keras marks as those of the validation data: dict."""
    return {k[4:]: v for k, v in values.items() if k.startswith("val_")}


def drop_rows_after(run_dir, step):
    """Takes out of metrics.jsonl what a run wrote after the step it resumes from."""
    files.drop_rows_after(os.path.join(run_dir, METRICS_NAME), step)


def read_metrics(run_dir):
    """Rows of a run's metrics.jsonl; a last line that was cut off is left out."""
    return files.read_rows(os.path.join(run_dir, METRICS_NAME))
