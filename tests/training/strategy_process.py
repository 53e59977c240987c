"""A process of its own for strategies_test.py: devices and clusters are set at start.

python strategy_process.py SETTINGS.json: a dict of `devices` (virtual CPUs) and `runs`
(dicts of the flags of run_pretrain.py).
"""

import json
import sys

import tensorflow as tf

import run_pretrain


def main(path):
    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * settings["devices"]
    tf.config.set_logical_device_configuration(cpu, parts)
    for flags in settings["runs"]:
        model = run_pretrain.pretrain(flags)
        print("replicas", model.distribute_strategy.num_replicas_in_sync)


if __name__ == "__main__":
    main(sys.argv[1])
