"""The command itself on a tiny data set: learning, determinism, stops and errors."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import run_pretrain
from kaleido_tf import files
from kaleido_tf.config import AKPM_TASKS, KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.training import (
    batch_ids,
    callbacks,
    checkpoints,
    loop,
    run_data,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def float32_afterwards():
    yield
    tf_keras.mixed_precision.set_global_policy("float32")


def losses_of(run_dir):
    keys = ("step", "split", "loss/total")
    return [tuple(row[k] for k in keys) for row in callbacks.read_metrics(run_dir)]


@pytest.fixture(scope="module")
def plain(make_data_set, make_flags, tmp_path_factory):
    """Flags and folder of one finished run, to compare others with."""
    folder = tmp_path_factory.mktemp("plain")
    flags = make_flags(make_data_set(folder / "data").directory, folder)
    flags["run_dir"] = str(folder / "run")
    run_pretrain.pretrain(flags)
    return flags


def test_a_run_that_goes_on_needs_its_start_no_more(plain, tmp_path):
    info = DatasetInfo.load(plain["data_dir"])
    gone = {**plain, "init_checkpoint": str(tmp_path / "gone"), "config": None}
    config = run_pretrain.make_config(gone, info)
    own = KaleidoConfig.from_json(f"{plain['run_dir']}/config.json")
    assert config.hidden_size == own.hidden_size
    with pytest.raises(FileNotFoundError, match="isn't downloaded"):
        run_pretrain.make_config({**gone, "run_dir": str(tmp_path / "new")}, info)


def test_table_4s_arm_without_a_patch_task(plain):
    info = DatasetInfo.load(plain["data_dir"])
    for names in (["none"], []):
        config = run_pretrain.make_config({**plain, "akpm_tasks": names}, info)
        assert config.active_tasks == ()
    with pytest.raises(ValueError, match="names out of .*none"):
        run_pretrain.make_config({**plain, "akpm_tasks": ["none", "grey"]}, info)


def test_a_run_leaves_all_that_is_promised(plain, tmp_path):
    """With all five patch tasks; the other runs have two."""
    run_dir = tmp_path / "run"
    changes = {"akpm_tasks": list(AKPM_TASKS), "profile_steps": ["2", "3"]}
    run_pretrain.pretrain({**plain, **changes, "run_dir": str(run_dir)})
    names = set(os.listdir(run_dir))
    assert {"config.json", "flags.json", "versions.json", "metrics.jsonl"} <= names
    assert "data.json" in names
    rows = callbacks.read_metrics(run_dir)
    validation = [row for row in rows if row["split"] == "validation"]
    assert [row["step"] for row in validation] == [0, 4, 8, 12]
    for task in ("mlm", "itm", "rotation", "jigsaw", "camouflage", "grey", "blank"):
        assert f"loss/{task}" in validation[0]
    trained = [row for row in rows if row["split"] == "train"]
    assert [row["step"] for row in trained] == [4, 8, 12]
    assert all(row["samples_per_second"] > 0 for row in trained)
    parts = [v for k, v in validation[1].items() if k.startswith("loss/")]
    total = validation[1]["loss/total"]
    assert total == pytest.approx(sum(parts) - total, rel=1e-5)
    for split in ("train", "validation"):
        tags = {
            value.tag
            for path in (run_dir / "logs" / split).iterdir()
            for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value
        }
        assert {"loss/jigsaw", "accuracy/jigsaw", "loss/blank"} <= tags
    traces = list((run_dir / "logs" / "profile").glob("plugins/profile/*/*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


def test_one_seed_gives_the_same_losses_another_does_not(plain, tmp_path, weights_of):
    run_pretrain.pretrain({**plain, "run_dir": str(tmp_path / "same")})
    run_pretrain.pretrain({**plain, "run_dir": str(tmp_path / "other"), "seed": 1})
    assert losses_of(tmp_path / "same") == losses_of(plain["run_dir"])
    assert losses_of(tmp_path / "other") != losses_of(plain["run_dir"])
    np.testing.assert_array_equal(
        weights_of(tmp_path / "same"), weights_of(plain["run_dir"])
    )


@pytest.mark.long
def test_killed_in_the_middle_it_ends_at_the_same_place(plain, tmp_path, weights_of):
    """SIGKILL after the first checkpoint, then the same command again."""
    settings = {**plain, "run_dir": str(tmp_path / "killed")}
    command = [sys.executable, "run_pretrain.py"]
    for name, value in settings.items():
        if value is not None:
            value = ",".join(value) if isinstance(value, list) else value
            command.append(f"--{name}={str(value).lower() if value is True else value}")
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "checkpoints"
    deadline = time.time() + 180
    while not checkpoints.whole_checkpoints(str(folder)) and time.time() < deadline:
        time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped_at = checkpoints.whole_checkpoints(str(folder))[-1][0]
    assert stopped_at < 12, "killed too late to show anything"
    run_pretrain.pretrain(settings)
    np.testing.assert_allclose(
        weights_of(tmp_path / "killed"), weights_of(plain["run_dir"]), atol=1e-6
    )
    whole, killed = losses_of(plain["run_dir"]), losses_of(tmp_path / "killed")
    assert [row[:2] for row in killed] == [row[:2] for row in whole]
    np.testing.assert_allclose(
        [row[2] for row in killed], [row[2] for row in whole], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("step", "signum"), [(6, 15), pytest.param(8, 2, marks=pytest.mark.long)]
)
def test_a_signal_saves_the_step_and_the_run_goes_on_from_it(
    plain, tmp_path, monkeypatch, step, signum, weights_of
):
    """In the middle of a round, and at its last step, before validation."""
    settings = {**plain, "run_dir": str(tmp_path / "run")}
    own = callbacks.Progress.on_train_batch_end
    before = signal.getsignal(signum)

    def end(self, batch, logs=None):
        own(self, batch, logs)
        if self.step == step:
            signal.raise_signal(signum)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Progress, "on_train_batch_end", end)
        with pytest.raises(SystemExit) as stopped:
            run_pretrain.pretrain(settings)
    assert stopped.value.code == 128 + signum
    assert signal.getsignal(signum) is before
    found = checkpoints.whole_checkpoints(f"{settings['run_dir']}/checkpoints")
    assert [s for s, _ in found] == [4, step]
    assert [row["step"] for row in callbacks.read_metrics(settings["run_dir"])] == [
        0, 4, 4
    ]  # fmt: skip
    run_pretrain.pretrain(settings)
    np.testing.assert_allclose(
        weights_of(settings["run_dir"]), weights_of(plain["run_dir"]), atol=1e-6
    )
    rows, whole = (callbacks.read_metrics(d["run_dir"]) for d in (settings, plain))
    for row, other in zip(rows, whole, strict=True):
        for values in (row, other):
            values.pop("samples_per_second", None)
        assert row.pop("split") == other.pop("split")
        # The round's figures are of all its steps, those before the stop included.
        assert row == pytest.approx(other, rel=1e-5)


def test_batch_ids_are_those_of_the_batch(plain):
    info = DatasetInfo.load(plain["data_dir"])
    config = KaleidoConfig.from_json(f"{plain['run_dir']}/config.json")
    flags = {**plain, "mismatch_rate": 0.0, "batch_size": 5}
    data = run_pretrain.make_data(flags, info, config)
    for step, (inputs, _) in enumerate(data.training_dataset().take(5)):
        # The data set's locations are the number of the image.
        images = inputs["patch_locations"].numpy()[:, 0, 0].astype(int)
        names = [name.split("/")[1] for name in batch_ids.batch_ids(data, step)]
        assert names == [f"i{image}" for image in images]


def test_starting_from_another_runs_weights(plain, tmp_path, weights_of):
    run_pretrain.pretrain(
        {
            **plain,
            "run_dir": str(tmp_path / "second"),
            "num_steps": 4,
            "learning_rate": 0.0,
            "init_checkpoint": plain["run_dir"],
        }
    )
    np.testing.assert_allclose(
        weights_of(tmp_path / "second"), weights_of(plain["run_dir"]), atol=1e-7
    )


@pytest.fixture(scope="module")
def without_dropout(plain, tmp_path_factory):
    """Flags and folder of a run that draws nothing but its batches."""
    folder = tmp_path_factory.mktemp("exact")
    config = folder / "sizes.json"
    sizes = files.read_json(plain["config"])
    rates = ("hidden_dropout", "attention_dropout", "feature_dropout")
    config.write_text(json.dumps({**sizes, **dict.fromkeys(rates, 0.0)}))
    flags = {**plain, "config": str(config), "num_steps": 4}
    flags["run_dir"] = str(folder / "run")
    run_pretrain.pretrain(flags)
    return flags


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "mixed_bfloat16", "xla": True},
        pytest.param({"precision": "mixed_float16"}, marks=pytest.mark.long),
        pytest.param({"strategy": "mirrored", "xla": True}, marks=pytest.mark.long),
    ],
)
def test_precisions_xla_and_mirrored_train_alike(without_dropout, tmp_path, change):
    run_dir = str(tmp_path / "other")
    model = run_pretrain.pretrain({**without_dropout, **change, "run_dir": run_dir})
    tolerance = 2e-2 if "precision" in change else 1e-4
    if change.get("precision") == "mixed_float16":
        # Gradients overflow until the loss scale fits, and these steps are left out.
        assert model.optimizer.loss_scale.numpy() < 2**15
        assert model.bad_steps() == []
        tolerance = 5e-2
    np.testing.assert_allclose(
        [row[2] for row in losses_of(run_dir)],
        [row[2] for row in losses_of(without_dropout["run_dir"])],
        rtol=tolerance,
    )


def test_a_nan_loss_stops_the_run_and_saves_nothing(plain, tmp_path):
    run_dir = str(tmp_path / "run")
    changes = {"run_dir": run_dir, "learning_rate": 1e30, "clip_norm": 0.0}
    # Everything is lost with the first update; batch 1 is what meets that.
    with pytest.raises(
        ValueError, match="gradient should be finite.*at step 2"
    ) as error:
        run_pretrain.pretrain({**plain, **changes})
    names = files.read_json(f"{run_dir}/bad_step_2.json")["batch"]
    assert len(names) == 4 and all(name in str(error.value) for name in names)
    assert checkpoints.whole_checkpoints(f"{run_dir}/checkpoints") == []


def test_one_run_writes_a_folder_at_a_time(plain):
    with (
        files.locked(plain["run_dir"]),
        pytest.raises(ValueError, match="one writer at a time"),
    ):
        run_pretrain.pretrain(plain)


def test_steps_left_out_after_the_last_checkpoint_are_forgotten(tmp_path):
    """They will be done again, perhaps with other flags."""
    path = tmp_path / "skipped_steps.jsonl"
    files.write_rows(str(path), [{"step": 3, "batch": []}, {"step": 7, "batch": []}])
    strategy = tf.distribute.get_strategy()
    keeper = mock.Mock(restore_state=lambda: (4, None), writes=True)
    assert loop.resume(str(tmp_path), keeper, strategy) == (4, None)
    assert [row["step"] for row in files.read_rows(str(path))] == [3]


def test_tensorboards_log_costs_no_run(tmp_path, monkeypatch):
    def full(folder):
        raise tf.errors.ResourceExhaustedError(None, None, "no space left")

    monkeypatch.setattr(tf.summary, "create_file_writer", full)
    round_end = callbacks.RoundEnd(str(tmp_path), mock.Mock(), 4, 2)
    round_end.write(4, "train", {"loss/total": 1.5})
    row = {"step": 4, "split": "train", "loss/total": 1.5}
    assert callbacks.read_metrics(str(tmp_path)) == [row]


def test_a_damaged_shard_is_named(plain, tmp_path):
    data = shutil.copytree(plain["data_dir"], tmp_path / "data")
    path = data / "train-1.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    changes = {"data_dir": str(data), "run_dir": str(tmp_path / "run")}
    with pytest.raises(ValueError, match=r"train-1\.tfrecord: record 2 can't be read"):
        run_pretrain.pretrain({**plain, **changes})


def test_changed_flags_and_unfitting_configs_are_errors(plain, tmp_path):
    with pytest.raises(ValueError, match="learning_rate.*0.001, 0.5"):
        run_pretrain.pretrain({**plain, "learning_rate": 0.5})
    with pytest.raises(ValueError, match="new folder"):
        run_pretrain.pretrain({**plain, "resume": False})
    wrong = tmp_path / "wrong.json"
    other = {**plain, "run_dir": str(tmp_path / "x"), "config": str(wrong)}
    wrong.write_text(json.dumps({"vocab_size": 7}))
    with pytest.raises(ValueError, match="vocab_size.*Received: 7"):
        run_pretrain.pretrain(other)
    wrong.write_text(json.dumps({"hidden": 7}))
    with pytest.raises(ValueError, match="KaleidoConfig.*hidden"):
        run_pretrain.pretrain(other)


@contextlib.contextmanager
def changed_json(path, change):
    """A JSON file with other content within."""
    before = pathlib.Path(path).read_text()
    values = json.loads(before)
    change(values)
    pathlib.Path(path).write_text(json.dumps(values))
    yield
    pathlib.Path(path).write_text(before)


def test_a_run_never_goes_on_with_another_config_or_other_data(plain):
    """The same flags, and other files where they point."""
    kept = pathlib.Path(plain["run_dir"], "config.json").read_text()
    with (
        changed_json(plain["config"], lambda v: v.update(hidden_dropout=0.3)),
        pytest.raises(ValueError, match=r"fields: {'hidden_dropout': \(0.1, 0.3\)}"),
    ):
        run_pretrain.pretrain(plain)
    info = f"{plain['data_dir']}/dataset_info.json"
    with (
        changed_json(
            info, lambda v: v["splits"]["train"]["shards"][0].update(sha256="")
        ),
        pytest.raises(ValueError, match="trained on. Received other.*records changed"),
    ):
        run_pretrain.pretrain(plain)
    assert pathlib.Path(plain["run_dir"], "config.json").read_text() == kept


def test_weights_are_not_used_on_other_pieces_or_features(plain, caplog):
    """Of the same number and length."""
    info = DatasetInfo.load(plain["data_dir"])
    run_data.check_fits(plain["run_dir"], info)

    def other(**values):
        return DatasetInfo(info.directory, {**info.values, **values})

    with pytest.raises(ValueError, match="another vocabulary .* there, abc here"):
        run_data.check_fits(plain["run_dir"], other(vocab_sha256="abc"))
    features = other(backbone={"name": "resnet50", "weights_hash": "1"})
    with pytest.raises(
        ValueError, match="another backbone null there, resnet50 here; b"
    ):
        run_data.check_fits(plain["run_dir"], features)
    with caplog.at_level("WARNING", logger="absl"):
        run_data.check_fits(plain["run_dir"], features, run_data.PIECES)
        run_data.check_fits(plain["run_dir"], other(canvas_size=512))
    notes = [record.getMessage() for record in caplog.records]
    assert "another backbone, backbone's weights than" in notes[0]
    assert "another canvas size than" in notes[1]
    run_data.check_fits(plain["data_dir"], features)  # no checkpoint of ours
