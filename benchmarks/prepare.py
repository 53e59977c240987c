"""Speed of data preparation: the whole line, its backbone alone, one patch at a time.

  python -m benchmarks.prepare --output=prepare.json

draws a small catalogue (or takes --manifest) and prints a table with ratios:

- whole line: from the files to a written shard, as `data_prep.prepare` works (one
  worker, its default settings), after a first shard that isn't counted;
- backbone alone: the same patches, in memory, at its best batch size;
- one patch at a time: cut, resized and encoded singly, as the original's extractor;
- memory after every shard; --images=10000 shows whether it stays flat;
- the release's text lines, parsed by us and by TensorFlow's string ops.
"""

import os
import tempfile
import time

import cv2
import numpy as np
import tensorflow as tf

from benchmarks import release_text, results_file
from data_prep import build_vocab, catalogue, pictures, sources
from data_prep.shards import placing, shard_writer
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import patches

_SMALL_BATCHES = (32, 64, 128, 256, 512, 1024)
_COARSE_BATCHES = (4, 16, 64, 128)
_BACKBONE_SECONDS = 2.0  # for each batch size


def make_settings(folder, vocab_file, backbone_weights=None, patch_arm=None):
    """The defaults of `data_prep.prepare`, as `PrepareSettings`."""
    return shard_writer.PrepareSettings(
        patch_arm=patch_arm or "kaleido+saliency",
        backbone="efficientnet_lite0",
        backbone_weights=backbone_weights,
        patch_size=64,
        coarse_patch_size=128,
        canvas_size=256,
        vocab_file=vocab_file,
        max_tokens=510,
        images_per_batch=16,
    )


