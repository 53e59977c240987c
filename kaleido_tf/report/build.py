"""Puts a report together: checks every input, then writes the page and its pictures."""

import dataclasses
import os

from absl import logging

from kaleido_tf import files
from kaleido_tf.report import (
    bars,
    captioning,
    classification,
    confusion,
    curves,
    inputs,
    markup,
    pictures,
    ranked,
    retrieval,
    sections,
    task_inputs,
    theme,
)

PAGE_NAME = "report.html"


@dataclasses.dataclass(frozen=True)
class Tasks:
    """Results of the tasks.

    Attributes:
      arms: retrieval: dict label -> results, the run's own first.
      classes: dict task -> results, of category and sub-category as far as there are.
      class_baseline: dict task -> results.
      captioning, captioning_baseline: results or None.
    """

    arms: dict
    classes: dict
    class_baseline: dict
    captioning: dict | None
    captioning_baseline: dict | None

    @classmethod
    def load(cls, paths):
        """Reads and checks what a dict of `write_report`'s paths names."""
        results = {
            task: task_inputs.load_classification(paths[task], task)
            for task in classification.TITLES
            if paths[task]
        }
        baseline = {}
        if paths["class_baseline"]:
            baseline = task_inputs.load_class_baseline(paths["class_baseline"], results)
        captions = [
            paths[name] and task_inputs.load_captioning(paths[name])
            for name in ("captioning", "captioning_baseline")
        ]
        if captions[1]:
            task_inputs.check_same_products(*captions)
        return cls(_load_arms(paths), results, baseline, *captions)

    @property
    def shown(self):
        """(label, results) of retrieval whose ranked pictures are shown."""
        label = "fine-tuned" if "fine-tuned" in self.arms else next(iter(self.arms))
        return label, self.arms[label]

    @property
    def examples(self):
        """Captioned pictures to show: list."""
        return self.captioning["examples"] if self.captioning else []

    def shown_ids(self):
        """image_ids of all pictures on the page: set."""
        tops = self.shown[1]["top_ranked"]
        rows = [row for direction in inputs.DIRECTIONS for row in tops[direction]]
        ids = {row["query"] for row in rows}
        ids |= {item["image_id"] for row in tops["tir"] for item in row["ranked"]}
        return ids | {row["image_id"] for row in self.examples}

    def tiles(self):
        return sections.task_tiles(
            self.arms.get("fine-tuned"), self.classes, self.captioning
        )


def _load_arms(paths):
    own = task_inputs.load_retrieval(paths["retrieval"])
    arms = {"zero-shot" if paths["finetuned"] else "this run": own}
    if paths["finetuned"]:
        arms["fine-tuned"] = task_inputs.load_retrieval(paths["finetuned"])
        task_inputs.check_same_lists(own, arms["fine-tuned"], "finetuned")
    if paths["baseline"]:
        other = task_inputs.load_retrieval(paths["baseline"], needs_ranked=False)
        task_inputs.check_same_lists(own, other)
        arms[retrieval.BASELINE] = other
    return arms


def write_report(run_dir, manifest, output_dir, title=None, data_dir=None, **paths):
    """Writes report.html and PNG files.

    Args:
      run_dir: folder of `run_pretrain.py`.
      manifest: path of the catalogue's manifest, for the pictures.
      output_dir: folder to write into.
      title: of the page; None makes one of the catalogue's name.
      data_dir: see `inputs.load_run`.
      **paths: of results; `retrieval` of the run itself is needed. Each of the others
        grows its section: `finetuned` (retrieval), `baseline` (of retrieval),
        `category`, `subcategory`, `class_baseline`, `captioning`,
        `captioning_baseline`.

    Returns:
      list of the written paths, the page first.

    Raises:
      FileNotFoundError, ValueError: what is missing or incomplete, and what to do.
        Nothing is written then.
    """
    run = inputs.load_run(run_dir, data_dir)
    tasks = Tasks.load(dict.fromkeys(task_inputs.NAMES) | paths)
    places = inputs.picture_paths(manifest, tasks.shown_ids())
    thumbnails = pictures.Thumbnails(places)
    catalogue = os.path.basename(os.path.dirname(os.path.abspath(manifest)))
    charts = _charts(run, tasks)
    title = title or f"Kaleido-BERT on {catalogue}"
    body = _body(title, run, tasks, catalogue, charts, thumbnails)
    content = {PAGE_NAME: markup.page(title, body).encode()}
    content |= _png_files(charts, tasks, thumbnails)
    if thumbnails.missing:
        logging.warning(
            "%d pictures are missing or unreadable and shown as grey tiles: %s",
            len(thumbnails.missing),
            sorted(thumbnails.missing)[:10],
        )
    return _write(content, output_dir)


def _charts(run, tasks):
    """dict file name without ending -> list of charts."""
    charts = {
        "losses": curves.panels(run, "loss"),
        "accuracies": curves.panels(run, "accuracy"),
        "retrieval": bars.recall_bars(tasks.arms),
    }
    for task, results in tasks.classes.items():
        title = f"{classification.TITLES[task]}: confusions"
        charts[f"{task}_confusion"] = [confusion.Confusion.of(title, results)]
    return charts


def _body(title, run, tasks, catalogue, charts, thumbnails):
    own = next(iter(tasks.arms.values()))
    label, shown = tasks.shown
    parts = [
        sections.header(title, run, own, catalogue, tasks.tiles()),
        sections.what_was_trained(run, catalogue),
        sections.learning(charts["losses"], charts["accuracies"], _themed),
        retrieval.retrieval_figures(tasks.arms, charts["retrieval"], _themed, run),
        ranked.ranked(shown, thumbnails, label),
    ]
    for task, results in tasks.classes.items():
        baseline = tasks.class_baseline.get(task)
        (chart,) = charts[f"{task}_confusion"]
        parts.append(classification.classification(results, baseline, chart, _themed))
    if tasks.captioning:
        parts.append(
            captioning.captioning(
                tasks.captioning, tasks.captioning_baseline, thumbnails
            )
        )
    return "\n".join(parts)


def _themed(chart):
    light, dark = (theme.png(chart, each) for each in (theme.LIGHT, theme.DARK))
    return markup.themed_image(light, dark, chart.title)


def _png_files(charts, tasks, thumbnails):
    """dict file name -> bytes."""
    draw = {"losses": curves.sheet, "accuracies": curves.sheet}
    made = {
        f"{name}.png": draw.get(name, lambda each: theme.sheet(each, 2))(each)
        for name, each in charts.items()
        if each
    }
    tops = tasks.shown[1]["top_ranked"]
    if tops["tir"]:
        made["ranked_images.png"] = pictures.images_sheet(tops["tir"], thumbnails)
    if tops["itr"]:
        made["ranked_texts.png"] = pictures.texts_sheet(tops["itr"], thumbnails)
    if tasks.examples:
        made["captions.png"] = pictures.captions_sheet(tasks.examples, thumbnails)
    return made


def _write(content, output_dir):
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for name, data in content.items():
        path = os.path.join(output_dir, name)
        with files.whole(path, "wb") as file:
            file.write(data)
        paths.append(path)
    return paths
