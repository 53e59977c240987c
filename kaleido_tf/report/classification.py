"""The sections of category and sub-category recognition in a report."""

from kaleido_tf.report import markup

TITLES = {
    "category": "Category recognition",
    "subcategory": "Sub-category recognition",
}
_NUM_WORST = 10
_NUM_CONFUSIONS = 8


def classification(results, baseline, confusion, draw):
    """Figures beside baseline and published ones, worst classes, confusion picture.

    Args:
      results: dict of `task_inputs.load_classification`.
      baseline: the same task's dict of `task_inputs.load_class_baseline`, or None.
      confusion: `confusion.Confusion`.
      draw: function of a chart -> HTML of its picture.
    """
    head = ("class", "trained", "records", "precision", "recall", "F")
    # Where F is equal, the class with more records is the worse.
    classes = sorted(results["classes"], key=lambda row: (row["f"], -row["support"]))
    every = markup.table(head, [_class_row(row) for row in classes])
    worst = markup.table(head, [_class_row(row) for row in classes[:_NUM_WORST]])
    return (
        f"<h2>{TITLES[results['task']]}</h2>"
        f'<p class="note">{markup.text(_note(results))}</p>'
        f'<div class="card">{_figures(results, baseline)}{_unseen(results)}</div>'
        f'<div class="card"><h3>Worst classes</h3>{worst}'
        f"{markup.details(f'All {len(classes)} classes', every)}</div>"
        f'<div class="square">{markup.figure(draw(confusion), confusion.title)}</div>'
        f"{_confusions(results)}"
    )


def _note(results):
    return (
        f"Fine-tuned, {results['split']} split: {results['num_examples']:,} records "
        f"with a label. Macro-F is the mean over the {results['num_classes']} classes "
        f"that occur there. Checkpoint {results.get('checkpoint')}."
    )


def _figures(results, baseline):
    rows = [("ours", ("this run", *_cells(results)))]
    if baseline:
        rows.append(("", (f"baseline: {baseline['name']}", *_cells(baseline))))
    majority = f"{results['majority_accuracy']:.4f}"
    rows.append(("faint", ("always the most frequent class", majority, "")))
    if published := results.get("published"):
        title = f"theirs, on another data set: {published['source']}"
        rows.append(("faint", (title, *_cells(published[results["task"]]))))
    return markup.table(("", "accuracy", "macro-F"), rows)


def _cells(figures):
    return f"{figures['accuracy']:.4f}", f"{figures['macro_f']:.3f}"


def _unseen(results):
    unseen = results["unseen_labels"]
    if not unseen:
        return ""
    names = ", ".join(f"{name} ({count})" for name, count in unseen.items())
    line = f"Labels unseen in training, counted as errors: {names}."
    return f'<p class="note">{markup.text(line)}</p>'


def _class_row(row):
    shares = (f"{row[key]:.3f}" for key in ("precision", "recall", "f"))
    return "", (row["name"], row.get("trained", ""), row["support"], *shares)


def _confusions(results):
    found = results["confusions"][:_NUM_CONFUSIONS]
    if not found:
        return ""
    rows = [("", (f"{true} → {given}", count)) for true, given, count in found]
    table = markup.table(("true → predicted", "records"), rows)
    return f'<div class="card"><h3>Most frequent confusions</h3>{table}</div>'
