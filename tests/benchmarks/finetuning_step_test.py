"""The benchmark of fine-tuning steps: whole rows for every task, on tiny data."""

import json

import pytest

from benchmarks import finetuning_step
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import checkpoints, optimization


@pytest.mark.long
def test_rows_are_measured_and_written(make_data_set, tmp_path, capsys):
    info = make_data_set(tmp_path / "data")
    config = KaleidoConfig.preset(
        "tiny",
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        intermediate_size=8,
        text_length=40,
    )
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "config.json")
    model = build_pretrainer(config)
    optimizer = optimization.make_optimizer(1e-3, 4, 0)
    optimizer.build(model.trainable_variables)
    keeper = checkpoints.CheckpointKeeper(str(tmp_path / "run"), model, optimizer)
    keeper.save(1)
    settings = {
        "data_dir": info.directory,
        "checkpoint": str(tmp_path / "run"),
        "tasks": ["captioning"],
        "batch_size": 2,
        "precision": "float32",
        "num_batches": 2,
        "output": str(tmp_path / "out" / "steps.json"),
    }
    finetuning_step.main(settings)
    with open(settings["output"], encoding="utf-8") as file:
        content = json.load(file)
    (row,) = content["rows"]
    assert row["text_length"] == 40 and row["mean_length"] in (8, 12, 16)
    assert set(row["samples_per_second"]) == set(finetuning_step.ARMS)
    assert row["ratio"] > 0
    assert f"captioning           40  {row['mean_length']:13.1f}" in (
        capsys.readouterr().out
    )


def test_an_unknown_task_is_an_error():
    with pytest.raises(ValueError, match="`tasks` should be of .*Received: .'copy'"):
        finetuning_step.main({"tasks": ["copy"]})
