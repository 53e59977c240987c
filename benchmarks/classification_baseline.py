"""CLI: what category and sub-category recognition has to beat, on any catalogue.

Logistic regression on the features of whole pictures (the data set's backbone at 224
pixels, no patches, no text), trained on the training split's records and measured on
the split that the model is measured on. The penalty is chosen on products held back
from the training split, never on the split that is evaluated.
"""

import dataclasses
import warnings

import numpy as np
from absl import logging
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks import results_file, whole_image
from benchmarks.text_ridge import hold_out
from kaleido_tf import cli
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.tasks import classification_metrics

TASKS = ("category", "subcategory")
# Inverse strengths of the penalty, as scikit-learn has them.
INVERSE_STRENGTHS = (0.003, 0.03, 0.3, 3.0)
NAME = "logistic regression on whole pictures, no text"
_MAX_ITERATIONS = 200


@dataclasses.dataclass(frozen=True)
class Choice:
    """A penalty, and how it did on the held-back training products."""

    inverse_strength: float
    accuracy: float


class Classifier:
    """Logistic regression on standardised features.

    Args:
      inverse_strength: of the penalty; small is strong.
    """

    def __init__(self, inverse_strength):
        self._model = LogisticRegression(
            C=inverse_strength, max_iter=_MAX_ITERATIONS, tol=1e-3
        )

    def fit(self, features, names):
        """Fits on float32 [N, F] and N names."""
        self._mean = features.mean(axis=0)
        self._deviation = features.std(axis=0) + 1e-6
        with warnings.catch_warnings():  # the last digits of a loss don't matter here
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._scaled(features), names)
        return self

    def predict(self, features):
        """Names of float32 [n, F]: list of n str."""
        return self._model.predict(self._scaled(features)).tolist()

    def _scaled(self, features):
        return (features - self._mean) / self._deviation


def choose(features, names, product_ids):
    """Tries every penalty on a part of the training split.

    Args:
      features: float32 [N, F].
      names, product_ids: lists of N str.

    Returns:
      list of `Choice`, best first.

    Raises:
      ValueError: a single product, or one class without the products held back.
    """
    held, names = hold_out(product_ids), np.array(names, object)
    if len(set(names[~held])) < 2:
        raise ValueError(
            "The training split should hold at least two classes beside the products "
            f"that are held back. Received: {sorted(set(names[~held]))}"
        )
    choices = []
    for strength in INVERSE_STRENGTHS:
        classifier = Classifier(strength).fit(features[~held], names[~held])
        hits = np.array(classifier.predict(features[held]), object) == names[held]
        choices.append(Choice(strength, float(hits.mean())))
        logging.info("C %g: accuracy %.4f on the held back", *_row(choices[-1]))
    return sorted(choices, key=lambda choice: -choice.accuracy)


def _row(choice):
    return dataclasses.astuple(choice)


def measure(task, train, evaluated, vectors_of, split):
    """Fits and measures the baseline on one task.

    Args:
      task: one of `TASKS`.
      train, evaluated: lists of `candidate_lists.Item`.
      vectors_of: function of a list of image ids -> float32 [n, F].
      split: name of the evaluated split.

    Returns:
      dict: name, split, inverse_strength, tried_on_training_products, and
      `classification_metrics.figures`; or `skipped`, the reason.
    """
    known = [item for item in train if getattr(item, task)]
    names = [getattr(item, task) for item in known]
    truth = [getattr(item, task) for item in evaluated]
    if len(set(names)) < 2 or not any(truth):
        return {
            "skipped": f"{len(set(names))} classes in training, "
            f"{sum(map(bool, truth))} records with a label in {split}"
        }
    features = vectors_of([item.image_id for item in known])
    choices = choose(features, names, [item.product_id for item in known])
    classifier = Classifier(choices[0].inverse_strength).fit(features, names)
    predicted = classifier.predict(vectors_of([item.image_id for item in evaluated]))
    counts = {name: names.count(name) for name in sorted(set(names))}
    return {
        "name": NAME,
        "split": split,
        "inverse_strength": choices[0].inverse_strength,
        "tried_on_training_products": [dataclasses.asdict(c) for c in choices],
        **classification_metrics.figures(truth, predicted, counts),
    }


def run(settings):
    """Fits and measures the baseline on both tasks.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict, the content of the output file; its table is printed.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    info = DatasetInfo.load(settings["data_dir"])
    train = candidate_lists.read_items(info, "train")
    evaluated = candidate_lists.read_items(info, settings["split"])
    vectors_of, backbone = whole_image.vectors_of([*train, *evaluated], info, settings)
    results = {
        "data_dir": settings["data_dir"],
        "backbone": backbone.describe(),
        "num_training_records": len(train),
    }
    for task in TASKS:
        results[task] = measure(task, train, evaluated, vectors_of, settings["split"])
    print(format_table(results))
    results_file.write(results, settings["output"])
    return results


def format_table(results):
    """The results as lines of text."""
    lines = [
        f"{NAME}, {results['num_training_records']} training records",
        f"{'':14}  accuracy  macro-F  classes  records  most frequent class",
    ]
    for task in TASKS:
        figures = results[task]
        if reason := figures.get("skipped"):
            lines.append(f"{task:14}  skipped: {reason}")
            continue
        lines.append(
            f"{task:14}  {figures['accuracy']:8.4f}  {figures['macro_f']:7.3f}"
            f"  {figures['num_classes']:7d}  {figures['num_examples']:7d}"
            f"  {figures['majority_accuracy']:.4f}"
        )
    lines.append("Macro-F is the mean over the classes that occur in the split.")
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Category and sub-category by logistic regression on whole images, a baseline."
    )
    whole_image.add_flags(page)
    page.heading("Evaluation")
    page.string("split", "validation", "Which records are evaluated.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
