"""Category and sub-category recognition as `run_finetune.py` runs them (docs/tasks.md).

One dense layer with dropout on the pooled output, fine-tuned end to end (paper section
4.2). The classes are those of the training split; the run keeps their names, and
whatever is evaluated is compared by name.
"""

import collections
import os

import numpy as np
import tensorflow as tf
from absl import logging

from kaleido_tf.data.input_pipeline import ENCODER_INPUTS, naming_damage, trim_texts
from kaleido_tf.modeling import build_classifier, losses
from kaleido_tf.tasks import classification_metrics as metrics
from kaleido_tf.tasks import confusion_picture, results
from kaleido_tf.training import checkpoints, finetuning

# The paper's table 3, fine-tuned; its classes and pictures are Fashion-Gen's.
PUBLISHED = {
    "source": "Kaleido-BERT, CVPR 2021, on Fashion-Gen",
    "category": {"accuracy": 0.9507, "macro_f": 0.714},
    "subcategory": {"accuracy": 0.8807, "macro_f": 0.636},
}
_MOST_ROWS = 30  # of the printed table; the file has them all


def class_names(info, task):
    """Classes of a task in a data set's training split: list of str, at least two."""
    names = info.categories if task == "category" else info.subcategories
    if len(names) < 2:
        raise ValueError(
            f"The training split should have at least two values of {task!r}. "
            f"Received: {names} in {info.directory}"
        )
    return list(names)


def count_examples(items, task, names):
    """Training examples of each class: dict name -> int; logs the rarest classes.

    Args:
      items: `FinetuningData.train_items`.
      task: "category" or "subcategory".
      names: the classes.
    """
    counts = collections.Counter(getattr(item, task) for item in items)
    counts = {name: counts[name] for name in names}
    if rare := {name: count for name, count in counts.items() if count < 2}:
        logging.warning(
            "classes with less than two training examples: %s (the others, if any, "
            "fell into the dev part)",
            ", ".join(f"{name} ({count})" for name, count in rare.items()),
        )
    return counts


def train(settings):
    """Fine-tunes a classifier; see `finetuning.train`."""
    return finetuning.train(settings, make_job)


def make_job(context):
    """The loop's `Job` for --task=category or --task=subcategory."""
    task = context.settings["task"]
    names = class_names(context.info, task)
    examples = count_examples(context.data.train_items, task, names)

    def make_batch(batch, seed):
        del seed
        # [B, 1] == [1, C] -> [B, C]: one place is true at most.
        same = batch[task][:, None] == tf.constant(names)[None, :]
        classes = tf.argmax(same, axis=1, output_type=tf.int32)
        classes = tf.where(tf.reduce_any(same, axis=1), classes, -1)
        return _inputs(batch), {"classes": classes}

    def loss(labels, outputs):
        logits = outputs["class_logits"]
        everyone = tf.ones_like(logits[:, 0])
        return {task: losses.classification_loss(labels["classes"], logits, everyone)}

    def accuracy(labels, outputs):
        found = tf.argmax(outputs["class_logits"], axis=1, output_type=tf.int32)
        hits = tf.cast(found == labels["classes"], tf.float32)
        return {task: (tf.reduce_mean(hits), tf.cast(tf.size(hits), tf.float32))}

    return finetuning.Job(
        model=build_classifier(context.config, len(names), context.settings["dropout"]),
        make_batch=make_batch,
        losses=loss,
        accuracies=accuracy,
        loss_names=(task,),
        accuracy_names=(task,),
        best=f"accuracy/{task}",
        best_is="max",
        extras={"class_names": names, "class_examples": examples},
        needs=(task,),
    )


def evaluate(settings):
    """Measures a fine-tuned run on a split.

    Args:
      settings: dict of the flags of `run_finetune.py`.

    Returns:
      dict, the content of OUTPUT_DIR/<task>.json; the table is printed and the
      confusion matrix drawn beside it.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    context, names, model = _open(settings)
    answers = list(_answers(context, names, model))
    truth = [answer["truth"] for answer in answers]
    predicted = [names[answer["order"][0]] for answer in answers]
    _check_names(truth, names)
    content = {
        "task": settings["task"],
        "checkpoint": context.checkpoint,
        "data_dir": settings["data_dir"],
        "split": settings["split"],
        "precision": settings["precision"],
        "macro_f_over": "classes that occur in the split, unseen ones included",
        **metrics.figures(truth, predicted, context.task["class_examples"]),
        "published": PUBLISHED,
    }
    path = results.write_results(content, settings["output_dir"])
    picture = os.path.join(settings["output_dir"], f"{settings['task']}_confusion.png")
    title = f"{settings['task']}, {settings['split']}: accuracy "
    title += f"{content['accuracy']:.4f}, macro-F {content['macro_f']:.3f}"
    table = metrics.confusion_matrix(truth, predicted)
    confusion_picture.draw(*table, title, picture)
    print(format_table(content))
    print(f"Written to {path} and {picture}")
    return content


def predict(settings):
    """Writes OUTPUT_DIR/predictions.jsonl, a record a line.

    Each holds image_id, product_id, labels (the `top_k` most probable, as
    `{"label", "probability"}`) and, where the data have it, truth.

    Returns:
      dict: path, num_examples.
    """
    context, names, model = _open(settings)

    def rows():
        for answer in _answers(context, names, model):
            row = {key: answer[key] for key in ("image_id", "product_id")}
            row["labels"] = [
                {"label": names[i], "probability": float(answer["probabilities"][i])}
                for i in answer["order"][: settings["top_k"]]
            ]
            yield row | ({"truth": answer["truth"]} if answer["truth"] else {})

    path, count = results.write_predictions(rows(), settings["output_dir"])
    print(f"{count} predictions written to {path}")
    return {"path": path, "num_examples": count}


def _inputs(batch):
    """The model's inputs of a batch of clean records: dict."""
    return trim_texts({name: batch[name] for name in ENCODER_INPUTS})


