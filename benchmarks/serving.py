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
import os
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks.captioning_cache import environment
from data_prep import saliency
from kaleido_tf import cli
from kaleido_tf.config import PRESETS, KaleidoConfig
from kaleido_tf.data import backbone as backbone_lib
from kaleido_tf.data import dataset_info, pictures, records, tokenization
from kaleido_tf.modeling import build_captioner, build_classifier, build_matcher
from kaleido_tf.serving import export, loaded, warmup
from kaleido_tf.training import checkpoints, run_folder

_ARM = "kaleido+saliency"
_TEXT = " ".join(f"w{i}" for i in range(12))
_NEVER_ENDS = -1e4  # bias of [SEP]
_CLASSES = {"category": 15, "subcategory": 68}


def write_data_info(folder, settings):
    """A data set's info, vocabulary and saliency network, without any records."""
    os.makedirs(folder, exist_ok=True)
    vocab = os.path.join(folder, dataset_info.VOCAB_NAME)
    words = [f"w{i}" for i in range(settings["vocab_size"] - 5)]
    with open(vocab, "w", encoding="utf-8") as file:
        file.writelines(f"{p}\n" for p in (*tokenization.SPECIAL_TOKENS, *words))
    locker = saliency.make_locker("unet")
    locker.export(os.path.join(folder, "saliency"))
    backbone = backbone_lib.build_backbone(
        "efficientnet_lite0", settings["patch_size"], settings["backbone_weights"]
    )
    values = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": _ARM,
        "canvas_size": settings["canvas_size"],
        "coarse_patch_size": 2 * settings["patch_size"],
        "feature_size": backbone.feature_size,
        "backbone": backbone.describe(),
        "saliency": {**locker.describe(), "folder": "saliency"},
        "vocab_size": settings["vocab_size"],
        "vocab_sha256": dataset_info.file_sha256(vocab),
        "splits": {},
    }
    path = os.path.join(folder, dataset_info.FILE_NAME)
    run_folder.write_json(values, path)
    return path


def make_random_export(settings):
    """Exports models with random weights, or finds the export of an earlier run.

    Args:
      settings: dict of this command's flags.

    Returns:
      The settings of the export.
    """
    made = os.path.join(settings["work_dir"], "export_flags.json")
    if os.path.exists(made):
        return run_folder.read_json(made)
    work = settings["work_dir"]
    data_info = write_data_info(os.path.join(work, "data"), settings)
    config = KaleidoConfig.preset(
        settings["size"],
        vocab_size=settings["vocab_size"],
        patch_feature_size=backbone_lib.FEATURE_SIZES["efficientnet_lite0"],
        patch_arm=_ARM,
    )
    if not config.contrastive_size:  # so that the signatures of vectors are there
        config = config.replace(contrastive_size=256)
    tf_keras.utils.set_random_seed(0)
    models = {"": build_matcher(config)}
    models |= {task: _task_model(config, task) for task in settings["tasks"]}
    flags = {"data_info": data_info, "output_dir": os.path.join(work, "served")}
    for task, model in models.items():
        run = os.path.join(work, f"random_weights_{task or 'matching'}")
        checkpoints.CheckpointKeeper(run, model).save(0)
        config.save(os.path.join(run, checkpoints.CONFIG_NAME))
        notes = {"task": task, "objective": "next_word"}
        names = [f"class {i}" for i in range(_CLASSES.get(task, 0))]
        if task:
            notes |= {"class_names": names}
            run_folder.write_json(notes, os.path.join(run, run_folder.TASK_NAME))
        flags[f"{task}_checkpoint" if task else "checkpoint"] = run
    flags = export.flag_page().defaults() | flags
    flags |= {key: settings[key] for key in ("precision", "beam_size", "max_length")}
    export.export(flags)
    run_folder.write_json(flags, made)
    return flags


def _task_model(config, task):
    """A classifier, or a captioner whose searches go to their end."""
    if task != "captioning":
        return build_classifier(config, _CLASSES[task])
    captioner = build_captioner(config)
    sep = tokenization.SPECIAL_TOKENS.index(tokenization.SEP)
    never = np.eye(config.vocab_size)[sep] * _NEVER_ENDS
    captioner.get_layer("mlm_head").bias.assign(never)
    return captioner


