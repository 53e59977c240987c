"""What each part of the small models' recipe does: the same training with and without.

`make recipe` runs it on the data of `make demo`: one training an arm, same seed, same
batches, same steps; then curves and a table. Can be run again:
finished arms are kept.
"""

import dataclasses
import json
import os
import subprocess
import sys

from matplotlib.figure import Figure

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.training import callbacks, metrics

CURVES_NAME = "recipe.png"
TABLE_NAME = "recipe.json"
# Accuracies that tell the arms apart; the losses with fewer classes don't.
SHOWN = {"itm": "Matching (ITM)", "mlm": "Masked words (AMLM)", "jigsaw": "II Jigsaw"}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training: the recipe with some of its settings taken back.

    Attributes:
      name: name of its folder.
      title: what the legend says.
      changes: `KaleidoConfig` fields that differ from the preset.
      colour: of its curve.
    """

    name: str
    title: str
    changes: dict
    colour: str


_START = {"initializer_range": 0.02}
_DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "feature_dropout": 0.1}
_ALIGNMENT = {"contrastive_size": 0}
ARMS = (
    Arm("recipe", "recipe", {}, "#1d5fd1"),
    Arm("start", "weights start at 0.02", _START, "#d9822b"),
    Arm("dropout", "dropout 0.1 everywhere", _DROPOUT, "#8a4fbf"),
    Arm("alignment", "no alignment before fusion", _ALIGNMENT, "#2a9d6f"),
    Arm("paper", "none of the three", _START | _DROPOUT | _ALIGNMENT, "#c0392b"),
)


def train(arm, settings):
    """Runs one arm in a process of its own; returns its validation rows."""
    run_dir = os.path.join(settings["output_dir"], arm.name)
    config = os.path.join(settings["output_dir"], f"{arm.name}_config.json")
    with open(config, "w", encoding="utf-8") as file:
        json.dump(arm.changes, file)
    names = ("model", "num_steps", "steps_per_round", "batch_size", "text_length")
    flags = {name: settings[name] for name in (*names, "learning_rate", "precision")}
    flags |= {"data_dir": settings["data_dir"], "run_dir": run_dir, "config": config}
    flags |= {"weight_decay": 0.05, "seed": settings["seed"]}
    script = os.path.join(os.path.dirname(os.path.dirname(__file__)), "run_pretrain.py")
    command = [sys.executable, script, *(f"--{k}={v}" for k, v in flags.items())]
    subprocess.run(command, check=True)
    rows = callbacks.read_metrics(run_dir)
    return [row for row in rows if row["split"] == "validation"]


def draw(results, path):
    """Validation accuracies over the steps, one panel a task, one curve an arm."""
    figure = Figure(figsize=(4.2 * len(SHOWN), 3.6), layout="constrained")
    for axes, (task, title) in zip(
        figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True
    ):
        for arm in ARMS:
            points = [
                (row["step"], row[f"accuracy/{task}"]) for row in results[arm.name]
            ]
            axes.plot(
                *zip(*points, strict=True), label=arm.title, color=arm.colour, lw=1.8
            )
        chance = metrics.chance_level(task)
        if chance:
            axes.axhline(chance, color="#7b8794", ls=":", label="chance")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylim(0, 1)
        axes.grid(color="#e3e8ee")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("validation accuracy")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=110)


def table(results):
    """The last validation of every arm as lines of text."""
    lines = [f"{'arm':28}" + "".join(f"{title:>21}" for title in SHOWN.values())]
    for arm in ARMS:
        values = [results[arm.name][-1][f"accuracy/{task}"] for task in SHOWN]
        lines.append(f"{arm.title:28}" + "".join(f"{v:>20.1%} " for v in values))
    return "\n".join(lines)


def _page():
    page = cli.FlagPage("Trains a small model with and without parts of the recipe.")
    page.heading("Data")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string("output_dir", None, "Folder for runs and curves.", required=True)
    page.heading("Training, the same for every arm")
    page.enum("model", "tiny", ["tiny", "small"], "Preset.")
    page.integer("num_steps", 900, "Steps of each arm.", lower_bound=1)
    page.integer("steps_per_round", 100, "Steps between validations.", lower_bound=1)
    page.integer("batch_size", 128, "Pairs a step.", lower_bound=2)
    page.integer("text_length", 64, "Word pieces of a text.", lower_bound=3)
    page.float("learning_rate", 2e-3, "Peak of the schedule.", lower_bound=0.0)
    page.integer("seed", 0, "Of every arm.")
    page.enum("precision", "float32", ["float32", "mixed_bfloat16"], "Number format.")
    return page


def main(settings):
    os.makedirs(settings["output_dir"], exist_ok=True)
    results = {arm.name: train(arm, settings) for arm in ARMS}
    draw(results, os.path.join(settings["output_dir"], CURVES_NAME))
    rows = {
        arm.name: {"changes": arm.changes, "rows": results[arm.name]} for arm in ARMS
    }
    path = os.path.join(settings["output_dir"], TABLE_NAME)
    print(table(results))
    results_file.write({"settings": settings, "arms": rows}, path)


if __name__ == "__main__":
    PAGE = _page()
    cli.run(lambda: main(PAGE.values()), PAGE)
