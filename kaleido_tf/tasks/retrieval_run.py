"""The retrieval task as `run_finetune.py` runs it: from a run folder to a results file.

Loads config and weights of a pre-training run, scores the frozen lists of a data set,
writes `retrieval.json` and returns the table to print.
"""

import json
import os
import time

from absl import logging

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import retrieval
from kaleido_tf.training import checkpoints, distribution

RESULTS_NAME = "retrieval.json"
SCORES = ("match", "cosine", "both")
# The paper's table 1 on Fashion-Gen, fine-tuned; its old candidate lists have flaws of
# their own, so these stand beside our figures for orientation only.
PUBLISHED = {
    "source": "Kaleido-BERT, CVPR 2021, on Fashion-Gen, 101 candidates",
    "itr": {"rank@1": 27.99, "rank@5": 60.09, "rank@10": 68.37},
    "tir": {"rank@1": 33.88, "rank@5": 60.60, "rank@10": 68.59},
}
_KEYS = ("rank@1", "rank@5", "rank@10")
_TITLES = {"itr": "ITR image -> text", "tir": "TIR text -> image"}


def evaluate(settings):
    """Zero-shot retrieval of a pre-training run.

    Args:
      settings: dict with data_dir, checkpoint, output_dir, lists_dir,
        num_queries, num_lists, max_full_pairs, batch_size, precision and score, as the
        flags of `run_finetune.py`.

    Returns:
      dict, the content of `retrieval.json`; the table is printed.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    lists = load_lists(settings)
    info = DatasetInfo.load(settings["data_dir"])
    config = load_config(settings["checkpoint"])
    info.check_config(config)
    distribution.set_precision(settings["precision"])
    matcher = build_matcher(config)
    weights = checkpoints.load_weights(matcher, settings["checkpoint"])
    split = load_split(info, lists, settings["max_full_pairs"])
    tokenizer = Tokenizer.from_file(info.vocab_file)
    scorer = make_scorer(
        settings["score"], matcher, split, tokenizer, config, settings["batch_size"]
    )
    start = time.time()
    results = {
        "task": "retrieval",
        "checkpoint": weights,
        "data_dir": settings["data_dir"],
        "precision": settings["precision"],
        **measure(scorer, split, lists, settings["max_full_pairs"]),
    }
    logging.info("Scored in %.1f s", time.time() - start)
    path = _write(results, settings["output_dir"])
    print(format_table(results))
    print(f"Written to {path}")
    return results


def load_config(checkpoint):
    """The `KaleidoConfig` of a run, from its folder or a checkpoint within it."""
    folder = checkpoint
    for _ in range(3):  # run folder, its checkpoints/, a prefix there
        path = os.path.join(folder, checkpoints.CONFIG_NAME)
        if os.path.exists(path):
            return KaleidoConfig.from_json(path)
        folder = os.path.dirname(os.path.abspath(folder))
    raise FileNotFoundError(
        "`checkpoint` should be a run folder of run_pretrain.py, which holds "
        f"{checkpoints.CONFIG_NAME} and {checkpoints.CHECKPOINT_FOLDER}/. Received: "
        f"{checkpoint}"
    )


def make_scorer(kind, matcher, split, tokenizer, config, batch_size):
    """The scorer of one of `SCORES`; "both" adds probability and cosine."""
    arguments = (matcher, split, tokenizer, config, batch_size)
    if kind not in SCORES:
        raise ValueError(f"`score` should be one of {SCORES}. Received: {kind!r}")
    if kind == "cosine":
        return retrieval.VectorScorer.from_matcher(*arguments)
    match = retrieval.MemoScorer(retrieval.PairScorer(*arguments), split)
    if kind == "match":
        return match
    return retrieval.SumScorer([match, retrieval.VectorScorer.from_matcher(*arguments)])


def measure(scorer, split, lists, max_full_pairs):
    """All figures of one scorer on one split: the content of `retrieval.json`.

    Args:
      scorer: see `scoring.py`.
      split: `RetrievalSplit`.
      lists: dict direction -> candidate lists.
      max_full_pairs: see `evaluate_full_gallery`.
    """
    return {
        "split": split.name,
        "dataset_sha256": split.sha256,
        "score": scorer.name,
        "sampled": retrieval.evaluate_lists(scorer, split, lists),
        "pairs": retrieval.pair_figures(scorer, split, lists["itr"][0]),
        "full_gallery": retrieval.evaluate_full_gallery(scorer, split, max_full_pairs),
        "top_ranked": {
            "itr": retrieval.top_ranked(scorer, split, lists["itr"][0], num_shown=5),
            "tir": retrieval.top_ranked(scorer, split, lists["tir"][0], num_shown=8),
        },
        "published": PUBLISHED,
    }


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


def load_split(info, lists, max_full_pairs):
    """The lists' split: whole if all its pairs are to be scored, else their records."""
    name = lists["itr"][0]["split"]
    texts = {
        candidate_lists.fold_text(item.text)
        for item in candidate_lists.read_items(info, name)
    } - {""}
    if len(texts) * info.num_examples(name) <= max_full_pairs:
        return retrieval.RetrievalSplit.load(info, name)
    needed = {
        image_id
        for each in lists.values()
        for one in each
        for row in one["queries"]
        for image_id in row["candidates"]
    }
    return retrieval.RetrievalSplit.load(info, name, needed)


