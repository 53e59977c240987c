"""Two devices, and two workers, train as one device does: batches, losses, weights."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import run_finetune
import run_pretrain
from kaleido_tf.config import AKPM_TASKS
from kaleido_tf.training import (
    callbacks,
    checkpoints,
    distribution,
    finetuning,
    loop,
    run_folder,
    stopping,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(folder, flags, devices=1, tf_config=None):
    """Starts strategy_process.py: (process, path of its output)."""
    name = os.path.basename(flags["run_dir"])
    name += str(tf_config["task"]["index"]) if tf_config else ""
    settings = folder / f"{name}.json"
    settings.write_text(json.dumps({"devices": devices, "flags": flags}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    with open(folder / f"{name}.log", "w") as log:
        return subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests/training/strategy_process.py"),
                settings,
            ],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        ), folder / f"{name}.log"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def finetuning_flags(flags, task):
    """Three steps of a task on two pairs, with every dropout there is."""
    return run_finetune.flag_page().defaults() | {
        **{
            name: flags[name] for name in ("data_dir", "model", "config", "text_length")
        },
        "task": task,
        "mode": "train",
        "num_steps": 3,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "dropout": 0.3,
        "dev_fraction": 0.65,  # p1 and p3: four images, two for each replica
        "steps_per_round": 1,
        "patience": 0,
    }


@pytest.fixture(scope="module")
def settings(make_data_set, make_flags, tmp_path_factory):
    """(folder, dict task -> dict strategy -> flags of one and the same run)."""
    folder = tmp_path_factory.mktemp("strategies")
    flags = make_flags(make_data_set(folder / "data").directory, folder)
    # A row's numbers of a dropout are odd, or few: nothing meets by chance.
    config = json.loads((folder / "sizes.json").read_text())
    config |= {"hidden_size": 6, "num_heads": 3}
    (folder / "sizes.json").write_text(json.dumps(config))
    # Whole batches of held-out pairs: one row can't be shared by two.
    flags |= {"num_steps": 4, "steps_per_round": 2, "validation_examples": 4}
    flags["akpm_tasks"] = list(AKPM_TASKS)  # each has a count of its own to share
    every = {"pretraining": flags, "captioning": finetuning_flags(flags, "captioning")}
    return folder, {
        task: {
            strategy: {
                **values,
                "strategy": strategy,
                "run_dir": str(folder / f"{strategy}-{task}"),
            }
            for strategy in ("one_device", "mirrored", "multi_worker")
        }
        for task, values in every.items()
    }


def check_ends(processes):
    """Waits for processes of `start`, which must end well on two replicas."""
    for process, log in processes:
        assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
        assert "replicas 2" in log.read_text()


@pytest.fixture(scope="module")
def runs(settings):
    """Pre-training by one device, two devices and two workers: dict -> folder."""
    folder, flags = settings[0], settings[1]["pretraining"]
    processes = [start(folder, flags["mirrored"], devices=2)]
    workers = [f"localhost:{port}" for port in free_ports(2)]
    for index in range(2):
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": workers}, "task": task}
        processes.append(start(folder, flags["multi_worker"], tf_config=cluster))
    run_pretrain.pretrain(flags["one_device"])
    check_ends(processes)
    return {strategy: value["run_dir"] for strategy, value in flags.items()}


def check_rows(run_dir, expected_dir):
    """Asserts that two runs wrote the same figures."""
    rows, expected = (callbacks.read_metrics(d) for d in (run_dir, expected_dir))
    assert [(row["step"], row["split"]) for row in rows] == [
        (row["step"], row["split"]) for row in expected
    ]
    for row, other in zip(rows, expected, strict=True):
        for name in set(other) - {"step", "split", "samples_per_second"}:
            assert row[name] == pytest.approx(other[name], rel=2e-5), (row, name)


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_losses_and_weights_are_those_of_one_device(runs, weights_of, strategy):
    run_dir, other = runs[strategy], runs["one_device"]
    check_rows(run_dir, other)
    # Adam divides by a gradient's size: where that is nearly 0 the order of a sum
    # matters. The learning rate is 1e-3, an update of that order.
    found, whole = weights_of(run_dir), weights_of(other)
    np.testing.assert_allclose(found, whole, atol=2e-4)
    assert np.abs(found - whole).mean() < 1e-6


@pytest.mark.long
def test_captioning_on_two_devices_is_that_of_one(settings):
    """The second and third step's losses hang on the updates before them."""
    folder, flags = settings[0], settings[1]["captioning"]
    processes = [start(folder, flags["mirrored"], devices=2)]
    run_finetune.main(flags["one_device"])
    check_ends(processes)
    check_rows(flags["mirrored"]["run_dir"], flags["one_device"]["run_dir"])


def test_only_the_chief_writes(runs):
    run_dir = runs["multi_worker"]
    found = checkpoints.whole_checkpoints(f"{run_dir}/checkpoints")
    assert [step for step, _ in found] == [2, 4]
    names = {name.split(".")[0] for name in os.listdir(os.path.dirname(found[0][1]))}
    assert names == {"ckpt-2", "ckpt-4"}
    rows = callbacks.read_metrics(run_dir)
    assert len(rows) == len({(row["step"], row["split"]) for row in rows})
    assert sorted(os.listdir(run_dir)) == sorted(os.listdir(runs["one_device"]))


