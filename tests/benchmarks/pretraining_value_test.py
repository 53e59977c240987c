"""From checkpoint against from scratch: the trainings' flags, the table's figures."""

import json
import os

import pytest

from benchmarks import pretraining_value
from kaleido_tf.config import KaleidoConfig

# What stands in the place of each task's results, by the number of the training.
RESULTS = {
    "category": lambda n: {"accuracy": 0.5 + n / 10, "macro_f": n / 10},
    "retrieval": lambda n: {
        "sampled": {
            "itr": {"rank@1": {"mean": 10.0 * n}},
            "tir": {"rank@1": {"mean": 1.0}},
        }
    },
}


@pytest.fixture
def settings(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    KaleidoConfig.preset("tiny", vocab_size=77).save(str(run / "config.json"))
    (run / "checkpoints" / "ckpt-3.index").write_bytes(b"x")
    (run / "checkpoints" / "ckpt-3.done").write_text('{"ckpt-3.index": 1}')
    return {
        "data_dir": "data",
        "checkpoint": str(run),
        "lists_dir": "lists",
        "num_lists": 1,
        "num_queries": 10,
        "output_dir": str(tmp_path / "out"),
        "tasks": ["category", "retrieval"],
        "seeds": 2,
        "budget": 0.5,
        "batch_size": None,
        "precision": "float32",
    }


@pytest.fixture
def calls(monkeypatch):
    """Commands that write made-up results at once: list of their flags."""
    made = []

    def run(command, check):
        assert check and os.path.isfile(command[1])
        flags = dict(part[2:].split("=", 1) for part in command[2:])
        if flags["mode"] == "evaluate":
            os.makedirs(flags["output_dir"])
            results = RESULTS[flags["task"]](len(made) // 2)
            with open(f"{flags['output_dir']}/{flags['task']}.json", "w") as file:
                json.dump(results, file)
        made.append(flags)

    monkeypatch.setattr(pretraining_value.subprocess, "run", run)
    return made


def test_arms_differ_by_what_they_start_from(settings, calls):
    rows = pretraining_value.main(settings)
    trainings = [flags for flags in calls if flags["mode"] == "train"]
    assert len(trainings) == 8 and len(calls) == 16
    for warm, cold in zip(trainings[::2], trainings[1::2], strict=True):
        assert warm["init_checkpoint"] == settings["checkpoint"]
        assert cold["init_checkpoint"] == "none"
        assert KaleidoConfig.from_json(cold.pop("config")).vocab_size == 77
        changed = {name for name in warm if warm[name] != cold[name]}
        assert changed == {"run_dir", "init_checkpoint"}
    assert [flags["seed"] for flags in trainings] == ["0", "0", "1", "1"] * 2
    assert trainings[0]["num_steps"] == "50"  # half of the task's budget
    assert calls[-1]["lists_dir"] == "lists" and calls[-1]["max_full_pairs"] == "0"
    # Trainings 0 and 2 of the category are the pre-trained ones.
    first = rows[0]
    assert (first["task"], first["figure"]) == ("category", "accuracy")
    assert first["pre-trained"]["values"] == [0.5, 0.7]
    assert first["scratch"]["mean"] == pytest.approx(0.7)
    assert first["scratch"]["deviation"] == pytest.approx(0.2 / 2**0.5)
    with open(f"{settings['output_dir']}/pretraining_value.json") as file:
        written = json.load(file)
    assert written["rows"] == rows
    assert "category      accuracy" in pretraining_value.format_table(rows)


def test_wrong_settings(settings, calls):
    with pytest.raises(ValueError, match="`tasks` should be out of"):
        pretraining_value.main({**settings, "tasks": ["colour"]})
    with pytest.raises(ValueError, match="`lists_dir` should name"):
        pretraining_value.main({**settings, "lists_dir": None})
    assert not calls
