"""One product of the embedded catalogue, from its number to its files.

Everything about a product comes from `np.random.default_rng([seed, index])`, so it is
the same whichever worker draws it and in whatever order.
"""

import os

import cv2
import numpy as np

from data_prep.catalogue_parts import choices, garments, palette, specs, views, wording

_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 2]


def spec_of(index: int, seed: int) -> specs.Spec:
    """Sub-category of a product: every run of len(SPECS) products holds each once."""
    block, place = divmod(index, len(specs.SPECS))
    order = np.random.default_rng([seed, block, 0]).permutation(len(specs.SPECS))
    return specs.SPECS[order[place]]


def product_id(index: int) -> str:
    """Name of a product in every file."""
    return f"p{index:06d}"


def _write_png(path: str, pixels: np.ndarray) -> None:
    done, data = cv2.imencode(".png", pixels, _PNG)
    if not done:
        raise OSError(f"`{path}` should be writable as PNG.")
    with open(path, "wb") as file:
        file.write(data.tobytes())


def _truth(values, boxes, words) -> dict:
    """attribute -> value, place in this view, and how the text names it."""
    truth = {}
    for name, value in values.items():
        parts = boxes.get(name, []) if value != "none" else []
        corners = np.array(parts).reshape(-1, 4)
        whole = [*corners[:, :2].min(0), *corners[:, 2:].max(0)] if parts else None
        truth[name] = {
            "value": value,
            "box": [int(v) for v in whole] if parts else None,
            "parts": parts,
            "named": name in words,
            "words": words.get(name, []),
        }
    return truth


def write_product(folder: str, index: int, seed: int, split: str) -> tuple[list, list]:
    """Draws a product and writes its pictures and masks.

    Args:
      folder: where `images/` and `truth/masks/` are.
      index: number of the product.
      seed: of the catalogue.
      split: "train" or "validation".

    Returns:
      Manifest rows and truth rows, a dict a view each.
    """
    rng = np.random.default_rng([seed, index])
    spec = spec_of(index, seed)
    values = choices.choose_attributes(spec, rng)
    title, description, words = wording.describe(spec, values, rng)
    sprite = garments.draw_product(spec, values, rng)
    base = palette.shade(values["colour"])
    rows, truths = [], []
    for number in range(views.count_views(rng)):
        view = views.draw_view(sprite, base, rng, first=number == 0)
        image_id = f"{product_id(index)}_{number}"
        _write_png(os.path.join(folder, "images", f"{image_id}.png"), view.picture)
        _write_png(os.path.join(folder, "truth", "masks", f"{image_id}.png"), view.mask)
        ids = {"product_id": product_id(index), "image_id": image_id}
        rows.append(
            ids
            | {
                "image": f"images/{image_id}.png",
                "title": title,
                "description": description,
                "category": spec.category,
                "subcategory": spec.name,
                "split": split,
            }
        )
        truths.append(ids | {"attributes": _truth(values, view.boxes, words)})
    return rows, truths


def prepare_worker() -> None:
    """Run once in every worker process: one thread each, or they fight."""
    cv2.setNumThreads(0)


def write_job(job: tuple) -> tuple[list, list]:
    """`write_product` of a tuple, for a process pool."""
    return write_product(*job)
