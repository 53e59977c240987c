"""CLI: how fast an export answers, where the time goes, what it holds under load.

  python -m benchmarks.serving --model_dir=served
  python -m benchmarks.serving --size=base --work_dir=DIR

Latency of every signature in this process, without transport; with --clients=8, the
requests a second of `python -m kaleido_tf.serving.server` in a process of its own,
through gRPC, and its memory before and after. --size makes an export of random weights,
which is as fast as a trained one (its captions run to their greatest length), and also
measures the parts of an answer: decode, canvas, box, patches and backbone, model.
"""

import json

import tensorflow as tf
from absl import logging

from benchmarks import random_export, results_file, serving_load
from benchmarks.captioning_cache import environment
from kaleido_tf import cli
from kaleido_tf.config import PRESETS
from kaleido_tf.data import pictures
from kaleido_tf.serving import export, loaded, warmup


def latencies(model, settings):
    """Latency by signature and batch size: dict (name, batch) -> percentiles."""
    names = settings["signatures"] or sorted(set(model.signatures) - {"info"})
    found = {}
    for name in names:
        for batch in map(int, settings["batch_sizes"]):
            inputs = serving_load.example_inputs(model, name, batch)
            times = serving_load.time_calls(
                lambda n=name, x=inputs: model.predict(n, x),
                settings["requests"],
                settings["row_seconds"],
            )
            found[name, batch] = serving_load.percentiles(times)
            logging.info("%s, batch %d: %s", name, batch, found[name, batch])
    return found


def breakdown(flags, settings):
    """Time of each part of `match`: dict batch -> dict part -> p50 in ms.

    Args:
      flags: of the export, see `export.load_parts`.
      settings: of this command.
    """
    parts, *_ = export.load_parts(flags)
    line, matching = parts.line, parts.matching
    decode = _graph(
        lambda images: tf.map_fn(
            lambda data: tf.shape(pictures.decode_or_reason(data)[0]),
            images,
            fn_output_signature=tf.TensorSpec([3], tf.int32),
        )
    )
    stages = {
        "place": _graph(line.place),
        "box": _graph(line.lock),
        "patches and backbone": _graph(line.features),
        "model": _graph(matching.match),
    }
    found = {}
    for batch in map(int, settings["batch_sizes"]):
        images = tf.constant([warmup.example_picture()] * batch)
        placed = stages["place"](images)
        boxes, _ = stages["box"](placed)
        vectors = stages["patches and backbone"](
            placed["canvas"], placed["inside"], boxes
        )
        calls = {
            "decode": lambda x=images: decode(x),
            "place": lambda x=images: stages["place"](x),
            "box": lambda x=placed: stages["box"](x),
            "patches and backbone": lambda p=placed, b=boxes: stages[
                "patches and backbone"
            ](p["canvas"], p["inside"], b),
            "model": lambda v=vectors, n=batch: stages["model"](
                v, tf.constant([serving_load.TEXT] * n)
            ),
        }
        times = {
            name: serving_load.percentiles(
                serving_load.time_calls(
                    call, settings["requests"], settings["row_seconds"]
                )
            )["p50"]
            for name, call in calls.items()
        }
        times["canvas"] = max(times.pop("place") - times["decode"], 0.0)
        order = ("decode", "canvas", "box", "patches and backbone", "model")
        found[batch] = {name: times[name] for name in order}
    return found


def _graph(function):
    return tf.function(function, autograph=False, reduce_retracing=True)