def _write(results, output_dir):
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, RESULTS_NAME)
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(f"{path}.tmp", path)
    return path


def format_table(results):
    """The results as lines of text: ours beside chance, and the published figures."""
    sampled, full = results["sampled"], results["full_gallery"]
    lines = [f"{'':44}  Rank@1        Rank@5        Rank@10"]
    for direction, title in _TITLES.items():
        lines += _sampled_rows(title, sampled[direction])
    total = sampled["sum_of_recalls"]
    lines.append(f"SumR {total['mean']:.2f} +- {total['std']:.2f}")
    lines.append(_pairs_row(results["pairs"]))
    if "skipped" in full:
        lines.append(f"Full gallery: skipped, {full['skipped']}")
    else:
        for direction, title in _TITLES.items():
            title = f"{title}, full gallery"
            lines += _gallery_rows(title, full[direction])
        lines.append(
            f"SumR {full['sum_of_recalls']:.2f} ({full['num_texts']} texts, "
            f"{full['num_images']} images)"
        )
    lines.append(f"Theirs, on another data set ({PUBLISHED['source']}):")
    lines += [_row(f"  {_TITLES[d]}", PUBLISHED[d]) for d in _TITLES]
    lines.append(f"Score: {results['score']}. Recalls in percent; ties count against.")
    return "\n".join(lines)


def _row(title, recalls):
    return f"{title:44}" + "".join(f"  {recalls[k]:<12.2f}" for k in _KEYS)


def _sampled_rows(title, figures):
    first = figures["lists"][0]
    means = "".join(
        f"  {figures[k]['mean']:.2f} +- {figures[k]['std']:.2f}".ljust(14)
        for k in _KEYS
    )
    size = f"{first['num_queries']} x {first['num_candidates']}"
    hashes = ", ".join(one["sha256"][:8] for one in figures["lists"])
    return [
        f"{f'{title}, {size}':44}{means}",
        _row("  chance", figures["chance"]),
        f"  lists {hashes}",
    ]


def _gallery_rows(title, figures):
    title = f"{title}, {figures['num_queries']}"
    return [_row(title, figures), _row("  chance", figures["chance"])]


def _pairs_row(pairs):
    if not pairs["num_pairs"]:
        return "Pairs: none, the queries have but one text"
    accuracy = pairs["pair_accuracy"]
    shown = "no threshold" if accuracy is None else f"{accuracy:.4f} (chance 0.5)"
    return (
        f"{pairs['num_pairs']} pairs, half of them true: AUC {pairs['auc']:.4f}, "
        f"accuracy {shown}"
    )
