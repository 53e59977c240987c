"""What a report is made from, loaded and checked before anything is written.

A run's folder and the catalogue's pictures; the tasks' results are in `task_inputs`.
"""

import dataclasses
import json
import os

import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.manifest import field, image_id_of, is_utf8, read_lines
from kaleido_tf.training import callbacks, checkpoints

DIRECTIONS = ("itr", "tir")
RECALLS = ("rank@1", "rank@5", "rank@10")


@dataclasses.dataclass(frozen=True)
class Run:
    """A pre-training run's folder.

    Attributes:
      folder: its path.
      flags, versions: dicts, as run_pretrain.py wrote them.
      config: `KaleidoConfig`.
      info: `DatasetInfo` of the data it was trained on.
      train, validation: rows of metrics.jsonl by split, in the order of the steps.
      num_parameters: int, or None where no checkpoint is left.
    """

    folder: str
    flags: dict
    versions: dict
    config: KaleidoConfig
    info: DatasetInfo
    train: list
    validation: list
    num_parameters: int | None

    @property
    def steps(self):
        """Steps done."""
        return max(row["step"] for row in self.validation + self.train)

    @property
    def samples_per_second(self):
        """Median over the rounds, or None for a run without a timed round.

        A round that was stopped after its last step and closed by another process has
        a row without a speed.
        """
        rates = sorted(
            row["samples_per_second"] for row in self.train if _is_timed(row)
        )
        return rates[len(rates) // 2] if rates else None

    @property
    def training_seconds(self):
        """Seconds of the timed rounds' training, without validation and start."""
        before, seconds = 0, 0.0
        for row in self.train:
            if _is_timed(row):
                samples = (row["step"] - before) * self.flags["batch_size"]
                seconds += samples / row["samples_per_second"]
            before = row["step"]
        return seconds


def _is_timed(row):
    return bool(row.get("samples_per_second"))


def read_json(path, what, command):
    """A JSON object from a file.

    Args:
      path: the file.
      what: what it should be, for the error.
      command: what makes it, for the error.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a JSON object.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path} should be {what}. Received: no such file (it is written by "
            f"`{command}`)"
        )
    with open(path, encoding="utf-8") as file:
        try:
            values = json.load(file)
        except ValueError as error:
            raise ValueError(
                f"{path} should be {what}, as JSON. Received: {error} (it is written "
                f"by `{command}`)"
            ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} should hold a JSON object. Received: {type(values).__name__}"
        )
    return values


def load_run(run_dir, data_dir=None):
    """Reads a run folder.

    Args:
      run_dir: folder of `run_pretrain.py`.
      data_dir: folder of the data it was trained on; None: as the run names it.

    Returns:
      `Run`.

    Raises:
      FileNotFoundError, ValueError: what is missing or incomplete, and what to do.
    """
    command = f"python run_pretrain.py --run_dir={run_dir}"
    loaded = {
        name: read_json(os.path.join(run_dir, f"{name}.json"), what, command)
        for name, what in (
            ("flags", "the flags of a pre-training run"),
            ("versions", "the package versions of a pre-training run"),
            ("config", "the config of a pre-training run"),
        )
    }
    config = KaleidoConfig.from_json(os.path.join(run_dir, checkpoints.CONFIG_NAME))
    metrics = os.path.join(run_dir, callbacks.METRICS_NAME)
    rows = callbacks.read_metrics(run_dir) if os.path.isfile(metrics) else []
    by_split = {
        split: sorted(
            (row for row in rows if row["split"] == split), key=lambda r: r["step"]
        )
        for split in ("train", "validation")
    }
    if not by_split["validation"]:
        raise ValueError(
            f"{metrics} should hold at least one row of the validation split. "
            f"Received: {len(rows)} rows (let the run finish a round: `{command}`)"
        )
    return Run(
        folder=str(run_dir),
        flags=loaded["flags"],
        versions=loaded["versions"],
        config=config,
        info=_load_info(data_dir, loaded["flags"]["data_dir"]),
        num_parameters=count_parameters(run_dir),
        **by_split,
    )


def _load_info(data_dir, of_run):
    """`DatasetInfo` of a run's data, where they are now or were when it was trained."""
    try:
        return DatasetInfo.load(data_dir or of_run)
    except FileNotFoundError as error:
        if data_dir:
            raise
        raise FileNotFoundError(
            f"The run's data should be where it found them, in {of_run!r}, or be named "
            f"by --data_dir. Received: {error}"
        ) from error


def count_parameters(run_dir):
    """Numbers in the encoder and the heads of a run's last checkpoint, or None."""
    try:
        prefix = checkpoints.checkpoint_prefix(str(run_dir))
    except FileNotFoundError:
        return None
    parts = [
        shape
        for name, shape in tf.train.list_variables(prefix)
        if name.startswith("encoder/") or name.split("/")[0].endswith("_head")
    ]
    return sum(tf.TensorShape(shape).num_elements() for shape in parts)


def picture_paths(manifest, image_ids):
    """Where the pictures of some image ids are, by the catalogue's manifest.

    Args:
      manifest: .jsonl or .csv, one line an image, with `image` (path relative to the
        manifest) and optionally `image_id` (default: the file's name). Lines that
        can't be read are passed over; preparation has listed them.
      image_ids: the ids that are wanted.

    Returns:
      dict image_id -> path, without those that the manifest doesn't name.

    Raises:
      FileNotFoundError: no manifest.
      ValueError: another ending than .jsonl or .csv, or it names none of the ids, so it
        belongs to another catalogue.
    """
    if not os.path.isfile(manifest):
        raise FileNotFoundError(
            f"`manifest` should be the catalogue's JSON lines or CSV. Received: "
            f"{manifest}, no such file (name the one that the data was prepared from)"
        )
    folder, wanted, paths = os.path.dirname(manifest), set(image_ids), {}
    for _, row in read_lines(manifest):
        if _names_a_picture(row) and (image_id := image_id_of(row)) in wanted:
            paths.setdefault(image_id, os.path.join(folder, field(row, "image")))
    if wanted and not paths:
        raise ValueError(
            f"`manifest` should name the pictures that are shown, such as "
            f"{sorted(wanted)[:3]}. Received: {manifest}, which names none of them "
            "(name the one that the data was prepared from)"
        )
    return paths


def _names_a_picture(row):
    """Whether `read_lines` read a line, and preparation would read its picture."""
    return (
        isinstance(row, dict)
        and not any(isinstance(row.get(k), list | dict) for k in ("image", "image_id"))
        and field(row, "image") != ""
        and is_utf8(field(row, "image"))
    )
