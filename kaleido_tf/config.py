"""The two tables everything else reads: the kaleido levels and the model's config.

First station of the line: no other module states how many patches a level has,
which task works on it, or how large a layer is.
"""

import dataclasses
import json

from kaleido_tf import files

LOSS_NAMES = ("mlm", "itm", "rotation", "jigsaw", "camouflage", "grey", "blank")
AKPM_TASKS = LOSS_NAMES[2:]
# Classes of the levels' classification tasks: 4 angles, 4! orders, 9 places.
NUM_CLASSES = {"rotation": 4, "jigsaw": 24, "camouflage": 9}


@dataclasses.dataclass(frozen=True)
class KaleidoLevel:
    """One scale of the image: `grid` x `grid` patches and the task on them.

    Attributes:
      level: row of the level in its patch type table (paper section 3.5).
      grid: patches along one side; a level has `grid ** 2` of them, row-major.
      task: the level's pre-training task, one of `AKPM_TASKS` (section 3.6).
      masked: how many of its patches alignment guided masking picks (section 3.4).
    """

    level: int
    grid: int
    task: str
    masked: int

    @property
    def num_patches(self):
        return self.grid**2


# Paper sections 3.2 (scales), 3.4 (how many are masked) and 3.6 (tasks).
KALEIDO_LEVELS = (
    KaleidoLevel(1, 1, "rotation", 0),
    KaleidoLevel(2, 2, "jigsaw", 0),
    KaleidoLevel(3, 3, "camouflage", 1),
    KaleidoLevel(4, 4, "grey", 2),
    KaleidoLevel(5, 5, "blank", 3),
)
# Table 4's "scale-fixed" arm: one 8 x 8 grid with blanked patches, as FashionBERT.
FIXED_LEVELS = (KaleidoLevel(5, 8, "blank", 3),)

PATCH_ARMS = {
    "fixed": FIXED_LEVELS,
    "kaleido": KALEIDO_LEVELS,
    "kaleido+saliency": KALEIDO_LEVELS,
}


def level_offsets(levels):
    """First position of each level's patches in the patch sequence: list of int."""
    offsets, position = [], 0
    for level in levels:
        offsets.append(position)
        position += level.num_patches
    return offsets


