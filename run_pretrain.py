"""CLI: pre-trains Kaleido-BERT on a prepared data set.

Flags -> config, strategy, data, model -> Keras fit -> checkpoints and logs in a run
folder. Started again with the same flags it goes on from the last whole checkpoint.
"""

import importlib.metadata
import json
import math
import os
import platform

import tensorflow as tf
import tf_keras
from absl import logging

from kaleido_tf import cli
from kaleido_tf.config import AKPM_TASKS, LOSS_NAMES, PRESETS, KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.input_pipeline import PretrainingData
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.modeling.models import count_parameters
from kaleido_tf.port import initial
from kaleido_tf.training import callbacks, checkpoints, distribution, optimization
from kaleido_tf.training.trainer import PretrainingModel

_PACKAGES = ("tensorflow", "tf-keras", "tf-models-official", "tensorflow-text", "numpy")
# Flags that decide what a run computes: a resumed run must have the same ones.
_FREE_FLAGS = ("resume", "keep_checkpoints", "validation_examples", "run_dir")


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
        "Patch tasks to train, comma-separated (table 4's arms).",
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
        "Length of the vectors of the eighth loss, which aligns text and image before "
        "fusion; 0 trains the paper's seven. Default: the preset's (0 at base size).",
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
    page.float("learning_rate", 1e-4, "Peak of the schedule.", lower_bound=0.0)
    page.integer(
        "warmup_steps",
        None,
        "Linear warm-up, steps. Default: a tenth of num_steps, at most 5000.",
    )
    page.float("weight_decay", 1e-4, "Decoupled decay, times the learning rate.")
    page.float("clip_norm", 1.0, "Bound on the global gradient norm; 0 for none.")
    page.enum(
        "masking",
        "aligned",
        ["aligned", "random"],
        "aligned: pairs first (AGM). random: table 4's other arm. Without alignments "
        "in the data both are the same.",
    )
    page.float(
        "mismatch_rate", 0.5, "Share of mismatched pairs.", lower_bound=0, upper_bound=1
    )
    page.float(
        "hard_rate",
        0.0,
        "Of these, the share drawn from the same sub-category.",
        lower_bound=0,
        upper_bound=1,
    )
    page.integer("hard_start", 0, "Step from which hard_rate holds.", lower_bound=0)
    page.integer("seed", 0, "Of weights, order, pairs, masks and corruptions.")
    page.integer(
        "steps_per_round",
        1000,
        "Steps between validations and checkpoints; num_steps is rounded up to whole "
        "rounds.",
        lower_bound=1,
    )
    page.integer("keep_checkpoints", 3, "How many of them are kept.", lower_bound=1)
    page.bool(
        "resume", True, "Go on from the last whole checkpoint of run_dir, if any."
    )


def _hardware_flags(page):
    page.heading("Hardware")
    page.enum(
        "strategy",
        "one_device",
        list(distribution.STRATEGIES),
        "one_device; mirrored: every GPU of this machine; multi_worker: the machines "
        "of TF_CONFIG.",
    )
    page.enum(
        "precision",
        "float32",
        list(distribution.PRECISIONS),
        "Number format of the layers; losses and weights stay float32.",
    )
    page.bool("xla", False, "Compile the step's forward and backward pass with XLA.")


def make_page():
    page = cli.FlagPage("Pre-trains Kaleido-BERT on a prepared data set.")
    _data_flags(page)
    _model_flags(page)
    _training_flags(page)
    _hardware_flags(page)
    return page


def make_config(flags, info):
    """The model's config from flags and data set."""
    changes = {
        "vocab_size": info.vocab_size,
        "patch_feature_size": info.feature_size,
        "patch_arm": info.patch_arm,
        "text_length": flags["text_length"],
        "akpm_tasks": tuple(flags["akpm_tasks"]),
        "matched_only_losses": tuple(n for n in flags["matched_only_losses"] if n),
    }
    if flags["init_checkpoint"]:
        changes |= initial.read_sizes(flags["init_checkpoint"])
    if flags["contrastive_size"] is not None:
        changes["contrastive_size"] = flags["contrastive_size"]
    if flags["config"]:
        with open(flags["config"], encoding="utf-8") as file:
            changes |= json.load(file)
    preset = KaleidoConfig.preset(flags["model"])
    values = {**json.loads(preset.to_json()), **changes}
    values["max_position_embeddings"] = max(
        values["max_position_embeddings"], values["text_length"]
    )
    return KaleidoConfig.from_dict(values, source=f"--config={flags['config']}")


def _versions():
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions}


