"""A run's folder: config, flags, data, versions; the same ones where it goes on.

Shared by pre-training and fine-tuning. A fine-tuned run has `task.json` besides: its
task, and what the task needs to know to use the weights (class names, say).
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform

from absl import logging

from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.training import checkpoints, distribution, run_data

FLAGS_NAME = "flags.json"
TASK_NAME = "task.json"
PARTS_NAME = "replicas.json"
# Flags that may differ between the workers of a run: paths of the machine, and what the
# chief alone does.
_OF_ONE_WORKER = (
    "run_dir",
    "data_dir",
    "init_checkpoint",
    "config",
    "keep_checkpoints",
    "profile_steps",
)
_PACKAGES = ("tensorflow", "tf-keras", "tf-models-official", "tensorflow-text", "numpy")


def start(flags, config, info, free_flags, strategy):
    """Writes config, flags, data and versions; checks them where the run is resumed.

    All workers must call it: what they were started with is compared first. The chief
    alone writes.

    Args:
      flags: dict of the command's flags, with `run_dir` and `resume`.
      config: `KaleidoConfig`.
      info: `DatasetInfo`.
      free_flags: names of flags that don't decide what a run computes; a resumed run
        must have the others as it was started.
      strategy: the run's strategy.

    Raises:
      ValueError: other flags, another config, other data, or checkpoints there with
        resume=False; see `check_workers` and `check_parts` besides. Nothing is written.
    """
    check_workers(strategy, flags, config, info)
    writes, run_dir = distribution.is_chief(strategy), flags["run_dir"]
    os.makedirs(run_dir, exist_ok=True)
    folder = os.path.join(run_dir, checkpoints.CHECKPOINT_FOLDER)
    started = checkpoints.whole_checkpoints(folder)
    if started and not flags["resume"]:
        raise ValueError(
            f"`run_dir` should be a new folder with --resume=false. Received: {run_dir}"
            f", which has checkpoints up to step {started[-1][0]} (remove it, or name "
            "another)"
        )
    flags_path = os.path.join(run_dir, FLAGS_NAME)
    config_path = os.path.join(run_dir, checkpoints.CONFIG_NAME)
    if started and os.path.exists(flags_path):
        _check_same(flags, files.read_json(flags_path), free_flags)
    if started and os.path.exists(config_path):
        _check_config(config, config_path)
    if started:
        run_data.check_same(run_dir, info)
    check_parts(run_dir, strategy, flags, writes)
    if not writes:
        return
    config.save(config_path)
    files.write_json(run_data.describe(info), os.path.join(run_dir, run_data.FILE_NAME))
    files.write_json(flags, flags_path)
    files.write_json(_versions(), os.path.join(run_dir, "versions.json"))


def held(run_dir, writes):
    """A context in which no other run writes into the folder.

    Args:
      run_dir: the run's folder, made if it isn't there.
      writes: False on workers other than the chief, which hold nothing.
    """
    return files.locked(run_dir) if writes else contextlib.nullcontext()


def check_workers(strategy, flags, config, info):
    """Raises ValueError where workers were started with other flags or data.

    All workers must call it; where the folders lie may differ from one to the other.
    """
    own = {k: v for k, v in flags.items() if k not in _OF_ONE_WORKER}
    values = [own, dataclasses.asdict(config), run_data.describe(info)]
    distribution.check_same(
        strategy,
        lambda: json.dumps(values, sort_keys=True).encode(),
        "flags, config and data",
    )


def check_parts(run_dir, strategy, flags, writes=True):
    """Notes how many workers and replicas a run has; checks it where that matters.

    Args:
      run_dir: the run's folder.
      strategy: the strategy.
      flags: dict.
      writes: False on workers other than the chief.

    Raises:
      ValueError: the run has begun with another number of workers that read their own
        shares of the records.
    """
    workers = distribution.worker_of(strategy)[1]
    parts = {"workers": workers, "replicas": strategy.num_replicas_in_sync}
    path = os.path.join(run_dir, PARTS_NAME)
    if has_begun(run_dir) and os.path.exists(path):
        before = files.read_json(path)
        if before != parts and flags.get("worker_data") == "own_share":
            raise ValueError(
                "With --worker_data=own_share a run should go on with as many workers "
                f"and replicas as it began with, {before}: its records are dealt out "
                f"to them. Received: {parts}"
            )
        if before != parts and flags.get("task") == "retrieval":
            logging.warning(
                "the run began with %s and goes on with %s: rivals are drawn within a "
                "replica's rows, so its figures become others",
                before,
                parts,
            )
    if writes:
        files.write_json(parts, path)


def _check_same(flags, before, free_flags):
    # A flag that is newer than the run is free: nobody knows what it was then.
    fixed = {name: v for name, v in flags.items() if name not in free_flags}
    if changed := _changes(before, fixed):
        raise ValueError(
            f"The flags should be those {flags['run_dir']} was started with. Received "
            f"changed ones: {changed} (before, now); name another --run_dir for "
            "another run, with --init_checkpoint to start from these weights"
        )


def _check_config(config, path):
    before = dataclasses.asdict(KaleidoConfig.from_json(path))
    if changed := _changes(before, dataclasses.asdict(config)):
        raise ValueError(
            f"The config should be that of {path}. Received changed fields: {changed} "
            "(before, now): from --config's file, the data or the checkpoint to start "
            "from; name another --run_dir for another run"
        )


def _changes(before, now):
    """What differs among the values that both have: dict name -> (before, now)."""
    return {
        name: (before[name], value)
        for name, value in now.items()
        if before.get(name, value) != value
    }


def _versions():
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **versions}


def read_task(path):
    """What a fine-tuned run's `task.json` holds: dict; {} for a pre-training run.

    Args:
      path: run folder or checkpoint, see `checkpoints.checkpoint_prefix`.
    """
    prefix = checkpoints.checkpoint_prefix(path)
    file = checkpoints.run_file(prefix, TASK_NAME)
    return {} if file is None else files.read_json(file)


def has_begun(run_dir):
    """Whether a run has a whole checkpoint to go on from: bool."""
    folder = os.path.join(run_dir, checkpoints.CHECKPOINT_FOLDER)
    return bool(checkpoints.whole_checkpoints(folder))


def started_config(run_dir):
    """The `KaleidoConfig` of a run that has a whole checkpoint to go on from, or None.

    Args:
      run_dir: the run's folder, which needn't be there; or None.
    """
    if not run_dir or not has_begun(run_dir):
        return None
    path = os.path.join(run_dir, checkpoints.CONFIG_NAME)
    return KaleidoConfig.from_json(path) if os.path.isfile(path) else None
