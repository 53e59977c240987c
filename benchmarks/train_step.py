"""Speed of a training step and of scoring, beside what users would pick instead.

  python -m benchmarks.train_step --output=train_step.json

At the paper's size, for each kind of work (training with texts of full length, training
with texts as a catalogue has them, scoring), precision and batch size: samples a second
of run_pretrain.py's own step and of Hugging Face's VisualBertForPreTraining in PyTorch,
the same batches, the same number of threads. Both stand ready in processes of their own
and step in turn, so that the machine's moods hit both; medians are compared. In the
same run the rate of bare matrix products of the model's own sizes is measured, and how
much of it the step reaches. --breakdown adds where the rest goes, --memory the most
memory of a training process by batch size and text length.

The peer's environment is made by the first run; ours is left as it is.
"""

import contextlib
import itertools
import os
import platform
import tempfile

import numpy as np

from benchmarks import results_file, step_data, step_process, step_trace
from kaleido_tf import cli
from kaleido_tf.config import KaleidoConfig

# What is done -> (work, texts).
WORKLOADS = {
    "train-full": ("train", step_data.FULL),
    "train-catalogue": ("train", step_data.CATALOGUE),
    "score-full": ("score", step_data.FULL),
    "score-catalogue": ("score", step_data.CATALOGUE),
}
_DIFFERENT_BATCHES = 5
_SIZES = ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size")
_SIZES += ("patch_feature_size", "text_length", "max_predictions", "gelu")


def make_config(settings):
    """Base size, or what the flags shrink it to."""
    return KaleidoConfig.preset(
        "base",
        num_layers=settings["num_layers"],
        vocab_size=step_data.VOCABULARY,
        text_length=step_data.TEXT_LENGTH,
        patch_feature_size=step_data.FEATURES,
        max_predictions=step_data.PREDICTIONS,
    )


def write_batches(folder, texts, batch_size, seed):
    """Files of a few different batches, and lists of their texts' lengths."""
    paths, lengths = [], []
    for number in range(_DIFFERENT_BATCHES if texts == step_data.CATALOGUE else 1):
        batch = step_data.make_batch(texts, batch_size, seed + number)
        path = os.path.join(folder, f"{texts}-{batch_size}-{number}.npz")
        np.savez(path, **batch)
        paths.append(path)
        lengths.append(batch["input_mask"].sum(1))
    return paths, lengths


def in_turns(sides, paths, steps, rows):
    """Steps every side in turn.

    Args:
      sides: dict name -> `Side`, ours as "ours"; models are made.
      paths: files of the batches.
      steps: how many are counted; each side steps over every batch twice before.
      rows: of the products whose rate is measured in each round.

    Returns:
      (dict side -> float [steps] seconds, float [steps] GFLOP/s).
    """
    seconds = {name: [] for name in sides}
    rates = []
    for side in sides.values():
        for path in paths * (2 if len(paths) == 1 else 1):
            side.ask("step", batch=path)
    for number, path in zip(range(steps), itertools.cycle(paths), strict=False):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name in order:
            answer = sides[name].ask("step", batch=path)
            if not np.isfinite(answer["value"]):
                raise ValueError(
                    f"A step's value should be finite. Received: {answer['value']} of "
                    f"{name}"
                )
            seconds[name].append(answer["seconds"])
        rates.append(sides["ours"].ask("rate", rows=rows)["gigaflops"])
    return {name: np.array(each) for name, each in seconds.items()}, np.array(rates)


def measure(settings, workload, precision, batch_size, folder):
    """One row of the table: dict."""
    work, texts = WORKLOADS[workload]
    config, threads = make_config(settings), settings["threads"]
    paths, lengths = write_batches(folder, texts, batch_size, settings["seed"])
    request = {
        "work": work,
        "precision": precision,
        "batch_size": batch_size,
        "threads": threads,
        "sizes": {name: getattr(config, name) for name in _SIZES},
    }
    with contextlib.ExitStack() as stack:
        sides = {"ours": stack.enter_context(step_process.our_side(threads))}
        if settings["peer"]:
            peer = step_process.peer_side(settings["peer_env"], threads)
            sides["peer"] = stack.enter_context(peer)
        names = {k: side.ask("make", **request)["name"] for k, side in sides.items()}
        rows = int(np.mean([each.sum() for each in lengths]))
        rows += batch_size * config.num_patches
        seconds, rates = in_turns(sides, paths, settings["steps"], rows)
        kinds = None
        if settings["breakdown"]:
            kinds = sides["ours"].ask("breakdown", batch=paths[0])["kinds"]
        peaks = {k: side.ask("memory")["peak_megabytes"] for k, side in sides.items()}
    steps = [lengths[i % len(lengths)] for i in range(settings["steps"])]
    flops = np.array([step_trace.step_flops(config, each, work) for each in steps])
    row = {
        "workload": workload,
        "precision": precision,
        "batch_size": batch_size,
        "names": names,
        "samples_per_second": {
            name: batch_size / float(np.median(each)) for name, each in seconds.items()
        },
        "spread": {
            name: float(np.subtract(*np.percentile(each, [75, 25])) / np.median(each))
            for name, each in seconds.items()
        },
        "gigaflops": float(np.median(flops / seconds["ours"]) / 1e9),
        "product_gigaflops": float(np.median(rates)),
        "share": float(np.median(flops / seconds["ours"] / 1e9 / rates)),
        "peak_megabytes": peaks,
        "kinds": kinds,
    }
    if "peer" in seconds:
        row["ratio"] = float(np.median(seconds["peer"] / seconds["ours"]))
    return row


