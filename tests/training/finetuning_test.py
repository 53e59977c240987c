"""The shared fine-tuning loop on a tiny data set and classifier."""

import json
import math
import os
import pathlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import run_finetune
from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_classifier, build_matcher
from kaleido_tf.tasks import classification
from kaleido_tf.training import best, callbacks, checkpoints, finetuning, run_folder
from kaleido_tf.training.task_context import make_config

SIZES = {
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 8,
    "contrastive_size": 0,
    "hidden_dropout": 0.1,
    "text_length": 8,
    "max_position_embeddings": 8,
}


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    tf_keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def plain(make_data_set, tmp_path_factory):
    """Settings and result of one finished run of 6 steps in rounds of 2."""
    folder = tmp_path_factory.mktemp("plain")
    config = folder / "sizes.json"
    config.write_text(json.dumps(SIZES))
    settings = run_finetune.flag_page().defaults() | {
        "task": "subcategory",
        "mode": "train",
        "data_dir": make_data_set(folder / "data").directory,
        "run_dir": str(folder / "run"),
        "model": "tiny",
        "config": str(config),
        "num_steps": 6,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "dropout": 0.2,
        "dev_fraction": 0.65,  # p1 and p3, by the hashes of their ids
        "steps_per_round": 2,
        "patience": 0,
    }
    result = run_finetune.main(settings)
    return settings, result


def rows_of(run_dir, split="dev"):
    rows = callbacks.read_metrics(run_dir)
    for row in rows:
        row.pop("samples_per_second", None)
    return [row for row in rows if row["split"] == split]


def weights_of(path, num_classes=2):
    model = build_classifier(checkpoints.run_config(path), num_classes)
    checkpoints.load_weights(model, path)
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def last_of(run_dir):
    return checkpoints.whole_checkpoints(f"{run_dir}/checkpoints")[-1][1]


def test_a_run_leaves_all_that_is_promised(plain):
    settings, result = plain
    run_dir = settings["run_dir"]
    rows = rows_of(run_dir)
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert [row["step"] for row in rows_of(run_dir, "train")] == [2, 4, 6]
    assert set(rows[0]) == {
        "step",
        "split",
        "loss/total",
        "loss/subcategory",
        "accuracy/subcategory",
    }
    assert files.read_json(f"{run_dir}/result.json") == result
    accuracies = [row["accuracy/subcategory"] for row in rows[1:]]
    expected = {"step": 2 + 2 * int(np.argmax(accuracies)), "value": max(accuracies)}
    assert result["best"] == {"metric": "accuracy/subcategory", **expected}
    assert (result["steps"], result["stopped_early"]) == (6, False)
    # p4 has no sub-category: two of twelve images.
    assert result["num_left_out"] == 2
    assert result["num_train_examples"] + result["num_dev_examples"] == 10
    flags = files.read_json(f"{run_dir}/flags.json")
    assert "learning_rate" in flags and "beam_size" not in flags
    task = run_folder.read_task(run_dir)
    assert task["task"] == "subcategory" and task["class_names"] == ["gowns", "tops"]
    assert sum(task["class_examples"].values()) == result["num_train_examples"]
    assert os.listdir(f"{run_dir}/logs/dev")


def test_the_best_checkpoint_is_what_a_run_means(plain, tmp_path):
    settings, result = plain
    prefix = checkpoints.checkpoint_prefix(settings["run_dir"])
    assert prefix == f"{settings['run_dir']}/best/ckpt-{result['best']['step']}"
    assert os.listdir(os.path.dirname(prefix)) != []
    copy = shutil.copytree(settings["run_dir"], tmp_path / "copy")
    shutil.rmtree(copy / "best")
    assert checkpoints.checkpoint_prefix(str(copy)).endswith("checkpoints/ckpt-6")
    assert checkpoints.run_config(prefix) == checkpoints.run_config(str(copy))


def test_stopped_in_the_middle_it_ends_at_the_same_place(plain, tmp_path):
    settings, result = plain
    copy = shutil.copytree(settings["run_dir"], tmp_path / "copy")
    for step in (4, 6):
        for path in (copy / "checkpoints").glob(f"ckpt-{step}.*"):
            path.unlink()
    again = run_finetune.main({**settings, "run_dir": str(copy)})
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    for split in ("train", "dev"):
        for one, other in zip(
            rows_of(copy, split), rows_of(settings["run_dir"], split), strict=True
        ):
            assert one.pop("split") == other.pop("split")
            assert one == pytest.approx(other, rel=1e-5)
    for place in (str(copy), last_of(copy)):
        whole = place.replace(str(copy), settings["run_dir"])
        np.testing.assert_allclose(weights_of(place), weights_of(whole), atol=1e-6)