@dataclasses.dataclass(frozen=True)
class KaleidoConfig:
    """Sizes and settings of a model; frozen, JSON in and out.

    Attributes:
      vocab_size: number of word pieces.
      hidden_size, num_layers, num_heads, intermediate_size: the transformer.
      text_length: T, word pieces per text with [CLS] and [SEP].
      max_position_embeddings: rows of the text position table, at least T.
      patch_feature_size: F, numbers per patch from the backbone.
      patch_arm: key of `PATCH_ARMS`: which patches an image is cut into.
      akpm_tasks: which of the five patch tasks are trained (table 4's arms).
      max_predictions: M, at most this many masked word pieces a text.
      hidden_dropout, attention_dropout: dropout rates in training.
      feature_dropout: dropout rate on the patch features before their projection; the
        release uses its hidden rate there.
      matched_only_losses: losses that leave out mismatched (ITM negative) pairs.
        The default leaves out those that reconstruct one side with the help of the
        other; the release counts every pair in every loss (`()`).
      contrastive_size: length of the optional vectors of text and image that an
        eighth loss aligns before fusion; 0, the paper's setting, builds none.
      contrastive_temperature: divides their cosines in that loss.
      contrastive_weight: factor of that loss in the total.
      gelu: "tanh" is its tanh approximation, as in the paper's code; "exact" is what
        BERT weights from Hugging Face were mostly trained with.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    text_length: int = 64
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    patch_feature_size: int = 2048
    patch_arm: str = "kaleido+saliency"
    patch_type_vocab_size: int = 6
    akpm_tasks: tuple = AKPM_TASKS
    max_predictions: int = 10
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    feature_dropout: float = 0.1
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12
    matched_only_losses: tuple = ("mlm", "grey", "blank")
    contrastive_size: int = 0
    contrastive_temperature: float = 0.05
    contrastive_weight: float = 1.0
    gelu: str = "tanh"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is tuple and isinstance(value, list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
        self._check()

    def _check(self):
        self._check_types()
        self._check_sizes()
        self._check_names()

    def _check_types(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = (int, float) if field.type is float else field.type
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(
                    f"`{field.name}` should be of type {field.type.__name__}. "
                    f"Received: {value!r}"
                )

    def _check_sizes(self):
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` should be at least {least}. "
                    f"Received: {getattr(self, name)}"
                )
        for name in ("hidden_dropout", "attention_dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` should be a share from 0 to below 1. "
                    f"Received: {getattr(self, name)}"
                )
        for name in ("layer_norm_epsilon", "contrastive_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` should be above 0. Received: {getattr(self, name)}"
                )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                "`hidden_size` should be a multiple of `num_heads`. Received: "
                f"hidden_size={self.hidden_size}, num_heads={self.num_heads}"
            )
        if self.max_position_embeddings < self.text_length:
            raise ValueError(
                "`max_position_embeddings` should be at least `text_length`. Received: "
                f"{self.max_position_embeddings} < {self.text_length}"
            )

    def _check_names(self):
        for name, known in (
            ("akpm_tasks", AKPM_TASKS),
            ("matched_only_losses", LOSS_NAMES),
        ):
            if unknown := [n for n in getattr(self, name) if n not in known]:
                raise ValueError(
                    f"`{name}` should hold names out of {known}. Received: {unknown}"
                )
        if self.patch_arm not in PATCH_ARMS:
            raise ValueError(
                f"`patch_arm` should be one of {tuple(PATCH_ARMS)}. "
                f"Received: {self.patch_arm!r}"
            )
        if self.gelu not in ("tanh", "exact"):
            raise ValueError(
                f'`gelu` should be "tanh" or "exact". Received: {self.gelu!r}'
            )

    @property
    def levels(self):
        """The table of patch levels of this config's arm."""
        return PATCH_ARMS[self.patch_arm]

    @property
    def num_patches(self):
        """P, patches of an image: 55 for kaleido."""
        return sum(level.num_patches for level in self.levels)

    @property
    def active_tasks(self):
        """The patch tasks that are trained and have a level in this arm."""
        present = [level.task for level in self.levels]
        return tuple(t for t in AKPM_TASKS if t in self.akpm_tasks and t in present)

    @property
    def loss_names(self):
        """Names of the losses that add up to the total, in the paper's order."""
        return ("mlm", "itm") + self.active_tasks

    def level_slice(self, task):
        """Where the patches of `task`'s level stand in the patch sequence: a slice."""
        for level, start in zip(self.levels, level_offsets(self.levels), strict=True):
            if level.task == task:
                return slice(start, start + level.num_patches)
        raise ValueError(
            f"`task` should be one of this arm's {[lv.task for lv in self.levels]}. "
            f"Received: {task!r}"
        )

    def replace(self, **changes):
        """A copy with `changes`, checked again."""
        return dataclasses.replace(self, **changes)

    def to_json(self):
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_dict(cls, values, source="values"):
        """A config from a dict; unknown keys raise, naming `source`."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(
                f"{source} should hold only the keys of KaleidoConfig. Received "
                f"besides: {sorted(unknown)} (for a config.json of the original "
                "release use KaleidoConfig.from_easytransfer)"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, path):
        """Reads what `save` wrote."""
        return cls.from_dict(_read_json(path), source=str(path))

    def save(self, path):
        """Writes the config as JSON, whole or not at all."""
        with files.whole(path) as file:
            file.write(self.to_json() + "\n")

    @classmethod
    def preset(cls, name, **changes):
        """One of `PRESETS` ("tiny", "small", "base") with `changes`."""
        if name not in PRESETS:
            raise ValueError(
                f"`name` should be one of {sorted(PRESETS)}. Received: {name!r}"
            )
        return cls(**{**PRESETS[name], **changes})

    @classmethod
    def from_easytransfer(cls, json_path):
        """The config of a checkpoint of the original release.

        Args:
          json_path: its config.json (model_type "kaleidobert").

        Returns:
          A `KaleidoConfig` with every pair counted in every loss, as released.

        Raises:
          ValueError: no such config, or other levels and classes than the method's.
        """
        old = _read_json(json_path)
        wrong = {
            key: (old[key], fixed)
            for key, fixed in _RELEASED_SIZES.items()
            if key in old and old[key] != fixed
        }
        if wrong:
            raise ValueError(
                f"{json_path} should have the sizes of the release. Received: {wrong} "
                "(what it says, what the method has)"
            )
        missing = [key for key in _EASYTRANSFER_KEYS if key not in old]
        if missing:
            raise ValueError(
                f"{json_path} should be a config.json of the Kaleido-BERT release. "
                f"Missing keys: {missing}"
            )
        values = {ours: old[theirs] for theirs, ours in _EASYTRANSFER_KEYS.items()}
        return cls(
            patch_arm="kaleido",
            matched_only_losses=(),
            feature_dropout=values["hidden_dropout"],
            **values,
        )


# Smallest sizes that make sense: a text has at least [CLS], a piece and [SEP].
_LEAST = {
    "vocab_size": 5,
    "hidden_size": 1,
    "num_layers": 1,
    "num_heads": 1,
    "intermediate_size": 1,
    "text_length": 3,
    "type_vocab_size": 1,
    "patch_feature_size": 1,
    "patch_type_vocab_size": 6,  # rows are read by level number, 1 to 5
    "max_predictions": 1,
    "contrastive_size": 0,
    "contrastive_weight": 0.0,
    "initializer_range": 0.0,
}


def _read_json(path):
    """The object of a JSON file: dict."""
    with open(path, encoding="utf-8") as file:
        try:
            values = json.load(file)
        except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
            raise ValueError(f"{path} should be JSON. Received: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} should hold a JSON object. Received: {type(values).__name__}"
        )
    return values


# The release's config.json -> ours.
_EASYTRANSFER_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "text_seq_len": "text_length",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "patch_feature_size": "patch_feature_size",
    "patch_type_vocab_size": "patch_type_vocab_size",
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
}
# Its keys with one right value: what the levels and their tasks have.
_TASK_NAMES = {"grey": "greymask", "blank": "blankmask"}
_RELEASED_SIZES = {
    "model_type": "kaleidobert",
    **{
        f"img_{_TASK_NAMES.get(level.task, level.task)}_seq_len": level.num_patches
        for level in KALEIDO_LEVELS
    },
    **{f"img_{task}_label_num": classes for task, classes in NUM_CLASSES.items()},
    **{
        f"masked_{_TASK_NAMES[level.task]}_patch_num": level.masked
        for level in KALEIDO_LEVELS
        if level.task in _TASK_NAMES
    },
}


def _cpu_size(hidden, layers, heads, feature_dropout):
    """A size that learns within minutes on a CPU (docs/recipe.md has the reasons).

    Three things differ from the paper: the alignment of text and image before fusion,
    on which retrieval hangs; and dropout on the features alone and weights that start
    at 1 / sqrt(hidden) instead of 0.02 (nearly that for the paper's 768), without which
    masked words are learnt more slowly.
    """
    return dict(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=128,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        feature_dropout=feature_dropout,
        initializer_range=round(hidden**-0.5, 3),
        contrastive_size=hidden,
    )


# `base` is the paper's model.
PRESETS = {
    "tiny": _cpu_size(128, 2, 2, feature_dropout=0.2),
    "small": _cpu_size(192, 3, 3, feature_dropout=0.3),
    "base": {},
}