def measure_memory(settings, precision, folder):
    """Peak memory of a training process by batch size and text length: list of rows."""
    config, rows = make_config(settings), []
    for batch_size, length in itertools.product(
        settings["batch_sizes"], settings["memory_lengths"]
    ):
        batch = step_data.make_batch(step_data.FULL, batch_size, settings["seed"])
        for name in ("input_word_ids", "input_mask"):
            batch[name][:, length:] = 0
        batch["masked_lm_positions"] %= length
        path = os.path.join(folder, "memory.npz")
        np.savez(path, **batch)
        with step_process.our_side(settings["threads"]) as side:
            side.ask(
                "make",
                work="train",
                precision=precision,
                batch_size=batch_size,
                threads=settings["threads"],
                sizes={name: getattr(config, name) for name in _SIZES},
            )
            for _ in range(2):
                side.ask("step", batch=path)
            peak = side.ask("memory")["peak_megabytes"]
        rows.append(
            {
                "precision": precision,
                "batch_size": batch_size,
                "text_length": length,
                "peak_megabytes": peak,
            }
        )
    return rows


def environment(threads):
    """What the figures were measured on: dict."""
    processor = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("model name")]
        processor = lines[0].split(":")[1].strip() if lines else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def format_table(content):
    """The rows as lines of text."""
    place = content["environment"]
    lines = [
        f"{place['processor']}, {place['cores']} cores, {place['threads']} threads; "
        f"{content['num_layers']} layers, {step_data.TEXT_LENGTH} + "
        f"{step_data.NUM_PATCHES} positions, medians of {content['steps']} steps",
    ]
    rows = content["rows"]
    if rows:
        lines += [f"{who}: {name}" for who, name in rows[0]["names"].items()]
        lines.append(
            f"{'':16} {'':15} {'batch':>5}  {'ours/s':>7}  {'peer/s':>7}  ratio  "
            f"{'GFLOP/s':>8}  {'products':>8}  share  {'ours MB':>7}  {'peer MB':>7}"
        )
    for row in rows:
        speed, peak = row["samples_per_second"], row["peak_megabytes"]
        lines.append(
            f"{row['workload']:16} {row['precision']:15} {row['batch_size']:5}  "
            f"{speed['ours']:7.2f}  {speed.get('peer', np.nan):7.2f}  "
            f"{row.get('ratio', np.nan):5.2f}  {row['gigaflops']:8.0f}  "
            f"{row['product_gigaflops']:8.0f}  {row['share']:5.0%}  "
            f"{peak['ours']:7.0f}  {peak.get('peer', np.nan):7.0f}"
        )
        if row["kinds"]:
            total = sum(row["kinds"].values())
            lines.append(f"  time of the operations, {total:.2f} s in sum:")
            for kind, seconds in row["kinds"].items():
                lines.append(f"    {seconds:7.3f} s  {seconds / total:4.0%}  {kind}")
    for row in content["memory"]:
        lines.append(
            f"memory {row['precision']:15} batch {row['batch_size']:3}, texts of "
            f"{row['text_length']:3}: {row['peak_megabytes']:6.0f} MB at most"
        )
    return "\n".join(lines)


def run(settings):
    """Measures all rows, prints the table, writes the JSON: returns its content."""
    content = {
        "environment": environment(settings["threads"]),
        "steps": settings["steps"],
        "num_layers": settings["num_layers"],
        "rows": [],
        "memory": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for workload, precision, batch_size in itertools.product(
            settings["workloads"], settings["precisions"], settings["batch_sizes"]
        ):
            print(f"{workload}, {precision}, batch {batch_size}", flush=True)
            content["rows"].append(
                measure(settings, workload, precision, batch_size, folder)
            )
        for precision in settings["precisions"] if settings["memory"] else ():
            content["memory"] += measure_memory(settings, precision, folder)
    print(format_table(content))
    results_file.write(content, settings["output"])
    return content


def read_settings(page):
    """The flags' values, lists of numbers as such: dict.

    Raises:
      ValueError: a workload that there isn't, or no number.
    """
    settings = page.values()
    settings["workloads"] = [name for name in settings["workloads"] if name]
    if unknown := set(settings["workloads"]) - set(WORKLOADS):
        raise ValueError(
            f"`--workloads` should be names out of {', '.join(WORKLOADS)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    for name in ("batch_sizes", "memory_lengths"):
        if not all(value.isdigit() and int(value) for value in settings[name]):
            raise ValueError(
                f"`--{name}` should be positive integers, comma-separated. Received: "
                f"{','.join(settings[name])}"
            )
        settings[name] = [int(value) for value in settings[name]]
    settings["threads"] = settings["threads"] or os.cpu_count()
    return settings


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Training steps and scoring beside PyTorch's VisualBERT.")
    page.heading("What is measured")
    page.list(
        "workloads", list(WORKLOADS), "Kinds of work, comma-separated; empty for none."
    )
    page.list(
        "precisions", ["mixed_bfloat16", "float32"], "Number formats, comma-separated."
    )
    page.list("batch_sizes", ["8", "32"], "Pairs a step, comma-separated.")
    page.integer("steps", 10, "Steps that are timed, each side.", lower_bound=1)
    page.integer("num_layers", 12, "Layers of the model.", lower_bound=1)
    page.bool("breakdown", False, "Trace one step of ours and sum it up by kind.")
    page.bool("memory", False, "Peak memory of training by batch and text length.")
    page.list("memory_lengths", ["24", "64"], "Text lengths for it, comma-separated.")
    page.heading("How")
    page.bool("peer", True, "Measure the peer, too.")
    page.string("peer_env", ".venv-bench", "The peer's environment, made if missing.")
    page.integer("threads", 0, "Of each operation, both sides; 0: all cores.")
    page.integer("seed", 0, "Of the batches.")
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(read_settings(_PAGE)), _PAGE)
