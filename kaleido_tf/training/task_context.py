"""What a fine-tuning task works with: data set, config, and a run that is opened.

Between the command's flags and the loop (`finetuning.py`), and between a run's folder
and its evaluation.
"""

import dataclasses

from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.finetuning_data import FinetuningData
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.port import initial
from kaleido_tf.training import checkpoints, distribution, run_data, run_folder


@dataclasses.dataclass(frozen=True)
class Context:
    """What a task is given to work with.

    Attributes:
      settings: dict of the command's flags.
      info: `DatasetInfo`.
      tokenizer: `Tokenizer` of its vocabulary.
      config: `KaleidoConfig`.
      data: `FinetuningData`.
      checkpoint: of a run that was opened: the prefix of its weights.
      task: of a run that was opened: its task.json; {} for a pre-training run.
    """

    settings: dict
    info: DatasetInfo
    tokenizer: Tokenizer
    config: KaleidoConfig
    data: FinetuningData
    checkpoint: str | None = None
    task: dict = dataclasses.field(default_factory=dict)


def initial_checkpoint(settings):
    """The checkpoint that --init_checkpoint names, or None: from scratch."""
    path = settings["init_checkpoint"]
    return None if path in (None, "", "none") else path


def make_config(settings, info):
    """The model's config.

    That of the run to start from where it is ours; else the preset's, with the sizes
    of data and checkpoint. --text_length and --config override it.
    """
    path = initial_checkpoint(settings)
    if start := _start_config(settings, path):
        values = dataclasses.asdict(start)
    else:
        values = dataclasses.asdict(KaleidoConfig.preset(settings["model"] or "base"))
        values["vocab_size"] = info.vocab_size
        values["patch_feature_size"] = info.feature_size
        values["patch_arm"] = info.patch_arm
        values |= initial.read_sizes(path) if path else {}
    if settings["text_length"]:
        values["text_length"] = settings["text_length"]
    if settings["config"]:
        values |= files.read_json(settings["config"])
    if not path:  # a checkpoint's position table is as long as it is
        values["max_position_embeddings"] = max(
            values["max_position_embeddings"], values["text_length"]
        )
    return KaleidoConfig.from_dict(values, source=f"--config={settings['config']}")


def _start_config(settings, path):
    """The config of a start `path` of ours, or of the run that began there; or None."""
    if path is None:
        return None
    try:
        return checkpoints.run_config(path) if initial.kind_of(path) == "ours" else None
    except FileNotFoundError:
        # The start may be gone by the time that a run goes on.
        if own := run_folder.started_config(settings["run_dir"]):
            return own
        raise


def make_context(settings, config=None, batch_size=None, **kwargs):
    """`Context` of a data set and a config (default: `make_config`'s)."""
    info = DatasetInfo.load(settings["data_dir"])
    config = config or make_config(settings, info)
    tokenizer = Tokenizer.from_file(info.vocab_file)
    data = FinetuningData(
        info,
        tokenizer,
        config,
        batch_size=batch_size or settings["batch_size"],
        seed=settings["seed"] or 0,
        dev_fraction=settings["dev_fraction"],
    )
    return Context(settings, info, tokenizer, config, data, **kwargs)


def open_run(settings):
    """What evaluation and prediction start from; sets the precision.

    Args:
      settings: dict with `checkpoint`, `data_dir`, `precision`, `eval_batch_size`.

    Returns:
      `Context` with `checkpoint` and `task`; the weights aren't loaded yet
      (`checkpoints.load_weights(model, context.checkpoint)`).

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    prefix = checkpoints.checkpoint_prefix(settings["checkpoint"])
    config = checkpoints.run_config(prefix)
    context = make_context(
        settings,
        config,
        settings["eval_batch_size"],
        checkpoint=prefix,
        task=run_folder.read_task(prefix),
    )
    run_data.check_fits(prefix, context.info)
    distribution.set_precision(settings["precision"])
    return context


def check_task(context, *tasks):
    """Raises ValueError where an opened run was not fine-tuned for one of `tasks`."""
    if context.task.get("task") in tasks:
        return
    received = context.task.get("task")
    raise ValueError(
        f"`checkpoint` should be of a run fine-tuned for {' or '.join(tasks)}. "
        f"Received: {context.settings['checkpoint']}, "
        + (f"fine-tuned for {received}" if received else "a pre-training run")
        + f" (run_finetune.py --mode=train --task={tasks[0]} makes one)"
    )
