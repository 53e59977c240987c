"""A tiny pre-training run: its flags and the weights that it leaves."""

import json

import numpy as np
import pytest

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import checkpoints

SIZES = {
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 16,
    "contrastive_size": 4,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "feature_dropout": 0.2,
}


def _make_flags(data_dir, folder):
    """The command's flags for 12 steps of 4 pairs in rounds of 4."""
    config = folder / "sizes.json"
    config.write_text(json.dumps(SIZES))
    return {
        "data_dir": data_dir,
        "config": str(config),
        "model": "tiny",
        "text_length": 12,
        # One of each kind, for the time that tracing takes.
        "akpm_tasks": ["rotation", "blank"],
        "matched_only_losses": ["mlm"],
        "contrastive_size": None,
        "init_checkpoint": None,
        "num_steps": 12,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "masking": "aligned",
        "mismatch_rate": 0.5,
        "hard_rate": 0.5,
        "hard_start": 2,
        "seed": 0,
        "steps_per_round": 4,
        "keep_checkpoints": 3,
        "validation_examples": 0,
        "resume": True,
        "strategy": "one_device",
        "precision": "float32",
        "xla": False,
    }


@pytest.fixture(scope="session")
def make_flags():
    """The function that makes a command's flags, see `_make_flags`."""
    return _make_flags


def _weights_of(run_dir):
    """Every number of the last checkpoint's model."""
    config = KaleidoConfig.from_json(f"{run_dir}/config.json")
    model = build_pretrainer(config)
    checkpoints.load_weights(model, str(run_dir))
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


@pytest.fixture(scope="session")
def weights_of():
    """The function that reads a run's last weights: float32 array."""
    return _weights_of