def start_run_folder(flags, config):
    """Writes config, flags and versions; checks them where the run is resumed."""
    run_dir = flags["run_dir"]
    os.makedirs(run_dir, exist_ok=True)
    folder = os.path.join(run_dir, checkpoints.CHECKPOINT_FOLDER)
    flags_path = os.path.join(run_dir, "flags.json")
    started = checkpoints.whole_checkpoints(folder)
    if started and not flags["resume"]:
        raise ValueError(
            f"`run_dir` should be a new folder with --resume=false. Received: {run_dir}"
            f", which has checkpoints up to step {started[-1][0]} (remove it, or name "
            "another)"
        )
    if started and os.path.exists(flags_path):
        with open(flags_path, encoding="utf-8") as file:
            before = json.load(file)
        changed = {
            name: (before.get(name), value)
            for name, value in flags.items()
            if before.get(name) != value and name not in _FREE_FLAGS
        }
        if changed:
            raise ValueError(
                f"The flags should be those {run_dir} was started with. Received "
                f"changed ones: {changed} (before, now); name another --run_dir for "
                "another run, with --init_checkpoint to start from these weights"
            )
    config.save(os.path.join(run_dir, checkpoints.CONFIG_NAME))
    for name, content in (("flags.json", flags), ("versions.json", _versions())):
        with open(os.path.join(run_dir, name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)


def make_model(flags, config, strategy, num_steps):
    """The compiled model under the strategy."""
    warmup = flags["warmup_steps"]
    if warmup is None:
        warmup = min(5000, num_steps // 10)
    with strategy.scope():
        model = PretrainingModel(build_pretrainer(config), config, flags["xla"])
        optimizer = optimization.make_optimizer(
            flags["learning_rate"],
            num_steps,
            warmup,
            weight_decay=flags["weight_decay"],
            clip_norm=flags["clip_norm"],
            loss_scaling=flags["precision"] == "mixed_float16",
        )
        model.compile(optimizer=optimizer)
        # Slots must exist before a checkpoint is read into them.
        optimizer.build(model.pretrainer.trainable_variables)
    return model


def make_datasets(flags, data, strategy, start_step):
    """(training, validation) for fit."""
    worker, workers = distribution.worker_of(strategy)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    validation = data.validation_dataset(flags["validation_examples"] or None)
    validation = validation.with_options(options)
    if workers == 1:
        return data.training_dataset(start_step).with_options(options), validation
    per_replica = flags["batch_size"] // strategy.num_replicas_in_sync

    def for_worker(_):
        dataset = data.training_dataset(start_step, worker, workers)
        return dataset.rebatch(per_replica, drop_remainder=True)

    return strategy.distribute_datasets_from_function(for_worker), validation


def pretrain(flags):
    """Runs pre-training.

    Args:
      flags: dict of the flags' values.

    Returns:
      The trained `PretrainingModel`.
    """
    strategy = distribution.make_strategy(flags["strategy"])
    distribution.set_precision(flags["precision"])
    tf_keras.utils.set_random_seed(flags["seed"])
    callbacks.use_reseedable_dropout()
    info = DatasetInfo.load(flags["data_dir"])
    config = make_config(flags, info)
    start_run_folder(flags, config)
    data = PretrainingData(
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
    rounds = math.ceil(flags["num_steps"] / flags["steps_per_round"])
    num_steps = rounds * flags["steps_per_round"]
    model = make_model(flags, config, strategy, num_steps)
    keeper = checkpoints.CheckpointKeeper(
        flags["run_dir"], model.pretrainer, model.optimizer, flags["keep_checkpoints"]
    )
    start_step = keeper.restore_latest()
    callbacks.drop_rows_after(flags["run_dir"], start_step or -1)
    if start_step:
        logging.info("going on from step %d of %s", start_step, flags["run_dir"])
    elif flags["init_checkpoint"]:
        report = initial.load_any(
            model.pretrainer, flags["init_checkpoint"], info.vocab_file
        )
        logging.info("%s", report.summary())
    logging.info(
        "%s model, %.1f million parameters; %d training examples, %d steps of %d",
        flags["model"],
        count_parameters(model.pretrainer) / 1e6,
        info.num_examples("train"),
        num_steps,
        flags["batch_size"],
    )
    fit(flags, model, data, strategy, keeper, start_step, num_steps)
    return model


def fit(flags, model, data, strategy, keeper, start_step, num_steps):
    """Keras fit in rounds from `start_step` to `num_steps`."""
    batch_size, steps_per_round = flags["batch_size"], flags["steps_per_round"]
    worker, _ = distribution.worker_of(strategy)
    round_end = callbacks.RoundEnd(
        flags["run_dir"], keeper, steps_per_round, batch_size, writes_logs=worker == 0
    )
    train, validation = make_datasets(flags, data, strategy, start_step)
    if not start_step:
        before = model.evaluate(validation, verbose=0, return_dict=True)
        round_end.write(0, "validation", before)
    model.fit(
        train,
        validation_data=validation,
        epochs=num_steps // steps_per_round,
        initial_epoch=start_step // steps_per_round,
        steps_per_epoch=steps_per_round,
        callbacks=[
            callbacks.Reseed(model.pretrainer, flags["seed"]),
            callbacks.Progress(num_steps, batch_size, start_step),
            round_end,
        ],
        verbose=0,
    )


def main(page):
    pretrain(page.values())


if __name__ == "__main__":
    PAGE = make_page()
    cli.run(lambda: main(PAGE), PAGE)