def test_patience_ends_a_run_that_gets_no_better(plain, tmp_path):
    settings = {**plain[0], "run_dir": str(tmp_path / "run"), "learning_rate": 0.0}
    settings |= {"patience": 1, "init_checkpoint": plain[0]["run_dir"], "config": None}
    result = run_finetune.main(settings)
    assert (result["steps"], result["stopped_early"]) == (4, True)
    assert result["best"]["step"] == 2
    # It started from the other run's best weights, head included.
    start = rows_of(settings["run_dir"])[0]["accuracy/subcategory"]
    assert start == pytest.approx(plain[1]["best"]["value"])
    np.testing.assert_array_equal(
        weights_of(settings["run_dir"]), weights_of(plain[0]["run_dir"])
    )
    assert run_finetune.main(settings) == result
    assert [row["step"] for row in rows_of(settings["run_dir"])] == [0, 2, 4]


def test_precision_xla_and_mirrored(plain, tmp_path):
    changes = {"strategy": "mirrored", "xla": True, "precision": "mixed_bfloat16"}
    run_dir = str(tmp_path / "run")
    run_finetune.main({**plain[0], **changes, "run_dir": run_dir, "num_steps": 2})
    rows = [rows_of(run) for run in (run_dir, plain[0]["run_dir"])]
    # The same start; dropout is drawn in another way with XLA.
    start, expected = (row[0]["loss/total"] for row in rows)
    assert start == pytest.approx(expected, rel=2e-2)
    assert rows[0][1]["loss/total"] == pytest.approx(rows[1][1]["loss/total"], rel=0.3)


def test_a_nan_loss_chooses_and_saves_nothing(tmp_path):
    chooser = types.SimpleNamespace(consider=pytest.fail)
    keeper = types.SimpleNamespace(save=pytest.fail)
    round_end = callbacks.RoundEnd(str(tmp_path), keeper, 2, 4, chooser=chooser)
    logs = {"loss/total": math.nan, "val_loss/total": 1.0}
    with pytest.raises(callbacks.NonFiniteLossError, match="steps 0 and 2"):
        round_end.on_epoch_end(0, logs)
    assert os.listdir(tmp_path) == []


def test_a_resumed_run_must_be_the_same(plain, tmp_path):
    settings = plain[0]
    with pytest.raises(ValueError, match="learning_rate.*0.01, 0.5"):
        run_finetune.main({**settings, "learning_rate": 0.5})
    with pytest.raises(ValueError, match="new folder"):
        run_finetune.main({**settings, "resume": False})
    copy = shutil.copytree(settings["run_dir"], tmp_path / "copy")
    task = run_folder.read_task(str(copy)) | {"class_names": ["tops", "gowns"]}
    files.write_json(task, copy / "task.json")
    with pytest.raises(ValueError, match="task.json should say what the data"):
        run_finetune.main({**settings, "run_dir": str(copy)})


def save_run(folder, model, config, task=None):
    """A run folder with one checkpoint of a model; returns its path."""
    pathlib.Path(folder).mkdir()
    config.save(f"{folder}/config.json")
    checkpoints.CheckpointKeeper(str(folder), model).save(1)
    if task:
        files.write_json(task, f"{folder}/task.json")
    return str(folder)


def head_after_start(settings, path):
    """(head's kernel, model) that a job starts with for `init_checkpoint=path`."""
    context = finetuning.make_context({**settings, "init_checkpoint": path})
    job = classification.make_job(context)
    chooser = best.BestKeeper("nowhere", job.model, job.best, job.best_is)
    changed = {**settings, "init_checkpoint": path, "run_dir": "nowhere"}
    finetuning._restore(changed, job, context.info, (0, None), chooser)
    return job.model.get_layer("class_head").get_weights()[0], job.model


@pytest.mark.parametrize(
    ("names", "kept"),
    [(["gowns", "tops"], True), (["a", "b", "c"], False)],
)
def test_a_head_of_other_classes_starts_fresh(plain, tmp_path, names, kept):
    settings = {**plain[0], "config": None}
    config = checkpoints.run_config(settings["run_dir"])
    source = build_classifier(config, len(names))
    task = {"task": "subcategory", "class_names": names}
    run = save_run(tmp_path / "run", source, config, task)
    head, model = head_after_start(settings, run)
    stored = source.get_layer("class_head").get_weights()[0]
    assert (stored.shape == head.shape and np.array_equal(stored, head)) == kept
    pooler = model.get_layer("encoder").get_layer("pooler").get_weights()[0]
    expected = source.get_layer("encoder").get_layer("pooler").get_weights()[0]
    np.testing.assert_array_equal(pooler, expected)


