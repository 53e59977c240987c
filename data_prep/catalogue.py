"""Draws the embedded catalogue: first station of the line, where a shop has photos.

A fashion catalogue drawn by program, with fine-grained, located attributes, so that the
method has something to find without Fashion-Gen:

  python -m data_prep.catalogue --output_dir=DIR --num_products=1200 --seed=0

DIR/manifest.jsonl   one line a picture, the same format as a user's own catalogue:
                     product_id, image_id, image (path relative to the manifest),
                     title, description, category, subcategory, split
DIR/images/          the pictures, PNG, 256 x 256, RGB
DIR/truth/           what no model may see: masks/<image_id>.png (0 or 255) and
                     attributes.jsonl, one line a picture: attribute -> value, box and
                     parts ([x1, y1, x2, y2], pixels, x2, y2 excluded; null where the
                     attribute isn't seen in this view), named (by the text), words;
                     phrases.json, what the texts say for every value (`lexicon`)
DIR/catalogue.json   arguments, counts and the manifest's hash; written last

Left and right are the picture's. The same seed gives the same bytes of every file,
whatever the number of workers.
"""

import collections
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil

import numpy as np
from absl import logging

from data_prep.catalogue_parts import lexicon, product, sheet
from kaleido_tf import cli, files

VERSION = 1  # of the drawing: raise it when the same seed gives other bytes
MIN_PRODUCTS, MAX_PRODUCTS = 100, 100_000
SPLITS = ("train", "validation")
PHRASES_NAME = os.path.join("truth", "phrases.json")


