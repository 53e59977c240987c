"""The fine-tuning loop that all tasks share: a task brings a `Job`, the rest is here.

Start from any of the four kinds of checkpoint, strategy, precision, XLA, rounds that
end with the dev part's figures, TensorBoard, resuming, early stopping, and the best
checkpoint apart from the last ones. The split that is evaluated in the end never takes
part.
"""

import dataclasses
import json
import os
import time
import typing

from absl import logging

from kaleido_tf import files
from kaleido_tf.data.input_pipeline import naming_damage
from kaleido_tf.modeling.models import count_parameters
from kaleido_tf.port import initial
from kaleido_tf.training import (
    best,
    callbacks,
    checkpoints,
    distribution,
    loop,
    run_data,
    run_folder,
    stopping,
    training_flags,
)
from kaleido_tf.training.task_context import (
    Context,
    check_task,
    initial_checkpoint,
    make_context,
    open_run,
)
from kaleido_tf.training.trainer import TrainingModel

__all__ = ["Context", "Job", "check_task", "open_run", "train"]

# Flags of evaluation and prediction: no part of a training run.
EVALUATION_FLAGS = (
    "mode",
    "checkpoint",
    "output_dir",
    "split",
    "eval_batch_size",
    "lists_dir",
    "num_lists",
    "num_queries",
    "max_full_pairs",
    "score",
    "rerank",
    "top_k",
    "decoding",
    "beam_size",
    "max_length",
    "length_penalty",
    "truth",
)
RESULT_NAME = "result.json"
HELD_OUT = "dev"  # in rows and logs
_FREE_FLAGS = (*training_flags.FREE, "run_dir")
# Parts of the encoder that a task may leave unused.
_UNUSED = ("^pooler/", "^vector_projection/")
# A checkpoint need not have any head; a task's own never is in a pre-training run.
_HEADS = (r".*_head(\..*)?",)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a task brings to the loop.

    Attributes:
      model: functional model of `kaleido_tf.modeling`; outputs a dict.
      make_batch: function (batch, seed) -> (inputs, labels), see
        `FinetuningData.training_dataset`.
      losses: function (labels, outputs) -> dict name -> float32 scalar; the total is
        their sum.
      accuracies: function (labels, outputs) -> dict name -> (value, weight: how many
        answers it is a mean of).
      loss_names, accuracy_names: the names these return: tuples of str.
      best: dev figure that chooses the best checkpoint: "accuracy/NAME", "loss/NAME"
        or "loss/total".
      best_is: "max" or "min".
      extras: written to RUN/task.json beside the task's name: what evaluation needs to
        know (class names, objective ...), as JSON has it.
      needs: see `FinetuningData`.
      counts: function of labels -> dict loss name -> float32 scalar, what that loss is
        a mean over where that isn't all rows; None: rows.
      alignment: `shares.Alignment` that is one of the losses, or None.
      augment: function (inputs, seed) -> inputs that changes training batches alone,
        or None.
    """

    model: object
    make_batch: typing.Callable
    losses: typing.Callable
    accuracies: typing.Callable
    loss_names: tuple
    accuracy_names: tuple
    best: str
    best_is: str
    extras: dict = dataclasses.field(default_factory=dict)
    needs: tuple = ()
    counts: typing.Callable | None = None
    alignment: object = None
    augment: typing.Callable | None = None

    def __post_init__(self):
        figures = ["loss/total", *(f"loss/{name}" for name in self.loss_names)]
        figures += [f"accuracy/{name}" for name in self.accuracy_names]
        if self.best not in figures:
            raise ValueError(
                f"`best` should be one of {figures}. Received: {self.best!r}"
            )

    def make_training_batch(self, batch, seed):
        """`make_batch`, augmented."""
        inputs, labels = self.make_batch(batch, seed)
        if self.augment:
            inputs = self.augment(inputs, seed)
        return inputs, labels


def train(settings, make_job):
    """Fine-tunes; goes on from the last whole checkpoint if there is one.

    Args:
      settings: dict of the flags of `run_finetune.py`.
      make_job: function of a `Context` -> `Job`, called in the strategy's scope.

    Returns:
      dict, the content of RUN/result.json: task, steps, stopped_early, best (step,
      metric, value), examples of training and dev part, left out ones, seconds of
      the last process.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
      SystemExit: a signal has stopped the run, or a worker of several was lost; see
        `stopping`.
    """
    workers = distribution.num_workers(settings["strategy"])
    with stopping.ending_with_lost_workers(workers):
        strategy = loop.start_process(settings, _least_rows(settings))
        with run_folder.held(settings["run_dir"], distribution.is_chief(strategy)):
            return _train(settings, make_job, strategy)


def _least_rows(settings):
    """Rows that a part must have: retrieval's rivals are a part's other rows."""
    return 2 if settings["task"] == "retrieval" else 1


def _train(settings, make_job, strategy):
    started = time.time()
    context = make_context(settings)
    flags = {k: v for k, v in settings.items() if k not in EVALUATION_FLAGS}
    chief = distribution.is_chief(strategy)
    run_folder.start(flags, context.config, context.info, _FREE_FLAGS, strategy)
    num_steps = loop.whole_rounds(settings)
    with strategy.scope():
        job = make_job(context)
        model = loop.compile_model(settings, training_model(job, settings), num_steps)
    data = context.data.with_needs(job.needs)
    data.steps_per_epoch()
    data.check_dev()
    _write_task(settings, job, chief)
    keeper = checkpoints.CheckpointKeeper(
        settings["run_dir"],
        job.model,
        model.optimizer,
        settings["keep_checkpoints"],
        writes=chief,
    )
    chooser = best.BestKeeper(
        settings["run_dir"],
        job.model,
        job.best,
        job.best_is,
        settings["patience"] or 0,
        writes=chief,
    )
    start_step, state = loop.resume(settings["run_dir"], keeper, strategy)
    _restore(settings, job, context.info, (start_step, state), chooser)
    _log_start(job, data, num_steps)
    path = os.path.join(settings["run_dir"], RESULT_NAME)
    last_step = start_step
    if start_step < num_steps and not chooser.exhausted or state is not None:
        round_end = _round_end(settings, keeper, chooser, chief)
        run = loop.Run(model, strategy, keeper, round_end, start_step, state, data)
        last_step = _fit(settings, job, run)
    elif os.path.exists(path):
        logging.info("nothing is left to do")
        return files.read_json(path)
    result = _result(settings, data, last_step, chooser, num_steps)
    result["seconds"] = round(time.time() - started, 1)
    if chief:
        files.write_json(result, path)
    return result


def training_model(job, settings):
    """The `TrainingModel` of a `Job`, with the flags' settings; not compiled yet."""
    return TrainingModel(
        job.model,
        job.losses,
        job.accuracies,
        job.loss_names,
        job.accuracy_names,
        settings["xla"],
        counts=job.counts,
        alignment=job.alignment,
        unused=_UNUSED,
        **loop.step_settings(settings),
    )


