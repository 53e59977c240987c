"""CLI: how well each method finds the locked box, against drawn truth and each other.

  python -m benchmarks.saliency --methods=opencv,unet=DIR,onnx=FILE \
      --manifest=CATALOGUE/manifest.jsonl --photographs=SHOP/manifest.jsonl \
      --reference=onnx --output_dir=DIR

With --manifest: IoU of masks and boxes against drawn masks, on products that are held
back, split by plain and cluttered backgrounds. With --photographs: agreement of every
method's boxes with those of a reference, and a sheet of pictures to look at. Writes
saliency.json and sheet.png.
"""

import dataclasses
import json
import os
import time

import numpy as np
from absl import logging

from benchmarks import results_file
from benchmarks.saliency_scores import box_iou, is_plain, mask_iou, true_box
from benchmarks.saliency_sheet import draw_sheet
from data_prep import saliency, sources
from data_prep.pictures import read_picture
from data_prep.saliency_parts import saliency_data
from kaleido_tf import cli

RESULTS_NAME, SHEET_NAME = "saliency.json", "sheet.png"


@dataclasses.dataclass
class Found:
    """What one method gave for a list of pictures, in order."""

    boxes: list = dataclasses.field(default_factory=list)
    masks: list = dataclasses.field(default_factory=list)
    names: list = dataclasses.field(default_factory=list)
    seconds: list = dataclasses.field(default_factory=list)
    cpu_seconds: list = dataclasses.field(default_factory=list)

    def speed(self):
        """Means without the first picture, on which graphs are built: dict."""
        seconds = float(np.mean(self.seconds[1:] or self.seconds))
        cpu_seconds = float(np.mean(self.cpu_seconds[1:] or self.cpu_seconds))
        return {"images_per_second": 1 / seconds, "cpu_seconds_an_image": cpu_seconds}


def make_lockers(methods):
    """["opencv", "unet=DIR"] -> dict of name and `saliency.Locker`."""
    lockers = {}
    for method in methods:
        name, _, weights = method.partition("=")
        lockers[name] = saliency.make_locker(name, weights or None)
    return lockers


def find_all(locker, pictures, keep_masks):
    """Runs a method over pictures: `Found`.

    Args:
      locker: `saliency.Locker`.
      pictures: list of uint8 [h, w, 3] RGB.
      keep_masks: looks for masks too; the speed then isn't that of preparation.
    """
    found = Found()
    for picture in pictures:
        start, cpu = time.perf_counter(), time.process_time()
        if keep_masks:
            box, name, mask = locker.lock_with_mask(picture)
            found.masks.append(mask)
        else:
            box, name = locker.lock(picture)
        found.seconds.append(time.perf_counter() - start)
        found.cpu_seconds.append(time.process_time() - cpu)
        found.boxes.append(box)
        found.names.append(name)
    return found


def measure_truth(lockers, manifest, count, split="validation"):
    """IoU of every method against drawn masks.

    Args:
      lockers: dict of name and `saliency.Locker`.
      manifest: of pictures with masks, see `saliency_data.read_masked_manifest`.
      count: pictures taken, evenly spread over the split.
      split: whose pictures.

    Returns:
      dict: method -> group ("plain", "cluttered", "all") -> images, mask_iou,
      box_iou, box_iou_without_margin, worst_box_iou, whole.
    """
    skipped = sources.SkipList()
    rows = saliency_data.read_masked_manifest(manifest, skipped)
    rows = _spread([row for row in rows if row.split == split], count)
    pictures = [read_picture(row.image_path) for row in rows]
    truths = [
        saliency_data.read_mask(row.mask_path, picture.shape[:2])
        for row, picture in zip(rows, pictures, strict=True)
    ]
    plain = np.array(
        [
            is_plain(picture, mask)
            for picture, mask in zip(pictures, truths, strict=True)
        ]
    )
    groups = {"plain": plain, "cluttered": ~plain, "all": plain | True}
    results = {}
    for name, locker in lockers.items():
        found = find_all(locker, pictures, keep_masks=True)
        margin = locker.rule.margin if locker.rule else 0.0
        scores = [_score(found, i, truth, margin) for i, truth in enumerate(truths)]
        scores = {key: np.array([row[key] for row in scores]) for key in scores[0]}
        results[name] = {
            group: _means(scores, chosen) for group, chosen in groups.items()
        }
        logging.info("%s: %s", name, results[name]["all"])
    return results


def _score(found, index, truth, margin):
    box, drawn = found.boxes[index], true_box(truth)
    # What a wide margin costs isn't the method's error.
    inner = box + margin * np.array([1, 1, -1, -1], np.float32) * _moved(box)
    return {
        "mask_iou": mask_iou(found.masks[index], truth),
        "box_iou": box_iou(box, drawn),
        "box_iou_without_margin": box_iou(inner, drawn),
        "whole": found.names[index] == "whole",
    }


def _moved(box):
    """Which sides a margin has moved: those away from the picture's rim, as 0 or 1."""
    return ((box > 0) & (box < 1)).astype(np.float32)


