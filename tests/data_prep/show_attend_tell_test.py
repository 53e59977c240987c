"""Tests of the captioner's training: it learns, goes on, and its command."""

import dataclasses
import json

import numpy as np
import pytest
import tf_keras

from data_prep import show_attend_tell
from data_prep.sat import captioner, sat_grids, sat_model, sat_training, sat_words
from data_prep.sat.sat_model import SatConfig, ShowAttendTell

TINY = SatConfig(
    num_words=11,
    grid=3,
    channels=5,
    annotation_size=7,
    attention_size=6,
    hidden_size=8,
    embedding_size=4,
    dropout=0.4,
    max_words=6,
)


@pytest.fixture(scope="module")
def grids():
    return np.random.default_rng(3).normal(size=(3, 3, 3, 5)).astype(np.float16)


class _HeldTexts:
    """Texts whose grids are held in memory, in the place of files."""

    def __init__(self, grids, words):
        self._grids, self.words = grids, words

    def __len__(self):
        return len(self.words)

    def grids(self, places):
        return self._grids[np.asarray(places)]


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


TABLE = sat_words.WordTable([*sat_model.SPECIAL_WORDS, *"abcdefg"])


def _training(folder, grids, config=TINY, **changes):
    settings = {
        "output_dir": str(folder),
        "batch_size": 3,
        "learning_rate": 0.03,
        "num_steps": 60,
        "steps_per_round": 30,
        "seed": 0,
        "beam_size": 2,
        "eval_images": 3,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    data = _HeldTexts(grids, [list("abca"), list("gfedc"), list("bdcea")])
    tf_keras.utils.set_random_seed(1)
    return sat_training.Training(settings, ShowAttendTell(config), TABLE, data, data)


def test_overfits_a_tiny_set(grids, tmp_path):
    config = dataclasses.replace(TINY, hidden_size=16, dropout=0.0)
    training = _training(tmp_path, grids, config)
    row = training.run()
    assert row["step"] == 60
    assert row["bleu4"] == pytest.approx(1.0)
    assert row["val_per_word"] < 0.05
    rows = _rows(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in rows] == [30, 60]
    assert rows[1]["likelihood"] < 0.3 * rows[0]["likelihood"]
    said = training.generate(training.train.grids, np.array([2, 0]))
    assert said == [list("bdcea"), list("abca")]


def test_stopped_run_goes_on(grids, tmp_path, monkeypatch):
    fixed = {"bleu4": 0.25, "val_per_word": 1.0, "val_images": 3}
    monkeypatch.setattr(sat_training.Training, "validate", lambda *_: fixed)
    short = {"num_steps": 6, "steps_per_round": 2}
    whole = _training(tmp_path / "whole", grids, **short)
    whole.run()
    stopped = _training(tmp_path / "stopped", grids, **short)
    finish, rounds = stopped._finish_round, []

    def stop(row):
        rounds.append(row)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        finish(row)

    stopped._finish_round = stop
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    again = _training(tmp_path / "stopped", grids, **short)
    assert again.resume() == 2
    again.run()
    for wanted, found in zip(whole.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(wanted.numpy(), found.numpy())
    logs = [(tmp_path / run / "metrics.jsonl") for run in ("whole", "stopped")]
    steps = [[row["step"] for row in _rows(log)] for log in logs]
    assert steps == [[2, 4, 6], [2, 4, 6]]


def test_loss_that_is_not_finite(grids, tmp_path):
    training = _training(tmp_path, grids)
    training._step = lambda *_: (np.float32(np.nan), np.float32(1.0))
    with pytest.raises(ValueError, match="should be finite.* at step 0"):
        training.run()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_command_trains_and_loads(catalogue, tmp_path):
    page = show_attend_tell.flag_page()
    settings = {
        **page.defaults(),
        "manifest": str(catalogue),
        "output_dir": str(tmp_path / "sat"),
        "canvas_size": 64,
        "num_steps": 2,
        "batch_size": 4,
        "min_count": 1,
        "max_words": 9,
    }
    results = show_attend_tell.train(settings)
    assert results["training_images"] == 7 and results["val_images"] == 1
    trained = captioner.load(tmp_path / "sat")
    assert len(trained.sha256) == 64
    assert trained.placing == sat_grids.Placer(canvas_size=64).describe()
    assert trained.model.config.max_words == 9
    assert {"navy", "shirt", "."} < set(trained.table.words)
    rows = _rows(tmp_path / "sat" / "captions.jsonl")
    assert rows[0]["text"] == "red dress . long sleeve , number 4 ."
    with pytest.raises(ValueError, match="training"):
        show_attend_tell.train({**settings, "learning_rate": 0.5})


def test_folder_without_captioner(tmp_path):
    with pytest.raises(FileNotFoundError, match="without config.json"):
        captioner.load(tmp_path)
