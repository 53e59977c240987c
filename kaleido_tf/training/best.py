"""Which checkpoint of a fine-tuned run is kept apart as its best, and when to stop.

Decided on the dev part of the training products alone. What was decided before a stop
is read from the rows of metrics.jsonl, so a run that goes on decides as if it had never
stopped.

The start is no candidate. Pre-training has usually had the dev products among its own,
dozens of times where the catalogue is small, and knows their pairs by heart: on 8,034
photographs fine-tuning for retrieval took 800 steps to pass the start's figure there,
and patience had ended it at 500. Steps are compared with steps.
"""

from absl import logging

from kaleido_tf.training import checkpoints

DIRECTIONS = ("max", "min")


class BestKeeper:
    """Keeps the weights with the best dev figure in RUN/best/ckpt-STEP.

    Args:
      run_dir: the run's folder.
      model: the model.
      metric: name of the figure, such as "accuracy/category" or "loss/total".
      best_is: "max" or "min".
      patience: rounds without a better figure after which the run ends; 0 for never.
      writes: see `CheckpointKeeper`.

    Attributes:
      step, value: of the best so far, None before the first.
      rounds_since: rounds since then.
    """

    def __init__(self, run_dir, model, metric, best_is, patience=0, writes=True):
        if best_is not in DIRECTIONS:
            raise ValueError(
                f"`best_is` should be one of {DIRECTIONS}. Received: {best_is!r}"
            )
        self.metric, self.sign = metric, 1 if best_is == "max" else -1
        self.patience = patience
        self.step = self.value = None
        self.rounds_since = 0
        self._keeper = checkpoints.CheckpointKeeper(
            run_dir, model, keep=1, folder=checkpoints.BEST_FOLDER, writes=writes
        )

    @property
    def exhausted(self):
        """Whether patience is at its end: bool."""
        return bool(self.patience) and self.rounds_since >= self.patience

    def consider(self, step, values):
        """Takes a round's dev figures; saves the weights if they are the best so far.

        Args:
          step: int; 0, the start, chooses nothing.
          values: dict name -> float.

        Raises:
          ValueError: the figure isn't among them.
        """
        if self._note(step, values):
            self._keeper.save(step)

    def _note(self, step, values):
        if self.metric not in values:
            raise ValueError(
                f"`best` should be one of {sorted(values)}. Received: {self.metric!r}"
            )
        if step == 0:
            return False
        value = float(values[self.metric])
        # NaN is never better; an equal figure leaves the earlier step.
        first = self.value is None and value == value
        if first or self.value is not None and self.sign * (value - self.value) > 0:
            self.step, self.value, self.rounds_since = step, value, 0
            return True
        self.rounds_since += 1
        return False

    def replay(self, rows):
        """Takes over what an earlier process decided.

        Args:
          rows: the dev rows of metrics.jsonl up to the step the run resumes from.
        """
        for row in rows:
            self._note(row["step"], row)
        whole = dict(checkpoints.whole_checkpoints(self._keeper.folder))
        for step in set(whole) - {self.step}:  # of a round that will be repeated
            self._keeper.remove(whole.pop(step))
        if self.step is not None and self.step not in whole:
            logging.warning(
                "%s lacks the best checkpoint of step %d: the best of what follows is "
                "taken",
                self._keeper.folder,
                self.step,
            )
            self.step = self.value = None