def resident_megabytes():
    """Memory of this process: float, 0 where the system doesn't say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def whole_line(writer, products, folder, images, images_per_shard):
    """Images a second from the files to written shards.

    Args:
      writer: `ShardWriter`.
      products: list of `Product`, taken again from the start where there are too few.
      folder: where shards go; each is deleted once it is measured.
      images: how many are counted.
      images_per_shard: one shard of so many goes before, to trace and to warm up.

    Returns:
      dict with rate, cpu_ms (processor time of an image over all cores, which other
      work on the machine hardly changes), bytes_per_record and memory, in MB after
      each shard.
    """
    memory, seconds, cpu, done, size = [], 0.0, 0.0, 0, 0
    while done < images + images_per_shard:
        part = [products[(done + i) % len(products)] for i in range(images_per_shard)]
        path = os.path.join(folder, f"shard-{done}")
        start, cpu_start = time.perf_counter(), time.process_time()
        receipt = writer.write(path, part)
        seconds += time.perf_counter() - start if done else 0.0
        cpu += time.process_time() - cpu_start if done else 0.0
        size += receipt["bytes"] if done else 0
        memory.append(resident_megabytes())
        done += len(part)
        os.remove(path)
        print(f"  {done} images, {memory[-1]:.0f} MB", flush=True)
    counted = done - images_per_shard
    return {
        "images": counted,
        "rate": counted / seconds,
        "cpu_ms": 1000 * cpu / counted,
        "bytes_per_record": size / counted,
        "memory": memory,
    }


def _rate(step, rows):
    """Rows a second of a function of no arguments, after one call; CPU ms of a row."""
    step()
    start, cpu, calls = time.perf_counter(), time.process_time(), 0
    while calls < 2 or time.perf_counter() - start < _BACKBONE_SECONDS:
        step()
        calls += 1
    seconds = time.perf_counter() - start
    cpu_ms = 1000 * (time.process_time() - cpu) / (calls * rows)
    return calls * rows / seconds, cpu_ms


def patch_counts(settings):
    """How many patches an image has of each side: dict side -> count."""
    levels, counts = PATCH_ARMS[settings.patch_arm], {}
    for level in levels:
        side = patches.level_patch_size(
            level, settings.patch_size, settings.coarse_patch_size
        )
        variants = {"rotation": 3, "grey": level.num_patches}.get(level.task, 0)
        counts[side] = counts.get(side, 0) + level.num_patches + variants
    return counts


def backbone_alone(backbone, settings):
    """Images a second of the backbone on patches in memory, at its best batch sizes.

    Returns:
      dict with rate, cpu_ms of an image and, by side of a patch, the best batch size.
    """
    extract = tf.function(backbone, reduce_retracing=False)
    best, seconds, cpu_ms = {}, 0.0, 0.0
    for side, count in patch_counts(settings).items():
        small = side == settings.patch_size
        rates = {}
        for rows in _SMALL_BATCHES if small else _COARSE_BATCHES:
            batch = tf.constant(
                np.random.default_rng(0).integers(0, 256, [rows, side, side, 3]),
                tf.float32,
            )
            rates[rows] = _rate(lambda batch=batch: extract(batch).numpy(), rows)
            print(f"  {rows} patches of {side}: {rates[rows][0]:.0f}/s", flush=True)
        rows = max(rates, key=rates.get)
        best[side] = {"batch": rows, "patches_per_second": rates[rows][0]}
        seconds += count / rates[rows][0]
        cpu_ms += count * rates[rows][1]
    return {"rate": 1 / seconds, "cpu_ms": cpu_ms, "best": best}


def one_patch_at_a_time(writer, products):
    """Images a second where every patch is cut and encoded singly."""
    extract = tf.function(writer.backbone)
    settings = writer.settings
    to_canvas = lambda image: patches.to_canvas(image, settings.canvas_size)  # noqa: E731

    def encode(cut, side):
        resized = cv2.resize(cut, (side, side)).astype(np.float32)
        return extract(tf.constant(resized[None])).numpy()

    def image(product):
        picture = pictures.read_picture(product.image_path)
        canvas, box, _ = placing.place(
            picture, settings.patch_arm, to_canvas, writer.lock
        )
        y1, x1, y2, x2 = np.round(box * settings.canvas_size).astype(int)
        locked = canvas[y1 : max(y2, y1 + 8), x1 : max(x2, x1 + 8)]
        for level in writer.levels:
            side = patches.level_patch_size(
                level, settings.patch_size, settings.coarse_patch_size
            )
            for rectangle in patches.level_rectangles(level.grid):
                top, left, bottom, right = (
                    rectangle * np.tile(locked.shape[:2], 2)
                ).astype(int)
                cut = locked[top : max(bottom, top + 1), left : max(right, left + 1)]
                encode(cut, side)
                if level.task == "grey":
                    grey = cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY)
                    encode(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), side)
                for turns in (1, 2, 3) if level.task == "rotation" else ():
                    encode(np.ascontiguousarray(np.rot90(cut, turns)), side)

    image(products[0])
    start = time.perf_counter()
    for product in products[1:]:
        image(product)
    return {"rate": (len(products) - 1) / (time.perf_counter() - start)}


def table(results):
    """The results as lines of text."""
    line, alone = results["whole_line"], results["backbone_alone"]
    single, text = results["one_patch_at_a_time"], results["release_text"]
    memory = line["memory"]
    rows = [
        ("whole line", f"{line['rate']:.1f} images/s", ""),
        (
            "backbone alone",
            f"{alone['rate']:.1f} images/s",
            f"the line reaches {line['rate'] / alone['rate']:.0%} of it",
        ),
        (
            "the same by processor time",
            f"{line['cpu_ms']:.1f} ms an image",
            f"backbone alone {alone['cpu_ms']:.1f} ms: "
            f"{alone['cpu_ms'] / line['cpu_ms']:.0%}",
        ),
        (
            "one patch at a time",
            f"{single['rate']:.2f} images/s",
            f"the line is {line['rate'] / single['rate']:.1f} x as fast",
        ),
        (
            "memory of the line",
            f"{memory[0]:.0f} MB",
            f"after the first shard; {max(memory):.0f} at most, {memory[-1]:.0f} after "
            f"{line['images']} images more",
        ),
        ("a record", f"{line['bytes_per_record'] / 1000:.0f} kB", ""),
    ]
    for name in ("one thread", "all threads"):
        ours, theirs = text[name]["ours"], text[name]["tensorflow"]
        rows.append(
            (
                f"release's lines, {name}",
                f"{ours:.1f} lines/s",
                f"TensorFlow {theirs:.1f}: {ours / theirs:.1f} x",
            )
        )
    rows.append(("convert_release", f"{text['converted']:.1f} lines/s", "to a shard"))
    return "\n".join(f"{name:28}{value:>18}  {note}" for name, value, note in rows)


def run(manifest, images, lines, images_per_shard=64, backbone_weights=None):
    """Runs everything; returns the results as a dict."""
    with tempfile.TemporaryDirectory() as folder:
        if not manifest:
            drawn = os.path.join(folder, "catalogue")
            catalogue.draw_catalogue(drawn, catalogue.MIN_PRODUCTS, seed=0)
            manifest = os.path.join(drawn, "manifest.jsonl")
        products = sources.read_manifest(manifest, sources.SkipList())
        vocab = os.path.join(folder, "vocab.txt")
        pieces = build_vocab.build_vocabulary((p.text for p in products), 1000)
        build_vocab.write_vocabulary(pieces, vocab)
        settings = make_settings(folder, vocab, backbone_weights)
        writer = shard_writer.ShardWriter(settings)
        return {
            "whole_line": whole_line(
                writer, products, folder, images, images_per_shard
            ),
            "backbone_alone": backbone_alone(writer.backbone, settings),
            "one_patch_at_a_time": one_patch_at_a_time(writer, products[:5]),
            "release_text": release_text.measure(folder, vocab, lines),
        }


def _page():
    page = cli.FlagPage("Measures the speed of data preparation.")
    page.heading("Input")
    page.string("manifest", None, "Catalogue; without it a small one is drawn.")
    page.integer("images", 512, "Images that are counted.", lower_bound=1)
    page.integer("images_per_shard", 64, "Images of a shard.", lower_bound=1)
    page.integer("lines", 64, "Lines of the release's files.", lower_bound=8)
    page.heading("Output")
    page.string("output", None, "JSON file for the figures.")
    return page


def main(page):
    values = page.values()
    output = values.pop("output")
    results = run(**values)
    print(table(results))
    results_file.write(results, output)


if __name__ == "__main__":
    PAGE = _page()
    cli.run(lambda: main(PAGE), PAGE)
