"""The table of tasks: what `run_finetune.py` offers, and which module does it.

A task's module has one function per mode, `evaluate(settings)` and so on, where
`settings` is a dict of the command's flags. It is imported when it is chosen: the
metrics in this package need no TensorFlow.
"""

import dataclasses
import importlib


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
      module: name of the module with a function for each mode.
      modes: what can be asked of it: "train", "evaluate" or "predict".
      summary: one line for the help page.
    """

    module: str
    modes: tuple
    summary: str

    def run(self, mode, settings):
        """Runs one mode with a dict of settings; returns what the module returns."""
        if mode not in self.modes:
            raise ValueError(
                f"`mode` should be one of {self.modes} for this task. "
                f"Received: {mode!r}"
            )
        return getattr(importlib.import_module(self.module), mode)(settings)


TASKS = {
    "retrieval": Task(
        module="kaleido_tf.tasks.retrieval_run",
        modes=("evaluate",),
        summary="image to text and text to image, zero-shot from a pre-training run",
    ),
}
MODES = tuple(sorted({mode for task in TASKS.values() for mode in task.modes}))
