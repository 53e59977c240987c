"""The full gallery of a split: every text for an image, every image for a text.

Queries and items of either direction, all pairs where a split is small enough. A larger
one is ranked in two stages (`first_stage.py`) where the model has vectors: their cosine
finds candidates, the scorer ranks these anew. Without vectors it is left out.
"""

import dataclasses

import numpy as np
from absl import logging

from kaleido_tf.tasks import first_stage, ranking
from kaleido_tf.tasks.scoring import VectorScorer


@dataclasses.dataclass(frozen=True)
class Direction:
    """Queries and items of one direction; Q queries, N items.

    Attributes:
      name: "itr" or "tir".
      queries, items: int64 [Q], [N], places of records in the split.
      right_rows, right_columns: int64 [R], the R right pairs (query, item) by their
        numbers in `queries` and `items`, sorted by query.
    """

    name: str
    queries: np.ndarray
    items: np.ndarray
    right_rows: np.ndarray
    right_columns: np.ndarray

    def relevant(self, start, stop):
        """bool [stop - start, N]: which items are right for these queries."""
        first, last = np.searchsorted(self.right_rows, [start, stop])
        result = np.zeros((stop - start, len(self.items)), bool)
        rows = self.right_rows[first:last] - start
        result[rows, self.right_columns[first:last]] = True
        return result

    def num_right(self):
        """int64 [Q]: right items of each query."""
        return np.bincount(self.right_rows, minlength=len(self.queries))

    def pairs(self, rows, columns):
        """(text places, image places) of pairs of query and item numbers."""
        queries, items = self.queries[rows], self.items[columns]
        return (queries, items) if self.name == "tir" else (items, queries)

    def vectors(self, cosine):
        """(queries' [Q, D], items' [N, D]) vectors of a `VectorScorer`."""
        texts, images = cosine.text_vectors, cosine.image_vectors
        query, item = (texts, images) if self.name == "tir" else (images, texts)
        return query[self.queries], item[self.items]


def directions(split, only_answerable=True):
    """Both directions of a whole split.

    A text is one query, or one item, however many records carry it; its first record
    stands for it. An image is right for a text if any view of its product carries this
    text: all products with the same text are equally right.

    Args:
      split: `RetrievalSplit`, whole.
      only_answerable: leave out images of products without a text as queries: nothing
        is right for them.

    Returns:
      dict name -> `Direction`.
    """
    folded, text_rows, places, texts_of = split.folded_texts(), {}, [], {}
    for place, (product, text) in enumerate(
        zip(split.product_ids, folded, strict=True)
    ):
        if text:
            if text not in text_rows:
                text_rows[text] = len(places)
                places.append(place)
            texts_of.setdefault(product, set()).add(text_rows[text])
    pairs = [
        (text, image)
        for image, product in enumerate(split.product_ids)
        for text in sorted(texts_of.get(product, ()))
    ]
    texts, images = np.array(pairs, np.int64).reshape(-1, 2).T
    texts_places, every = np.array(places, np.int64), np.arange(len(split))
    order = np.lexsort((images, texts))
    tir = Direction("tir", texts_places, every, texts[order], images[order])
    queries, rows = every, images
    if only_answerable:
        queries, rows = np.unique(images, return_inverse=True)
    return {"itr": Direction("itr", queries, texts_places, rows, texts), "tir": tir}


@dataclasses.dataclass(frozen=True)
class GalleryPlan:
    """How a full gallery is ranked.

    Attributes:
      scorer: what ranks, see `scoring.py`.
      cosine: `VectorScorer` of the first stage, or None.
      max_pairs: up to so many pairs (texts x images), all are scored; more are ranked
        in two stages if there is a `cosine`, else left out. 0: none are ranked.
      rerank: n, items of a query that the scorer ranks anew in two stages; 0 leaves the
        first stage's order.
    """

    scorer: object
    cosine: object = None
    max_pairs: int = 250_000
    rerank: int = 100

    def num_stages(self, num_pairs):
        """1 or 2 stages; 0 where there is no way to rank so many pairs."""
        if num_pairs <= self.max_pairs:
            return 1
        if not self.max_pairs or self.cosine is None:
            return 0
        return 1 if isinstance(self.scorer, VectorScorer) else 2