def _open(settings):
    """The run's `Context`, its class names and its model with weights."""
    context = finetuning.open_run(settings)
    finetuning.check_task(context, settings["task"])
    names = context.task["class_names"]
    model = build_classifier(context.config, len(names))
    checkpoints.load_weights(model, context.checkpoint)
    return context, names, model


def _answers(context, names, model):
    """Yields a dict per record of the split: ids, truth, probabilities, order."""
    settings = context.settings
    split, key = settings["split"], settings["task"]
    if not context.info.num_examples(split):
        raise ValueError(
            f"`split` should have records. Received: {split!r} of "
            f"{settings['data_dir']}, which is empty"
        )

    @tf.function(reduce_retracing=True)
    def probabilities(inputs):
        return tf.nn.softmax(model(inputs, training=False)["class_logits"])

    dataset = context.data.split_dataset(split, settings["eval_batch_size"])
    with naming_damage(context.info, (split,)):
        for batch in dataset:
            values = probabilities(_inputs(batch)).numpy()
            if not np.isfinite(values).all():
                raise ValueError(
                    f"The probabilities should be numbers. Received: NaN from "
                    f"{context.checkpoint} (the model diverged, or its weights are "
                    "damaged)"
                )
            columns = {
                "image_id": batch["image_id"],
                "product_id": batch["product_id"],
                "truth": batch[key],
            }
            texts = {n: [v.decode() for v in c.numpy()] for n, c in columns.items()}
            for row, value in enumerate(values):
                # Equal probabilities: the class that comes first.
                order = np.argsort(-value, kind="stable")
                yield {n: column[row] for n, column in texts.items()} | {
                    "probabilities": value,
                    "order": order,
                }


def _check_names(truth, names):
    """Raises ValueError where data and model have no class in common."""
    found = sorted(set(filter(None, truth)))
    if found and not set(found) & set(names):
        raise ValueError(
            "The data's labels should be among the classes of the run (compared by "
            f"name). Received: {found[:5]} ({len(found)} in all), none of which is "
            f"among {names[:5]} ({len(names)} in all)"
        )


def format_table(content):
    """The results as lines of text, with the published figures marked as theirs."""
    theirs = PUBLISHED[content["task"]]
    lines = [
        f"{content['task']}, split {content['split']}: {content['num_examples']} "
        f"records, {content['num_without_label']} more without a label",
        f"{'':50}  accuracy  macro-F",
        _row("Ours", content["accuracy"], content["macro_f"]),
        f"{'  always the most frequent class':50}  {content['majority_accuracy']:.4f}",
        _row(f"Theirs ({PUBLISHED['source']})", theirs["accuracy"], theirs["macro_f"]),
        f"Macro-F is the mean over the {content['num_classes']} classes that occur in "
        "the split.",
    ]
    if unseen := content["unseen_labels"]:
        shown = ", ".join(f"{name} ({count})" for name, count in unseen.items())
        lines.append(f"Unseen in training, counted as errors: {shown}")
    lines += ["", f"{'class':44}  trained  records  precision  recall      F"]
    rows = sorted(content["classes"], key=lambda row: -row["support"])
    for row in rows[:_MOST_ROWS]:
        lines.append(
            f"{row['name'][:44]:44}  {row['trained']:7d}  {row['support']:7d}  "
            f"{row['precision']:9.3f}  {row['recall']:6.3f}  {row['f']:5.3f}"
        )
    if len(rows) > _MOST_ROWS:
        lines.append(f"... and {len(rows) - _MOST_ROWS} rarer ones")
    return "\n".join(lines)


def _row(title, accuracy, macro_f):
    return f"{title:50}  {accuracy:.4f}    {macro_f:.3f}"
