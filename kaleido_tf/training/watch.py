"""Watches a run step by step: what isn't finite, stops, checkpoints mid-round.

What the step finds it keeps in a variable on the device; it is read once every few
steps, so that watching doesn't hold the device up.
"""

import os

import tf_keras
from absl import logging

from kaleido_tf import files
from kaleido_tf.training import (
    distribution,
    round_state,
    stopping,
    trainer,
)
from kaleido_tf.training.callbacks import NAN_HINT, NonFiniteLossError

CHECK_STEPS = 10  # at most `trainer.RECENT_STEPS`, or a bad step is overlooked
# Lines of JSON, one a step that was left out: its number and its batch's records.
SKIPPED_NAME = "skipped_steps.jsonl"
_MOST_IDS = 8  # in the message; the file has them all


def read_skipped(run_dir, last):
    """Rows of the steps up to `last` that a run has left out: list of dicts."""
    path = os.path.join(run_dir, SKIPPED_NAME)
    if not os.path.exists(path):
        return []
    return [row for row in files.read_rows(path) if row["step"] <= last]


class Watch(tf_keras.callbacks.Callback):
    """Stops a run with a bad step (`TrainingModel`), and one that is asked to stop.

    Args:
      keeper: `CheckpointKeeper`.
      request: `stopping.StopRequest`.
      strategy: the run's strategy.
      steps_per_round: steps.
      start_step: steps already done.
      state: what `round_state.read` returned where the run stopped mid-round, or None.
      save_steps: steps between checkpoints within a round; 0 for none.
      skip_nan_steps: how many bad steps the whole run may leave out.
      batch_ids: function of a step (batches consumed before it) -> list of str, the
        records of its batch.
      run_dir: where the ids are written, and those of an earlier process found.
    """

    def __init__(
        self,
        keeper,
        request,
        strategy,
        steps_per_round,
        start_step=0,
        state=None,
        save_steps=0,
        skip_nan_steps=0,
        batch_ids=None,
        run_dir=None,
    ):
        super().__init__()
        self._supports_tf_logs = True  # or every step waits for its means
        self.keeper, self.request, self.strategy = keeper, request, strategy
        self.workers = distribution.worker_of(strategy)[1]
        self.steps_per_round, self.step = steps_per_round, start_step
        self.save_steps, self.skip_nan_steps = save_steps, skip_nan_steps
        self.batch_ids, self.run_dir = batch_ids, run_dir
        self._state, self._asked, self._checked = state, False, start_step
        self._skipped = read_skipped(run_dir, start_step) if run_dir else []

    def on_epoch_begin(self, epoch, logs=None):
        if self._state is not None:  # Keras has just set the means to zero
            round_state.write(self.model, self._state)
            self._state = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        ends = self.step % self.steps_per_round == 0
        stops = self.request.signum is not None and self.workers == 1
        if self.request.signum is not None and not self._asked:
            self.model.asks_stop.assign(1)
            self._asked = True
        saves = self.save_steps and self.step % self.save_steps == 0 and not ends
        if stops or saves or ends or self.step % CHECK_STEPS == 0:
            asked = self._check()
            # Workers read the same at the same step, and so stop at the same one.
            stops = stops or asked and self.workers > 1
        if stops:
            self._stop()
        elif saves:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        if self.request.signum is not None and self.workers == 1:
            logging.info("stopped at step %d, the end of a round", self.step)
            raise stopping.Stopped(self.request.signum)

    def _check(self):
        """Raises for a bad step; returns whether a worker has asked for a stop."""
        for step in self.model.bad_steps():
            if step > self._checked:
                self._note_bad(step)
        self._checked = self.step
        return bool(self.model.status.numpy()[trainer.STOP])

    def _note_bad(self, step):
        ids = self.batch_ids(step - 1) if self.batch_ids else []
        if len(self._skipped) >= self.skip_nan_steps:
            self._fail(step, ids)
        self._skipped.append({"step": step, "batch": ids})
        path = os.path.join(self.run_dir, SKIPPED_NAME)
        if distribution.is_chief(self.strategy):
            files.write_rows(path, self._skipped, synced=True)
        logging.warning(
            "step %d left out, the %d. of at most %d: its loss or gradient wasn't "
            "finite; its batch is in %s",
            step,
            len(self._skipped),
            self.skip_nan_steps,
            path,
        )

    def _fail(self, step, ids):
        where = ""
        if ids and distribution.is_chief(self.strategy):
            path = os.path.join(self.run_dir, f"bad_step_{step}.json")
            files.write_json({"step": step, "batch": ids}, path)
            where = f" (all in {path})"
        shown = ", ".join(ids[:_MOST_IDS]) or "unknown"
        shown += ", ..." if len(ids) > _MOST_IDS else ""
        count = len(self._skipped)
        before = f", after {count} that were left out" if count else ""
        raise NonFiniteLossError(
            "The loss and its gradient should be finite. Received NaN or infinity at "
            f"step {step}{before}, whose batch is of the pictures {shown}{where}; "
            "nothing since the last checkpoint was saved, "
            f"{self.keeper.latest() or 'none yet'}. "
            f"--skip_nan_steps=N leaves such a batch out. {NAN_HINT}"
        )

    def _save(self):
        # All workers read, one writes: the means are kept replica by replica.
        state = round_state.read(self.model)
        prefix = self.keeper.save(self.step, state)
        if prefix:
            logging.info("step %d: checkpoint %s", self.step, prefix)

    def _stop(self):
        self._save()
        distribution.of_all_workers(self.strategy, self.step)  # the chief has written
        logging.info(
            "stopped at step %d; the same command goes on from there", self.step
        )
        raise stopping.Stopped(self.request.signum or stopping.SIGNALS[0])
