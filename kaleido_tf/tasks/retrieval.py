"""Retrieval, image to text (ITR) and text to image (TIR): from scores to figures.

The sampled protocol on frozen candidate lists; `gallery.py` ranks whole splits. Works
with any scorer (`scoring.py`) on a `RetrievalSplit`. Recalls ("rank@k") and SumR are in
percent, AUC and accuracy within [0, 1].
"""

import numpy as np

from kaleido_tf.data.candidate_lists import (
    DIRECTIONS,
    load_list,
    load_lists,
    negative_shares,
)
from kaleido_tf.tasks import ranking
from kaleido_tf.tasks.gallery import GalleryPlan, evaluate_full_gallery
from kaleido_tf.tasks.matcher_parts import EmbeddedSplit
from kaleido_tf.tasks.retrieval_split import RetrievalSplit
from kaleido_tf.tasks.scoring import MemoScorer, PairScorer, SumScorer, VectorScorer

__all__ = [
    "DIRECTIONS",
    "EmbeddedSplit",
    "GalleryPlan",
    "MemoScorer",
    "PairScorer",
    "RetrievalSplit",
    "SumScorer",
    "VectorScorer",
    "evaluate_full_gallery",
    "evaluate_list",
    "evaluate_lists",
    "load_list",
    "load_lists",
    "pair_figures",
    "score_list",
    "top_ranked",
]


def score_list(scorer, split, candidate_list):
    """Scores of every query's candidates: float [Q, C].

    Args:
      scorer: see `scoring.py`.
      split: `RetrievalSplit` that holds all the list's records.
      candidate_list: dict of `candidate_lists.load_list`.

    Raises:
      ValueError: a list of another data set or of other texts, or without queries.
    """
    if candidate_list["dataset_sha256"] != split.sha256:
        raise ValueError(
            "The candidate list should be of this data set, whose ids hash to "
            f"{split.sha256[:12]}.... Received: one of "
            f"{candidate_list['dataset_sha256'][:12]}... (make lists for this data "
            "set, or name the data set that they were made from)"
        )
    queries = candidate_list["queries"]
    if not queries:
        raise ValueError(
            "The candidate list should have queries. Received: none "
            f"({candidate_list['direction']}, seed {candidate_list['seed']})"
        )
    query = split.places(row["query"] for row in queries)
    others = split.places(image_id for row in queries for image_id in row["candidates"])
    query = np.repeat(query, candidate_list["num_candidates"])
    _check_texts(split, candidate_list, query, others)
    if candidate_list["direction"] == "itr":
        scores = scorer.score(others, query)
    else:
        scores = scorer.score(query, others)
    return scores.reshape(len(queries), candidate_list["num_candidates"])


def _check_texts(split, candidate_list, query, others):
    """Raises ValueError where a negative is as right as the positive, or has no text.

    The lists leave such products out: their texts were others then.
    """
    texts = np.array(split.folded_texts(), object)
    negative = [
        image_id not in (row["positive"], row["query"])
        for row in candidate_list["queries"]
        for image_id in row["candidates"]
    ]
    wrong = (texts[others] == texts[query]) & np.array(negative)
    wrong |= texts[others] == ""
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            "The candidate list's negatives should have a text, and another one than "
            f"the query's. Received {int(wrong.sum())} that haven't, such as "
            f"{split.image_ids[others[place]]} for {split.image_ids[query[place]]} "
            f"({candidate_list['direction']}, seed {candidate_list['seed']}: the data "
            "were prepared again with other texts? make the lists again)"
        )


def _relevant(candidate_list):
    """bool [Q, C]: which candidates are right."""
    relevant = np.array(
        [
            [image_id == row["positive"] for image_id in row["candidates"]]
            for row in candidate_list["queries"]
        ]
    )
    if not relevant.any(axis=1).all():
        query = candidate_list["queries"][int(np.argmin(relevant.any(axis=1)))]
        raise ValueError(
            "A query's candidates should hold its partner. Received none for "
            f"{query['query']} ({candidate_list['direction']}, seed "
            f"{candidate_list['seed']}; make the lists again)"
        )
    return relevant


def first_queries(candidate_list, num_queries):
    """The list cut to its first queries, which stand in random order; 0 keeps all.

    A cut list has `negatives`, the shares of the whole one.
    """
    if not num_queries:
        return candidate_list
    return {
        **candidate_list,
        "queries": candidate_list["queries"][:num_queries],
        "negatives": negative_shares(candidate_list),
    }


