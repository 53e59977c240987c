"""Fine-tuning for retrieval as the command runs it, and what is made of its run."""

import json

import numpy as np
import pytest

import run_finetune
from data_prep import retrieval_lists
from kaleido_tf.modeling import build_matcher
from kaleido_tf.training import callbacks, checkpoints

SIZES = {
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 8,
    "contrastive_size": 4,
    "text_length": 8,
    "max_position_embeddings": 8,
}


@pytest.fixture(scope="module")
def trained(make_data_set, tmp_path_factory):
    """Settings of a run of 4 steps, its result and its folder."""
    folder = tmp_path_factory.mktemp("retrieval")
    info = make_data_set(folder / "data")
    retrieval_lists.make_lists(
        info.directory,
        folder / "lists",
        split="validation",
        num_queries=5,
        num_candidates=4,
        num_lists=1,
    )
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    settings = run_finetune.flag_page().defaults() | {
        "task": "retrieval",
        "mode": "train",
        "data_dir": info.directory,
        "run_dir": str(folder / "run"),
        "model": "tiny",
        "config": str(folder / "sizes.json"),
        "num_steps": 4,
        "steps_per_round": 2,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "dev_fraction": 0.75,  # p1, p2 and p3, by the hashes of their ids
        "patience": 0,
        "lists_dir": str(folder / "lists"),
        "num_lists": 1,
        "eval_batch_size": 4,
        "output_dir": str(folder / "out"),
        "checkpoint": str(folder / "run"),
    }
    return settings, run_finetune.main(settings), folder


def test_run_trains_and_chooses_by_ranks(trained):
    settings, result, folder = trained
    assert result["task"] == "retrieval" and result["steps"] == 4
    assert result["best"]["metric"] == "accuracy/rank1"
    task = json.loads((folder / "run" / "task.json").read_text())
    assert task["task"] == "retrieval" and task["hard_rate"] == 0.5
    assert task["contrastive_weight"] == 1.0
    rows = callbacks.read_metrics(settings["run_dir"])
    dev = [row for row in rows if row["split"] == "dev"]
    assert [row["step"] for row in dev] == [0, 2, 4]
    names = ("loss/ranking", "loss/itm", "loss/contrastive")
    for row in rows:
        assert all(np.isfinite(row[name]) and row[name] > 0 for name in names)
        total = sum(row[name] for name in names)
        assert row["loss/total"] == pytest.approx(total, rel=1e-5)
        assert 0 <= row["accuracy/rank1"] <= 1 and 0 <= row["accuracy/itm"] <= 1
    assert dev[0]["loss/total"] != dev[-1]["loss/total"]


def test_evaluation_takes_the_fine_tuned_run(trained):
    settings, result, _ = trained
    results = run_finetune.main(settings | {"mode": "evaluate"})
    assert results["trained"] == "fine-tuned"
    assert results["checkpoint"].endswith(f"best/ckpt-{result['best']['step']}")
    assert results["full_gallery"]["itr"]["num_queries"] == 5
    config = checkpoints.run_config(settings["run_dir"])
    matcher = build_matcher(config)
    last = checkpoints.whole_checkpoints(f"{settings['run_dir']}/checkpoints")[-1][1]
    assert checkpoints.load_weights(matcher, last) == last


def test_without_the_alignment(trained, tmp_path):
    settings, _, _ = trained
    settings = settings | {"contrastive_weight": 0.0, "run_dir": str(tmp_path / "run")}
    run_finetune.main(settings | {"num_steps": 1, "steps_per_round": 1})
    task = json.loads((tmp_path / "run" / "task.json").read_text())
    assert task["contrastive_weight"] == 0.0
    row = callbacks.read_metrics(settings["run_dir"])[-1]
    assert "loss/contrastive" not in row and "loss/ranking" in row


def test_a_single_pair_makes_no_mismatch(trained, tmp_path):
    settings, _, _ = trained
    with pytest.raises(ValueError, match="`batch_size` should be .* 2 rows each"):
        run_finetune.main(settings | {"batch_size": 1, "run_dir": str(tmp_path)})