def _write_task(settings, job, writes=True):
    """Writes task.json; checks it where the run is resumed."""
    run_dir = settings["run_dir"]
    # As it will be read again: JSON has no tuples.
    task = json.loads(json.dumps({"task": settings["task"], **job.extras}))
    path = os.path.join(run_dir, run_folder.TASK_NAME)
    goes_on = run_folder.has_begun(run_dir)
    if goes_on and os.path.exists(path) and files.read_json(path) != task:
        raise ValueError(
            f"{path} should say what the data and flags say. Received: another task, "
            "or other classes (the data set was made anew? name another --run_dir)"
        )
    if writes:
        files.write_json(task, path)


def _restore(settings, job, info, resumed, chooser):
    """Takes over what an earlier process chose, or loads the weights to start from.

    Args:
      settings: dict of the flags.
      job: `Job`.
      info: `DatasetInfo`.
      resumed: what `loop.resume` returned.
      chooser: `best.BestKeeper`.
    """
    start_step, state = resumed
    rows = callbacks.read_metrics(settings["run_dir"]) if start_step else []
    # Not every worker drops rows, and the one that does may be later.
    last = loop.last_row_step(start_step, state)
    chooser.replay(r for r in rows if r["split"] == HELD_OUT and r["step"] <= last)
    if start_step:
        return
    path = initial_checkpoint(settings)
    if not path:
        logging.info("from scratch")
        return
    run_data.check_fits(path, info, run_data.PIECES)
    report = initial.load_any(
        job.model,
        path,
        info.vocab_file,
        allow_missing=_HEADS,
        fresh=_foreign_heads(path, job),
    )
    logging.info("%s", report.listing())


def _foreign_heads(path, job):
    """Heads of another fine-tuned run that know other classes: tuple of names."""
    if initial.kind_of(path) != "ours":
        return ()
    stored = run_folder.read_task(path).get("class_names")
    same = stored == job.extras.get("class_names")
    return () if same else ("class_head",)


def _log_start(job, data, num_steps):
    logging.info(
        "%.1f million parameters; %d training and %d dev examples, %d left out (no %s);"
        " %d steps of %d",
        count_parameters(job.model) / 1e6,
        data.num_train_examples,
        data.num_dev_examples,
        data.num_left_out,
        " or ".join(data.needs) or "need",
        num_steps,
        data.batch_size,
    )


def _round_end(settings, keeper, chooser, chief):
    return callbacks.RoundEnd(
        settings["run_dir"],
        keeper,
        settings["steps_per_round"],
        settings["batch_size"],
        writes_logs=chief,
        held_out=HELD_OUT,
        chooser=chooser,
    )


def _fit(settings, job, run):
    """Trains; returns the last step whose round was closed."""
    data = run.data

    def training(step, worker, workers):
        return data.training_dataset(job.make_training_batch, step, worker, workers)

    held_out = data.dev_dataset(job.make_batch)
    count = data.num_dev_examples
    datasets = loop.feed(settings, run.strategy, training, held_out, count)
    with naming_damage(data.info, ("train",)):
        loop.fit(settings, run, datasets)
    return run.round_end.closed


def _result(settings, data, last_step, chooser, num_steps):
    """The outcome of a run as a dict."""
    if chooser.exhausted:
        logging.info(
            "stopped after %d rounds without a better %s",
            chooser.rounds_since,
            chooser.metric,
        )
    logging.info("best: step %s, %s %s", chooser.step, chooser.metric, chooser.value)
    return {
        "task": settings["task"],
        "steps": last_step,
        "stopped_early": last_step < num_steps,
        "best": {
            "step": chooser.step,
            "metric": chooser.metric,
            "value": chooser.value,
        },
        "num_train_examples": data.num_train_examples,
        "num_dev_examples": data.num_dev_examples,
        "num_left_out": data.num_left_out,
    }