def test_config_comes_from_run_preset_or_file(plain, tmp_path):
    settings, info = plain[0], finetuning.make_context(plain[0]).info
    bare = {**settings, "config": None}
    scratch = make_config(bare, info)
    assert scratch.hidden_size == KaleidoConfig.preset("tiny").hidden_size
    assert scratch.vocab_size == info.vocab_size
    assert scratch.patch_feature_size == info.feature_size
    other = scratch.replace(hidden_size=16, feature_dropout=0.05, contrastive_size=6)
    run = save_run(tmp_path / "run", build_matcher(other), other)
    assert make_config({**bare, "init_checkpoint": run}, info) == other
    assert make_config({**bare, "init_checkpoint": "none"}, info) == scratch
    assert make_config({**bare, "text_length": 150}, info).text_length == 150
    longer = {**bare, "init_checkpoint": run, "text_length": 150}
    with pytest.raises(ValueError, match="at least `text_length`. .* 128 < 150"):
        make_config(longer, info)  # the stored table has 128 rows
    # A run that goes on needs its start no more.
    gone = {**bare, "init_checkpoint": str(tmp_path / "gone")}
    begun = {**gone, "run_dir": settings["run_dir"]}
    assert make_config(begun, info).hidden_size == SIZES["hidden_size"]
    with pytest.raises(FileNotFoundError, match="isn't downloaded"):
        make_config({**gone, "run_dir": str(tmp_path / "new")}, info)
    changed = {**settings, "init_checkpoint": run}
    assert make_config(changed, info).hidden_size == SIZES["hidden_size"]


@pytest.fixture
def head():
    """A model of one variable that counts as a head, and its keeper's folder."""
    inputs = tf_keras.Input([1])
    output = tf_keras.layers.Dense(1, use_bias=False, name="x_head")(inputs)
    return tf_keras.Model(inputs, output)


def consider_all(keeper, head, values):
    for step, value in enumerate(values, start=1):
        head.get_layer("x_head").kernel.assign([[float(step)]])
        keeper.consider(step, {"loss/total": value})


@pytest.mark.parametrize(
    ("best_is", "values", "step"),
    [
        ("min", [3.0, 2.0, 2.0, 2.5], 2),
        ("max", [3.0, 2.0, 3.5, math.nan], 3),
        ("max", [math.nan, 1.0, math.nan], 2),
    ],
)
def test_the_best_of_all_is_kept(head, tmp_path, best_is, values, step):
    keeper = best.BestKeeper(str(tmp_path), head, "loss/total", best_is, patience=2)
    # The start is no candidate, however good it is.
    keeper.consider(0, {"loss/total": {"min": 0.0, "max": 9.0}[best_is]})
    assert (keeper.step, keeper.rounds_since) == (None, 0)
    consider_all(keeper, head, values)
    assert (keeper.step, keeper.value) == (step, values[step - 1])
    rounds = len(values) - step
    assert keeper.rounds_since == rounds and keeper.exhausted == (rounds >= 2)
    names = {name.split(".")[0] for name in os.listdir(tmp_path / "best")}
    assert names == {f"ckpt-{step}"}
    tf.train.Checkpoint(x_head=head.get_layer("x_head")).read(
        str(tmp_path / "best" / f"ckpt-{step}")
    ).assert_existing_objects_matched()
    assert head.get_layer("x_head").kernel.numpy().item() == step
    again = best.BestKeeper(str(tmp_path), head, "loss/total", best_is, patience=2)
    again.replay({"step": s, "loss/total": v} for s, v in enumerate([9.0, *values]))
    assert (again.step, again.rounds_since) == (keeper.step, rounds)


def test_a_best_checkpoint_of_a_repeated_round_or_a_lost_one(head, tmp_path):
    keeper = best.BestKeeper(str(tmp_path), head, "loss/total", "min")
    consider_all(keeper, head, [3.0, 1.0])
    resumed = best.BestKeeper(str(tmp_path), head, "loss/total", "min")
    resumed.replay([{"step": 1, "loss/total": 3.0}])
    # Its own is gone with the later one: the best of what follows is taken.
    assert resumed.value is None and not os.listdir(tmp_path / "best")
    resumed.consider(2, {"loss/total": 5.0})
    assert resumed.step == 2
    with pytest.raises(ValueError, match="`best` should be one of .*loss/total"):
        resumed.consider(3, {"accuracy/x": 1.0, "other loss/total": 2.0})
    with pytest.raises(ValueError, match="`best_is` should be one of"):
        best.BestKeeper(str(tmp_path), head, "loss/total", "most")


def test_a_job_names_one_of_its_figures(head):
    with pytest.raises(ValueError, match="`best` should be one of .*accuracy/b"):
        finetuning.Job(head, None, None, None, ("a",), ("b",), "accuracy/a", "max")
