"""The recipe's ablation: which flags its arms train with, its curves and its table."""

import json
import os

import pytest

from benchmarks import recipe
from kaleido_tf.config import KaleidoConfig

SETTINGS = {
    "data_dir": "data",
    "model": "tiny",
    "num_steps": 200,
    "steps_per_round": 100,
    "batch_size": 16,
    "text_length": 32,
    "learning_rate": 1e-3,
    "seed": 5,
    "precision": "float32",
}


@pytest.fixture
def runs(monkeypatch):
    """Trainings that write made-up metrics at once: list of their flags."""
    calls = []

    def run(command, check):
        assert check and os.path.isfile(command[1])
        flags = dict(part[2:].split("=", 1) for part in command[2:])
        os.makedirs(flags["run_dir"], exist_ok=True)
        with open(os.path.join(flags["run_dir"], "metrics.jsonl"), "w") as file:
            for step in (0, 100, 200):
                value = step / 400 + len(calls) / 100
                row = {f"accuracy/{task}": value for task in recipe.SHOWN}
                for split in ("train", "validation"):
                    row = {**row, "split": split, "step": step}
                    file.write(json.dumps(row) + "\n")
        calls.append(flags)

    monkeypatch.setattr(recipe.subprocess, "run", run)
    return calls


def test_arms_differ_from_the_preset_by_their_changes_alone(runs, tmp_path, capsys):
    recipe.main({**SETTINGS, "output_dir": str(tmp_path)})
    assert [os.path.basename(f["run_dir"]) for f in runs] == [
        arm.name for arm in recipe.ARMS
    ]
    preset = json.loads(KaleidoConfig.preset("tiny").to_json())
    for arm, flags in zip(recipe.ARMS, runs, strict=True):
        assert (flags["seed"], flags["num_steps"]) == ("5", "200")
        with open(flags["config"]) as file:
            changes = json.load(file)
        values = json.loads(KaleidoConfig.from_dict({**preset, **changes}).to_json())
        assert {k for k, v in values.items() if v != preset[k]} == set(arm.changes)
    # "paper" is all the other arms together.
    others = [set(arm.changes) for arm in recipe.ARMS[:-1]]
    assert set(recipe.ARMS[-1].changes) == set.union(*others)
    last = capsys.readouterr().out.splitlines()
    assert last[1].startswith("recipe") and last[1].count("50.0%") == len(recipe.SHOWN)
    assert last[5].startswith("none") and last[5].count("54.0%") == len(recipe.SHOWN)


def test_curves_and_table_are_written(runs, tmp_path):
    recipe.main({**SETTINGS, "output_dir": str(tmp_path)})
    assert (tmp_path / "recipe.png").stat().st_size > 10_000
    written = json.loads((tmp_path / "recipe.json").read_text())
    assert [row["step"] for row in written["arms"]["paper"]["rows"]] == [0, 100, 200]
