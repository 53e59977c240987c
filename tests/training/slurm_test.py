import json

import pytest

from kaleido_tf.training import slurm


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu7", ["gpu7"]),
        ("a,b", ["a", "b"]),
        ("gpu[08-10,3],head", ["gpu08", "gpu09", "gpu10", "gpu3", "head"]),
        ("r[1-2]-x", ["r1-x", "r2-x"]),
    ],
)
def test_hosts_of_a_node_list(text, names):
    assert slurm.expand_hosts(text) == names


def test_tf_config_of_a_task():
    environment = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_PROCID": "1"}
    assert json.loads(slurm.tf_config(environment, 9)) == {
        "cluster": {"worker": ["n1:9", "n2:9"]},
        "task": {"type": "worker", "index": 1},
    }
    for broken in ({}, {**environment, "SLURM_PROCID": "2"}):
        with pytest.raises(ValueError, match="ntasks-per-node=1"):
            slurm.tf_config(broken)
