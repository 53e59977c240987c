"""`dataset_info.json`: what is true of every record of a data set, checked on reading.

Written last by data preparation, so a data set without it is not whole. Holds: schema
version, patch arm and level table, feature size, backbone with its weights' hash, text
settings with the fields that make the text and the vocabulary's hash, class tables of
the training split with the labels that only validation has, and for each split its
shards with record counts, sizes and checksums.
"""

import dataclasses
import hashlib
import json
import os

from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import records

FILE_NAME = "dataset_info.json"
VOCAB_NAME = "vocab.txt"


def file_sha256(path):
    """SHA-256 of a file's bytes, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The content of `dataset_info.json` and the folder it was read from.

    Attributes:
      directory: folder of the shards.
      values: the JSON as a dict.
    """

    directory: str
    values: dict

    @classmethod
    def load(cls, directory):
        """Reads and checks a data set's info.

        Args:
          directory: the prepared data set's folder.

        Raises:
          FileNotFoundError: no info there.
          ValueError: another schema version or level table, an unknown patch arm, or
            a vocabulary that isn't the one that the records were made with.
        """
        path = os.path.join(directory, FILE_NAME)
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{path} should exist. A folder without it is not a finished data set: "
                "run `python -m data_prep.prepare` (again) with this --output_dir"
            )
        with open(path, encoding="utf-8") as file:
            try:
                values = json.load(file)
            except ValueError as error:  # JSONDecodeError or UnicodeDecodeError
                raise ValueError(f"{path} should be JSON. Received: {error}") from error
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != records.SCHEMA_VERSION:
            raise ValueError(
                f"{path} should have schema_version {records.SCHEMA_VERSION}. Received:"
                f" {version!r} (prepare the data again)"
            )
        info = cls(str(directory), values)
        info._check_levels(path)
        info._check_vocabulary()
        return info

    def _check_levels(self, path):
        arm = self.values.get("patch_arm")
        if arm not in PATCH_ARMS:
            raise ValueError(
                f"`patch_arm` in {path} should be one of {list(PATCH_ARMS)}. Received: "
                f"{arm!r} (prepare the data again)"
            )
        ours = [dataclasses.asdict(level) for level in PATCH_ARMS[arm]]
        received = self.values.get("levels", ours)
        if received != ours:
            raise ValueError(
                f"`levels` in {path} should be the table of {arm} in config.py, {ours}."
                f" Received: {received} (prepare the data again)"
            )

    def _check_vocabulary(self):
        if not os.path.isfile(self.vocab_file):
            raise FileNotFoundError(
                f"{self.vocab_file} should be the vocabulary that the records were "
                "made with. Received: no such file (put it back, or prepare the data "
                "again)"
            )
        received = file_sha256(self.vocab_file)
        if received != self.values["vocab_sha256"]:
            raise ValueError(
                f"{self.vocab_file} should be the vocabulary that the records were "
                f"made with (sha256 {self.values['vocab_sha256'][:12]}...). Received "
                f"one with {received[:12]}...: put the right file back, or prepare "
                "the data again"
            )

    @property
    def vocab_file(self):
        return os.path.join(self.directory, VOCAB_NAME)

    @property
    def vocab_size(self):
        return self.values["vocab_size"]

    @property
    def feature_size(self):
        return self.values["feature_size"]

    @property
    def patch_arm(self):
        return self.values["patch_arm"]

    @property
    def shapes(self):
        """`RecordShapes` of this data set."""
        levels = PATCH_ARMS[self.patch_arm]
        return record_shapes(levels, self.feature_size, self.has_variants)

    @property
    def has_variants(self):
        """Whether rotated and grey features are stored (not in converted files)."""
        return self.values.get("has_variants", True)

    @property
    def frozen(self):
        """Sizes of frozen examples (`frozen.py`) as a dict; None for clean records."""
        return self.values.get("frozen")

    @property
    def categories(self):
        """Category names of the training split, sorted: the index is the class."""
        return self.values["categories"]

    @property
    def subcategories(self):
        return self.values["subcategories"]

    def num_examples(self, split):
        return self._split(split)["num_examples"]

    def shards(self, split):
        """Shard dicts of a split: file, num_examples, bytes, sha256."""
        return self._split(split)["shards"]

    def _split(self, split):
        splits = self.values["splits"]
        if split not in splits:
            raise ValueError(
                f"`split` should be one of {sorted(splits)}. Received: {split!r}"
            )
        return splits[split]

    def shard_paths(self, split):
        """Paths of a split's shards, each checked to be there in full length."""
        paths = []
        for shard in self.shards(split):
            path = os.path.join(self.directory, shard["file"])
            size = os.path.getsize(path) if os.path.exists(path) else None
            if size != shard["bytes"]:
                raise ValueError(
                    f"{path} should have {shard['bytes']} bytes. Received: "
                    f"{'no such file' if size is None else size} (run data "
                    "preparation again: it rewrites what is missing or damaged)"
                )
            paths.append(path)
        return paths

    def find_damage(self, split):
        """Reads a split to its end and says what is wrong with it.

        Training's own error on a damaged shard doesn't say which one it was.

        Args:
          split: name of the split.

        Returns:
          The message for the first damaged shard (str), or None.
        """
        try:
            paths = self.shard_paths(split)
            for path, shard in zip(paths, self.shards(split), strict=True):
                count = shard["num_examples"]
                for _ in records.read_shard(path, self.shapes, expected=count):
                    pass
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def check_config(self, config, pretraining=False):
        """Raises ValueError where a model's config doesn't fit these records.

        Args:
          config: `KaleidoConfig`.
          pretraining: True where corrupted batches are wanted, not clean records.
        """
        if pretraining:
            self._check_tasks(config)
        elif self.frozen:
            raise ValueError(
                f"{self.directory} should hold clean records. Received: frozen "
                "examples, masked and corrupted before, which only pre-training can "
                "use (convert the release's retrieval or classification files)"
            )
        for name, ours in (
            ("vocab_size", self.vocab_size),
            ("patch_feature_size", self.feature_size),
            ("num_patches", self.shapes.num_patches),
        ):
            if getattr(config, name) != ours:
                raise ValueError(
                    f"`{name}` of the config should be {ours}, as in "
                    f"{os.path.join(self.directory, FILE_NAME)}. Received: "
                    f"{getattr(config, name)} (another vocabulary, backbone or patch "
                    "arm: use the data set that the model was made for, or prepare it "
                    "with the model's own)"
                )

    def _check_tasks(self, config):
        """Raises ValueError where a pre-training task has nothing to work on."""
        lacking = {"rotation", "grey"} & set(config.active_tasks)
        if lacking and not self.has_variants and not self.frozen:
            raise ValueError(
                f"`akpm_tasks` should leave out {' and '.join(sorted(lacking))}: "
                f"{self.directory} has no rotated and grey features (they can't be "
                f"made from the release's files). Received: {list(config.akpm_tasks)}"
            )
        for name, ours in (self.frozen or {}).items():
            if getattr(config, name) != ours:
                raise ValueError(
                    f"`{name}` should be {ours}, as the frozen examples in "
                    f"{self.directory} have it. Received: {getattr(config, name)}"
                )


def record_shapes(levels, feature_size, variants=True):
    """`RecordShapes` for a level table.

    Args:
      levels: table of `KaleidoLevel`.
      feature_size: F.
      variants: whether rotated and grey features are stored, where a level uses them.
    """
    by_task = {level.task: level for level in levels if variants}
    return records.RecordShapes(
        num_patches=sum(level.num_patches for level in levels),
        feature_size=feature_size,
        num_rotated=3 * by_task["rotation"].num_patches if "rotation" in by_task else 0,
        num_grey=by_task["grey"].num_patches if "grey" in by_task else 0,
    )
