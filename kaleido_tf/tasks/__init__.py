"""The table of tasks: what `run_finetune.py` offers, and which module does it.

A task's module has one function per mode, `evaluate(settings)` and so on, where
`settings` is a dict of the command's flags. It is imported when it is chosen: the
metrics in this package need no TensorFlow.
"""

import dataclasses
import importlib

MODES = ("train", "evaluate", "predict")


@dataclasses.dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
      module: name of the module with a function for each of `MODES`.
      summary: one line for the help page.
    """

    module: str
    summary: str

    def run(self, mode, settings):
        """Runs one mode with a dict of settings; returns what the module returns."""
        if mode not in MODES:
            raise ValueError(f"`mode` should be one of {MODES}. Received: {mode!r}")
        return getattr(importlib.import_module(self.module), mode)(settings)


TASKS = {
    "category": Task(
        module="kaleido_tf.tasks.classification",
        summary="the product's category from image and text",
    ),
    "subcategory": Task(
        module="kaleido_tf.tasks.classification",
        summary="its sub-category",
    ),
    "retrieval": Task(
        module="kaleido_tf.tasks.retrieval_run",
        summary="image to text and text to image, fine-tuned, or zero-shot from a "
        "pre-training run",
    ),
    "captioning": Task(
        module="kaleido_tf.tasks.captioning",
        summary="the text from the image",
    ),
}