def example_inputs(model, name, batch):
    """Inputs of a signature, with a text of twelve words in each row."""
    inputs = warmup.example_inputs(model.specs(name), batch)
    if "text" in inputs:
        inputs["text"] = np.array([_TEXT.encode()] * batch, object)
    return inputs


def time_calls(call, most, seconds):
    """Milliseconds of calls after a first one that isn't counted: float [n].

    Args:
      call: function without arguments.
      most: number of calls.
      seconds: no call is begun after so many.
    """
    call()
    times, start = [], time.perf_counter()
    while len(times) < most and time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))
    return np.array(times)


def percentiles(times):
    """dict p50, p99, calls of times in milliseconds."""
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "calls": len(times)}


def latencies(model, settings):
    """Latency by signature and batch size: dict (name, batch) -> percentiles."""
    names = settings["signatures"] or sorted(set(model.signatures) - {"info"})
    found = {}
    for name in names:
        for batch in map(int, settings["batch_sizes"]):
            inputs = example_inputs(model, name, batch)
            times = time_calls(
                lambda n=name, x=inputs: model.predict(n, x),
                settings["requests"],
                settings["row_seconds"],
            )
            found[name, batch] = percentiles(times)
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
                v, tf.constant([_TEXT] * n)
            ),
        }
        times = {
            name: percentiles(
                time_calls(call, settings["requests"], settings["row_seconds"])
            )["p50"]
            for name, call in calls.items()
        }
        times["canvas"] = max(times.pop("place") - times["decode"], 0.0)
        order = ("decode", "canvas", "box", "patches and backbone", "model")
        found[batch] = {name: times[name] for name in order}
    return found


def _graph(function):
    return tf.function(function, autograph=False, reduce_retracing=True)


def resident_mb(process_id):
    """Resident memory of a process in MB, from /proc."""
    with open(f"/proc/{process_id}/status", encoding="ascii") as file:
        (row,) = [line for line in file if line.startswith("VmRSS")]
    return int(row.split()[1]) / 1024


def throughput(model_dir, model, settings):
    """Requests a second of a server under concurrent clients, and its memory.

    Each client asks `match` about one picture and one text, one request after another.

    Returns:
      dict: clients, seconds, requests, errors, per_second, p50, p99 (ms), rss_start_mb
      (after the warm-up requests and one of each client), rss_end_mb.
    """
    command = [sys.executable, "-m", "kaleido_tf.serving.server", "--port=0"]
    server = subprocess.Popen(
        [*command, f"--model_dir={model_dir}", f"--workers={settings['workers']}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = server.stdout.readline()
        if not said.startswith("gRPC on port "):
            raise ValueError(f"The server should start. Received: {said!r}")
        port = int(said.split()[3].rstrip(":"))
        return _load(server, port, example_inputs(model, "match", 1), settings)
    finally:
        server.terminate()
        server.wait()


def _load(server, port, inputs, settings):
    request = warmup.make_request("match", inputs)
    times, errors, lock = [], [], threading.Lock()
    ready = threading.Barrier(settings["clients"] + 1)
    until = []

    def client():
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request, timeout=300, wait_for_ready=True)
            ready.wait()
            ready.wait()
            while time.perf_counter() < until[0]:
                before = time.perf_counter()
                try:
                    stub.Predict(request, timeout=300)
                except grpc.RpcError as error:
                    with lock:
                        errors.append(str(error.code()))
                    continue
                with lock:
                    times.append(1000 * (time.perf_counter() - before))

    threads = [threading.Thread(target=client) for _ in range(settings["clients"])]
    for thread in threads:
        thread.start()
    ready.wait()
    before, start = resident_mb(server.pid), time.perf_counter()
    until.append(start + settings["seconds"])
    ready.wait()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return {
        "clients": settings["clients"],
        "seconds": seconds,
        "requests": len(times),
        "errors": len(errors),
        "per_second": len(times) / seconds,
        **{k: v for k, v in percentiles(times or [np.nan]).items() if k != "calls"},
        "rss_start_mb": before,
        "rss_end_mb": resident_mb(server.pid),
    }


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
    flags = make_random_export(settings) if settings["size"] else None
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
        "throughput": throughput(model_dir, model, settings)
        if settings["clients"]
        else None,
        "environment": environment(),
    }
    print(format_table(content))
    if settings["output_json"]:
        run_folder.write_json(content, settings["output_json"])
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
        "tasks", [*_CLASSES, "captioning"], "With --size: tasks besides matching."
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
