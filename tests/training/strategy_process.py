"""A process of its own for strategies_test.py: devices and clusters are set at start.

python strategy_process.py SETTINGS.json: a dict of `devices` (virtual CPUs) and `flags`
(of run_pretrain.py, or of run_finetune.py where there is a task).
"""

import json
import sys

import tensorflow as tf

import run_finetune
import run_pretrain
from kaleido_tf.training import loop

_start_process = loop.start_process


def start_and_tell(*args):
    strategy = _start_process(*args)
    print("replicas", strategy.num_replicas_in_sync)
    return strategy


def train(flags):
    """One run, of whichever command its flags are."""
    if "task" in flags:
        run_finetune.main(flags)
    else:
        run_pretrain.pretrain(flags)


def main(path):
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * settings["devices"]
    tf.config.set_logical_device_configuration(cpu, parts)
    loop.start_process = start_and_tell
    # One run a process: a second strategy counts its collectives anew, and they clash.
    train(settings["flags"])


if __name__ == "__main__":
    main(sys.argv[1])
