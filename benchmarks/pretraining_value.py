"""What pre-training is worth: every task from the checkpoint and from scratch.

  python -m benchmarks.pretraining_value --data_dir=demo/data --checkpoint=demo/run \
      --lists_dir=demo/lists --output_dir=pretraining_value

For each task and seed two trainings that differ in --init_checkpoint alone (the one
from scratch takes over the sizes of the model, no weights), then the evaluation of
both. The table gives mean and standard deviation over the seeds. Can be run again:
finished trainings are kept.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.tasks import TASKS
from kaleido_tf.training import checkpoints

RESULT_NAME = "pretraining_value.json"
STARTS = ("pre-trained", "scratch")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How one task is trained, whatever it starts from.

    Attributes:
      steps, batch_size, learning_rate: of the fine-tuning.
      figures: title -> where it stands in the evaluation's JSON.
    """

    steps: int
    batch_size: int
    learning_rate: float
    figures: dict


# Short: a budget that is long enough for scratch would hide what pre-training saves.
BUDGETS = {
    "category": Budget(
        100, 64, 5e-4, {"accuracy": ("accuracy",), "macro-F": ("macro_f",)}
    ),
    "subcategory": Budget(
        200, 64, 5e-4, {"accuracy": ("accuracy",), "macro-F": ("macro_f",)}
    ),
    "retrieval": Budget(
        300,
        192,
        5e-4,
        {
            "ITR Rank@1": ("sampled", "itr", "rank@1", "mean"),
            "TIR Rank@1": ("sampled", "tir", "rank@1", "mean"),
        },
    ),
    "captioning": Budget(400, 64, 1e-3, {"BLEU-4": ("bleu_4",), "CIDEr": ("cider",)}),
}


def figures_of(task, results):
    """The figures of `BUDGETS` out of an evaluation's results: dict title -> float."""
    found = {}
    for title, path in BUDGETS[task].figures.items():
        value = results
        for key in path:
            value = value[key]
        found[title] = float(value)
    return found


def run_arm(task, start, seed, settings):
    """Trains and evaluates once, in processes of their own; returns the figures."""
    folder = os.path.join(settings["output_dir"], task, f"{start}_seed{seed}")
    budget = BUDGETS[task]
    common = {"task": task, "data_dir": settings["data_dir"]}
    common["precision"] = settings["precision"]
    training = {
        "run_dir": folder,
        "seed": seed,
        "num_steps": max(1, round(budget.steps * settings["budget"])),
        "batch_size": settings["batch_size"] or budget.batch_size,
        "learning_rate": budget.learning_rate,
        "steps_per_round": 50,
    }
    if start == "scratch":
        training |= {"init_checkpoint": "none", "config": _sizes(settings)}
    else:
        training["init_checkpoint"] = settings["checkpoint"]
    _run({"mode": "train", **common, **training})
    measuring = {"checkpoint": folder, "output_dir": os.path.join(folder, "results")}
    if task == "retrieval":
        names = ("lists_dir", "num_lists", "num_queries")
        measuring |= {name: settings[name] for name in names}
        measuring["max_full_pairs"] = 0
    _run({"mode": "evaluate", **common, **measuring})
    with open(
        os.path.join(folder, "results", f"{task}.json"), encoding="utf-8"
    ) as file:
        return figures_of(task, json.load(file))


def _sizes(settings):
    """A --config file with the checkpoint's config: the same model without weights."""
    path = os.path.join(settings["output_dir"], "sizes.json")
    checkpoints.run_config(settings["checkpoint"]).save(path)
    return path


def _run(flags):
    script = os.path.join(os.path.dirname(os.path.dirname(__file__)), "run_finetune.py")
    command = [sys.executable, script, *(f"--{k}={v}" for k, v in flags.items())]
    subprocess.run(command, check=True)


def summarize(arms):
    """Mean and standard deviation over the seeds.

    Args:
      arms: list of dict: task, start, seed, figures.

    Returns:
      list of dict: task, figure, and for each of `STARTS` its mean, deviation, values.
    """
    rows = []
    for task in dict.fromkeys(arm["task"] for arm in arms):
        for title in BUDGETS[task].figures:
            row = {"task": task, "figure": title}
            for start in STARTS:
                values = [
                    arm["figures"][title]
                    for arm in arms
                    if (arm["task"], arm["start"]) == (task, start)
                ]
                row[start] = {
                    "mean": statistics.fmean(values),
                    "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
                    "values": values,
                }
            rows.append(row)
    return rows


def format_table(rows):
    """The summary as lines of text."""
    lines = [f"{'task':14}{'figure':14}" + "".join(f"{s:>22}" for s in STARTS)]
    for row in rows:
        cells = (f"{row[s]['mean']:.3f} ± {row[s]['deviation']:.3f}" for s in STARTS)
        line = f"{row['task']:14}{row['figure']:14}"
        lines.append(line + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Trains the tasks from a checkpoint and from scratch.")
    page.heading("Data")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string("checkpoint", None, "Pre-training run to start from.", required=True)
    page.string("lists_dir", None, "Frozen candidate lists, for retrieval.")
    page.integer("num_lists", 1, "Lists for each direction.", lower_bound=1)
    page.integer("num_queries", 100, "Queries of each list; 0 is all.", lower_bound=0)
    page.string("output_dir", None, "Folder for runs and table.", required=True)
    page.heading("Trainings")
    page.list("tasks", list(BUDGETS), "Tasks, comma-separated.")
    page.integer("seeds", 3, "Seeds 0, 1, ... of each arm.", lower_bound=1)
    page.float("budget", 1.0, "Factor of the steps.", lower_bound=0.0)
    page.integer("batch_size", None, "Products a step, if not the task's own.")
    page.enum("precision", "float32", ["float32", "mixed_bfloat16"], "Number format.")
    return page


def main(settings):
    """Runs every arm and writes OUTPUT_DIR/pretraining_value.json; returns the rows."""
    if unknown := set(settings["tasks"]) - set(TASKS):
        raise ValueError(
            f"`tasks` should be out of {list(BUDGETS)}. Received: {sorted(unknown)}"
        )
    if "retrieval" in settings["tasks"] and not settings["lists_dir"]:
        raise ValueError(
            "`lists_dir` should name frozen candidate lists for the task retrieval. "
            "Received: none (data_prep.retrieval_lists makes them)"
        )
    arms = []
    for task in settings["tasks"]:
        for seed in range(settings["seeds"]):
            for start in STARTS:
                figures = run_arm(task, start, seed, settings)
                row = {"task": task, "start": start, "seed": seed, "figures": figures}
                arms.append(row)
    rows = summarize(arms)
    path = os.path.join(settings["output_dir"], RESULT_NAME)
    print(format_table(rows))
    results_file.write({"settings": settings, "rows": rows, "arms": arms}, path)
    return rows


if __name__ == "__main__":
    PAGE = flag_page()
    cli.run(lambda: main(PAGE.values()), PAGE)
