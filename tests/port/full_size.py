"""A checkpoint of the paper's size in the release's format, ported and reloaded.

Not part of `make test` (0.9 GB of files): `make test-port-full` runs it and prints time
and memory.
"""

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.modeling.models import count_parameters
from kaleido_tf.training import checkpoints

# The release's base model.
SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "patch_feature_size": 2048,
    "text_seq_len": 64,
}


def fingerprints(arrays):
    """What neither transposing nor splitting into heads changes, sorted."""
    return sorted(
        (a.size, float(np.sort(a, axis=None)[:: a.size // 2 + 1].sum())) for a in arrays
    )


def run_command(*arguments):
    """Runs the command; (seconds, peak memory in MiB)."""
    start = time.time()
    command = [sys.executable, "-m", "kaleido_tf.port.easytransfer", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return time.time() - start, peak / 1024


def test_full_size_checkpoint(tmp_path, release, capsys):
    values = release.config_values | SIZES
    (tmp_path / "config.json").write_text(json.dumps(values))
    arrays = release.random_values(release.shapes(values))
    assert len(arrays) == 43 + 16 * 12 == 235
    steps = {"global_step": np.int64(7)}
    prefix = release.write(tmp_path / "kaleidobert.ckpt", arrays | steps)
    run_dir = str(tmp_path / "run")

    seconds, peak = run_command(
        f"--checkpoint={prefix}",
        f"--config={tmp_path / 'config.json'}",
        f"--output_dir={run_dir}",
    )

    with open(os.path.join(run_dir, "port.txt"), encoding="utf-8") as file:
        table = file.read()
    assert "loaded: file -> model (235)" in table
    assert "skipped by rule (1)" in table
    assert table.count("(0)") == 3  # nothing is left over
    config = KaleidoConfig.from_json(os.path.join(run_dir, "config.json"))
    model = build_pretrainer(config)
    checkpoints.load_weights(model, run_dir)
    stored = [v.numpy() for v in model.trainable_variables]
    assert len(stored) == 235
    assert fingerprints(stored) == fingerprints(arrays.values())
    with capsys.disabled():
        size = os.path.getsize(f"{prefix}.data-00000-of-00001") / 2**20
        print(
            f"\n{count_parameters(model) / 1e6:.1f} million parameters, a file of "
            f"{size:.0f} MiB: ported in {seconds:.1f} s, peak memory {peak:.0f} MiB"
        )
