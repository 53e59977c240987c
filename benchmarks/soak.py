"""Soak test: one pre-training run, killed again and again, beside one left alone.

At random moments the run gets SIGKILL or SIGTERM (with --workers=2, one of its two
workers does) and is started again with the same command. In the end its weights and
every row of its metrics are compared with those of an uninterrupted run, and every exit
code with those that docs/training.md promises. Data are random records, the model is
tiny: what is tried is the stopping, not the learning.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from benchmarks import results_file, soak_judging
from kaleido_tf import cli
from kaleido_tf.data import dataset_info, records, tokenization
from kaleido_tf.data.dataset_info import DatasetInfo, file_sha256
from kaleido_tf.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1]
_WORDS = [f"word{n}" for n in range(60)]
_SIZES = {
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 4,
    "intermediate_size": 16,
    "contrastive_size": 8,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "feature_dropout": 0.2,
}
_PATIENCE = 300.0  # seconds that a start may take


def make_data(folder, products=60, shards=3, features=6):
    """Writes a data set of random records, two pictures a product; returns its folder.

    Args:
      folder: pathlib.Path.
      products: of the training split; a third as many in the validation split.
      shards: of the training split.
      features: F.
    """
    folder.mkdir(parents=True)
    vocabulary = [*tokenization.SPECIAL_TOKENS, *_WORDS]
    vocab_file = folder / dataset_info.VOCAB_NAME
    vocab_file.write_text("\n".join(vocabulary) + "\n")
    values = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": "kaleido",
        "feature_size": features,
        "vocab_size": len(vocabulary),
        "vocab_sha256": file_sha256(vocab_file),
        "categories": ["clothing"],
        "subcategories": ["even", "odd"],
        "splits": {},
    }
    shapes = DatasetInfo(str(folder), values).shapes
    for split, count, files in (
        ("train", products, shards),
        ("validation", products // 3, 1),
    ):
        entry = {"num_examples": 0, "shards": []}
        for shard in range(files):
            path = folder / f"{split}-{shard}.tfrecord"
            rows = range(shard, count, files)
            _write_shard(path, split, rows, shapes, vocabulary)
            entry["num_examples"] += 2 * len(rows)
            entry["shards"].append(
                {
                    "file": path.name,
                    "num_examples": 2 * len(rows),
                    "bytes": path.stat().st_size,
                    "sha256": file_sha256(path),
                }
            )
        values["splits"][split] = entry
    (folder / dataset_info.FILE_NAME).write_text(json.dumps(values))
    return str(folder)


def _write_shard(path, split, rows, shapes, vocabulary):
    rng = np.random.default_rng(len(str(path)) + 1000 * rows.start)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for product in rows:
            words = rng.choice(_WORDS, 8, replace=False)
            for view in range(2):
                record = {
                    "product_id": f"{split}{product}",
                    "image_id": f"{split}{product}_{view}",
                    "category": "clothing",
                    "subcategory": "odd" if product % 2 else "even",
                    "text": " ".join(words),
                    "token_ids": [vocabulary.index(word) for word in words],
                    "box": [0.0, 0.0, 1.0, 1.0],
                    "aligned_tokens": [],
                    "aligned_patches": [],
                    "aligned_scores": [],
                }
                for key, shape in shapes.arrays.items():
                    record[key] = rng.normal(size=shape)
                writer.write(records.encode_record(record, shapes))


def command(data_dir, folder, run_dir, num_steps, workers):
    """The command line of the run: list of str."""
    config = folder / "sizes.json"
    config.write_text(json.dumps(_SIZES))
    flags = {
        "data_dir": data_dir,
        "run_dir": str(run_dir),
        "model": "tiny",
        "config": str(config),
        "text_length": 12,
        "num_steps": num_steps,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "steps_per_round": 20,
        "save_steps": 3,
        "validation_examples": 16,
        "strategy": "one_device" if workers == 1 else "multi_worker",
    }
    program = [sys.executable, str(ROOT / "run_pretrain.py")]
    return program + [f"--{name}={value}" for name, value in flags.items()]


class Life:
    """The processes of one start of the run, one a worker.

    Args:
      arguments: the command line.
      workers: their number.
      log: path of what they print.
    """

    def __init__(self, arguments, workers, log):
        sockets = [socket.socket() for _ in range(workers)]
        for one in sockets:
            one.bind(("localhost", 0))
        hosts = [f"localhost:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        self.processes = []
        with open(log, "ab") as file:
            for index in range(workers):
                environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
                if workers > 1:
                    task = {"type": "worker", "index": index}
                    environment["TF_CONFIG"] = json.dumps(
                        {"cluster": {"worker": hosts}, "task": task}
                    )
                self.processes.append(
                    subprocess.Popen(
                        arguments, cwd=ROOT, env=environment, stdout=file, stderr=file
                    )
                )

    @property
    def runs(self):
        return all(process.poll() is None for process in self.processes)

    def end(self, seconds):
        """Exit codes, after at most so many seconds; whoever runs on is killed."""
        deadline = time.time() + seconds
        codes = []
        for process in self.processes:
            try:
                process.wait(max(deadline - time.time(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            codes.append(process.returncode)
        return codes


def last_step(run_dir):
    """Step of the last whole checkpoint, 0 for none."""
    whole = checkpoints.whole_checkpoints(f"{run_dir}/checkpoints")
    return whole[-1][0] if whole else 0


def interrupt(life, run_dir, signum, turn, rng, most_steps):
    """Sends a signal at a random moment of a life.

    A quarter of the moments are in the start, the others after some steps.

    Args:
      life: `Life`.
      run_dir: of the run.
      signum: the signal.
      turn: how many were sent before: workers are hit in turn, the chief too.
      rng: `random.Random` that draws the moment.
      most_steps: upper bound of the steps that a life does.

    Returns:
      dict: step_before (the signal), hit (index of the process that got it, None where
      one had ended before), codes (exit codes of all processes).
    """
    before = last_step(run_dir)
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, 10))
    else:
        target = before + rng.randint(1, most_steps)
        deadline = time.time() + _PATIENCE
        while life.runs and last_step(run_dir) < target and time.time() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
    before, hit = last_step(run_dir), None
    if life.runs:
        hit = turn % len(life.processes)
        life.processes[hit].send_signal(signum)
    return {"step_before": before, "hit": hit, "codes": life.end(120.0)}


def soak(values):
    """Runs it; returns the content of OUTPUT_DIR/soak.json."""
    folder = pathlib.Path(values["output_dir"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data_dir = make_data(folder / "data")
    rng = random.Random(values["seed"])
    signals = [signal.SIGKILL] * values["kills"] + [signal.SIGTERM] * values["terms"]
    rng.shuffle(signals)
    most = max(2, int(1.2 * values["num_steps"] / max(len(signals), 1)))
    log, lives = folder / "log.txt", []

    def start(run_dir):
        steps, workers = values["num_steps"], values["workers"]
        return Life(command(data_dir, folder, run_dir, steps, workers), workers, log)

    whole, run_dir = folder / "whole", folder / "killed"
    if any(start(whole).end(3600.0)):
        raise ValueError(f"The run should reach its end. Received errors, see {log}")
    for turn, signum in enumerate(signals):
        started = time.time()
        life = {"signal": signum.name}
        life |= interrupt(start(run_dir), run_dir, signum, turn, rng, most)
        life |= {"step_after": last_step(run_dir)}
        lives.append(life | {"seconds": round(time.time() - started, 1)})
        print(json.dumps(lives[-1]), flush=True)
        if last_step(run_dir) >= values["num_steps"]:
            break
    if any(start(run_dir).end(3600.0)):
        raise ValueError(f"The run should reach its end. Received errors, see {log}")
    result = {"lives": lives, **soak_judging.differences(run_dir, whole)}
    keys = ("kills", "terms", "num_steps", "workers", "seed")
    result |= {key: values[key] for key in keys}
    results_file.write(result, str(folder / "soak.json"))
    return result


def _make_page():
    page = cli.FlagPage("Kills a pre-training run again and again; compares its end.")
    page.string("output_dir", "soak", "Folder, made anew.")
    page.integer("kills", 20, "Lives that SIGKILL ends.", lower_bound=0)
    page.integer("terms", 5, "Lives that SIGTERM ends.", lower_bound=0)
    page.integer("num_steps", 600, "Length of the run, steps.", lower_bound=1)
    page.integer(
        "workers",
        1,
        "Processes that train together, hit in turn.",
        lower_bound=1,
    )
    page.float("tolerance", 1e-6, "Largest difference of a weight.", lower_bound=0.0)
    page.float(
        "figure_tolerance",
        1e-4,
        "Largest difference of a figure in metrics.jsonl, relative to it.",
        lower_bound=0.0,
    )
    page.integer("seed", 0, "Any integer, by which the moments are drawn.")
    return page


def main(values):
    result = soak(values)
    soak_judging.report(result)
    if found := soak_judging.problems(
        result, values["tolerance"], values["figure_tolerance"]
    ):
        raise ValueError(
            "Every life should end as promised, and the two runs alike. Received: "
            + "; ".join(found)
        )


if __name__ == "__main__":
    _PAGE = _make_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