def test_rows_are_dealt_out_in_the_batchs_order():
    batches = tf.data.Dataset.from_tensors(({"x": tf.range(6)}, {"y": tf.range(6) * 2}))
    shares = [
        next(iter(distribution.rows_for_worker(batches, worker, 3)))
        for worker in range(3)
    ]
    assert [list(share[0]["x"].numpy()) for share in shares] == [[0, 1], [2, 3], [4, 5]]
    assert list(shares[2][1]["y"].numpy()) == [8, 10]


class Replicas:
    """What `split_for_replicas` asks of a strategy."""

    def __init__(self, count):
        self.num_replicas_in_sync = count


def test_uneven_batches_are_cut_and_those_too_small_left_out():
    data = tf.data.Dataset.range(8).batch(5).map(lambda x: ({"x": x}, {"y": x}))
    parts = [
        list(inputs["x"].numpy())
        for inputs, _ in distribution.split_for_replicas(data, Replicas(4))
    ]
    assert parts == [[0], [1], [2], [3, 4]]  # and not 5, 6, 7


def test_batches_that_cannot_be_shared_are_an_error():
    with pytest.raises(ValueError, match="multiple of the 4 replicas times.*=3"):
        distribution.check_batch_size(16, Replicas(4), 3)
    distribution.check_batch_size(24, Replicas(4), 3)
    with pytest.raises(ValueError, match="with at least 2 rows each. Received: 12"):
        distribution.check_batch_size(12, Replicas(4), 3, least=2)
    distribution.check_batch_size(24, Replicas(4), 3, least=2)


def test_what_is_left_of_a_round_is_a_stretch_of_its_own():
    assert loop.stretches(0, 12, 4) == [(0, 12)]
    assert loop.stretches(8, 12, 4) == [(8, 4)]
    assert loop.stretches(6, 12, 4) == [(6, 2), (8, 4)]
    assert loop.stretches(11, 12, 4) == [(11, 1)]
    assert loop.stretches(12, 12, 4) == []


def test_a_lost_worker_has_an_exit_code_of_its_own(capsys):
    lost = tf.errors.UnavailableError(None, None, "connection refused\nmore")
    aborted = tf.errors.InternalError(None, None, "Collective ops is aborted by: x")
    for error in (lost, aborted):
        lost_one = stopping.ending_with_lost_workers(2)
        with pytest.raises(SystemExit) as ended, lost_one:
            raise error
        assert ended.value.code == 75
    assert "every one of the 2 workers" in capsys.readouterr().err
    other = tf.errors.InternalError(None, None, "another")
    for workers, error in ((1, lost), (2, other)):
        with pytest.raises(type(error)), stopping.ending_with_lost_workers(workers):
            raise error


@pytest.fixture
def cluster(monkeypatch):
    """A TF_CONFIG of three workers."""
    workers = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": workers, "task": task}))


def test_the_number_of_workers_is_known_before_they_meet(cluster, monkeypatch):
    assert distribution.num_workers("multi_worker") == 3
    assert distribution.num_workers("mirrored") == 1
    for broken in ("", "{}", "no JSON", "[]", '{"cluster": {}}'):
        monkeypatch.setenv("TF_CONFIG", broken)
        with pytest.raises(ValueError, match="TF_CONFIG should name the cluster's"):
            distribution.num_workers("multi_worker")
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(ValueError, match="Received: None"):
        distribution.num_workers("multi_worker")


def test_workers_that_were_started_otherwise_are_named(monkeypatch):
    monkeypatch.setattr(distribution, "worker_of", lambda strategy: (0, 3))
    given = []

    def gather(strategy, value):
        given.append(value)
        return [value, value, value + len(given) - 1]

    monkeypatch.setattr(distribution, "of_all_workers", gather)
    distribution.check_same(None, lambda: b"1e-4", "flags")
    with pytest.raises(ValueError, match=r"the same flags. .* on workers \[2\]"):
        distribution.check_same(None, lambda: b"1e-3", "flags")
    assert given[0] != given[1] and 0 <= max(given) < 2**63


def test_own_shares_have_two_rows():
    flags = {"worker_data": "own_share", "batch_size": 6}
    run_pretrain._check_own_shares(flags, 3)
    with pytest.raises(ValueError, match="each of the 4 workers.* Received: 6"):
        run_pretrain._check_own_shares(flags, 4)


def test_own_shares_go_on_with_as_many_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "has_begun", lambda run_dir: True)
    flags = {"worker_data": "own_share"}
    run_folder.check_parts(str(tmp_path), Replicas(4), flags)
    run_folder.check_parts(str(tmp_path), Replicas(4), flags)
    with pytest.raises(ValueError, match="it began with, .*'replicas': 4"):
        run_folder.check_parts(str(tmp_path), Replicas(2), flags)
    run_folder.check_parts(str(tmp_path), Replicas(2), {"worker_data": "same_batch"})


def test_a_worker_lost_in_the_start_ends_both_commands_alike(cluster, monkeypatch):
    flags = {"strategy": "multi_worker", "task": "category"}
    commands = (run_pretrain.pretrain, lambda flags: finetuning.train(flags, None))
    lost = tf.errors.UnavailableError(None, None, "connection refused")
    for error, code in ((lost, 75), (ValueError("sizes"), None)):

        def start(*_, error=error):
            raise error

        monkeypatch.setattr(loop, "start_process", start)
        for command in commands:
            with pytest.raises(SystemExit if code else ValueError) as ended:
                command(flags)
            assert getattr(ended.value, "code", None) == code
