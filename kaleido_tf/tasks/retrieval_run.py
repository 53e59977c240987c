"""The retrieval task as `run_finetune.py` runs it: train, evaluate, predict.

Evaluation takes a fine-tuned run or, zero-shot, a pre-training run; it scores the
frozen lists of a data set and its full gallery, writes `retrieval.json` and prints the
table.
"""

import time

from absl import logging

from kaleido_tf.data import candidate_lists
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import gallery, results, retrieval, retrieval_train, scoring
from kaleido_tf.tasks.retrieval_table import PUBLISHED, format_table
from kaleido_tf.training import checkpoints, finetuning

TASK = "retrieval"


def train(settings):
    """Fine-tunes the matching head; see `finetuning.train`."""
    return finetuning.train(settings, retrieval_train.make_job)


def evaluate(settings):
    """Measures a fine-tuned run, or a pre-training run without fine-tuning.

    Args:
      settings: dict of the flags of `run_finetune.py`.

    Returns:
      dict, the content of `retrieval.json`; the table is printed.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    lists = load_lists(settings)
    context = _open(settings)
    name = lists["itr"][0]["split"]
    if settings["split"] not in (None, name):
        raise ValueError(
            f"`split` should be that of the candidate lists, {name!r}. Received: "
            f"{settings['split']!r} (name the lists of this split by --lists_dir)"
        )
    size = _num_pairs(context.info, name)
    _check_has_texts(size, name, settings["data_dir"])
    in_two_stages = settings["max_full_pairs"] and context.config.contrastive_size
    whole = size <= settings["max_full_pairs"] or in_two_stages
    split = load_split(context.info, lists, whole)
    plan = _make_plan(context, split)
    start = time.time()
    content = {
        "task": TASK,
        "checkpoint": context.checkpoint,
        "trained": "fine-tuned" if context.task else "zero-shot, pre-trained only",
        "data_dir": settings["data_dir"],
        "precision": settings["precision"],
        **measure(plan, split, lists),
    }
    logging.info("Scored in %.1f s", time.time() - start)
    path = results.write_results(content, settings["output_dir"])
    print(format_table(content))
    print(f"Written to {path}")
    return content


def measure(plan, split, lists):
    """All figures of one scorer on one split: most of the content of `retrieval.json`.

    Args:
      plan: `GalleryPlan` with the scorer.
      split: `RetrievalSplit`.
      lists: dict direction -> candidate lists.
    """
    scorer = plan.scorer
    tops = {
        direction: retrieval.top_ranked(scorer, split, lists[direction][0], 6, shown)
        for direction, shown in (("itr", 5), ("tir", 8))
    }
    return {
        "split": split.name,
        "dataset_sha256": split.sha256,
        "score": scorer.name,
        "sampled": retrieval.evaluate_lists(scorer, split, lists),
        "pairs": retrieval.pair_figures(scorer, split, lists["itr"][0]),
        "full_gallery": gallery.evaluate_full_gallery(plan, split),
        "top_ranked": tops,
        "published": PUBLISHED,
    }


def predict(settings):
    """Writes OUTPUT_DIR/predictions.jsonl: the best answers in the split's gallery.

    A line for every image (direction "itr") and for every distinct text ("tir"), with
    the `top_k` best. A text is named by the first record that carries it.

    Returns:
      dict: path, num_queries.
    """
    context = _open(settings)
    split = retrieval.RetrievalSplit.load(context.info, settings["split"])
    _check_has_texts(split.num_texts, settings["split"], settings["data_dir"])
    plan = _make_plan(context, split)
    rows = _predictions(plan, split, settings["top_k"])
    path, count = results.write_predictions(rows, settings["output_dir"])
    print(f"{count} predictions written to {path}")
    return {"path": path, "num_queries": count}


def _check_has_texts(count, split, data_dir):
    if not count:
        raise ValueError(
            f"`split` should have records with a text to rank. Received: {split!r} of "
            f"{data_dir}, which has none"
        )


def _predictions(plan, split, top_k):
    """Yields the lines of `predict` as dicts."""
    for direction in gallery.directions(split, only_answerable=False).values():
        items, scores, scorer = gallery.best_items(plan, direction, top_k)
        for query, columns, values in zip(
            direction.queries, items, scorer.shown(scores), strict=True
        ):
            places = direction.items[columns]
            yield {
                "query": split.image_ids[query],
                "direction": direction.name,
                "text": split.texts[query],
                "score": scorer.name,
                "ranked": [
                    {
                        "image_id": split.image_ids[place],
                        "product_id": split.product_ids[place],
                        "text": split.texts[place],
                        "score": float(value),
                    }
                    for place, value in zip(places, values, strict=True)
                ],
            }


def _open(settings):
    """`Context` of the run to measure."""
    context = finetuning.open_run(settings)
    if context.task:
        finetuning.check_task(context, TASK)
    return context


def _make_plan(context, split):
    """`GalleryPlan` of the run's weights."""
    settings = context.settings
    matcher = build_matcher(context.config)
    checkpoints.load_weights(matcher, context.checkpoint)
    scorer, cosine = scoring.make_scorers(
        settings["score"],
        matcher,
        split,
        context.tokenizer,
        context.config,
        settings["eval_batch_size"],
    )
    return gallery.GalleryPlan(
        scorer, cosine, settings["max_full_pairs"], settings["rerank"]
    )


def load_lists(settings):
    """The frozen lists that `lists_dir`, `num_lists` and `num_queries` name."""
    if not settings["lists_dir"]:
        raise ValueError(
            "`lists_dir` should name a folder of frozen candidate lists. Received: "
            f"none (make them by `{candidate_lists.COMMAND}`)"
        )
    if settings["num_lists"] < 1 or settings["num_queries"] < 0:
        raise ValueError(
            "`num_lists` should be at least 1 and `num_queries` at least 0. Received: "
            f"{settings['num_lists']}, {settings['num_queries']}"
        )
    lists = candidate_lists.load_lists(settings["lists_dir"], settings["num_lists"])
    return {
        direction: [
            retrieval.first_queries(one, settings["num_queries"]) for one in each
        ]
        for direction, each in lists.items()
    }


def _num_pairs(info, split):
    """Distinct texts x images of a split: int."""
    items = candidate_lists.read_items(info, split)
    texts = {candidate_lists.fold_text(item.text) for item in items} - {""}
    return len(texts) * len(items)


def load_split(info, lists, whole, with_patches=True):
    """The lists' split, whole, or only the records that the lists name."""
    needed = None
    if not whole:
        needed = {
            image_id
            for each in lists.values()
            for one in each
            for row in one["queries"]
            for image_id in (row["query"], *row["candidates"])
        }
    name = lists["itr"][0]["split"]
    return retrieval.RetrievalSplit.load(info, name, needed, with_patches)
