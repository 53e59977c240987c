"""CLI: pre-trains Kaleido-BERT on a prepared data set.

Flags -> config, strategy, data, model -> Keras fit -> checkpoints and logs in a run
folder. Started again with the same flags it goes on from the last whole checkpoint.
"""

import json

from absl import logging

from kaleido_tf import cli
from kaleido_tf.config import AKPM_TASKS, LOSS_NAMES, PRESETS, KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.input_pipeline import PretrainingData, naming_damage
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.modeling.models import count_parameters
from kaleido_tf.port import initial
from kaleido_tf.training import (
    callbacks,
    checkpoints,
    distribution,
    loop,
    run_data,
    run_folder,
    stopping,
    training_flags,
)
from kaleido_tf.training.trainer import PretrainingModel

# Flags that don't decide what a run computes; a resumed run must have the same others.
# A batch is the same on any number of devices.
_FREE_FLAGS = (
    *training_flags.FREE,
    "validation_examples",
    "run_dir",
    "strategy",
    "accumulate_steps",
)


def _data_flags(page):
    page.heading("Data")
    page.string(
        "data_dir",
        None,
        "Folder of a prepared data set (python -m data_prep.prepare).",
        required=True,
    )
    page.string(
        "run_dir", None, "Folder for config, checkpoints and logs.", required=True
    )
    page.integer(
        "validation_examples",
        512,
        "Images of the validation split to measure each round on; 0 for all.",
        lower_bound=0,
    )


def _model_flags(page):
    page.heading("Model")
    page.enum(
        "model",
        "base",
        list(PRESETS),
        "Size: base is the paper's (12 layers, 768 hidden); small and tiny are for a "
        "CPU and start with the recipe of docs/recipe.md.",
    )
    page.string(
        "config",
        None,
        "JSON file with KaleidoConfig fields that override the preset's.",
    )
    page.integer("text_length", 64, "Word pieces of a text, [CLS] and [SEP] included.")
    page.list(
        "akpm_tasks",
        list(AKPM_TASKS),
        "Patch tasks to train, comma-separated; none: none of them (table 4's arms).",
    )
    page.list(
        "matched_only_losses",
        list(KaleidoConfig.matched_only_losses),
        "Losses that leave mismatched pairs out, comma-separated names out of "
        f"{', '.join(LOSS_NAMES)}; an empty value counts every pair everywhere, as the "
        "release does.",
    )
    page.integer(
        "contrastive_size",
        None,
        "Numbers in a vector of the eighth loss, which aligns text and image before "
        "fusion; 0 trains the paper's seven.",
        shown_default="that of --model; 0 for base",
    )
    page.string(
        "init_checkpoint",
        None,
        "Weights to start from: a run folder or checkpoint of ours, of the original "
        "release, of Google's BERT or Hugging Face's (docs/porting.md). It decides the "
        "encoder's sizes.",
    )


def _training_flags(page):
    page.heading("Training")
    page.integer("num_steps", 100000, "Length of the run, steps.", lower_bound=1)
    page.integer(
        "batch_size", 64, "Pairs a step, all replicas together.", lower_bound=2
    )
    training_flags.optimizer(page, learning_rate=1e-4)
    page.enum(
        "masking",
        "aligned",
        ["aligned", "random"],
        "aligned: pairs first (AGM). random: table 4's other arm. Without alignments "
        "in the data both are the same.",
    )
    page.float(
        "mismatch_rate",
        0.5,
        "Share of a batch's pairs that are mismatched, 0 to 1.",
        lower_bound=0,
        upper_bound=1,
    )
    page.float(
        "hard_rate",
        0.0,
        "Of these, the share drawn from the same sub-category, 0 to 1.",
        lower_bound=0,
        upper_bound=1,
    )
    page.integer(
        "hard_start",
        0,
        "Step from which hard_rate holds; before it, it is 0.",
        lower_bound=0,
    )
    training_flags.seed(page, "weights, order, pairs, masks and corruptions")
    training_flags.rounds(page, steps_per_round=1000)
    training_flags.faults(page)


def make_page():
    page = cli.FlagPage("Pre-trains Kaleido-BERT on a prepared data set.")
    _data_flags(page)
    _model_flags(page)
    _training_flags(page)
    training_flags.hardware(page)
    return page


def _task_names(names):
    """Patch tasks as the flag gives them, () for "none"."""
    return () if names == ["none"] else tuple(names)