def evaluate_list(scorer, split, candidate_list):
    """Figures of one candidate list.

    Args: see `score_list`.

    Returns:
      dict: direction, seed, sha256 (of the whole list), num_queries, num_candidates,
      negatives (shares of the whole list's, by where they were drawn), and rank@1,
      rank@5, rank@10 in percent by the pessimistic rank.
    """
    scores = score_list(scorer, split, candidate_list)
    ranks = ranking.pessimistic_ranks(scores, _relevant(candidate_list))
    return {
        "direction": candidate_list["direction"],
        "seed": candidate_list["seed"],
        "sha256": candidate_list["sha256"],
        "num_queries": len(candidate_list["queries"]),
        "num_candidates": candidate_list["num_candidates"],
        "negatives": candidate_list.get("negatives") or negative_shares(candidate_list),
        **ranking.recall_names(ranking.recall_at(ranks)),
    }


def evaluate_lists(scorer, split, lists):
    """Figures of the sampled protocol: mean and standard deviation over lists.

    Args:
      scorer: see `scoring.py`.
      split: `RetrievalSplit`.
      lists: dict direction -> candidate lists by seed, as `load_lists` returns them.

    Returns:
      dict: per direction `{"rank@1": {"mean", "std"}, ..., "chance": {...},
      "lists": [...]}`, and `sum_of_recalls` {"mean", "std"}. The standard deviation is
      the sample's (n - 1), 0 for a single list.
    """
    result, sums = {}, 0.0
    for direction, each in lists.items():
        figures = [evaluate_list(scorer, split, one) for one in each]
        keys = ranking.recall_names(dict.fromkeys(ranking.RECALL_KS))
        values = np.array([[one[key] for key in keys] for one in figures])
        sizes = [one["num_candidates"] for one in figures]
        chance = [list(ranking.chance_recall(1, size).values()) for size in sizes]
        result[direction] = {
            **{key: _spread(values[:, i]) for i, key in enumerate(keys)},
            "chance": dict(zip(keys, np.mean(chance, axis=0).tolist(), strict=True)),
            "lists": figures,
        }
        sums = sums + values.sum(axis=1)
    result["sum_of_recalls"] = _spread(sums)
    return result


def _spread(values):
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": float(deviation)}


def pair_figures(scorer, split, candidate_list):
    """AUC and accuracy of telling true pairs from pairs with a random other product.

    Every query of the list gives one true pair, its own text and image, and one false
    pair, its text with the image of another query, drawn by the list's seed among
    those with another text.

    Returns:
      dict: num_pairs, auc, and pair_accuracy (None for a scorer without threshold);
      all None where the queries have but one text.
    """
    rng = np.random.default_rng(candidate_list["seed"])
    places = split.places(row["query"] for row in candidate_list["queries"])
    folded = np.array(split.folded_texts(), object)[places]
    texts, images, labels = [], [], []
    for place, text in zip(places, folded, strict=True):
        others = places[folded != text]
        if others.size:
            texts += [place, place]
            images += [place, rng.choice(others)]
            labels += [True, False]
    if not labels:
        return {"num_pairs": 0, "auc": None, "pair_accuracy": None}
    scores, labels = scorer.score(np.array(texts), np.array(images)), np.array(labels)
    accuracy = None
    if scorer.threshold is not None:
        accuracy = ranking.pair_accuracy(scores, labels, scorer.threshold)
    return {
        "num_pairs": len(labels),
        "auc": ranking.roc_auc(scores, labels),
        "pair_accuracy": accuracy,
    }


def top_ranked(scorer, split, candidate_list, num_queries=6, num_shown=8):
    """The best candidates of a list's first queries, for people to look at.

    Args:
      scorer, split, candidate_list: see `score_list`.
      num_queries: how many queries.
      num_shown: how many candidates of each.

    Returns:
      list of dict: query (image_id), text, rank (pessimistic, of the right one) and
      `ranked`, a list of {"image_id", "text", "score", "right"}, best first; a right
      one comes after all that score the same. The score is a probability where the
      scorer has one.
    """
    candidate_list = first_queries(candidate_list, num_queries)
    scores = score_list(scorer, split, candidate_list)
    relevant = _relevant(candidate_list)
    ranks = ranking.pessimistic_ranks(scores, relevant)
    shown, result = scorer.shown(scores), []
    for row, values, shown_values, right, rank in zip(
        candidate_list["queries"], scores, shown, relevant, ranks, strict=True
    ):
        order = np.lexsort((right, -values))[:num_shown]
        ranked = [
            {
                "image_id": row["candidates"][i],
                "text": split.texts[split.index[row["candidates"][i]]],
                "score": float(shown_values[i]),
                "right": bool(right[i]),
            }
            for i in order
        ]
        text = split.texts[split.index[row["query"]]]
        result.append(
            {"query": row["query"], "text": text, "rank": int(rank), "ranked": ranked}
        )
    return result
