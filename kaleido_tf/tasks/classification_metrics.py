"""Classification metrics in numpy: from true and predicted names to figures.

Last station of category and sub-category recognition; knows nothing of
models or files. Classes go by their names, so a model may know others than the data.
"""

import collections

import numpy as np


def class_table(truth, predicted):
    """Precision, recall and F of every class that occurs in the truth.

    Args:
      truth, predicted: names, sequences of str of the same length.

    Returns:
      list of dicts in the order of the names: name, support (records of that class),
      predicted (records that were given it), precision, recall, f in [0, 1]; a class
      that was never predicted has precision 0.

    Raises:
      ValueError: other lengths, or nothing.
    """
    truth, predicted = _checked(truth, predicted)
    rows = []
    for name in sorted(set(truth)):
        right = int(np.sum((truth == name) & (predicted == name)))
        support, given = int(np.sum(truth == name)), int(np.sum(predicted == name))
        rows.append(
            {
                "name": str(name),
                "support": support,
                "predicted": given,
                "precision": right / given if given else 0.0,
                "recall": right / support,
                "f": 2 * right / (support + given),
            }
        )
    return rows


def _checked(truth, predicted):
    truth, predicted = np.array(truth, object), np.array(predicted, object)
    if truth.shape != predicted.shape or truth.ndim != 1 or not truth.size:
        raise ValueError(
            "`truth` and `predicted` should have the same length, at least 1. "
            f"Received: {truth.shape} and {predicted.shape}"
        )
    return truth, predicted


def figures(truth, predicted, known):
    """All figures of one split.

    Args:
      truth: the records' labels, sequence of str; "" has no label and isn't counted.
      predicted: the model's, sequence of str.
      known: dict name -> training examples of the model's classes. Labels outside of
        them can't be right: they count as errors.

    Returns:
      dict: num_examples, num_without_label; accuracy and macro_f in [0, 1], the mean F
      over the classes that occur in the split, those that the model doesn't know
      included; majority_accuracy, of the split's most frequent class; num_classes;
      unseen_labels, dict name -> records; classes, see `class_table`, with `trained`,
      the class's training examples; confusions, list of [truth, predicted, records]
      without the right ones, most frequent first.

    Raises:
      ValueError: no record with a label.
    """
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t]
    if not pairs:
        raise ValueError(
            "The split should have records with a label. Received: "
            f"{len(truth)} records, none with one"
        )
    named, given = zip(*pairs, strict=True)
    support = collections.Counter(named)
    table = class_table(named, given)
    table = [row | {"trained": known.get(row["name"], 0)} for row in table]
    wrong = collections.Counter(pair for pair in pairs if pair[0] != pair[1])
    return {
        "num_examples": len(pairs),
        "num_without_label": len(truth) - len(pairs),
        "accuracy": 1.0 - wrong.total() / len(pairs),
        "macro_f": float(np.mean([row["f"] for row in table])),
        "majority_accuracy": max(support.values()) / len(pairs),
        "num_classes": len(table),
        "unseen_labels": {n: support[n] for n in sorted(support) if not known.get(n)},
        "classes": table,
        "confusions": [[t, p, count] for (t, p), count in wrong.most_common()],
    }


def confusion_matrix(truth, predicted, most=40):
    """Counts of truth and prediction, small enough for a picture.

    Args:
      truth, predicted: names; records whose truth is "" are left out.
      most: at most so many classes, the most frequent in the truth; the rest goes
        into one last row and column, "(others)".

    Returns:
      (names, int64 [C, C]), rows the truth, columns the prediction.
    """
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t]
    support = collections.Counter(t for t, _ in pairs)
    every = sorted({name for pair in pairs for name in pair})
    names = sorted(every, key=lambda name: (-support[name], name))
    if len(names) > most:
        names = [*names[: most - 1], "(others)"]
    places = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    for t, p in pairs:
        counts[places.get(t, len(names) - 1), places.get(p, len(names) - 1)] += 1
    return names, counts
