"""What scripts/finetune.sh runs, by the catalogue's classes: the commands alone."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "scripts" / "finetune.sh"
# In the place of python: notes a command; a program on stdin is run.
NOTING = """#!/usr/bin/env bash
if [ "$1" = - ]; then exec {python} "$@"; fi
echo "$*" >> "$NOTED"
"""


@pytest.fixture
def commands(tmp_path):
    """Function of a data set's classes -> the commands that the script runs."""

    def run(categories, subcategories):
        out = tmp_path / "out"
        for folder in ("run/checkpoints", "lists", "data", "retrieval_both", "bin"):
            (out / folder).mkdir(parents=True)
        (out / "manifest.jsonl").touch()
        (out / "retrieval_both" / "retrieval.json").touch()
        info = {"categories": categories, "subcategories": subcategories}
        (out / "data" / "dataset_info.json").write_text(json.dumps(info))
        python = out / "bin" / "python"
        python.write_text(NOTING.format(python=sys.executable))
        python.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{out / 'bin'}:{os.environ['PATH']}",
            "NOTED": str(out / "noted"),
            "OUT": str(out),
            "MANIFEST": str(out / "manifest.jsonl"),
        }
        done = subprocess.run(
            [SCRIPT, "real"], env=environment, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return (out / "noted").read_text().splitlines(), done.stdout

    return run


def trained(lines):
    words = [line.split() for line in lines if "--mode=train" in line]
    return [row[1].removeprefix("--task=") for row in words]


def test_every_task_of_a_catalogue_with_classes(commands):
    lines, _ = commands(["a", "b"], ["c", "d"])
    recognised = ["category", "subcategory"]
    assert trained(lines) == [*recognised, "retrieval", "captioning", "captioning"]
    assert sum("classification_baseline" in line for line in lines) == 1
    report = lines[-1]
    for name in (*recognised, "class_baseline", "captioning", "finetuned"):
        assert f" --{name}=" in report


@pytest.mark.parametrize(
    ("subcategories", "kept"), [([], []), (["c", "d"], ["subcategory"])]
)
def test_what_a_catalogue_has_no_classes_for_is_left_out(commands, subcategories, kept):
    lines, printed = commands(["one"], subcategories)
    assert trained(lines) == [*kept, "retrieval", "captioning", "captioning"]
    assert "category: left out, the catalogue has fewer than two categories" in printed
    assert " --category=" not in lines[-1]
    assert (" --class_baseline=" in lines[-1]) == bool(kept)
    assert any("--task=retrieval --mode=evaluate" in line for line in lines)