def _check_arguments(num_products, seed, validation_fraction, num_workers) -> None:
    if not MIN_PRODUCTS <= num_products <= MAX_PRODUCTS:
        raise ValueError(
            f"`num_products` should be from {MIN_PRODUCTS} to {MAX_PRODUCTS}. "
            f"Received: {num_products}"
        )
    if seed < 0:
        raise ValueError(f"`seed` should be 0 or more. Received: {seed}")
    if not 0.05 <= validation_fraction <= 0.5:
        raise ValueError(
            "`validation_fraction` should be from 0.05 to 0.5. "
            f"Received: {validation_fraction}"
        )
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` should be 1 or more. Received: {num_workers}")


def _finished(output_dir: str, arguments: dict) -> dict | None:
    """Counts of a catalogue that is there already; raises if it is another one."""
    record = os.path.join(output_dir, "catalogue.json")
    if not os.path.exists(record):
        if os.path.isdir(output_dir) and os.listdir(output_dir):
            raise ValueError(
                "`output_dir` should be missing, empty or a finished catalogue. "
                f"Received: {output_dir}, which holds other files (choose another "
                "folder, or empty this one)"
            )
        return None
    with open(record, encoding="utf-8") as file:
        found = json.load(file)
    there = {name: found.get(name) for name in arguments}
    if there != arguments:
        raise ValueError(
            f"`output_dir` should hold a catalogue drawn with {arguments}. "
            f"Received: {output_dir}, drawn with {there} (delete that folder or choose "
            "another)"
        )
    return found["counts"]


def choose_splits(num_products: int, seed: int, validation_fraction: float) -> list:
    """Split of every product.

    Every category with two products is in both splits, and so is every sub-category
    which has enough products for one of them in validation. Where all sub-categories of
    a category have one product each, one of them is in validation alone.

    Args:
      num_products: number of products.
      seed: of the catalogue.
      validation_fraction: share of products in validation.

    Returns:
      List of "train" or "validation", one a product.
    """
    groups: dict = {}
    for index in range(num_products):
        spec = product.spec_of(index, seed)
        groups.setdefault(spec.category, {}).setdefault(spec.name, []).append(index)
    splits = [SPLITS[0]] * num_products
    rng = np.random.default_rng([seed, num_products, 0, 1])
    # Of its own: what the other categories draw stays as it is.
    single_rng = np.random.default_rng([seed, num_products, 0, 2])
    for names in groups.values():
        chosen = _validation_of(names, validation_fraction, rng)
        if not chosen and len(names) > 1:  # every sub-category has one product
            chosen = [int(single_rng.choice(sum(names.values(), [])))]
        for index in chosen:
            splits[index] = SPLITS[1]
    return splits


def _validation_of(names: dict, fraction: float, rng) -> list:
    """Products of one category held back: each sub-category's share, then the rest."""
    total = sum(len(members) for members in names.values())
    target = max(1, round(total * fraction))
    chosen, left = [], []
    for members in names.values():
        shuffled = rng.permutation(members).tolist()
        share = int(len(members) * fraction)
        chosen += shuffled[:share]
        # One of them stays in train, whatever happens.
        left += shuffled[share:-1] if len(members) - share > 1 else []
    spare = rng.permutation(left).tolist()
    return (chosen + spare)[: max(target, len(chosen))]


@contextlib.contextmanager
def _mapper(num_workers: int):
    """A map over jobs, in order, in this process or in others."""
    if num_workers == 1:
        product.prepare_worker()
        yield lambda jobs: map(product.write_job, jobs)
        return
    # "spawn": the caller may have TensorFlow's threads running, and fork breaks them.
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_workers, product.prepare_worker) as pool:
        yield lambda jobs: pool.imap(product.write_job, jobs, chunksize=8)


def _draw_all(folder, num_products, seed, splits, num_workers) -> dict:
    """Writes pictures, manifest and truth; gives the counts."""
    os.makedirs(os.path.join(folder, "images"))
    os.makedirs(os.path.join(folder, "truth", "masks"))
    jobs = [(folder, i, seed, splits[i]) for i in range(num_products)]
    seen, step = collections.Counter(), max(1, num_products // 10)
    with (
        _writer(os.path.join(folder, "manifest.jsonl")) as manifest,
        _writer(os.path.join(folder, "truth", "attributes.jsonl")) as truth,
        _mapper(num_workers) as run,
    ):
        for done, (rows, truths) in enumerate(run(jobs), 1):
            _append(manifest, rows)
            _append(truth, truths)
            seen[rows[0]["split"]] += len(rows)
            seen["category", rows[0]["category"]] = 1
            seen["subcategory", rows[0]["subcategory"]] = 1
            if done % step == 0:
                logging.info("Drew %d of %d products", done, num_products)
    return _count(splits, seen)


def _count(splits, seen) -> dict:
    counts = {"products": len(splits), "images": sum(seen[name] for name in SPLITS)}
    counts |= {f"{name}_products": splits.count(name) for name in SPLITS}
    counts |= {f"{name}_images": seen[name] for name in SPLITS}
    kinds = collections.Counter(key[0] for key in seen if isinstance(key, tuple))
    return counts | {
        "categories": kinds["category"],
        "subcategories": kinds["subcategory"],
    }


def _writer(path: str):
    return open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115


def _write_phrases(folder: str) -> None:
    """The phrases of every value: the same for every seed."""
    path = os.path.join(folder, PHRASES_NAME)
    files.write_json(lexicon.build_lexicon(), path)


def _append(file, rows) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _hash_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def draw_catalogue(
    output_dir: str,
    num_products: int,
    seed: int = 0,
    validation_fraction: float = 0.15,
    num_workers: int | None = None,
) -> dict:
    """Draws the embedded catalogue into a folder.

    A catalogue drawn before with the same arguments is left as it is. A run that was
    interrupted leaves `<output_dir>.partial`, which the next run replaces.

    Args:
      output_dir: folder to write; missing, empty, or a catalogue with these arguments.
      num_products: number of products, 100 to 100,000; each has 1 to 4 pictures.
      seed: of everything drawn, 0 or more.
      validation_fraction: share of the products in the validation split.
      num_workers: processes; None takes one a CPU core.

    Returns:
      Counts: products, images, train_products, validation_products, train_images,
      validation_images, categories, subcategories.

    Raises:
      ValueError: an argument is out of range, or `output_dir` holds something else.
    """
    _check_arguments(num_products, seed, validation_fraction, num_workers)
    arguments = {
        "version": VERSION,
        "num_products": num_products,
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    output_dir = os.path.abspath(output_dir)
    counts = _finished(output_dir, arguments)
    if counts is not None:
        if not os.path.exists(os.path.join(output_dir, PHRASES_NAME)):
            _write_phrases(output_dir)  # drawn before there was this file
        logging.info("%s is drawn already: skipped", output_dir)
        return counts
    partial = output_dir + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    splits = choose_splits(num_products, seed, validation_fraction)
    workers = min(num_workers or os.cpu_count() or 1, num_products)
    counts = _draw_all(partial, num_products, seed, splits, workers)
    _write_phrases(partial)
    digest = _hash_file(os.path.join(partial, "manifest.jsonl"))
    record = arguments | {"counts": counts, "manifest_sha256": digest}
    with open(os.path.join(partial, "catalogue.json"), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    if os.path.isdir(output_dir):
        os.rmdir(output_dir)
    os.rename(partial, output_dir)
    return counts


def flag_page():
    """Flags of the command; not at import, for others import `draw_catalogue`."""
    page = cli.FlagPage("Draws a fashion catalogue by program: pictures, texts, truth.")
    page.heading("Output")
    page.string("output_dir", None, "Folder to write the catalogue to.", required=True)
    page.string("sheet", None, "PNG file for a contact sheet of 40 pictures.")
    page.bool(
        "sheet_boxes", False, "Draw the attributes' rectangles on the contact sheet."
    )
    page.heading("Catalogue")
    page.integer(
        "num_products",
        1200,
        f"Products, {MIN_PRODUCTS} to {MAX_PRODUCTS}; a product has 1 to 4 pictures, "
        "2.05 on average, some 50 KB each.",
    )
    page.float(
        "validation_fraction",
        0.15,
        "Share of the products in the validation split, 0.05 to 0.5.",
    )
    page.integer("seed", 0, "Of everything drawn, 0 or more.")
    page.heading("Running")
    page.integer(
        "num_workers",
        os.cpu_count() or 1,
        "Processes that draw, 1 or more; the default is one a CPU core. The files are "
        "the same whatever their number.",
    )
    return page


def main(values) -> None:
    """Draws the catalogue that the flags (a dict) ask for."""
    path, boxes = values.pop("sheet"), values.pop("sheet_boxes")
    counts = draw_catalogue(**values)
    if path:
        sheet.draw_sheet(values["output_dir"], path, boxes)
    print(json.dumps(counts))


if __name__ == "__main__":
    PAGE = flag_page()
    cli.run(lambda: main(PAGE.values()), PAGE)
