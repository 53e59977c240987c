"""The tasks' results that a report is made from, loaded and checked."""

from kaleido_tf.report.inputs import DIRECTIONS, RECALLS, read_json

# Results that a report can be made from; the first is needed.
NAMES = (
    "retrieval",
    "finetuned",
    "baseline",
    "category",
    "subcategory",
    "class_baseline",
    "captioning",
    "captioning_baseline",
)
_EVALUATE = "python run_finetune.py --mode=evaluate --task="
_BASELINES = {
    "retrieval": "python -m benchmarks.retrieval_baseline",
    "category": "python -m benchmarks.classification_baseline",
}
# What a section can't do without.
_CLASSIFICATION = (
    "split",
    "accuracy",
    "macro_f",
    "majority_accuracy",
    "num_examples",
    "num_classes",
    "unseen_labels",
    "classes",
    "confusions",
)
_CAPTIONING = (
    "split",
    "bleu_4",
    "cider",
    "num_products",
    "decoding",
    "text_field",
    "truncation",
    "tokenizer",
    "left_out",
    "notes",
    "examples",
    "attributes",
)


def load_retrieval(path, needs_ranked=True):
    """Reads a retrieval.json, or a baseline's with the same keys.

    Args:
      path: the file.
      needs_ranked: whether it must hold ranked items to show.

    Raises:
      FileNotFoundError, ValueError: missing or incomplete.
    """
    what = "results of the retrieval task" if needs_ranked else "a baseline's results"
    command = f"{_EVALUATE}retrieval" if needs_ranked else _BASELINES["retrieval"]
    results = read_json(path, what, command)
    missing = [
        key for key in ("sampled", "full_gallery", "pairs") if key not in results
    ]
    sampled = results.get("sampled", {})
    for direction in DIRECTIONS:
        found = sampled.get(direction, {})
        needed = (*RECALLS, "chance", "lists")
        missing += [f"sampled.{direction}.{k}" for k in needed if k not in found]
        if needs_ranked and direction not in results.get("top_ranked", {}):
            missing.append(f"top_ranked.{direction}")
    _check_keys(path, what, command, missing)
    return results


def _check_keys(path, what, command, missing):
    if missing:
        raise ValueError(
            f"{path} should be {what}. Missing keys: {missing} (it is written by "
            f"`{command}`)"
        )


def load_classification(path, task):
    """Reads category.json or subcategory.json.

    Args:
      path: the file.
      task: "category" or "subcategory".

    Raises:
      FileNotFoundError, ValueError: missing, incomplete, or of another task.
    """
    return _load_task(path, task, _CLASSIFICATION)


def load_class_baseline(path, tasks):
    """Reads the results of `benchmarks.classification_baseline`: dict of tasks.

    Args:
      path: the file.
      tasks: dict task -> results of ours; the baseline must be of the same records.

    Raises:
      FileNotFoundError, ValueError: missing, incomplete, or of other records.
    """
    what, command = "a baseline's results", _BASELINES["category"]
    if not tasks:
        raise ValueError(
            "`category` or `subcategory` should be given beside `class_baseline`. "
            "Received: neither"
        )
    results = read_json(path, what, command)
    for task, ours in tasks.items():
        keys = ("accuracy", "macro_f", "num_examples", "split")
        theirs = results.get(task, {})
        missing = [f"{task}.{key}" for key in keys if key not in theirs]
        _check_keys(path, what, command, missing)
        sizes = [(each["split"], each["num_examples"]) for each in (ours, theirs)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"`class_baseline` should be measured on the records of `{task}`: "
                f"{sizes[0]}. Received: {sizes[1]} (run it on the same data set)"
            )
    return results


def load_captioning(path):
    """Reads a captioning.json.

    Raises:
      FileNotFoundError, ValueError: missing or incomplete.
    """
    return _load_task(path, "captioning", _CAPTIONING)


def _load_task(path, task, keys):
    what, command = f"results of the {task} task", _EVALUATE + task
    results = read_json(path, what, command)
    if results.get("task") != task:
        raise ValueError(
            f"{path} should be {what}. Received: of {results.get('task')!r} (it is "
            f"written by `{command}`)"
        )
    _check_keys(path, what, command, [key for key in keys if key not in results])
    return results


def check_same_products(captioning, baseline):
    """Raises ValueError where two results are not of the same split and products."""
    if captioning is None:
        raise ValueError(
            "`captioning` should be given beside `captioning_baseline`. Received: none"
        )
    sizes = [(each["split"], each["num_products"]) for each in (captioning, baseline)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "`captioning_baseline` should be measured on the products of `captioning`: "
            f"{sizes[0]}. Received: {sizes[1]} (evaluate it on the same data set)"
        )


def check_same_lists(retrieval, baseline, name="baseline"):
    """Raises ValueError where two results were not measured on the same queries.

    Args:
      retrieval, baseline: dicts of `load_retrieval`.
      name: of the flag that named the second.
    """
    ours, theirs = (
        {
            direction: [
                (one["seed"], one["sha256"], one["num_queries"], one["num_candidates"])
                for one in results["sampled"][direction]["lists"]
            ]
            for direction in DIRECTIONS
        }
        for results in (retrieval, baseline)
    )
    for direction in DIRECTIONS:
        if ours[direction] != theirs[direction]:
            shown = [
                [f"seed {s}: {sha[:8]}, {q} x {c}" for s, sha, q, c in each[direction]]
                for each in (ours, theirs)
            ]
            raise ValueError(
                f"`{name}` should be measured on the same lists as `retrieval` "
                f"({direction}): {shown[0]}. Received: {shown[1]} (run it with the "
                "same --lists_dir, --num_lists and --num_queries)"
            )