def format_table(content):
    """The results as lines of text."""
    lines = [content["model"]]
    rows = content["latency"]
    if rows:
        lines.append(
            f"{'signature':22} {'batch':>5} {'p50 ms':>9} {'p99 ms':>9}  calls"
        )
    for row in rows:
        lines.append(
            f"{row['signature']:22} {row['batch']:5d} {row['p50']:9.1f} "
            f"{row['p99']:9.1f}  {row['calls']:5d}"
        )
    for batch, times in content["breakdown"].items():
        total = sum(times.values())
        shown = ", ".join(f"{k} {v:.1f} ({v / total:.0%})" for k, v in times.items())
        lines.append(f"parts of match, batch {batch}, ms: {shown}")
    if load_figures := content["throughput"]:
        lines.append(
            "{clients} clients, {seconds:.0f} s: {per_second:.2f} requests/s, p50 "
            "{p50:.0f} ms, p99 {p99:.0f} ms, {errors} errors; memory "
            "{rss_start_mb:.0f} -> {rss_end_mb:.0f} MB".format(**load_figures)
        )
    lines.append(", ".join(f"{k} {v}" for k, v in content["environment"].items()))
    return "\n".join(lines)


def run(settings):
    """Measures with a dict of flags; returns what is printed, as a dict."""
    if bool(settings["model_dir"]) == bool(settings["size"]):
        raise ValueError(
            "Either `--model_dir` or `--size` should be given. Received: "
            f"{settings['model_dir']!r}, {settings['size']!r}"
        )
    if settings["size"] and not settings["work_dir"]:
        raise ValueError("`--work_dir` should be given with --size. Received: none")
    flags = random_export.make_random_export(settings) if settings["size"] else None
    model_dir = flags["output_dir"] if flags else settings["model_dir"]
    model = loaded.LoadedModel(model_dir)
    info = json.loads(model.predict("info", {})["info_json"].item())
    config = info["checkpoints"]["matching"]["config"]
    kind = f"size {settings['size']}, random weights" if flags else model_dir
    found = latencies(model, settings) if settings["requests"] else {}
    content = {
        "model": f"{kind}: {config['num_layers']} layers of {config['hidden_size']}, "
        f"{info['precision']}, patches of {info['dataset']['patch_size']} and level 1 "
        f"of {info['dataset']['coarse_patch_size']} pixels",
        "latency": [
            {"signature": name, "batch": batch, **row}
            for (name, batch), row in found.items()
        ],
        "breakdown": breakdown(flags, settings) if flags and found else {},
        "throughput": serving_load.throughput(model_dir, model, settings)
        if settings["clients"]
        else None,
        "environment": environment(),
    }
    print(format_table(content))
    results_file.write(content, settings["output_json"])
    return content


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Measures the latency and throughput of an export.")
    page.heading("Model")
    page.string("model_dir", None, "Folder of an export's versions.")
    page.enum(
        "size",
        None,
        sorted(PRESETS),
        "Make an export of this size with random weights instead.",
    )
    page.string("work_dir", None, "Folder for what --size makes, or made before.")
    page.enum("precision", "float32", list(export.PRECISIONS), "With --size.")
    page.list(
        "tasks",
        [*random_export.CLASSES, "captioning"],
        "With --size: tasks besides matching.",
    )
    page.integer("vocab_size", 4000, "With --size; BERT's is 30522.", lower_bound=20)
    page.integer("patch_size", 64, "With --size; level 1 has twice it.", lower_bound=32)
    page.integer("canvas_size", 256, "With --size, pixels.", lower_bound=32)
    page.string(
        "backbone_weights", None, 'With --size: a file, "random", or the package\'s.'
    )
    page.integer("beam_size", 5, "With --size.", lower_bound=1)
    page.integer("max_length", 20, "With --size: pieces of a caption.", lower_bound=1)
    page.heading("Latency")
    page.list("signatures", [], "Only these; default: all.")
    page.list("batch_sizes", ["1", "32"], "Rows of a request.")
    page.integer("requests", 100, "Of a row, at most; 0: none.", lower_bound=0)
    page.float("row_seconds", 10.0, "Of a row, at most.", lower_bound=0.0)
    page.heading("Throughput")
    page.integer("clients", 0, "Concurrent clients; 0: none.", lower_bound=0)
    page.float("seconds", 60.0, "How long they ask.", lower_bound=0.0)
    page.integer("workers", 4, "Requests the server answers at once.", lower_bound=1)
    page.heading("Output")
    page.string("output_json", None, "File for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