def make_config(flags, info):
    """The model's config from flags and data set."""
    changes = {
        "vocab_size": info.vocab_size,
        "patch_feature_size": info.feature_size,
        "patch_arm": info.patch_arm,
        "text_length": flags["text_length"],
        "akpm_tasks": _task_names(flags["akpm_tasks"]),
        "matched_only_losses": tuple(n for n in flags["matched_only_losses"] if n),
    }
    if flags["init_checkpoint"]:
        changes |= initial.read_sizes(flags["init_checkpoint"], flags["run_dir"])
    if flags["contrastive_size"] is not None:
        changes["contrastive_size"] = flags["contrastive_size"]
    if flags["config"]:
        with open(flags["config"], encoding="utf-8") as file:
            changes |= json.load(file)
    preset = KaleidoConfig.preset(flags["model"])
    values = {**json.loads(preset.to_json()), **changes}
    if not flags["init_checkpoint"]:  # whose position table is as long as it is
        values["max_position_embeddings"] = max(
            values["max_position_embeddings"], values["text_length"]
        )
    return KaleidoConfig.from_dict(values, source=f"--config={flags['config']}")


def pretrain(flags):
    """Runs pre-training.

    Args:
      flags: dict of the flags' values.

    Returns:
      The trained `PretrainingModel`.

    Raises:
      SystemExit: a signal has stopped the run, or a worker of several was lost; see
        `training.stopping`.
    """
    workers = distribution.num_workers(flags["strategy"])
    with stopping.ending_with_lost_workers(workers):
        return _pretrain(flags)


def _pretrain(flags):
    strategy = loop.start_process(flags)
    _check_own_shares(flags, distribution.worker_of(strategy)[1])
    with run_folder.held(flags["run_dir"], distribution.is_chief(strategy)):
        return _train(flags, strategy)


def _check_own_shares(flags, workers):
    if flags.get("worker_data") == "own_share" and flags["batch_size"] < 2 * workers:
        raise ValueError(
            "With --worker_data=own_share `batch_size` should be at least two rows for "
            f"each of the {workers} workers: mismatched pairs are made of a worker's "
            f"own rows. Received: {flags['batch_size']}"
        )


def _train(flags, strategy):
    info = DatasetInfo.load(flags["data_dir"])
    info.num_examples("validation")  # or there is nothing to measure rounds on
    config = make_config(flags, info)
    chief = distribution.is_chief(strategy)
    run_folder.start(flags, config, info, _FREE_FLAGS, strategy)
    data = make_data(flags, info, config)
    num_steps = loop.whole_rounds(flags)
    with strategy.scope():
        model = PretrainingModel(
            build_pretrainer(config), config, flags["xla"], **loop.step_settings(flags)
        )
        loop.compile_model(flags, model, num_steps)
    keeper = checkpoints.CheckpointKeeper(
        flags["run_dir"],
        model.pretrainer,
        model.optimizer,
        flags["keep_checkpoints"],
        writes=chief,
    )
    start_step, state = loop.resume(flags["run_dir"], keeper, strategy)
    if flags["init_checkpoint"] and not start_step:
        run_data.check_fits(flags["init_checkpoint"], info, run_data.PIECES)
        report = initial.load_any(
            model.pretrainer, flags["init_checkpoint"], info.vocab_file
        )
        logging.info("%s", report.listing())
    logging.info(
        "%s model, %.1f million parameters; %d training examples, %d steps of %d",
        flags["model"],
        count_parameters(model.pretrainer) / 1e6,
        info.num_examples("train"),
        num_steps,
        flags["batch_size"],
    )
    fit(flags, model, data, strategy, keeper, start_step, state)
    return model


def make_data(flags, info, config):
    """`PretrainingData` as the flags have it."""
    return PretrainingData(
        info,
        Tokenizer.from_file(info.vocab_file),
        config,
        batch_size=flags["batch_size"],
        seed=flags["seed"],
        mismatch_rate=flags["mismatch_rate"],
        hard_rate=flags["hard_rate"],
        hard_start=flags["hard_start"],
        masking=flags["masking"],
    )


def fit(flags, model, data, strategy, keeper, start_step, state=None):
    """Trains from `start_step` on and validates on the validation split."""
    round_end = callbacks.RoundEnd(
        flags["run_dir"],
        keeper,
        flags["steps_per_round"],
        flags["batch_size"],
        writes_logs=distribution.is_chief(strategy),
    )
    most = flags["validation_examples"] or data.info.num_examples("validation")
    count = min(most, data.info.num_examples("validation"))
    validation = data.validation_dataset(most)
    datasets = loop.feed(flags, strategy, data.training_dataset, validation, count)
    run = loop.Run(model, strategy, keeper, round_end, start_step, state, data)
    with naming_damage(data.info, ("train", "validation")):
        loop.fit(flags, run, datasets)


def main(page):
    pretrain(page.values())


if __name__ == "__main__":
    PAGE = make_page()
    cli.run(lambda: main(PAGE), PAGE)
