"""Puts a report together: checks every input, then writes the page and its pictures."""

import os

from absl import logging

from kaleido_tf.report import curves, inputs, markup, pictures, ranked, sections

PAGE_NAME = "report.html"


def write_report(run_dir, retrieval, manifest, output_dir, title=None, baseline=None):
    """Writes report.html and PNG files.

    Args:
      run_dir: folder of `run_pretrain.py`.
      retrieval: path of retrieval.json.
      manifest: path of the catalogue's manifest, for the pictures.
      output_dir: folder to write into.
      title: of the page; None makes one of the catalogue's name.
      baseline: path of a baseline's results on the same lists, or None.

    Returns:
      list of the written paths, the page first.

    Raises:
      FileNotFoundError, ValueError: what is missing or incomplete, and what to do.
        Nothing is written then.
    """
    run = inputs.load_run(run_dir)
    results = inputs.load_retrieval(retrieval)
    other = None
    if baseline:
        other = inputs.load_retrieval(baseline, needs_ranked=False)
        inputs.check_same_lists(results, other)
    shown = _shown_ids(results["top_ranked"])
    thumbnails = pictures.Thumbnails(inputs.picture_paths(manifest, shown))
    catalogue = os.path.basename(os.path.dirname(os.path.abspath(manifest)))
    charts = {
        "losses": curves.panels(run, "loss"),
        "accuracies": curves.panels(run, "accuracy"),
        "retrieval": curves.recall_bars(results, other),
    }
    title = title or f"Kaleido-BERT on {catalogue}"
    body = "\n".join(
        (
            sections.header(title, run, results, catalogue),
            sections.what_was_trained(run, catalogue),
            sections.learning(charts["losses"], charts["accuracies"], _themed),
            sections.retrieval_figures(
                results, other, charts["retrieval"], _themed, run
            ),
            ranked.ranked(results, thumbnails),
        )
    )
    content = {PAGE_NAME: markup.page(title, body).encode()}
    content |= _png_files(charts, results["top_ranked"], thumbnails)
    if thumbnails.missing:
        logging.warning(
            "%d pictures are missing or unreadable and shown as grey tiles: %s",
            len(thumbnails.missing),
            sorted(thumbnails.missing)[:10],
        )
    return _write(content, output_dir)


def _shown_ids(tops):
    rows = [row for direction in inputs.DIRECTIONS for row in tops[direction]]
    queries = {row["query"] for row in rows}
    return queries | {item["image_id"] for row in tops["tir"] for item in row["ranked"]}


def _themed(chart):
    light, dark = (curves.png(chart, each) for each in (curves.LIGHT, curves.DARK))
    return markup.themed_image(light, dark, chart.title)


def _png_files(charts, tops, thumbnails):
    """dict file name -> bytes."""
    files = {
        f"{name}.png": curves.sheet(each, columns=2 if name == "retrieval" else 3)
        for name, each in charts.items()
        if each
    }
    if tops["tir"]:
        files["ranked_images.png"] = pictures.images_sheet(tops["tir"], thumbnails)
    if tops["itr"]:
        files["ranked_texts.png"] = pictures.texts_sheet(tops["itr"], thumbnails)
    return files


def _write(content, output_dir):
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for name, data in content.items():
        path = os.path.join(output_dir, name)
        with open(f"{path}.tmp", "wb") as file:
            file.write(data)
        os.replace(f"{path}.tmp", path)
        paths.append(path)
    return paths