def evaluate_full_gallery(plan, split):
    """Ranks every text for every image and the other way round.

    Args:
      plan: `GalleryPlan`.
      split: the split, whole unless the gallery is skipped.

    Returns:
      dict: num_texts (distinct), num_images, num_pairs, num_without_partner (images of
      products without a text, which are no queries), and either `skipped` (the reason)
      or, per direction, num_queries, rank@k and chance in percent, and
      sum_of_recalls. In two stages besides `first_stage`: `score`, `rerank`, and per
      direction rank@k and `found`, the share of queries whose right item it found,
      which bounds every figure of the second stage.
    """
    num_texts, num_images = split.num_texts, split.num_images
    result = {
        "num_texts": num_texts,
        "num_images": num_images,
        "num_pairs": num_texts * num_images,
    }
    stages = plan.num_stages(num_texts * num_images)
    if reason := _why_skipped(plan, stages, result):
        return {**result, "skipped": reason}
    if len(split) < num_images:
        raise ValueError(
            f"`split` should hold all of its {num_images} records for the full "
            f"gallery. Received: {len(split)} (load it without `image_ids`)"
        )
    both = directions(split)
    result["num_without_partner"] = num_images - len(both["itr"].queries)
    if stages == 2:
        result["first_stage"] = {"score": plan.cosine.name, "rerank": plan.rerank}
    recalls = []
    for name, direction in both.items():
        ranks, first = _ranks(plan, direction, stages)
        recalls.append(ranking.recall_at(ranks))
        chance = ranking.chance_recall(direction.num_right(), len(direction.items))
        result[name] = {
            "num_queries": len(direction.queries),
            **ranking.recall_names(recalls[-1]),
            "chance": ranking.recall_names(chance),
        }
        if first is not None:
            result["first_stage"][name] = first
    return {**result, "sum_of_recalls": ranking.sum_of_recalls(*recalls)}


def _why_skipped(plan, stages, sizes):
    """The reason not to rank this gallery, or None."""
    if not sizes["num_texts"]:
        return "no record has a text"
    if stages:
        return None
    size = (
        f"{sizes['num_texts']} texts x {sizes['num_images']} images are "
        f"{sizes['num_pairs']} pairs, more than max_full_pairs={plan.max_pairs}"
    )
    if not plan.max_pairs:
        return size
    return f"{size}, and there are no vectors for a first stage"


def _ranks(plan, direction, stages):
    """(ranks int64 [Q], first stage's figures or None) of one direction."""
    if isinstance(plan.scorer, VectorScorer):
        return _search(plan.scorer, direction, 1).ranks, None
    if stages == 1:
        scores = score_all(plan.scorer, direction)
        relevant = direction.relevant(0, len(direction.queries))
        return ranking.pessimistic_ranks(scores, relevant), None
    found = _search(plan.cosine, direction, max(plan.rerank, 1))
    first = ranking.recall_names(ranking.recall_at(found.ranks))
    if not plan.rerank:
        return found.ranks, first
    first["found"] = ranking.recall_at(found.ranks, [plan.rerank])[plan.rerank]
    return first_stage.ranks_after(
        found, _rescore(plan.scorer, direction, found)
    ), first


def score_all(scorer, direction):
    """Scores of all pairs of a direction: float [Q, N]."""
    shape = len(direction.queries), len(direction.items)
    rows, columns = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    return scorer.score(*direction.pairs(rows, columns)).reshape(shape)


def _search(cosine, direction, top, with_answers=True):
    relevant = direction.relevant if with_answers else None
    return first_stage.search(*direction.vectors(cosine), top, relevant)


def _rescore(scorer, direction, found):
    """Scores of the found items: float [Q, n]."""
    count, top = found.items.shape
    logging.info("%s: %d x %d pairs in the second stage", direction.name, count, top)
    rows = np.repeat(np.arange(count), top)
    scores = scorer.score(*direction.pairs(rows, found.items.ravel()))
    return scores.reshape(count, top)


def best_items(plan, direction, top_k):
    """The best items of every query, without knowing the right ones.

    Args:
      plan: `GalleryPlan`.
      direction: `Direction` with at least one item.
      top_k: K; all items, where there are fewer.

    Returns:
      (items int64 [Q, K], scores float [Q, K], the scorer that they are of), best
      first; equal scores in gallery order. In two stages at least K are ranked anew.

    Raises:
      ValueError: a gallery that can't be ranked.
    """
    num_pairs = len(direction.queries) * len(direction.items)
    stages = plan.num_stages(num_pairs)
    if not stages or not len(direction.items):
        raise ValueError(
            "`max_full_pairs` should allow every pair to be scored, or the model have "
            f"vectors for a first stage. Received: {num_pairs} pairs of "
            f"{len(direction.queries)} queries and {len(direction.items)} items, "
            f"max_full_pairs={plan.max_pairs}"
        )
    cosine = plan.cosine if stages == 2 and not plan.rerank else plan.scorer
    if isinstance(cosine, VectorScorer):
        found = _search(cosine, direction, top_k, with_answers=False)
        return found.items, found.scores, cosine
    if stages == 1:
        scores = score_all(plan.scorer, direction)
        items = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    else:
        top = max(plan.rerank, top_k)
        found = _search(plan.cosine, direction, top, with_answers=False)
        scores, items = _rescore(plan.scorer, direction, found), found.items
    order = np.lexsort((items, -scores), axis=1)[:, :top_k]
    items = np.take_along_axis(items, order, 1)
    return items, np.take_along_axis(scores, order, 1), plan.scorer
