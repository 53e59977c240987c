"""CLI: what a fine-tuning step gains by texts that are cut to the batch's longest.

  python -m benchmarks.finetuning_step --data_dir=demo/data --checkpoint=demo/run

The steps of run_finetune.py's tasks on a prepared data set's own batches, each batch
once as it is and once with its texts padded to the model's length. The arms take turns
batch by batch, so whatever else the machine does slows them alike: what is to be
believed are the ratios.
"""

import time

import numpy as np
import tensorflow as tf

import run_finetune
from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.data.input_pipeline import TEXT_INPUTS
from kaleido_tf.tasks import captioning_train, classification, retrieval_train
from kaleido_tf.training import (
    distribution,
    finetuning,
    loop,
    task_context,
)

_JOBS = {
    "category": classification.make_job,
    "subcategory": classification.make_job,
    "retrieval": retrieval_train.make_job,
    "captioning": captioning_train.make_job,
}
_CUT = (*TEXT_INPUTS, "caption_ids", "caption_weights")
ARMS = ("padded", "cut")


def padded(values, text_length):
    """A batch's inputs or labels, whatever was cut as long as it had been: dict.

    Args:
      values: dict of tensors with B rows; texts and their labels are [B, t].
      text_length: T.
    """
    return {
        name: tf.pad(value, [[0, 0], [0, text_length - value.shape[1]]])
        if name in _CUT
        else value
        for name, value in values.items()
    }


def measure(settings, task):
    """One task's row: dict.

    Args:
      settings: dict of the command's flags.
      task: one of the four.

    Returns:
      task, text_length, mean_length (of the batches, pieces), samples_per_second (dict
      arm -> float) and ratio (median over batches of the padded arm's seconds by the
      other's).
    """
    flags = run_finetune.flag_page().defaults() | {
        "task": task,
        "mode": "train",
        "data_dir": settings["data_dir"],
        "init_checkpoint": settings["checkpoint"],
        "batch_size": settings["batch_size"],
        "precision": settings["precision"],
        "num_steps": 4 * settings["num_batches"],
    }
    loop.start_process(flags)
    context = task_context.make_context(flags)
    job = _JOBS[task](context)
    model = finetuning.training_model(job, flags)
    loop.compile_model(flags, model, flags["num_steps"])
    step = tf.function(model.train_step)
    data = context.data.with_needs(job.needs)
    batches = data.training_dataset(job.make_training_batch)
    length, seconds, lengths = context.config.text_length, [], []
    batches = list(batches.take(settings["num_batches"]))
    for timed in (False, True):  # a new shape is traced, and compiled, once
        for inputs, labels in batches:
            whole = padded(inputs, length), padded(labels, length)
            pair = [_seconds(step, batch) for batch in (whole, (inputs, labels))]
            if timed:
                seconds.append(pair)
                lengths.append(inputs["input_mask"].shape[1])
    seconds = np.array(seconds)
    return {
        "task": task,
        "text_length": length,
        "mean_length": float(np.mean(lengths)),
        "samples_per_second": {
            arm: settings["batch_size"] / float(np.median(each))
            for arm, each in zip(ARMS, seconds.T, strict=True)
        },
        "ratio": float(np.median(seconds[:, 0] / seconds[:, 1])),
    }


def _seconds(step, batch):
    """How long a step on a batch takes."""
    start = time.perf_counter()
    result = step(batch)
    next(iter(result.values())).numpy()
    return time.perf_counter() - start


def run(settings):
    """Measures every task; prints the table.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict: the flags that decide, and `rows` of `measure`.
    """
    names = ("data_dir", "checkpoint", "batch_size", "precision", "num_batches")
    content = {name: settings[name] for name in names}
    try:
        content["rows"] = [measure(settings, task) for task in settings["tasks"]]
    finally:
        distribution.set_precision("float32")
    print(format_table(content))
    results_file.write(content, settings["output"])
    return content


def format_table(content):
    """The rows as lines of text."""
    lines = [
        f"fine-tuning steps, {content['num_batches']} batches of "
        f"{content['batch_size']}, {content['precision']}",
        f"{'task':12}  padded to  cut to (mean)  {'samples/s':>17}  ratio",
    ]
    for row in content["rows"]:
        rates = " -> ".join(f"{row['samples_per_second'][arm]:.1f}" for arm in ARMS)
        lines.append(
            f"{row['task']:12}  {row['text_length']:9}  {row['mean_length']:13.1f}  "
            f"{rates:>17}  {row['ratio']:5.2f}"
        )
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("A fine-tuning step with texts cut and with texts padded.")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string(
        "checkpoint",
        None,
        "Pre-training run that the models have their sizes from; weights are random.",
        required=True,
    )
    page.list("tasks", list(_JOBS), "Tasks, comma-separated.")
    page.integer("batch_size", 64, "Pairs a step.", lower_bound=2)
    page.enum("precision", "float32", list(distribution.PRECISIONS), "Number format.")
    page.integer("num_batches", 20, "Batches that are timed.", lower_bound=1)
    page.string("output", None, "JSON file for the figures.")
    return page


def main(values):
    for task in values["tasks"]:
        if task not in _JOBS:
            raise ValueError(
                f"`tasks` should be of {list(_JOBS)}. Received: {values['tasks']}"
            )
    run(values)


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
