"""Ranking metrics in numpy: from scores and relevance to recalls, AUC and accuracy.

Last station of retrieval; knows nothing of models or files.
"""

import numpy as np

RECALL_KS = (1, 5, 10)


def pessimistic_ranks(scores, relevant):
    """Rank of the best relevant item of each query; ties count against the model.

    Args:
      scores: float [Q, N], higher is better.
      relevant: bool [Q, N], at least one per row.

    Returns:
      int64 [Q], 1 + the number of irrelevant items that score at least as high as the
      best relevant one.

    Raises:
      ValueError: other shapes, NaN scores, or a query with nothing relevant.
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant, bool)
    if scores.ndim != 2 or scores.shape != relevant.shape:
        raise ValueError(
            "`scores` and `relevant` should have the same shape [Q, N]. Received: "
            f"{scores.shape} and {relevant.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"`scores` should be numbers. Received: {np.isnan(scores).sum()} NaN of "
            f"{scores.size} (the model diverged, or its weights are damaged)"
        )
    if not relevant.any(axis=1).all():
        empty = np.flatnonzero(~relevant.any(axis=1))[:5].tolist()
        raise ValueError(
            f"`relevant` should have an item in every row. Received: none in {empty}"
        )
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + (~relevant & (scores >= best)).sum(axis=1)


def recall_at(ranks, ks=RECALL_KS):
    """Share of queries with rank k or better: dict k -> percent."""
    ranks = np.asarray(ranks)
    if not ranks.size:
        raise ValueError("`ranks` should hold at least one query's rank. Received: []")
    return {k: float(100.0 * np.mean(ranks <= k)) for k in ks}


def recall_names(recalls):
    """`recall_at`'s dict with the names that results have: "rank@1" and so on."""
    return {f"rank@{k}": value for k, value in recalls.items()}


def sum_of_recalls(*recalls):
    """SumR: the sum over several dicts of `recall_at`, in percent."""
    return float(sum(sum(one.values()) for one in recalls))


def chance_recall(num_relevant, num_items, ks=RECALL_KS):
    """What a random order reaches on average: dict k -> percent.

    Args:
      num_relevant: int [Q] or int, relevant items of each query.
      num_items: N, items ranked for each.
      ks: where to cut.
    """
    relevant = np.atleast_1d(np.asarray(num_relevant, np.float64))
    result = {}
    for k in ks:
        # Nothing relevant among the first k of N, drawn without replacement.
        drawn = np.arange(min(k, num_items))
        left = np.maximum(num_items - relevant[:, None] - drawn, 0)
        miss = np.prod(left / (num_items - drawn), axis=1)
        result[k] = float(100.0 * np.mean(1.0 - miss))
    return result


def roc_auc(scores, labels):
    """Probability that a true pair scores above a false one, ties half.

    Args:
      scores: float [n].
      labels: bool [n], both values present.

    Returns:
      float in [0, 1].
    """
    scores, labels = _checked_pairs(scores, labels)
    _, places = np.unique(scores, return_inverse=True)
    false = np.bincount(places[~labels], minlength=places.max() + 1)
    below = np.cumsum(false) - false
    won = (below + 0.5 * false)[places[labels]].sum()
    return float(won / (labels.sum() * (~labels).sum()))


def pair_accuracy(scores, labels, threshold=0.5):
    """Share of pairs on the right side of a threshold; chance is 0.5.

    Args:
      scores: float [n], probability of a match.
      labels: bool [n], as many true as false.
      threshold: a pair counts as a match above it.

    Returns:
      float in [0, 1].
    """
    scores, labels = _checked_pairs(scores, labels)
    if labels.sum() * 2 != labels.size:
        raise ValueError(
            "`labels` should be true for half of the pairs. Received: "
            f"{labels.sum()} of {labels.size}"
        )
    return float(np.mean((scores > threshold) == labels))


def _checked_pairs(scores, labels):
    scores, labels = np.asarray(scores), np.asarray(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(
            "`scores` and `labels` should have the same shape [n]. Received: "
            f"{scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any() or labels.all() or not labels.any():
        raise ValueError(
            "`scores` should have no NaN and `labels` both values. Received: "
            f"{np.isnan(scores).sum()} NaN, {labels.sum()} true of {labels.size}"
        )
    return scores, labels
