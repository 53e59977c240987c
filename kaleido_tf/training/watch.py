"""Watches a run step by step: losses that aren't finite, stops, checkpoints mid-round.

What the step finds it keeps in a variable on the device; it is read once every few
steps, so that watching doesn't hold the device up.
"""

import os

import tf_keras
from absl import logging

from kaleido_tf.training import (
    distribution,
    round_state,
    run_folder,
    stopping,
    trainer,
)
from kaleido_tf.training.callbacks import NonFiniteLossError

CHECK_STEPS = 10
_MOST_IDS = 8  # in the message; the file has them all


class Watch(tf_keras.callbacks.Callback):
    """Stops a run whose loss isn't finite, and one that is asked to stop.

    Args:
      keeper: `CheckpointKeeper`.
      request: `stopping.StopRequest`.
      strategy: the run's strategy.
      steps_per_round: steps.
      start_step: steps already done.
      state: what `round_state.read` returned where the run stopped mid-round, or None.
      save_steps: steps between checkpoints within a round; 0 for none.
      skip_nan_steps: how many steps may be left out because their loss isn't finite.
      batch_ids: function of a step (batches consumed before it) -> list of str, the
        records of its batch.
      run_dir: where the ids are written.
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
        self.keeper, self.request, self.strategy = keeper, request, strategy
        self.workers = distribution.worker_of(strategy)[1]
        self.steps_per_round, self.step = steps_per_round, start_step
        self.save_steps, self.skip_nan_steps = save_steps, skip_nan_steps
        self.batch_ids, self.run_dir = batch_ids, run_dir
        self._state, self._skipped, self._asked = state, 0, False

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
        """Raises for a bad loss; returns whether a worker has asked for a stop."""
        status = self.model.status.numpy()
        count = int(status[trainer.BAD_STEPS])
        if count > self.skip_nan_steps:
            self._fail(int(status[trainer.FIRST_BAD]), count)
        if count > self._skipped:
            logging.warning(
                "%d of at most %d steps left out: their loss wasn't finite, the first "
                "was step %d",
                count,
                self.skip_nan_steps,
                int(status[trainer.FIRST_BAD]),
            )
            self._skipped = count
        return bool(status[trainer.STOP])

    def _fail(self, step, count):
        ids = self.batch_ids(step - 1) if self.batch_ids else []
        where = ""
        if ids and self.run_dir and distribution.is_chief(self.strategy):
            path = os.path.join(self.run_dir, f"bad_step_{step}.json")
            run_folder.write_json({"step": step, "batch": ids}, path)
            where = f" (all in {path})"
        shown = ", ".join(ids[:_MOST_IDS]) or "unknown"
        shown += ", ..." if len(ids) > _MOST_IDS else ""
        times = f"; {count} steps so far, " if count > 1 else "; "
        raise NonFiniteLossError(
            f"The loss should be finite. Received NaN or infinity at step {step}, "
            f"whose batch is of the pictures {shown}{where}{times}nothing since the "
            f"last checkpoint was saved, {self.keeper.latest() or 'none yet'}. "
            "Start again to go on from there: with --precision=float32 if it was a 16 "
            "bit format, with --skip_nan_steps=N if the batch is at fault; a lower "
            "--learning_rate needs a new --run_dir"
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
