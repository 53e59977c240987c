"""TF_CONFIG of a Slurm task: `export TF_CONFIG=$(python -m kaleido_tf.training.slurm)`.

One task a node; the first node is the chief. See docs/training.md.
"""

import json
import os
import re

from kaleido_tf import cli


def expand_hosts(text):
    """Names of a Slurm node list such as "gpu[01-03,7],head": list of str."""
    names = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\])?[^,\[]*", text):
        match = re.fullmatch(r"(.*?)\[([^\]]*)\](.*)", part)
        if not match:
            names.append(part)
            continue
        before, numbers, after = match.groups()
        for number in numbers.split(","):
            first, _, last = number.partition("-")
            for value in range(int(first), int(last or first) + 1):
                names.append(f"{before}{value:0{len(first)}d}{after}")
    return names


def tf_config(environment, port=12345):
    """TF_CONFIG for the task that the environment belongs to: str, JSON.

    Args:
      environment: dict with SLURM_STEP_NODELIST or SLURM_JOB_NODELIST, and SLURM_PROCID
        of a step with one task a node.
      port: the same on every node.

    Raises:
      ValueError: not within such a step.
    """
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get(
        "SLURM_JOB_NODELIST"
    )
    index = environment.get("SLURM_PROCID", "")
    names = expand_hosts(hosts or "")
    if not index.isdigit() or int(index) >= len(names):
        raise ValueError(
            "The environment should be that of a task of `srun --ntasks-per-node=1`. "
            f"Received: SLURM_PROCID={index!r}, node list {hosts!r}"
        )
    workers = [f"{name}:{port}" for name in names]
    task = {"type": "worker", "index": int(index)}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Prints TF_CONFIG for the task of `srun` that it runs in.")
    page.integer(
        "port",
        None,
        "Of every node's worker.",
        shown_default="the environment's KALEIDO_PORT, else 12345",
        lower_bound=1,
        upper_bound=65535,
    )
    return page


def main(values):
    port = values["port"] or int(os.environ.get("KALEIDO_PORT", "12345"))
    print(tf_config(os.environ, port))


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