def _means(scores, chosen):
    if not chosen.any():
        return {"images": 0}
    means = {key: float(values[chosen].mean()) for key, values in scores.items()}
    means["worst_box_iou"] = float(scores["box_iou"][chosen].min())
    return {"images": int(chosen.sum()), **means}


def measure_agreement(lockers, manifest, count, reference, sheet_path):
    """Agreement of every method's boxes with a reference's, and a sheet of pictures.

    Args:
      lockers: dict of name and `saliency.Locker`.
      manifest: of photographs, see `sources.read_manifest`.
      count: photographs taken, evenly spread.
      reference: name of the method that the others are compared with.
      sheet_path: PNG to write, least agreement of the first method first.

    Returns:
      dict: method -> mean, median, share_above_0.8 (of the box IoU; not for the
      reference), names (count by what found the box) and speed.
    """
    paths = _spread(_photographs(manifest), count)
    pictures = [read_picture(path) for path in paths]
    found = {}
    for name, locker in lockers.items():
        found[name] = find_all(locker, pictures, keep_masks=False)
        logging.info("%s: %s", name, found[name].speed())
    results, agreement = {}, {}
    for name, its in found.items():
        names, counts = np.unique(its.names, return_counts=True)
        results[name] = {
            "images": len(pictures),
            "names": dict(zip(names.tolist(), counts.tolist(), strict=True)),
            **its.speed(),
        }
        if name == reference:
            continue
        pairs = zip(its.boxes, found[reference].boxes, strict=True)
        ious = np.array([box_iou(box, other) for box, other in pairs])
        agreement[name] = ious
        results[name] |= {
            "mean": float(ious.mean()),
            "median": float(np.median(ious)),
            "share_above_0.8": float((ious > 0.8).mean()),
        }
    first = next(iter(agreement.values()), np.ones(len(pictures)))
    boxes = {name: its.boxes for name, its in found.items()}
    draw_sheet(pictures, boxes, first, sheet_path)
    return results


def _photographs(manifest):
    """Paths of a manifest's pictures."""
    folder = os.path.dirname(os.path.abspath(manifest))
    with open(manifest, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [os.path.join(folder, row["image"]) for row in rows]


def _spread(rows, count):
    """Up to `count` of a list's items, evenly spread."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    return [rows[int(place)] for place in places]


def _print_truth(results):
    print("against drawn masks | images | mask IoU | box IoU | without margin | whole")
    for name, groups in results.items():
        for group, row in groups.items():
            if row["images"]:
                print(
                    f"{name:11s} {group:9s} {row['images']:5d}   {row['mask_iou']:.3f}"
                    f"   {row['box_iou']:.3f}   {row['box_iou_without_margin']:.3f}"
                    f"   {row['whole']:.1%}"
                )


def _print_agreement(results, reference):
    print(f"on photographs, boxes against {reference} | mean IoU | median | above 0.8")
    for name, row in results.items():
        agreement = "the reference"
        if "mean" in row:
            agreement = (
                f"{row['mean']:.3f}   {row['median']:.3f}   "
                f"{row['share_above_0.8']:.1%}"
            )
        print(
            f"{name:11s} {agreement} | {row['images_per_second']:.1f} images/s, "
            f"{row['cpu_seconds_an_image']:.4f} CPU s an image | {row['names']}"
        )


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Compares the methods that find the locked box.")
    page.list(
        "methods",
        ["opencv"],
        f"Methods, with their weights after '=': {', '.join(saliency.METHODS)}.",
    )
    page.string("manifest", None, "Manifest of pictures with drawn masks.")
    page.integer("num_images", 300, "Pictures taken of it.", lower_bound=1)
    page.string("photographs", None, "Manifest (JSON lines) of photographs.")
    page.integer("num_photographs", 200, "Photographs taken of it.", lower_bound=1)
    page.string("reference", None, "Method the boxes are compared with; the last one.")
    page.string("output_dir", None, "Folder for the results.", required=True)
    return page


def main(settings):
    """Runs the comparison with a dict of flags; returns what is in saliency.json."""
    lockers = make_lockers(settings["methods"])
    reference = settings["reference"] or list(lockers)[-1]
    if reference not in lockers:
        raise ValueError(
            f"`reference` should be one of {list(lockers)}. Received: {reference!r}"
        )
    os.makedirs(settings["output_dir"], exist_ok=True)
    results = {"methods": {name: one.describe() for name, one in lockers.items()}}
    if settings["manifest"]:
        results["truth"] = measure_truth(
            lockers, settings["manifest"], settings["num_images"]
        )
        _print_truth(results["truth"])
    if settings["photographs"]:
        results["agreement"] = measure_agreement(
            lockers,
            settings["photographs"],
            settings["num_photographs"],
            reference,
            os.path.join(settings["output_dir"], SHEET_NAME),
        )
        _print_agreement(results["agreement"], reference)
    path = os.path.join(settings["output_dir"], RESULTS_NAME)
    results_file.write(results, path)
    return results


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
